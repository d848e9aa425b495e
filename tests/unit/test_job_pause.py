"""The rules of a pause, one story each, with whole answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker_jobs.core.job import (
    AttemptEnded,
    AttemptReturned,
    AttemptStarted,
    CancelRequested,
    Changed,
    JobMachine,
    JobSealed,
    JobVoided,
    NewTask,
    PauseRequested,
    Queue,
    Recorded,
    ResumeRequested,
    RetryDue,
    Return,
    Swept,
    TasksAdded,
    Withdraw,
)
from broker_jobs.core.outcome import Cause, Crashed, Failed, Succeeded
from broker_jobs.core.spec import Retry
from broker_jobs.core.states import JobState, TaskState
from tests.unit.test_job import after, job_of, reasons, states

if TYPE_CHECKING:
    from broker_jobs.core.job import JobEvent

S = TaskState
DONE, FAILED = Succeeded(), Failed(Cause.error, "no")
HELD = frozenset({S.queued, S.retrying})


def test_a_pause_holds_back_what_would_start_and_lets_go_on_what_runs() -> None:
    machine = after(job_of(NewTask(0), NewTask(1), NewTask(2, deps=(1,))), AttemptStarted(1, 1, "x"))
    assert machine.handle(PauseRequested(None, "a demo")) == (Swept((0,), HELD, S.paused, "a demo"),)
    assert (states(machine), reasons(machine)) == ([S.paused, S.running, S.waiting], ["a demo", "", ""])
    assert machine.state is JobState.paused
    assert machine.handle(PauseRequested(None, "again")) == ()
    assert machine.handle(AttemptEnded(1, 1, "x", DONE)) == (Recorded(1, DONE), Changed(1), Changed(2))
    assert states(machine) == [S.paused, S.succeeded, S.paused]


def test_a_paused_task_of_which_a_failure_is_heard_waits_for_its_resume_and_not_for_its_delay() -> None:
    machine = after(job_of(NewTask(0, retry=Retry(max_attempts=2))), PauseRequested())
    assert machine.handle(AttemptEnded(0, 1, "x", FAILED)) == (Recorded(0, FAILED), Changed(0))
    assert (states(machine), reasons(machine)) == ([S.paused], ["no"])
    machine.handle(ResumeRequested())
    assert (states(machine), machine.tasks[0].attempt) == ([S.queued], 2)


def test_resumed_tasks_go_out_as_their_next_attempt() -> None:
    machine = after(job_of(NewTask(0), NewTask(1, deps=(0,))), PauseRequested())
    assert machine.handle(ResumeRequested()) == (Swept((0,), frozenset({S.paused}), S.queued, ""),)
    assert (states(machine), machine.tasks[0].attempt, machine.state) == ([S.queued, S.waiting], 2, JobState.waiting)
    assert machine.handle(ResumeRequested()) == ()


def test_some_tasks_are_paused_and_the_job_is_not() -> None:
    machine = job_of(NewTask(0), NewTask(1, deps=(0,)), NewTask(2))
    assert machine.handle(PauseRequested((1, 2, 9, 2))) == (Changed(1), Withdraw(2, 1, "paused"), Changed(2))
    assert (states(machine), machine.state) == ([S.queued, S.paused, S.paused], JobState.waiting)
    after(machine, AttemptEnded(0, 1, "x", DONE))
    assert (states(machine), machine.state) == ([S.succeeded, S.paused, S.paused], JobState.paused)
    assert machine.handle(ResumeRequested((1,))) == (Changed(1), Queue(1, 1))


def test_a_paused_task_whose_dependency_is_not_done_waits_again_when_it_is_resumed() -> None:
    machine = after(job_of(NewTask(0), NewTask(1, deps=(0,))), PauseRequested((1,)))
    assert machine.handle(ResumeRequested()) == (Changed(1),)
    assert states(machine) == [S.queued, S.waiting]
    assert machine.handle(AttemptEnded(0, 1, "x", DONE)) == (Recorded(0, DONE), Changed(0), Changed(1), Queue(1, 1))


def test_a_paused_task_is_aborted_with_its_dependency() -> None:
    machine = after(job_of(NewTask(0), NewTask(1, deps=(0,))), PauseRequested((1,)), AttemptEnded(0, 1, "x", FAILED))
    assert (states(machine), reasons(machine)[1]) == ([S.failed, S.aborted], "task 0 failed")


@pytest.mark.parametrize(
    ("event", "state"),
    [
        (AttemptStarted(0, 1, "x"), S.running),
        (AttemptEnded(0, 1, "x", DONE), S.succeeded),
        (AttemptEnded(0, 1, "x", FAILED), S.failed),
        (AttemptEnded(0, 1, "x", Crashed("gone")), S.paused),
        (AttemptReturned(0, 1, Return.unstarted), S.paused),
    ],
)
def test_what_had_begun_before_it_was_called_back_counts_once(event: JobEvent, state: TaskState) -> None:
    machine = after(job_of(NewTask(0), NewTask(1)), PauseRequested())
    machine.handle(event)
    assert machine.tasks[0].state is state
    crashes = machine.tasks[0].crashes
    machine.handle(event)
    assert (machine.tasks[0].state, machine.tasks[0].crashes) == (state, crashes)


def test_what_fails_or_comes_back_during_a_pause_does_not_start_again() -> None:
    retry = Retry(max_attempts=3)
    machine = job_of(NewTask(0, retry=retry), NewTask(1), NewTask(2, retry=retry))
    after(machine, AttemptStarted(0, 1, "x"), AttemptStarted(1, 1, "y"), AttemptEnded(2, 1, "z", FAILED), PauseRequested())
    after(machine, AttemptEnded(0, 1, "x", FAILED), AttemptReturned(1, 1, Return.lost))
    assert states(machine) == [S.retrying, S.paused, S.paused]
    after(machine, RetryDue(0, 1), RetryDue(2, 1))
    assert states(machine) == [S.paused, S.paused, S.paused]
    machine.handle(ResumeRequested())
    assert [(record.state, record.attempt) for record in machine.tasks.values()] == [(S.queued, 2)] * 3


def test_new_tasks_of_a_paused_job_wait() -> None:
    machine = after(JobMachine(), TasksAdded((NewTask(0),)), PauseRequested(None, "later"))
    added = TasksAdded((NewTask(1), NewTask(2, direct=True), NewTask(3, deps=(1,))))
    assert machine.handle(added) == (Changed(1), Withdraw(2, 1, "later"), Changed(2), Changed(3))
    assert states(machine) == [S.paused, S.paused, S.paused, S.waiting]
    after(machine, JobSealed(4), ResumeRequested())
    assert [record.attempt for record in machine.tasks.values()] == [2, 1, 2, 0]


def test_what_must_never_start_twice_is_not_called_back_once_it_is_out() -> None:
    machine = job_of(NewTask(0, crash_limit=1), NewTask(1, crash_limit=1))
    machine.handle(PauseRequested(None, "", frozenset({0, 7})))
    assert states(machine) == [S.queued, S.paused]
    machine.handle(ResumeRequested())
    assert [record.attempt for record in machine.tasks.values()] == [1, 2]


def test_a_paused_job_can_be_canceled_and_given_up() -> None:
    for event, state in ((CancelRequested(None, "no"), S.canceled), (JobVoided("vanished"), S.aborted)):
        machine = after(job_of(NewTask(0), NewTask(1, deps=(0,))), PauseRequested(), event)
        assert states(machine) == [state, state]
        assert machine.handle(PauseRequested()) == ()
        assert machine.handle(ResumeRequested()) == ()


def test_a_job_that_is_canceled_is_not_paused() -> None:
    machine = after(job_of(NewTask(0), NewTask(1)), AttemptStarted(0, 1, "x"), CancelRequested(None, "no"))
    assert machine.handle(PauseRequested()) == ()
    assert machine.pause_reason is None


def test_a_job_that_has_ended_is_not_paused() -> None:
    machine = after(job_of(NewTask(0)), AttemptEnded(0, 1, "x", DONE))
    assert machine.handle(PauseRequested()) == ()
    assert machine.pause_reason is None
