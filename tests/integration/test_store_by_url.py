"""A store below a URL, as a user of an object store has it: values of tasks, data of steps, and their end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, LocalCluster
from tests.support import served_data
from tests.support.daemons import until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def by_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of a cluster whose store is a URL."""
    store = f"file://{tmp_path / 'remote'}"
    with LocalCluster(cpus=2, steps=[served_data]) as cluster:
        monkeypatch.setenv("BROKER_JOBS_VALUE_STORE", store)
        with cluster.client() as client:
            yield client


def test_large_values_and_data_travel_by_a_url(by_url: Client) -> None:
    client = by_url
    job = Job()
    large = job.function(bytes, args=(200_000,))
    length = job.function(len, args=(large.output,))
    submitted = client.submit(job)
    assert submitted.result(length, timeout=60) == 200_000
    assert submitted.result(large) == bytes(200_000)
    mesh = client.add_data(io.BytesIO(b"1\n2\n"), name="mesh.txt")
    assert mesh.info.data.store.startswith("file://")
    run = client.step("split").inputs(text=mesh).start().wait(60)
    assert [part.read() for part in run.outputs()["parts"]] == [b"1", b"2"]
    place = Path(mesh.info.data.store.removeprefix("file://"))
    assert (place / submitted.id).is_dir()
    assert run.job.delete_with_associated(delete_input_data=True).complete
    submitted.forget()
    until(lambda: not (place / submitted.id).exists() and not (place / mesh.info.data.key).exists(), "all of it is gone")
