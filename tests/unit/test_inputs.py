"""Chunks for open jobs: their tasks get the numbers that the job has left, and what they need follows."""

from __future__ import annotations

from broker_jobs.core.spec import Lane, TaskOptions
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.wire.inputs import is_task, outside_key, shifted
from broker_jobs.wire.messages import Call, Chunk, Origin, Outside, Program, Task

JOB, OTHER = "1" * 32, "2" * 32
ARGS = Inline(Encoding.msgpack, b"")


def test_numbers_names_needs_and_inputs_move_together() -> None:
    tasks = (
        Task(0, Program((b"true",))),
        Task(1, Call("f", ARGS, ("0", "ab" * 32, outside_key(OTHER, 3))), deps=(0,), after=(0,), outside=(Outside(OTHER, 3, value=True),)),
    )
    chunk = Chunk(JOB, "0", "cpus1", Lane.normal, "client-1", tasks, (TaskOptions(),), Origin("h", "p", "3.11"))
    moved = shifted(chunk, 40)
    assert (moved.job, moved.chunk, [task.number for task in moved.tasks]) == (JOB, "40", [40, 41])
    second = moved.tasks[1]
    assert (second.deps, second.after, second.outside) == ((40,), (40,), (Outside(OTHER, 3, value=True),))
    assert isinstance(second.work, Call)
    assert second.work.inputs == ("40", "ab" * 32, outside_key(OTHER, 3))


def test_needs_of_the_same_job_become_ordinary_ones() -> None:
    outside = (Outside(JOB, 3, value=True), Outside(JOB, 3), Outside(JOB, 5, after=True), Outside(OTHER, 3))
    task = Task(0, Call("f", ARGS, (outside_key(JOB, 3), outside_key(OTHER, 3))), outside=outside)
    chunk = Chunk(JOB, "0", "cpus1", Lane.normal, "client-1", (task,), (TaskOptions(),), Origin("h", "p", "3.11"))
    [moved] = shifted(chunk, 9).tasks
    assert (moved.number, moved.deps, moved.after, moved.outside) == (9, (3,), (5,), (Outside(OTHER, 3),))
    assert isinstance(moved.work, Call)
    assert moved.work.inputs == ("3", outside_key(OTHER, 3))


def test_names_of_results_are_not_taken_for_each_other() -> None:
    assert len({outside_key(job, task) for job in (JOB, OTHER) for task in range(50)}) == 100
    assert is_task("7")
    assert not is_task(outside_key(JOB, 7))
