"""Attempts: what is tried again, how often, and what counts against a task. Real processes, on both brokers.

Numbers in names (3.1 and so on) are those of the list of known pains of task queues over RabbitMQ that these checks come from.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from broker_jobs import Job, LocalCluster, Retry
from broker_jobs.core.outcome import Cause
from broker_jobs.core.states import JOB_ENDED, TaskState
from tests.support.daemons import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


PLENTY = 60


def note(path: str, line: str = "") -> int:
    """Write down that it runs; how many runs are written down now."""
    with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123
        file.write(f"{line}\n")
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        return len(file.readlines())


def noted(path: Path) -> list[str]:
    """The lines that are written down."""
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def fail_until(path: str, runs: int) -> int:
    """Fail until it has run so often."""
    count = note(path)
    if count < runs:
        raise ConnectionError(f"run {count} of {runs}")
    return count


def die(path: str) -> None:
    """Kill the process of the function."""
    note(path)
    os.kill(os.getpid(), signal.SIGKILL)


def murder(path: str) -> None:
    """Kill the worker, and wait for what becomes of that."""
    note(path)
    for process in psutil.Process().parents():
        command = process.cmdline()
        if "worker" in command and "start" in command:
            process.kill()
    time.sleep(PLENTY)


def once(path: str, number: int) -> int:
    """A neighbour: short, and written down."""
    note(path, str(number))
    return number


@pytest.fixture(scope="module")
def cluster(url: str | None) -> Iterator[LocalCluster]:
    with LocalCluster(cpus=2, url=url) as found:
        yield found


@pytest.fixture
def mortal(url: str | None) -> Iterator[LocalCluster]:
    """A cluster whose workers may be killed."""
    with LocalCluster(workers=2, cpus=1, url=url) as found:
        yield found


def workers(cluster: LocalCluster) -> list[int]:
    """Process ids of the workers that live."""
    return [pid for pid, name in cluster.processes.items() if name.startswith("worker") and _lives(pid)]


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- what is tried again ----------------------------------------------------------------------------------------------


def test_3_5_ten_retries_of_one_task_all_arrive(cluster: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "runs"
    job = Job()
    stubborn = job.function(fail_until, args=(str(path), 11), retry=Retry(max_attempts=11, backoff=0.1, factor=1.0, jitter=0.0))
    with cluster.client() as client:
        submitted = client.submit(job)
        assert submitted.result(stubborn, timeout=PLENTY) == 11
        (task,) = submitted.tasks()
    assert len(noted(path)) == 11
    assert (task.attempt, task.crashes) == (11, 0)


def test_the_filter_says_which_failures_are_tried_again(cluster: LocalCluster, tmp_path: Path) -> None:
    def twice(on: object) -> Retry:
        return Retry(max_attempts=2, backoff=0.0, on=on)  # type: ignore[arg-type]

    job = Job()
    cases = {
        "its type": job.function(fail_until, args=(str(tmp_path / "0"), 9), retry=twice([ConnectionError])),
        "a base of its type": job.function(fail_until, args=(str(tmp_path / "1"), 9), retry=twice([OSError])),
        "another type": job.function(fail_until, args=(str(tmp_path / "2"), 9), retry=twice([ValueError])),
        "its exit code": job.program(["sh", "-c", "echo >> $0; exit 3", str(tmp_path / "3")], retry=twice([3])),
        "another exit code": job.program(["sh", "-c", "echo >> $0; exit 3", str(tmp_path / "4")], retry=twice([4])),
        "its cause": job.program(["sh", "-c", "echo >> $0; kill -9 $$", str(tmp_path / "5")], retry=twice([Cause.signal])),
        "another cause": job.program(["sh", "-c", "echo >> $0; kill -9 $$", str(tmp_path / "6")], retry=twice(["exit code"])),
    }
    with cluster.client() as client:
        assert not client.wait_for_jobs([client.submit(job)], raise_on_error=False, timeout=PLENTY)
    runs = {case: len(noted(tmp_path / str(task.number))) for case, task in cases.items()}
    assert runs == {case: 1 if case.startswith("another") else 2 for case in cases}


def test_a_delay_grows_by_its_factor_up_to_its_cap(cluster: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "times"
    retry = Retry(max_attempts=5, backoff=0.2, factor=3.0, max_backoff=0.5, jitter=0.0)
    job = Job()
    job.program(["sh", "-c", "date +%s.%N >> $0; exit 1", str(path)], retry=retry)
    with cluster.client() as client:
        client.wait_for_jobs([client.submit(job)], raise_on_error=False, timeout=PLENTY)
    times = [float(line) for line in noted(path)]
    delays = [after - before for before, after in itertools.pairwise(times)]
    # Never early; how late depends on the machine.
    assert [delay >= least for delay, least in zip(delays, [0.2, 0.5, 0.5, 0.5], strict=True)] == [True] * 4


@pytest.mark.long
@pytest.mark.timeout(300)
def test_3_3_twenty_thousand_tasks_due_in_an_hour_cost_the_workers_nothing(cluster: LocalCluster) -> None:
    def fail(_: int) -> None:
        raise RuntimeError

    (worker,) = workers(cluster)
    job = Job()
    job.map(fail, range(20_000), retry=Retry(max_attempts=2, backoff=3600.0))
    with cluster.client() as client:
        client.map(len, [[]])
        before = psutil.Process(worker).memory_info().rss
        submitted = client.submit(job)
        until(lambda: submitted.info().counts.get("retrying") == 20_000, "all of them wait for their second attempt", 200)
        begun = time.monotonic()
        assert client.call(len, [1, 2]) == 2
        assert time.monotonic() - begun < 0.5
        assert psutil.Process(worker).memory_info().rss < before + 16 * 2**20
        submitted.cancel(reason="enough")
        until(lambda: submitted.info().state in JOB_ENDED, "it is canceled")


# --- what counts against a task ---------------------------------------------------------------------------------------


def test_3_14_a_suicidal_function_ends_at_its_limit_and_its_neighbours_do_not_notice(cluster: LocalCluster, tmp_path: Path) -> None:
    path, beside = tmp_path / "runs", tmp_path / "beside"
    job = Job()
    suicidal = job.function(die, args=(str(path),), crash_limit=3)
    neighbours = job.map(once, [str(beside)] * 40, range(40), crash_limit=3)
    with cluster.client() as client:
        submitted = client.submit(job)
        assert not submitted.wait(PLENTY)
        tasks = submitted.tasks()
        error = submitted.errors()[suicidal.number]
    assert len(noted(path)) == 3
    assert (error.cause, tasks[suicidal.number].crashes) == (Cause.crash_limit, 3)
    assert "3 times" in error.message
    assert "SIGKILL" in error.message
    assert sorted(map(int, noted(beside))) == list(range(40)), "each neighbour has run once"
    assert all(tasks[task.number].crashes == 0 for task in neighbours)


@pytest.mark.timeout(120)
def test_3_14_a_task_that_kills_its_worker_is_charged_alone(mortal: LocalCluster, tmp_path: Path) -> None:
    path, beside = tmp_path / "runs", tmp_path / "beside"
    job = Job()
    murderer = job.function(murder, args=(str(path),), crash_limit=3)
    neighbours = job.map(once, [str(beside)] * 40, range(40), crash_limit=1)
    with mortal.client() as client:
        submitted = client.submit(job)
        deadline = time.monotonic() + 90
        while submitted.info().state not in JOB_ENDED:
            assert time.monotonic() < deadline, f"{submitted.info()}\n{mortal.logs()}"
            for _ in range(2 - len(workers(mortal))):
                mortal.start_worker()
            time.sleep(0.1)
        tasks = submitted.tasks()
        error = submitted.errors()[murderer.number]
    assert (error.cause, tasks[murderer.number].crashes) == (Cause.crash_limit, 3)
    # A worker that dies with a chunk that it shares with others charges nobody: the suspects run alone from then on.
    assert len(noted(path)) in {3, 4}
    assert [(tasks[task.number].state, tasks[task.number].crashes) for task in neighbours] == [(TaskState.succeeded, 0)] * 40


@pytest.mark.long
@pytest.mark.timeout(150)
def test_3_1_nothing_is_lost_when_children_and_workers_die(mortal: LocalCluster, tmp_path: Path) -> None:
    def work(number: int, folder: str) -> int:
        time.sleep(0.02)
        first = note(f"{folder}/{number}") == 1
        if number % 20 == 7 and first:
            os.kill(os.getpid(), signal.SIGKILL)
        if number % 50 == 9:
            return len(bytearray(400 * 2**20))
        return number

    job = Job()
    job.map(work, range(200), [str(tmp_path)] * 200, crash_limit="unlimited", memory_limit="150 MiB")
    with mortal.client() as client:
        submitted = client.submit(job)
        for done in (40, 90):
            until(lambda done=done: sum(submitted.info().counts.get(end, 0) for end in ("succeeded", "failed")) >= done, "some are done")  # type: ignore[misc]
            os.kill(workers(mortal)[0], signal.SIGKILL)
            mortal.start_worker()
        assert not submitted.wait(100), mortal.logs()
        values, errors = submitted.results(), submitted.errors()
    assert {number: error.cause for number, error in errors.items()} == dict.fromkeys([9, 59, 109, 159], Cause.memory_limit)
    assert values == {number: number for number in range(200) if number not in errors}


def test_limits_and_cancels_are_no_crashes(cluster: LocalCluster, tmp_path: Path) -> None:
    def spin(path: str) -> None:
        note(path)
        while True:
            pass

    job = Job()
    job.function(spin, args=(str(tmp_path / "late"),), time_limit=0.3, crash_limit=1)
    unwanted = job.function(spin, args=(str(tmp_path / "unwanted"),), crash_limit=1)
    with cluster.client() as client:
        submitted = client.submit(job)
        until(lambda: noted(tmp_path / "unwanted"), "it runs")
        submitted.cancel(reason="enough", tasks=[unwanted])
        assert not submitted.wait(PLENTY)
        late, canceled = submitted.tasks()
        errors = submitted.errors()
    assert (late.state, late.crashes, errors[0].cause) == (TaskState.failed, 0, Cause.time_limit)
    assert (canceled.state, canceled.crashes, canceled.reason) == (TaskState.canceled, 0, "enough")


def test_a_program_that_ends_by_a_signal_has_failed(cluster: LocalCluster) -> None:
    job = Job()
    program = job.program(["sh", "-c", "kill -SEGV $$"], crash_limit=3)
    with cluster.client() as client:
        submitted = client.submit(job)
        assert not submitted.wait(PLENTY)
        (task,), error = submitted.tasks(), submitted.errors()[program.number]
    assert (error.cause, task.attempt, task.crashes) == (Cause.signal, 1, 0)
    assert "SIGSEGV" in error.message


@pytest.mark.timeout(120)
def test_what_must_never_start_twice_does_not(mortal: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "runs"

    def linger(path: str) -> None:
        note(path)
        time.sleep(PLENTY)

    job = Job()
    precious = job.function(linger, args=(str(path),), retry=Retry(max_attempts=1), crash_limit="never")
    with mortal.client() as client:
        submitted = client.submit(job)
        until(lambda: noted(path), "it runs")
        for pid in workers(mortal):
            os.kill(pid, signal.SIGKILL)
        mortal.start_worker()
        assert not submitted.wait(PLENTY), mortal.logs()
        (task,), error = submitted.tasks(), submitted.errors()[precious.number]
    assert len(noted(path)) == 1
    assert (error.cause, task.crashes) == (Cause.crash_limit, 1)


def test_what_is_aborted_names_the_task_that_caused_it(cluster: LocalCluster) -> None:
    job = Job()
    broken = job.program(["false"])
    after = job.program(["true"], deps=[broken])
    last = job.program(["true"], deps=[after])
    tidy = job.program(["true"], after=[last])
    with cluster.client() as client:
        submitted = client.submit(job)
        assert not submitted.wait(PLENTY)
        tasks = submitted.tasks()
    assert [tasks[task.number].state for task in (after, last, tidy)] == [TaskState.aborted, TaskState.aborted, TaskState.succeeded]
    assert [tasks[task.number].reason for task in (after, last)] == ["task 0 failed"] * 2
