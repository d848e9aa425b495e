"""Open jobs, and tasks that wait for tasks of other jobs: real processes, embedded and over RabbitMQ, with the coordinator killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Job, LocalCluster, Retry
from broker_jobs.errors import TaskAborted, TaskNotFound, ValidationError
from broker_jobs.ids import short
from tests.support.daemons import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs import Client
    from tests.support.rabbitmq import RabbitMQ


def add(a: int, b: int) -> int:
    return a + b


def blob(size: int) -> bytes:
    return b"x" * size


def fail() -> None:
    raise ValueError("no")


def second_time(path: str) -> str:
    if Path(path).exists():
        return "done"
    Path(path).touch()
    raise ValueError("not yet")


def when(path: str) -> str:
    """Wait until a file is there."""
    while not Path(path).exists():
        time.sleep(0.01)
    return path


@pytest.fixture(scope="module", params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.long)])
def place(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """A cluster whose coordinator may be killed."""
    url = None
    if request.param == "rabbitmq":
        rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
        url = rabbitmq.fresh_vhost()
    with LocalCluster(cpus=4, url=url) as found:
        yield found


@pytest.fixture
def client(place: LocalCluster) -> Iterator[Client]:
    with place.client() as found:
        yield found


def _restart_coordinator(place: LocalCluster) -> None:
    [pid] = [pid for pid, name in place.processes.items() if name.startswith("coordinator")]
    os.kill(pid, signal.SIGKILL)
    del place.processes[pid]
    place.start_coordinator()


# --- open jobs ---


def test_a_job_stays_open_until_it_is_closed(client: Client) -> None:
    opened = client.open("scan", tags=["a=1"], max_fails=3)
    first, second = Job(), Job()
    three = first.function(add, args=(1, 2))
    four = first.function(add, args=(three.output, 1))
    assert client.submit(first, to=opened).result(four) == 4
    assert opened.wait_for_tasks(30)
    assert (opened.open, opened.info().total, opened.info().incomplete) == (True, 2, False)
    fourteen = second.function(add, args=(four.output, 10), deps=[three])
    client.submit(second, to=opened.id)
    assert opened.result(fourteen) == opened.result(2) == 14
    opened.close()
    opened.close()
    assert opened.wait(30)
    info = opened.info()
    assert (info.name, info.tags, info.open, info.counts, info.notes) == ("scan", ("a=1",), False, {"succeeded": 3}, ())
    with pytest.raises(ValidationError, match="is not open any more"):
        client.submit(second, to=opened)


def test_a_failure_in_an_open_job_is_none_before_its_last_attempt(client: Client, tmp_path: Path) -> None:
    opened = client.open()
    job = Job()
    task = job.function(second_time, args=(str(tmp_path / "tried"),), retry=Retry(max_attempts=2, backoff=0.2))
    assert client.submit(job, to=opened).result(task, timeout=30) == "done"
    opened.close()
    assert opened.wait(30)


def test_an_open_job_without_tasks_succeeds_when_it_is_closed(client: Client) -> None:
    opened = client.open()
    assert opened.info().notes == (f"open: more tasks may be submitted; to close it: broker-jobs job close {short(opened.id)}",)
    opened.close()
    assert opened.wait(10)


def test_an_open_job_ends_by_being_canceled_or_by_its_failures(client: Client) -> None:
    canceled, failed = client.open(), client.open(max_fails=0)
    canceled.cancel("enough")
    assert canceled.state == "canceled"
    job = Job()
    job.function(fail)
    client.submit(job, to=failed)
    assert not failed.wait(30)
    assert (failed.state, failed.open) == ("failed", False)
    for ended in (canceled, failed):
        with pytest.raises(ValidationError, match="is not open any more"):
            client.submit(job, to=ended)
    ordinary = client.submit(job)
    with pytest.raises(ValidationError, match="only a job that was opened"):
        client.submit(job, to=ordinary)
    with pytest.raises(ValidationError, match="only a job that was opened"):
        ordinary.close()
    with pytest.raises(ValidationError, match="belong to the job that is open"):
        client.submit(Job(max_fails=3), to=failed)


def test_a_submission_that_comes_twice_is_one(client: Client) -> None:
    opened = client.open(idempotency_key=f"open-{time.time_ns()}")
    job = Job()
    job.map(add, range(5), [1] * 5)
    for _ in range(3):
        client.submit(job, to=opened, idempotency_key="once")
    assert opened.info().total == 5
    job.function(add, args=(1, 1))
    with pytest.raises(ValidationError, match="was used for other tasks"):
        client.submit(job, to=opened, idempotency_key="once")
    opened.close()
    assert opened.results(timeout=30) == {number: number + 1 for number in range(5)}


SUBMITTER = """
import sys
from broker_jobs import Client, Job

with Client(sys.argv[1], namespace=sys.argv[2], signing_key=sys.argv[3]) as client:
    job = Job()
    job.map(divmod, range(50), [7] * 50)
    client.submit(job, to=sys.argv[4])
"""


def test_several_processes_add_to_a_job_and_another_one_closes_it(place: LocalCluster, client: Client) -> None:
    opened = client.open()
    command = [sys.executable, "-c", SUBMITTER, place.url, place.namespace, place.key, opened.id]
    submitters = [subprocess.Popen(command) for _ in range(3)]
    assert [submitter.wait(60) for submitter in submitters] == [0, 0, 0]
    _restart_coordinator(place)
    job = Job()
    last = job.function(add, args=(1, 1))
    client.submit(job, to=opened)
    assert opened.result(last, timeout=60) == 2
    with place.client() as other:
        other.job(opened.id).close()
    assert opened.wait(60)
    results = opened.results()
    assert [results[number] for number in range(150)] == [divmod(number, 7) for number in range(50)] * 3


# --- tasks of other jobs ---


def test_a_task_of_an_earlier_job_is_waited_for_and_its_result_is_an_argument(client: Client, tmp_path: Path) -> None:
    earlier, later = Job(name="earlier"), Job(name="later")
    gate = earlier.function(when, args=(str(tmp_path / "go"),))
    three = earlier.function(add, args=(1, 2), deps=[gate])
    many = earlier.map(add, range(3), range(3), deps=[gate])
    first = client.submit(earlier)
    four = later.function(add, args=(three.output, 1))
    total = later.function(sum, args=(many.output,))
    also = later.function(add, args=(first.task(1).output, first.task("add[2]").output))
    path = later.program(["ls", tmp_path / "go"], deps=[gate, many])
    second = client.submit(later)
    until(lambda: second.info().counts == {"waiting": 4}, "all wait for the earlier job")
    (tmp_path / "go").touch()
    assert second.wait(30), second.tasks()
    assert [second.result(task) for task in (four, total, also, path)] == [4, 6, 7, 0]


def test_jobs_that_have_ended_are_no_different_and_may_be_forgotten_then(client: Client) -> None:
    earlier, later = Job(), Job()
    large = earlier.function(blob, args=(300_000,))
    first = client.submit(earlier)
    assert first.wait(30)
    opened = client.open()
    gate = later.function(when, args=("/nowhere/at/all",))
    length = later.function(len, args=(large.output,), after=[gate])
    client.submit(later, to=opened)
    until(lambda: opened.info().counts == {"running": 1, "waiting": 1}, "the task waits for the gate alone")
    first.forget()
    opened.cancel("open the gate", tasks=[gate])
    assert opened.result(length, timeout=30) == 300_000
    opened.close()


def test_what_will_never_be_aborts_what_waits_for_it(client: Client) -> None:
    earlier, later = Job(), Job()
    bad, good = earlier.function(fail), earlier.function(add, args=(1, 1))
    first = client.submit(earlier)
    for deps in (bad, first.task(7)):
        later.program(["true"], deps=[deps])
    transitive = later.function(add, args=(later.function(add, args=(bad.output, 1)).output, 1))
    later.program(["true"], after=[bad])
    second = client.submit(later)
    assert not second.wait(30)
    name = f"of job {short(first.id)}"
    assert [(task.state.value, task.reason) for task in second.tasks()] == [
        ("aborted", f"task 0 {name} failed"),
        ("aborted", f"task 7 {name} does not exist"),
        ("aborted", f"task 0 {name} failed"),
        ("aborted", f"task 0 {name} failed"),
        ("succeeded", ""),
    ]
    with pytest.raises(TaskAborted, match=f"task 0 {name} failed"):
        second.result(transitive)
    assert not first.wait(30)
    first.forget()
    third = Job()
    third.program(["true"], deps=[good])
    ended = client.submit(third)
    assert not ended.wait(30)
    assert ended.tasks()[0].reason == f"task 1 {name} is not known: its job was forgotten, or never came"
    with pytest.raises(TaskNotFound):
        client.submit(third).task("no such name")


def test_a_canceled_job_tells_those_that_wait_for_it(client: Client) -> None:
    earlier, later = Job(), Job()
    gate = earlier.function(when, args=("/nowhere/at/all",))
    waits = earlier.function(add, args=(1, 1), deps=[gate])
    first = client.submit(earlier)
    later.program(["true"], deps=[waits])
    later.program(["true"], after=[waits])
    second = client.submit(later)
    until(lambda: second.info().counts == {"waiting": 2}, "both wait")
    first.cancel("no more")
    assert not second.wait(30)
    assert [(task.state.value, task.reason) for task in second.tasks()] == [
        ("aborted", f"task 1 of job {short(first.id)} canceled"),
        ("succeeded", ""),
    ]


def test_it_goes_on_after_the_coordinator_was_killed(place: LocalCluster, client: Client, tmp_path: Path) -> None:
    earlier, later = Job(), Job()
    gate = earlier.function(when, args=(str(tmp_path / "go"),))
    other = earlier.function(add, args=(20, 1))
    first = client.submit(earlier)
    both = later.function(add, args=(other.output, 21), deps=[gate])
    second = client.submit(later)
    first.result(other, timeout=30)
    until(lambda: second.info().counts == {"waiting": 1}, "one of two needs has ended")
    _restart_coordinator(place)
    (tmp_path / "go").touch()
    assert second.result(both, timeout=60) == 42
