"""Small parts of the client: names, texts for people, and what is read from where."""

from __future__ import annotations

import pytest

from broker_jobs import Job, ResourceRequest
from broker_jobs.client.jobview import Ending, JobView, Layout
from broker_jobs.client.link import Frame
from broker_jobs.client.results import MOST_SHOWN, failure, own_exception, summary, value_of
from broker_jobs.client.runtime import left_line
from broker_jobs.client.submission import Spool, Submission
from broker_jobs.core.outcome import Canceled, Cause, Failed, Succeeded
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.errors import DecodeError, TaskAborted, TaskCanceled, TaskFailed, TaskNotFound, TooManyClasses, ValidationError
from broker_jobs.ids import new_job_id, short
from broker_jobs.wire import payload
from broker_jobs.wire.messages import JobInfo, Reply, Started

JOB = new_job_id()


def work(*_args: object) -> None:
    """Anything."""


class Elsewhere(Exception):
    """Of a class that loads nowhere."""

    def __reduce__(self) -> tuple[object, ...]:
        return eval, ("1 // 0",)


def _layout() -> Layout:
    job = Job(name="named")
    job.function(work, name="one")
    job.map(work, range(3), name="many")
    job.program(["true"], name="two")
    job.function(work, name="two")
    return Layout.of(job, flat=False)


def test_tasks_are_found_by_their_name() -> None:
    layout = _layout()
    assert [layout.named(name) for name in ("one", "many[0]", "many[2]")] == [0, 1, 3]
    for name in ("three", "many", "many[3]", "one[0]", "many[x]", "]", f"many[{'9' * 5000}]"):
        with pytest.raises(TaskNotFound, match="no task named"):
            layout.named(name)
    with pytest.raises(ValidationError, match="2 tasks are named 'two': use a number, such as 4"):
        layout.named("two")


def test_rows_are_found_by_number() -> None:
    layout = _layout()
    found = [layout.row(number) for number in range(-1, 7)]
    assert [row.name if row else None for row in found] == [None, "one", "many", "many", "many", "two", "two", None]


def test_endings_are_values_or_exceptions() -> None:
    done = Ending(1, TaskState.succeeded, Succeeded(payload.dump({"a": (1,)})))
    assert value_of(done, JOB) == {"a": (1,)}
    assert value_of(Ending(1, TaskState.succeeded, Succeeded(), program=True), JOB) == 0
    with pytest.raises(TaskCanceled, match=f"task 2 'x' of job {short(JOB)} was canceled: enough"):
        value_of(Ending(2, TaskState.canceled, Canceled("enough"), "enough", "x"), JOB)
    with pytest.raises(TaskAborted, match="task 1 failed"):
        value_of(Ending(2, TaskState.aborted, None, "task 1 failed"), JOB)
    with pytest.raises(TaskFailed, match=r"(?s)task 3 of job .* failed \(signal\): killed.*the traceback"):
        value_of(Ending(3, TaskState.failed, Failed(Cause.signal, "killed", "the traceback")), JOB)


def test_an_exception_that_does_not_load_is_told_in_words() -> None:
    failed = Failed(Cause.error, "Elsewhere: no", "tb", payload.dump(Elsewhere("no")))
    assert own_exception(failed) is None
    assert failure(Ending(1, TaskState.failed, failed), failed, JOB).__cause__ is None
    loud = Failed(Cause.error, "no", "tb", payload.dump(KeyboardInterrupt()))
    assert own_exception(loud) is None


def test_a_failed_job_is_told_with_its_first_failures() -> None:
    view = JobView(JOB)
    view.told(JobInfo(JOB, "train", JobState.failed, 3, 0, {"failed": 9, "succeeded": 1}, 10, reason="more than 3 tasks failed"))
    failed = Failed(Cause.error, "ValueError: no\nand more")
    text = summary(view, [(Ending(number, TaskState.failed, failed, name="x"), failed) for number in range(9)])
    lines = text.splitlines()
    assert lines[0] == f"job {short(JOB)} 'train' failed: 9 failed, 1 succeeded of 10 tasks"
    assert lines[1] == "  more than 3 tasks failed"
    assert lines[2] == "  task 0 'x' (error): ValueError: no"
    assert text.count("ValueError") == MOST_SHOWN
    assert lines[-2:] == ["  …", f"  more: broker-jobs job info {short(JOB)}"]


def test_the_line_that_a_script_leaves() -> None:
    one: dict[str, str] = {JOB: ""}
    assert left_line(one) == f"broker-jobs: 1 submitted job is not finished and will go on; follow with: broker-jobs job wait {short(JOB)}"
    many: dict[str, str] = {new_job_id(): " --url amqp://u:***@h/" for _ in range(7)}
    assert left_line(many).startswith("broker-jobs: 7 submitted jobs are not finished")
    assert left_line(many).endswith("broker-jobs job list --url amqp://u:***@h/")
    elsewhere = new_job_id(3)
    assert left_line({elsewhere: ""}).endswith(f"broker-jobs job wait {elsewhere}")
    assert left_line({new_job_id(3): "" for _ in range(7)}).endswith("broker-jobs job list --partition 3")
    assert left_line({**many, elsewhere: ""}).endswith("broker-jobs job list --url amqp://u:***@h/"), "they are in several"


def test_frames_come_back_in_order_from_memory_and_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (1, 2**20):
        monkeypatch.setattr("broker_jobs.client.submission._IN_MEMORY", limit)
        spool = Spool()
        frames = [Frame(f"key{number}", bytes([number]) * number) for number in range(5)]
        for frame in frames:
            spool.add(frame)
        assert list(spool) == frames
        assert list(spool) == frames
        spool.close()


def test_too_many_classes_are_refused() -> None:
    job = Job()
    for cpus in range(1, 202):
        job.program(["true"], resources=ResourceRequest(cpus=cpus))
    with pytest.raises(TooManyClasses, match="more than 200 distinct resource requests"):
        Submission(job, JOB, None, ())


def test_a_reply_about_a_task_that_the_job_does_not_have_is_refused() -> None:
    view = JobView("0" * 32, _layout())
    for number in (-1, 7, 2**62):
        with pytest.raises(DecodeError, match="a task that job 00000000 does not have"):
            view.heard(Reply("0" * 32, "w", "b", (Started(0, 1, "e", 1), Started(number, 1, "e", 1))))
    view.check()
    assert view.state_of(0) is TaskState.waiting
