"""What HyperQueue's tests ask when workers, servers and tasks die, said anew for its names over our workers."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from broker_jobs.compat.hyperqueue import Job
from broker_jobs.wire.signing import new_key
from tests.support.daemons import until
from tests.support.hyperqueue import Site, state, states

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker_jobs.compat.hyperqueue import SubmittedJob
    from tests.support.rabbitmq import RabbitMQ


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.long)])
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A coordinator without workers."""
    monkeypatch.chdir(tmp_path)
    state_folder = tmp_path / "state"
    state_folder.mkdir()
    if request.param == "embedded":
        found = Site(state_folder)
    else:
        rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
        found = Site(state_folder, rabbitmq.fresh_vhost(), new_key())
    try:
        yield found
    finally:
        found.close()


def _waits_for(path: Path) -> list[str]:
    """A program that ends when a file is there."""
    return ["sh", "-c", f"until [ -e {path} ]; do sleep 0.05; done"]


def _running(job: SubmittedJob, count: int) -> None:
    until(lambda: states(job).count("running") == count, f"{count} tasks run: {states(job)}")


def _numbers(path: Path) -> list[int]:
    """What a program has written so far."""
    return [int(number) for number in path.read_text(encoding="utf-8").split()] if path.exists() else []


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.long
def test_both_workers_are_killed_under_tasks_that_others_wait_for(site: Site, tmp_path: Path) -> None:
    workers = [site.start_worker("--cpus", "8") for _ in range(2)]
    job = Job()
    tasks = [job.program(_waits_for(tmp_path / "go"), stdout=None, stderr=None) for _ in range(16)]
    job.program(["true"], deps=tasks)
    submitted = site.client().submit(job)
    _running(submitted, 16)
    for worker in workers:
        site.daemons.kill(worker)
    until(lambda: states(submitted) == ["queued"] * 16 + ["waiting"], f"nothing is lost: {states(submitted)}")
    (tmp_path / "go").touch()
    site.start_worker("--cpus", "16")
    assert site.client().wait_for_jobs([submitted])
    assert states(submitted) == ["succeeded"] * 17


@pytest.mark.long
def test_a_task_fails_at_its_crash_limit_and_not_before(site: Site, tmp_path: Path) -> None:
    job = Job(max_fails=None)
    for limit in (1, 2, None):
        job.program(_waits_for(tmp_path / "go"), crash_limit=limit, stdout=None, stderr=None)
    submitted = site.client().submit(job)
    # The first loss charges nobody: it may have been another task of the same message. From then on each is alone.
    for failed, running in ((1, 3), (1, 2), (2, 2)):
        worker = site.start_worker("--cpus", "3")
        _running(submitted, running)
        site.daemons.kill(worker)
        wanted = ["failed"] * failed + ["queued"] * (3 - failed)
        until(lambda wanted=wanted: states(submitted) == wanted, f"{wanted}, not {states(submitted)}")
    (tmp_path / "go").touch()
    site.start_worker("--cpus", "1")
    site.client().wait_for_jobs([submitted], raise_on_error=False)
    assert states(submitted) == ["failed", "failed", "succeeded"]
    assert "crashed once" in site.client().get_failed_tasks(submitted)[0].error


def test_what_was_done_is_not_done_again_after_the_coordinator_was_killed(site: Site, tmp_path: Path) -> None:
    site.start_worker("--cpus", "2")
    job = Job()
    for number in range(6):
        wait = "" if number < 3 else f"until [ -e {tmp_path}/go ]; do sleep 0.05; done; "
        job.program(["sh", "-c", f"{wait}echo {number} >> log"], stdout=None, stderr=None)
    submitted = site.client().submit(job)
    until(lambda: states(submitted).count("succeeded") == 3, "half of it is done")
    site.daemons.kill(site.daemons.processes[0])
    (tmp_path / "go").touch()
    site.daemons.start("coordinator", "start")
    assert site.client().wait_for_jobs([submitted])
    assert sorted((tmp_path / "log").read_text(encoding="utf-8").split()) == [str(number) for number in range(6)]


@pytest.mark.long
def test_a_time_limit_ends_what_takes_longer(site: Site) -> None:
    site.start_worker("--cpus", "1")
    begun = time.monotonic()
    late = site.daemons.run("submit", "--wait", "--time-limit", "500ms", "--", "sleep", "60")
    assert late.returncode == 1
    assert "time limit" in late.stderr
    assert time.monotonic() - begun < 20
    assert site.daemons.run("submit", "--wait", "--time-limit", "30s", "--", "sleep", "0.1").returncode == 0


def test_canceling_asks_first_and_then_kills_the_whole_tree(site: Site, tmp_path: Path) -> None:
    site.start_worker("--cpus", "2")
    polite, stubborn = Job(), Job()
    polite.program(["sh", "-c", f"trap 'echo asked > {tmp_path}/asked; exit 0' TERM; echo $$ > {tmp_path}/a; while :; do sleep 0.05; done"])
    stubborn.program(["sh", "-c", f"trap '' TERM; setsid sleep 60 & echo $! $$ > {tmp_path}/b; while :; do sleep 0.05; done"])
    client = site.client()
    first, second = client.submit(polite), client.submit(stubborn)
    until(lambda: (tmp_path / "a").exists() and len(_numbers(tmp_path / "b")) == 2, "both run")
    for submitted in (first, second):
        assert submitted.native is not None
        submitted.native.cancel("enough")
        assert client.wait_for_jobs([submitted], raise_on_error=False) is False
        assert state(submitted) == "canceled"
    assert (tmp_path / "asked").read_text(encoding="utf-8") == "asked\n"
    until(lambda: not any(map(_alive, _numbers(tmp_path / "b"))), "the program and what it has started are gone")
