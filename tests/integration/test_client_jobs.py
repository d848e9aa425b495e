"""Jobs from their submission to their end, on real processes."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs import Client, Job, Retry
from broker_jobs.client import JobChanged, TaskChanged
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.errors import (
    AmbiguousId,
    FailedJobsError,
    JobActive,
    JobNotFound,
    SigningKeyMissing,
    TaskAborted,
    TaskCanceled,
    TaskFailed,
    TaskNotFound,
    ValidationError,
)
from broker_jobs.ids import short

if TYPE_CHECKING:
    from broker_jobs import LocalCluster, SubmittedJob

PATIENCE = 30.0


class Oops(Exception):
    """An exception of a user."""


def add(left: int, right: int = 0) -> int:
    return left + right


def fail(text: str) -> None:
    raise Oops(text)


def wait_for(path: str) -> str:
    """Wait until somebody writes this file."""
    deadline = time.monotonic() + PATIENCE
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.01)
    return Path(path).read_text()


def fail_once(path: str) -> str:
    if not Path(path).exists():
        Path(path).write_text("")
        raise Oops("the first time")
    return "done"


def until_running(submitted: object, number: int) -> None:
    for event in submitted.events():  # type: ignore[attr-defined]
        if isinstance(event, TaskChanged) and event.task == number and event.state is TaskState.running:
            return


def test_a_graph_of_functions_and_programs_with_data(client: Client, tmp_path: Path) -> None:
    job = Job(name="graph", tags=["kind=graph"])
    first = job.function(add, args=(1,), kwargs={"right": 2})
    parts = job.function(lambda value: {"values": [value, value + 1]}, args=(first.output,))
    many = job.map(add, range(20), deps=[first])
    total = job.function(sum, args=(many.output,))
    picked = job.function(add, args=(parts.output["values"][1], total.output))
    shared = job.value({"weight": 100})
    weighed = job.map(lambda shared, index: shared["weight"] + index, [shared] * 3, range(3))
    written = job.program(
        ["sh", "-c", 'echo "$GREETING" > greeting; echo done; echo trouble >&2'], cwd=tmp_path, env={"GREETING": "hello"}, deps=[first]
    )
    last = job.program(["cat", "greeting", "-"], stdin="world\n", cwd=tmp_path, deps=[written], stdout="both")
    submitted = client.submit(job)
    assert client.wait_for_jobs([submitted], timeout=PATIENCE)
    assert submitted.state is JobState.succeeded
    assert submitted.result(first) == 3
    assert submitted.result(total) == 190
    assert submitted.result(picked) == 194
    assert [submitted.result(task) for task in weighed] == [100, 101, 102]
    assert (submitted.result(written), submitted.stdout(written), submitted.stderr(written)) == (0, b"done\n", b"trouble\n")
    assert submitted.result(last.number) == 0
    assert (tmp_path / "both").read_text() == "hello\nworld\n"
    assert submitted.results()[many[7].number] == 7
    assert submitted.errors() == {}
    info = submitted.info()
    assert (info.name, info.tags, info.counts) == ("graph", ("kind=graph",), {"succeeded": len(job)})


def test_a_failure_is_told_with_its_remote_traceback(client: Client) -> None:
    job = Job(name="failing")
    bad = job.function(fail, args=("no such luck",), name="bad")
    after = job.function(add, args=(1,), deps=[bad])
    tidy = job.function(add, args=(5,), after=[bad])
    wrong = job.program(["sh", "-c", "exit 3"])
    killed = job.program(["sh", "-c", "kill -TERM $$"])
    missing = job.program(["a-program-that-is-not-there"])
    submitted = client.submit(job)
    with pytest.raises(FailedJobsError) as caught:
        client.wait_for_jobs([submitted], timeout=PATIENCE)
    text = str(caught.value)
    assert short(submitted.id) in text
    assert "task 0 'bad' (error): Oops: no such luck" in text
    assert caught.value.jobs == (submitted,)
    assert not client.wait_for_jobs([submitted], raise_on_error=False)
    with pytest.raises(TaskFailed, match=r"(?s)task 0 'bad' of job .* failed \(error\): Oops: no such luck.*Traceback.*in fail") as failed:
        submitted.result("bad")
    assert failed.value.cause == "error"
    assert failed.value.__cause__ is not None
    assert type(failed.value.__cause__).__name__ == "Oops"
    with pytest.raises(TaskAborted, match="task 0"):
        submitted.result(after, timeout=PATIENCE)
    assert submitted.result(tidy) == 5
    assert submitted.results() == {tidy.number: 5}
    errors = submitted.errors()
    assert errors.keys() == {bad.number, wrong.number, killed.number, missing.number}
    assert [errors[task.number].exit_status for task in (bad, wrong, killed, missing)] == [None, 3, 128 + 15, None]
    with pytest.raises(TaskFailed) as failed:
        submitted.result(killed)
    assert failed.value.exit_status == 128 + 15
    assert errors[wrong.number].cause == "exit code"
    assert "a-program-that-is-not-there" in errors[missing.number].message
    assert errors[bad.number].attempt == 1
    assert errors[bad.number].worker


def test_a_retry_and_a_limit(client: Client, tmp_path: Path) -> None:
    job = Job()
    again = job.function(fail_once, args=(str(tmp_path / "once"),), retry=Retry(max_attempts=2, backoff=0.05))
    never = job.function(fail, args=("always",), retry=Retry(max_attempts=2, backoff=0.05))
    slow = job.program(["sleep", "60"], time_limit=0.3)
    submitted = client.submit(job)
    assert not client.wait_for_jobs([submitted], timeout=PATIENCE, raise_on_error=False)
    assert submitted.result(again) == "done"
    assert submitted.errors()[never.number].attempt == 2
    assert submitted.errors()[slow.number].cause == "time limit"


def test_as_completed_yields_what_succeeds_as_it_does(client: Client, tmp_path: Path) -> None:
    job = Job()
    late = job.function(wait_for, args=(str(tmp_path / "go"),))
    early = job.map(add, range(3))
    bad = job.function(fail, args=("no",))
    submitted = client.submit(job)
    seen = {}
    for number, value in submitted.as_completed():
        seen[number] = value
        if len(seen) == 3:
            assert late.number not in seen
            (tmp_path / "go").write_text("went")
    assert seen == {late.number: "went", **{task.number: index for index, task in enumerate(early)}}
    assert bad.number not in seen


def test_a_job_is_found_again_and_read_by_another_client(client: Client, cluster: LocalCluster) -> None:
    job = Job(name="found-again", tags=["one", "two=2"])
    named = job.function(add, args=(1, 2), name="sum")
    job.function(fail, args=("x",), name="bad")
    printed = job.program(["echo", "hello"], name="hello")
    submitted = client.submit(job)
    client.wait_for_jobs([submitted], timeout=PATIENCE, raise_on_error=False)
    with cluster.client() as other:
        for text in (submitted.id, short(submitted.id), "last", submitted.id[-5:]):
            assert other.job(text).id == submitted.id
        found = other.job(submitted.id)
        assert found.state is JobState.failed
        assert found.result("sum") == 3
        assert found.results() == {named.number: 3, printed.number: 0}
        assert found.errors()[1].message == "Oops: x"
        assert found.stdout(printed) == b"hello\n"
        assert dict(found.as_completed()) == {0: 3, 2: 0}
        (task,) = found.tasks([1])
        assert (task.state, task.name) == (TaskState.failed, "bad")
        assert task.outcome is not None
        assert [task.state for task in found.tasks()] == [TaskState.succeeded, TaskState.failed, TaskState.succeeded]
        assert [job.id for job in other.jobs(name="found-*", tags=["one", "two=2"], state="failed")] == [submitted.id]
        assert other.jobs(name="found-*", state="succeeded") == []
        with pytest.raises(FailedJobsError, match="'found-again' failed"):
            other.wait_for_jobs([found])
        with pytest.raises(TaskNotFound):
            found.result("nobody")
        with pytest.raises(TaskNotFound):
            found.result(99, timeout=PATIENCE)


def test_jobs_that_are_not_there(client: Client) -> None:
    with pytest.raises(JobNotFound):
        client.job("0123456789abcdef")
    with pytest.raises(ValidationError, match="is no job"):
        client.job("xyz")
    with pytest.raises(ValidationError, match="state must be one of"):
        client.jobs(state="done")


def test_an_ambiguous_ending_names_the_candidates(client: Client) -> None:
    job = Job()
    job.program(["true"])
    endings: dict[str, str] = {}
    for _ in range(3):
        submitted = client.submit(job)
        endings[submitted.id] = submitted.id[-4:]
    with pytest.raises(ValidationError, match="digits"):
        client.job("1")
    if len(set(endings.values())) < len(endings):
        with pytest.raises(AmbiguousId):
            client.job(next(iter(endings.values())))


def test_forgetting(client: Client, tmp_path: Path) -> None:
    job = Job()
    task = job.function(wait_for, args=(str(tmp_path / "go"),))
    submitted = client.submit(job)
    with pytest.raises(JobActive):
        client.forget(submitted)
    (tmp_path / "go").write_text("went")
    assert submitted.result(task, timeout=PATIENCE) == "went"
    client.wait_for_jobs([submitted])
    submitted.info()
    client.forget(submitted)
    with pytest.raises(JobNotFound):
        client.job(submitted.id)


def test_cancel_a_task_and_then_the_job(client: Client, tmp_path: Path) -> None:
    job = Job()
    running = job.function(wait_for, args=(str(tmp_path / "never"),))
    waiting = job.function(add, args=(1,), deps=[running])
    fine = job.function(add, args=(2,))
    submitted = client.submit(job)
    until_running(submitted, running.number)
    assert submitted.result(fine, timeout=PATIENCE) == 2
    assert client.cancel(waiting, "not needed").before_start == 1
    with pytest.raises(TaskCanceled, match="not needed"):
        submitted.result(waiting, timeout=PATIENCE)
    result = submitted.cancel(reason="wrong input")
    assert (result.while_running, result.ended_already) == (1, 2)
    with pytest.raises(TaskCanceled, match="wrong input"):
        submitted.result(running, timeout=PATIENCE)
    assert not client.wait_for_jobs([submitted], timeout=PATIENCE, raise_on_error=False)
    assert submitted.state is JobState.canceled
    with pytest.raises(JobNotFound, match="was not submitted by this client"):
        client.cancel(Job())


def test_events_tell_the_whole_story(client: Client) -> None:
    job = Job()
    first = job.function(add, args=(1,))
    job.function(add, args=(first.output,))
    submitted = client.submit(job)
    events = list(submitted.events())
    last = {event.task: event.state for event in events if isinstance(event, TaskChanged)}
    assert last == {0: TaskState.succeeded, 1: TaskState.succeeded}
    assert isinstance(events[-1], JobChanged)
    assert events[-1].state is JobState.succeeded


def test_waiting_ends_in_time(client: Client, tmp_path: Path) -> None:
    job = Job()
    task = job.function(wait_for, args=(str(tmp_path / "go"),), name="waits")
    submitted = client.submit(job)
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.2 s"):
        client.wait_for_jobs([submitted], timeout=0.2)
    with pytest.raises(TimeoutError, match=r"task 0 'waits' of job .* within 0\.2 s"):
        submitted.result(task, timeout=0.2)
    submitted.cancel()


def test_the_first_of_several_jobs_is_waited_for_and_who_is_late_is_named(client: Client, tmp_path: Path) -> None:
    def submitted(name: str, *, fails: bool = False) -> SubmittedJob:
        job = Job(name)
        job.function(fail if fails else wait_for, args=(str(tmp_path / name),))
        return client.submit(job)

    slow, slower = submitted("slow"), submitted("slower")
    with pytest.raises(TimeoutError, match=r"none of 2 jobs has ended within 0\.05 s"):
        client.wait_for_any([slow, slower], timeout=0.05)
    bad = submitted("bad", fails=True)
    assert client.wait_for_any([slow, slower, bad], timeout=PATIENCE) == [bad]
    with pytest.raises(TimeoutError, match=rf"2 of 3 jobs have not ended within 0\.05 s: {short(slow.id)} 'slow' \(\w+\), \w+ 'slower' "):
        client.wait_for_jobs([slow, bad, slower], timeout=0.05)
    (tmp_path / "slow").touch()
    assert client.wait_for_any([slow, slower], timeout=PATIENCE) == [slow]
    assert client.wait_for_any([]) == []
    slower.cancel()
    assert client.wait_for_any([slower], timeout=PATIENCE) == [slower]


def test_jobs_are_chosen_by_tags_and_by_when_they_were_submitted(client: Client) -> None:
    def found(**filters: Any) -> list[str]:
        return [job.name for job in client.jobs(tags=["chosen"], **filters)]

    for name, tags in (("a", ["x"]), ("b", ["x", "keep"]), ("c", ["y"])):
        job = Job(name, tags=["chosen", *tags])
        job.function(add, args=(1,))
        assert client.submit(job).wait(PATIENCE)
    assert (found(tags_any=["x", "z"]), found(without_tags=["keep", "y"]), found(tags_any=["x"], without_tags=["keep"])) == (
        ["b", "a"],
        ["a"],
        ["a"],
    )
    now = datetime.now(UTC) + timedelta(seconds=1)
    assert (found(since=now), found(until=now), found(since=now - timedelta(hours=1), until=now)) == ([], ["c", "b", "a"], ["c", "b", "a"])
    for wrong in ({"tags_any": "x"}, {"without_tags": "x"}, {"since": "today"}, {"until": 7}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            found(**wrong)


def test_a_progress_bar_shows_what_happens(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    job = Job(name="bar")
    job.map(add, range(5))
    assert client.wait_for_jobs([client.submit(job)], timeout=PATIENCE, progress=True)
    shown = capsys.readouterr().err
    assert "bar" in shown
    assert "5/5" in shown


def test_the_same_key_is_one_job(client: Client) -> None:
    key = f"test-{os.getpid()}-{time.time_ns()}"
    job = Job()
    task = job.function(add, args=(1,))
    first = client.submit(job, idempotency_key=key)
    assert first.result(task, timeout=PATIENCE) == 1
    second = client.submit(job, idempotency_key=key)
    assert second.id == first.id
    assert second.result(task) == 1


def test_what_cannot_be_sent_is_found_before_anything_is(client: Client) -> None:
    job = Job(name="never sent")
    job.map(add, [1, 2, 3])
    job.function(add, args=(threading.Lock(),))
    with pytest.raises(ValidationError, match="task 3 'add': argument 1"):
        client.submit(job)
    assert client.jobs(name="never sent") == []


def test_a_large_job(client: Client) -> None:
    job = Job(name="large")
    many = job.map(add, range(5000))
    total = job.function(sum, args=(many.output,))
    submitted = client.submit(job)
    assert submitted.result(total, timeout=60) == sum(range(5000))
    assert len(submitted.results()) == 5001


def test_large_values_go_through_the_store(client: Client) -> None:
    job = Job()
    large = job.function(bytes, args=(300_000,))
    size = job.function(len, args=(large.output,))
    given = job.function(len, args=(b"x" * 200_000,))
    submitted = client.submit(job)
    assert submitted.result(size, timeout=PATIENCE) == 300_000
    assert submitted.result(given, timeout=PATIENCE) == 200_000
    assert submitted.result(large) == bytes(300_000)


def test_without_a_key_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, cluster: LocalCluster) -> None:
    with cluster.client() as client:
        object.__setattr__(client.settings, "key", None)
        job = Job()
        job.program(["true"])
        with pytest.raises(SigningKeyMissing, match="broker-jobs key new"):
            client.submit(job)


def test_shown_without_secrets(client: Client) -> None:
    assert client.settings.required_key().secret.hex() not in repr(client)
    job = Job(name="shown")
    job.program(["true"])
    assert repr(client.submit(job)).startswith("<SubmittedJob ")
