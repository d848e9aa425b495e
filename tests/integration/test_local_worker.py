"""A worker that a program starts for itself, and ends: a real process, for a cluster that has none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil
import pytest

from broker_jobs import Client, Job, LocalCluster, LocalWorker, ValidationError
from tests.support.daemons import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.batches import FakeBatch

PATIENCE = 30.0


@pytest.fixture(scope="module")
def bare() -> Iterator[LocalCluster]:
    """A coordinator without a worker."""
    with LocalCluster(workers=0) as cluster:
        yield cluster


@pytest.fixture
def there(bare: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> LocalCluster:
    """The same, and the environment says where."""
    monkeypatch.setenv("BROKER_JOBS_URL", bare.url)
    monkeypatch.setenv("BROKER_JOBS_SIGNING_KEY", bare.key)
    monkeypatch.setenv("BROKER_JOBS_HOME", str(bare.folder))
    return bare


def test_it_works_as_long_as_it_is_needed(bare: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_JOBS_HOME", str(bare.folder))
    with Client(bare.url, signing_key=bare.key) as client:
        with LocalWorker(bare.url, signing_key=bare.key, cpus=1, name="mine") as worker:
            assert client.options(timeout=PATIENCE).call(os.getppid) > 0
            [active] = [known for known in client.cluster().workers if known.state == "active"]
            assert (active.worker, active.pid) == ("mine", worker.pid)
        assert not psutil.pid_exists(worker.pid)
        assert not [known for known in client.cluster().workers if known.state == "active"]
        worker.close()


@pytest.mark.parametrize("patient", [True, False])
def test_what_runs_at_its_end_finishes_or_is_for_others(patient: bool, there: LocalCluster, tmp_path: Path) -> None:
    job = Job()
    job.program(["sh", "-c", f"touch {tmp_path}/began; sleep 0.3; {'true' if patient else 'sleep 1000'}"])
    with Client() as client, LocalWorker(cpus=1) as worker:
        submitted = client.submit(job)
        until((tmp_path / "began").exists, "it runs")
        worker.close(PATIENCE if patient else 0)
        assert not psutil.pid_exists(worker.pid)
        until(lambda: submitted.tasks()[0].state.value == ("succeeded" if patient else "queued"), "what has become of it")
        client.cancel(submitted)


def test_it_runs_programs_in_a_batch_system(there: LocalCluster, fake: FakeBatch) -> None:
    job = Job()
    failing = job.program(["sh", "-c", "exit 7"], executor="sge", executor_options={"q": "all.q"})
    options = {name: path for name, (path,) in fake.sge.items()}
    with LocalWorker(cpus=2, executor="sge", executor_options={**options, "l": ["h_vmem=2G", "gpu=1"], "V": True}), Client() as client:
        submitted = client.submit(job)
        client.wait_for_jobs([submitted], timeout=PATIENCE, raise_on_error=False)
        assert submitted.errors()[failing.number].exit_status == 7
    given = fake.facts(1)["options"]
    assert (given["-l"], "-V" in given) == (["h_vmem=2G", "gpu=1"], True)


def test_what_cannot_be_is_refused_in_the_words_of_the_worker(there: LocalCluster) -> None:
    with pytest.raises(ValidationError, match=r"not found: .*/no/qsub \(--executor-option qsub=PATH\)"):
        LocalWorker(cpus=1, executor="sge", executor_options={"qsub": "/no/qsub"})
    with pytest.raises(ValidationError, match="takes a text, a list of texts, or True"):
        LocalWorker(cpus=1, executor="sge", executor_options={"V": False})
