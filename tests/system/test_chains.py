"""Quick tasks that follow one another, on a real cluster: each runs once and with the right value, whatever happens to one of them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Job, LocalCluster, Retry
from broker_jobs.core.states import TaskState
from tests.support.daemons import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broker_jobs import Client, SubmittedJob, Task

LENGTH = 250


@pytest.fixture(scope="module")
def cluster(url: str | None) -> Iterator[LocalCluster]:
    with LocalCluster(workers=1, cpus=2, url=url) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with cluster.client() as client:
        yield client


def note(before: int, path: str) -> int:
    """Count on, and write down that this has run."""
    with Path(path).open("a", encoding="ascii") as file:
        file.write(f"{before}\n")
    return before + 1


def noted(path: Path) -> list[int]:
    return [int(line) for line in path.read_text(encoding="ascii").split()]


def in_a_row(job: Job, path: Path, length: int, function: Callable[[int, str], int] = note, **options: object) -> Task:
    """Add a chain; its last task."""
    last = job.function(function, args=(0, str(path)), **options)
    for _ in range(length - 1):
        last = job.function(function, args=(last.output, str(path)), **options)
    return last


def test_each_of_a_chain_runs_once_and_in_order(client: Client, tmp_path: Path) -> None:
    job = Job()
    last = in_a_row(job, tmp_path / "ran", LENGTH)
    submitted = client.submit(job)
    assert submitted.result(last, timeout=60) == LENGTH
    submitted.wait(timeout=60)
    assert noted(tmp_path / "ran") == list(range(LENGTH))
    assert {(task.state, task.attempt) for task in submitted.tasks()} == {(TaskState.succeeded, 1)}


def test_chains_beside_one_another(client: Client, tmp_path: Path) -> None:
    job = Job()
    ends = [in_a_row(job, tmp_path / f"ran{place}", 40) for place in range(6)]
    submitted = client.submit(job)
    assert [submitted.result(last, timeout=60) for last in ends] == [40] * 6
    assert [noted(tmp_path / f"ran{place}") for place in range(6)] == [list(range(40))] * 6


def test_each_task_of_a_pipeline_has_the_value_of_the_one_before(client: Client) -> None:
    job, steps = Job(), (str, list, len, range, list, sum, abs) * 10
    last, expected = job.function(int, args=(123_456,)), 123_456
    for step in steps:
        last, expected = job.function(step, args=(last.output,)), step(expected)
    assert client.submit(job).result(last, timeout=60) == expected


def once_in_vain(before: int, path: str) -> int:
    """Fail at the first try of the 60th."""
    after = note(before, path)
    if before == 60 and noted(Path(path)).count(60) == 1:
        raise ValueError(before)
    return after


def test_a_chain_goes_on_after_a_failure_that_is_tried_again(client: Client, tmp_path: Path) -> None:
    job = Job()
    last = in_a_row(job, tmp_path / "ran", LENGTH, once_in_vain, retry=Retry(max_attempts=2, backoff=0.1))
    assert client.submit(job).result(last, timeout=60) == LENGTH
    assert noted(tmp_path / "ran") == [*range(61), *range(60, LENGTH)]


def test_what_follows_a_failure_does_not_run(client: Client, tmp_path: Path) -> None:
    job = Job()
    in_a_row(job, tmp_path / "ran", LENGTH, once_in_vain)
    submitted = client.submit(job)
    submitted.wait(timeout=60)
    assert noted(tmp_path / "ran") == list(range(61))
    assert [task.state for task in submitted.tasks()] == [
        *[TaskState.succeeded] * 60,
        TaskState.failed,
        *[TaskState.aborted] * (LENGTH - 61),
    ]


def once_gone(before: int, path: str) -> int:
    """Take its process along at the first try of the 60th."""
    after = note(before, path)
    if before == 60 and noted(Path(path)).count(60) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return after


def test_a_chain_goes_on_after_a_crash(client: Client, tmp_path: Path) -> None:
    job = Job()
    last = in_a_row(job, tmp_path / "ran", LENGTH, once_gone)
    submitted = client.submit(job)
    assert submitted.result(last, timeout=60) == LENGTH
    assert noted(tmp_path / "ran") == [*range(61), *range(60, LENGTH)]


def slowly(before: int, path: str) -> int:
    """Take two milliseconds, so that a chain is not over at once."""
    time.sleep(0.002)
    return note(before, path)


def at_rest(job: SubmittedJob, path: Path) -> bool:
    """Whether all that has run is recorded. What is resumed while it runs would run twice: nobody has said yet that it had begun."""
    ran = len(noted(path))
    time.sleep(0.3)  # longer than a worker waits to tell of it
    return job.info().counts.get("succeeded") == ran == len(noted(path))


def test_a_paused_job_goes_on_where_it_was(client: Client, tmp_path: Path) -> None:
    job, path, length = Job(), tmp_path / "ran", 1000
    last = in_a_row(job, path, length, slowly)
    submitted = client.submit(job)
    for goal in (100, 400):
        until(lambda goal=goal: path.exists() and len(noted(path)) > goal, f"{goal} have run")
        submitted.pause()
        until(lambda: at_rest(submitted, path), "nothing runs any more, and what has run is recorded")
        ran = len(noted(path))
        submitted.resume()
        until(lambda ran=ran: len(noted(path)) > ran or ran == length, "it goes on")
    assert submitted.result(last, timeout=60) == length
    assert noted(path) == list(range(length)), "a pause makes nothing run twice"


@pytest.mark.timeout(120)
def test_a_chain_survives_its_worker(url: str | None, tmp_path: Path) -> None:
    with LocalCluster(workers=1, cpus=1, url=url) as cluster, cluster.client() as client:
        job = Job()
        last = in_a_row(job, tmp_path / "ran", 400, slowly)
        submitted = client.submit(job)
        until(lambda: (tmp_path / "ran").exists() and len(noted(tmp_path / "ran")) > 100, "it is under way")
        os.kill(next(pid for pid, name in cluster.processes.items() if name.startswith("worker")), signal.SIGKILL)
        cluster.start_worker()
        assert submitted.result(last, timeout=60) == 400
        assert sorted(set(noted(tmp_path / "ran"))) == list(range(400))
