"""What is always true of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from broker_jobs.core.states import ENDED, TaskState

if TYPE_CHECKING:
    from broker_jobs.core.job.machine import JobMachine
    from broker_jobs.core.job.record import TaskRecord


def check_job(machine: JobMachine) -> None:
    """Derive again what the machine keeps twice, and what its states imply; `AssertionError` where something is not so."""
    machine.tasks.check()
    assert machine.counts.total() == len(machine.tasks), "every task is counted once"
    for state in TaskState:
        assert machine.counts[state] == sum(record.state is state for record in machine.tasks.values()), f"the count of {state} is right"
    for record in machine.tasks.values():
        _check_task(machine, record)
    if machine.ended:
        assert all(record.ended for record in machine.tasks.values()), "a job ends after its tasks"
        assert machine.closed, "a job ends whole, canceled or void"


def _check_task(machine: JobMachine, record: TaskRecord) -> None:
    deps = [found.state if (found := machine.tasks.get(number)) else None for number in record.deps]
    after = [bool((found := machine.tasks.get(number)) and found.ended) for number in record.after]
    assert 0 <= record.failures + record.crashes <= record.attempt, "each failure and crash was an attempt of its own"
    match record.state:
        case TaskState.waiting:
            open_needs = sum(state is not TaskState.succeeded for state in deps) + sum(not ended for ended in after) + len(record.outside)
            assert record.attempt == 0, "a waiting task has no attempt"
            assert record.missing == open_needs > 0, "a task waits for what has not ended"
            assert not any(state in ENDED and state is not TaskState.succeeded for state in deps), "no task waits in vain"
        case TaskState.paused:
            open_needs = sum(state is not TaskState.succeeded for state in deps) + sum(not ended for ended in after) + len(record.outside)
            assert record.missing == open_needs, "a paused task counts what it waits for"
            assert not record.missing or record.attempt == 0, "what went out waits for nothing"
            assert not any(state in ENDED and state is not TaskState.succeeded for state in deps), "no task waits in vain"
            assert record.reason, "somebody holds it back, for a reason"
        case TaskState.canceled | TaskState.aborted:
            assert record.reason, "somebody stopped it, for a reason"
        case TaskState.queued | TaskState.running | TaskState.retrying | TaskState.canceling | TaskState.succeeded | TaskState.failed:
            assert record.attempt > 0, "what went out has an attempt"
            assert all(state is TaskState.succeeded for state in deps), "it went out after its dependencies"
            assert all(after), "it went out after what it follows"
            assert not record.outside, "it went out after what it waits for in other jobs"
        case _:
            assert_never(record.state)
    if record.state in {TaskState.waiting, TaskState.queued, TaskState.paused, TaskState.retrying}:
        assert machine.cancel_reason is None, "nothing of a canceled job goes out any more"
    if record.state in {TaskState.waiting, TaskState.queued, TaskState.paused, TaskState.retrying, TaskState.running}:
        assert machine.void_reason is None, "nothing of a job that was given up goes on"
