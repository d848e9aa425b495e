"""The table of transitions, and what a job is from what its tasks are."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from broker_jobs.core.job import (
    AttemptEnded,
    AttemptReturned,
    AttemptStarted,
    CancelRequested,
    JobEvent,
    JobMachine,
    JobSealed,
    JobVoided,
    NewTask,
    PauseRequested,
    ResumeRequested,
    RetryDue,
    Return,
    TasksAdded,
)
from broker_jobs.core.job import (
    machine as machine_module,
)
from broker_jobs.core.outcome import Canceled, Cause, Failed, Succeeded
from broker_jobs.core.spec import Retry
from broker_jobs.core.states import ENDED, JOB_ENDED, TRANSITIONS, JobState, TaskState, Trigger, job_state, step
from broker_jobs.errors import IllegalTransition

if TYPE_CHECKING:
    from collections.abc import Iterator

S, T = TaskState, Trigger


@pytest.mark.parametrize(("state", "trigger"), list(itertools.product(TaskState, Trigger)))
def test_every_pair_is_legal_or_the_one_error(state: TaskState, trigger: Trigger) -> None:
    if trigger in TRANSITIONS[state]:
        assert step(state, trigger) is TRANSITIONS[state][trigger]
    else:
        with pytest.raises(IllegalTransition, match=f"a task that is {state.value} cannot be {trigger.value}"):
            step(state, trigger)


def _reachable(start: TaskState) -> set[TaskState]:
    found, todo = {start}, [start]
    while todo:
        for state in TRANSITIONS[todo.pop()].values():
            if state not in found:
                found.add(state)
                todo.append(state)
    return found


def test_every_state_can_be_reached() -> None:
    assert _reachable(S.waiting) == set(TaskState)


@pytest.mark.parametrize("state", list(TaskState))
def test_an_end_can_be_reached_from_everywhere(state: TaskState) -> None:
    assert _reachable(state) & ENDED
    assert (state in ENDED) is (not TRANSITIONS[state])


def test_the_ends_are_these() -> None:
    assert {S.succeeded, S.failed, S.canceled, S.aborted} == ENDED
    assert {JobState.succeeded, JobState.failed, JobState.canceled, JobState.aborted} == JOB_ENDED


# --- every edge is taken by the job machine ---

RETRY = Retry(max_attempts=2)
ADDED = TasksAdded((NewTask(0, retry=RETRY), NewTask(1, deps=(0,)), NewTask(2, deps=(0,))))
STARTED = AttemptStarted(0, 1, "x")
FAILED, STOPPED = Failed(Cause.error, "no"), Canceled("stopped")
VOIDED, CANCELED = JobVoided("vanished"), CancelRequested(None, "no")
PAUSED, RESUMED = PauseRequested(), ResumeRequested()
FOLLOWED = TasksAdded((NewTask(0), NewTask(1, deps=(0,))))
BACK = AttemptReturned(0, 1, Return.unstarted)


def _ended(outcome: Succeeded | Failed | Canceled, attempt: int = 1) -> AttemptEnded:
    return AttemptEnded(0, attempt, "x", outcome)


STORIES: tuple[tuple[JobEvent, ...], ...] = (
    (ADDED, STARTED, _ended(Succeeded())),
    (ADDED, CANCELED),
    (ADDED, VOIDED),
    (ADDED, BACK, _ended(Succeeded(), 2)),
    (ADDED, _ended(FAILED), RetryDue(0, 1), _ended(FAILED, 2)),
    (ADDED, _ended(FAILED), CANCELED),
    (ADDED, _ended(FAILED), VOIDED),
    (ADDED, _ended(STOPPED)),
    (ADDED, STARTED, BACK),
    (ADDED, STARTED, _ended(FAILED), RetryDue(0, 1), AttemptStarted(0, 2, "x"), _ended(FAILED, 2)),
    (ADDED, STARTED, _ended(STOPPED)),
    (ADDED, STARTED, CANCELED, _ended(Succeeded())),
    (ADDED, STARTED, CANCELED, _ended(FAILED)),
    (ADDED, STARTED, CANCELED, _ended(STOPPED)),
    (ADDED, STARTED, VOIDED, _ended(STOPPED)),
    (ADDED, PAUSED, RESUMED),
    (ADDED, PAUSED, STARTED, BACK, RESUMED),
    (ADDED, PAUSED, BACK, CANCELED),
    (ADDED, PAUSED, VOIDED),
    (ADDED, PAUSED, _ended(Succeeded())),
    (ADDED, PAUSED, _ended(FAILED), RESUMED, _ended(FAILED, 2)),
    (ADDED, PAUSED, RESUMED, PAUSED, _ended(STOPPED, 2)),
    (ADDED, _ended(FAILED), PAUSED, RESUMED, _ended(FAILED, 2)),
    (FOLLOWED, PauseRequested((1,)), ResumeRequested((1,))),
    (ADDED, PAUSED, RESUMED, _ended(FAILED, 2), PAUSED, RESUMED, PAUSED, _ended(FAILED, 3)),
)


def test_every_edge_of_the_table_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: set[tuple[TaskState, Trigger]] = set()

    def note(state: TaskState, trigger: Trigger) -> TaskState:
        taken.add((state, trigger))
        return step(state, trigger)

    monkeypatch.setattr(machine_module, "step", note)
    for story in STORIES:
        machine = JobMachine()
        for event in story:
            machine.handle(event)
            machine.check()
    assert taken == {(state, trigger) for state, row in TRANSITIONS.items() for trigger in row}


# --- the state of a job ---


def _counts() -> Iterator[dict[TaskState, int]]:
    for size in (1, 2, 3):
        for states in itertools.combinations(TaskState, size):
            yield dict.fromkeys(states, 2)


@pytest.mark.parametrize("complete", [True, False])
def test_a_job_has_ended_when_it_is_complete_and_its_tasks_have(complete: bool) -> None:
    for counts in _counts():
        state = job_state(counts, complete=complete)
        assert (state in JOB_ENDED) is (complete and counts.keys() <= ENDED)
        if state is JobState.waiting:
            assert counts.keys() <= {S.waiting, S.queued, S.paused}
        if state is JobState.running:
            assert counts.keys() - {S.waiting, S.queued}
        if state is JobState.paused:
            assert S.paused in counts
        assert job_state(counts, complete=complete, paused=True) in {JobState.paused, *JOB_ENDED}


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([S.succeeded, S.failed, S.canceled, S.aborted], JobState.failed),
        ([S.succeeded, S.canceled, S.aborted], JobState.canceled),
        ([S.succeeded, S.aborted], JobState.aborted),
        ([S.succeeded], JobState.succeeded),
        ([S.queued, S.waiting], JobState.waiting),
        ([S.queued, S.running], JobState.running),
        ([S.queued, S.retrying], JobState.running),
        ([S.queued, S.canceling], JobState.running),
        ([S.queued, S.failed], JobState.running),
        ([S.paused, S.waiting, S.succeeded], JobState.paused),
        ([S.paused, S.running], JobState.running),
        ([S.paused, S.queued], JobState.waiting),
    ],
)
def test_the_worst_end_of_a_task_is_the_end_of_the_job(states: list[TaskState], expected: JobState) -> None:
    assert job_state(dict.fromkeys(states, 1), complete=True) is expected
    assert job_state(dict.fromkeys(TaskState, 0) | dict.fromkeys(states, 1), complete=True) is expected


def test_a_job_without_any_task_is_what_was_done_to_it() -> None:
    for event, state in ((CANCELED, JobState.canceled), (VOIDED, JobState.aborted), (JobSealed(0), JobState.succeeded)):
        machine = JobMachine()
        machine.handle(event)
        assert machine.state is state
