"""The states of a task and of a job, and the one table of transitions.

State says where a task is; why it is there is a separate reason. *Canceled* means that somebody asked;
*aborted* means that a dependency did not succeed or that the job was stopped.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from broker_jobs.errors import IllegalTransition

if TYPE_CHECKING:
    from collections.abc import Mapping


class TaskState(StrEnum):
    """Where a task is."""

    waiting = "waiting"
    """It waits for other tasks."""
    queued = "queued"
    """It may start as soon as a worker has room."""
    paused = "paused"
    """It is held back until somebody resumes it."""
    running = "running"
    retrying = "retrying"
    """It failed and waits for its next attempt."""
    canceling = "canceling"
    """It runs and was told to stop."""
    succeeded = "succeeded"
    failed = "failed"
    canceled = "canceled"
    aborted = "aborted"


class JobState(StrEnum):
    """Where a job is; derived from the states of its tasks by `job_state`."""

    waiting = "waiting"
    running = "running"
    paused = "paused"
    succeeded = "succeeded"
    failed = "failed"
    canceled = "canceled"
    aborted = "aborted"


class Trigger(StrEnum):
    """What can happen to a task."""

    released = "released"
    started = "started"
    returned = "returned"
    """The attempt ended without an outcome and is queued again."""
    paused = "paused"
    """Somebody holds it, or its job, back."""
    resumed = "resumed"
    """It is held back no longer, and waits for other tasks."""
    backed_off = "backed off"
    retry_due = "retry due"
    succeeded = "succeeded"
    failed = "failed"
    cancel_asked = "cancel asked"
    stopped = "stopped"
    """It was canceled, and nothing of it runs any more."""
    abort_asked = "abort asked"
    aborted = "aborted"
    """It was aborted, and nothing of it runs any more."""


_S, _T = TaskState, Trigger

TRANSITIONS: Final[Mapping[TaskState, Mapping[Trigger, TaskState]]] = {
    _S.waiting: {
        _T.released: _S.queued,
        _T.paused: _S.paused,
        _T.cancel_asked: _S.canceled,
        _T.abort_asked: _S.aborted,
    },
    _S.queued: {
        _T.started: _S.running,
        _T.returned: _S.queued,
        _T.paused: _S.paused,
        _T.backed_off: _S.retrying,
        _T.succeeded: _S.succeeded,
        _T.failed: _S.failed,
        _T.cancel_asked: _S.canceled,
        _T.stopped: _S.canceled,
        _T.abort_asked: _S.aborted,
    },
    # An attempt that was called back may have begun before that was heard of: what is said of it counts.
    _S.paused: {
        _T.released: _S.queued,
        _T.resumed: _S.waiting,
        _T.started: _S.running,
        _T.paused: _S.paused,
        _T.succeeded: _S.succeeded,
        _T.failed: _S.failed,
        _T.cancel_asked: _S.canceled,
        _T.stopped: _S.canceled,
        _T.abort_asked: _S.aborted,
    },
    _S.running: {
        _T.returned: _S.queued,
        _T.paused: _S.paused,
        _T.backed_off: _S.retrying,
        _T.succeeded: _S.succeeded,
        _T.failed: _S.failed,
        _T.cancel_asked: _S.canceling,
        _T.stopped: _S.canceled,
        _T.abort_asked: _S.canceling,
    },
    _S.retrying: {
        _T.retry_due: _S.queued,
        _T.paused: _S.paused,
        _T.cancel_asked: _S.canceled,
        _T.abort_asked: _S.aborted,
    },
    _S.canceling: {
        _T.succeeded: _S.succeeded,
        _T.failed: _S.failed,
        _T.stopped: _S.canceled,
        _T.aborted: _S.aborted,
    },
    _S.succeeded: {},
    _S.failed: {},
    _S.canceled: {},
    _S.aborted: {},
}

ENDED: Final = frozenset(state for state, row in TRANSITIONS.items() if not row)
"""States that a task never leaves."""

JOB_ENDED: Final = frozenset({JobState.succeeded, JobState.failed, JobState.canceled, JobState.aborted})
"""States that a job never leaves."""


def step(state: TaskState, trigger: Trigger) -> TaskState:
    """The state after a trigger; `IllegalTransition` where the table has none."""
    try:
        return TRANSITIONS[state][trigger]
    except KeyError:
        message = f"a task that is {state.value} cannot be {trigger.value}"
        raise IllegalTransition(message) from None


def job_state(counts: Mapping[TaskState, int], *, complete: bool, paused: bool = False) -> JobState:
    """The state of a job from the number of its tasks in each state.

    Args:
        counts: tasks by state; states without tasks may be missing
        complete: whether every task of the job is known (it is sealed and all its chunks have come)
        paused: whether all of the job is; else it is where everything that could run is held back
    """
    ended = sum(counts.get(state, 0) for state in ENDED)
    total = sum(counts.values())
    if complete and ended == total:
        for task_state, state in (
            (TaskState.failed, JobState.failed),
            (TaskState.canceled, JobState.canceled),
            (TaskState.aborted, JobState.aborted),
        ):
            if counts.get(task_state, 0):
                return state
        return JobState.succeeded
    under_way = any(counts.get(state, 0) for state in (TaskState.running, TaskState.canceling, TaskState.retrying))
    if paused or (counts.get(TaskState.paused, 0) and not under_way and not counts.get(TaskState.queued, 0)):
        return JobState.paused
    if ended or under_way:
        return JobState.running
    return JobState.waiting
