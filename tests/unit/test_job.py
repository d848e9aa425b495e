"""The rules of the job machine, one story each, with whole answers."""

from __future__ import annotations

import pytest

from broker_jobs.core.job import (
    AttemptEnded,
    AttemptReturned,
    AttemptStarted,
    CancelRequested,
    Changed,
    Delay,
    Duplicate,
    Finished,
    JobEvent,
    JobMachine,
    JobSealed,
    JobVoided,
    NewTask,
    Queue,
    Recorded,
    RetryDue,
    Return,
    Revoke,
    Swept,
    TaskRecord,
    TasksAdded,
)
from broker_jobs.core.outcome import Canceled, Cause, Crashed, Failed, Succeeded
from broker_jobs.core.spec import Retry
from broker_jobs.core.states import JobState, TaskState

S = TaskState
UNSTARTED = frozenset({S.waiting, S.queued, S.paused, S.retrying})
DONE = Succeeded()
FAILED = Failed(Cause.error, "ValueError: no")
CRASHED = Crashed("its process vanished")
STOPPED = Canceled("stopped")


def job_of(*tasks: NewTask, max_fails: int | None = None) -> JobMachine:
    """A whole job."""
    machine = JobMachine(max_fails)
    machine.handle(TasksAdded(tasks))
    machine.handle(JobSealed(len(tasks)))
    return machine


def after(machine: JobMachine, *events: JobEvent) -> JobMachine:
    """The machine after these events."""
    for event in events:
        machine.handle(event)
        machine.check()
    return machine


def states(machine: JobMachine) -> list[TaskState]:
    return [machine.tasks[number].state for number in sorted(machine.tasks)]


def reasons(machine: JobMachine) -> list[str]:
    return [machine.tasks[number].reason for number in sorted(machine.tasks)]


# --- the straight way ---


def test_a_task_without_needs_goes_out_as_it_comes() -> None:
    machine = JobMachine()
    assert machine.handle(TasksAdded((NewTask(0), NewTask(1, deps=(0,))))) == (Changed(0), Queue(0, 1), Changed(1))
    assert machine.handle(JobSealed(2)) == ()
    assert machine.state is JobState.waiting


def test_a_direct_task_stands_in_its_queue_already() -> None:
    machine = JobMachine()
    assert machine.handle(TasksAdded((NewTask(0, direct=True),))) == (Changed(0),)
    assert machine.tasks[0] == TaskRecord(0, state=S.queued, attempt=1)


def test_a_chain_goes_on_by_itself_and_ends_the_job() -> None:
    machine = job_of(NewTask(0), NewTask(1, deps=(0,)))
    assert machine.handle(AttemptStarted(0, 1, "x")) == (Changed(0),)
    assert machine.state is JobState.running
    assert machine.handle(AttemptEnded(0, 1, "x", DONE)) == (Recorded(0, DONE), Changed(0), Changed(1), Queue(1, 1))
    assert machine.handle(AttemptEnded(1, 1, "y", DONE)) == (Recorded(1, DONE), Changed(1), Finished(JobState.succeeded))


def test_a_join_waits_for_all() -> None:
    machine = job_of(NewTask(0), NewTask(1), NewTask(2, deps=(0, 1)))
    assert machine.handle(AttemptEnded(1, 1, "x", DONE)) == (Recorded(1, DONE), Changed(1))
    assert machine.handle(AttemptEnded(0, 1, "x", DONE)) == (Recorded(0, DONE), Changed(0), Changed(2), Queue(2, 1))


def test_tasks_may_come_before_what_they_need() -> None:
    machine = JobMachine()
    assert machine.handle(TasksAdded((NewTask(1, deps=(0,)),))) == (Changed(1),)
    assert machine.handle(JobSealed(2)) == ()
    assert machine.handle(TasksAdded((NewTask(0),))) == (Changed(0), Queue(0, 1))


def test_the_seal_may_come_last() -> None:
    machine = after(JobMachine(), TasksAdded((NewTask(0),)), AttemptEnded(0, 1, "x", DONE))
    assert machine.state is JobState.running
    assert machine.handle(JobSealed(1)) == (Finished(JobState.succeeded),)


def test_the_first_seal_holds() -> None:
    machine = after(JobMachine(), TasksAdded((NewTask(0),)), JobSealed(2), JobSealed(1), AttemptEnded(0, 1, "x", DONE))
    assert not machine.ended
    assert machine.total == 2


def test_a_chunk_that_comes_twice_changes_nothing() -> None:
    machine = after(JobMachine(), TasksAdded((NewTask(0),)), AttemptStarted(0, 1, "x"))
    assert machine.handle(TasksAdded((NewTask(0),))) == ()
    assert states(machine) == [S.running]


def test_a_whole_job_takes_no_further_tasks() -> None:
    machine = job_of(NewTask(0))
    assert machine.handle(TasksAdded((NewTask(1),))) == ()
    assert not machine.knows(1)
    assert machine.knows(0)


# --- stale news and news that comes twice ---


@pytest.mark.parametrize(
    "event",
    [
        AttemptStarted(0, 1, "old"),
        AttemptReturned(0, 1, Return.redelivered),
        AttemptReturned(0, 1, Return.lost),
        RetryDue(0, 1),
        AttemptStarted(0, 3, "future"),
        AttemptReturned(0, 3, Return.lost),
        AttemptStarted(7, 1, "x"),
        AttemptEnded(7, 1, "x", DONE),
        AttemptReturned(7, 1, Return.lost),
        RetryDue(7, 1),
        CancelRequested((7,)),
    ],
)
def test_news_of_another_attempt_or_of_an_unknown_task_changes_nothing(event: JobEvent) -> None:
    machine = after(job_of(NewTask(0)), AttemptReturned(0, 1, Return.unstarted))
    assert machine.handle(event) == ()
    assert machine.tasks[0].attempt == 2
    assert states(machine) == [S.queued]


def test_an_outcome_of_an_older_attempt_is_a_duplicate() -> None:
    machine = after(job_of(NewTask(0)), AttemptReturned(0, 1, Return.unstarted))
    assert machine.handle(AttemptEnded(0, 1, "old", DONE)) == (Duplicate(0, 1),)
    assert states(machine) == [S.queued]


def test_the_first_outcome_is_the_one_of_the_task() -> None:
    machine = after(job_of(NewTask(0), NewTask(1)), AttemptEnded(0, 1, "x", DONE))
    assert machine.handle(AttemptEnded(0, 1, "y", FAILED)) == (Duplicate(0, 1),)
    assert machine.handle(AttemptEnded(0, 1, "x", DONE)) == ()
    assert states(machine) == [S.succeeded, S.queued]


def test_the_same_failure_told_twice_is_one_failure() -> None:
    machine = after(job_of(NewTask(0, retry=Retry())), AttemptEnded(0, 1, "x", FAILED))
    assert machine.handle(AttemptEnded(0, 1, "x", FAILED)) == ()
    assert machine.handle(AttemptEnded(0, 1, "y", FAILED)) == (Duplicate(0, 1),)
    assert machine.tasks[0].failures == 1


@pytest.mark.parametrize("event", [AttemptEnded(1, 0, "", DONE), AttemptEnded(1, 0, "x", DONE), AttemptReturned(1, 0, Return.lost)])
def test_a_task_that_never_went_out_cannot_come_back(event: JobEvent) -> None:
    machine = job_of(NewTask(0), NewTask(1, deps=(0,)))
    assert machine.handle(event) in {(), (Duplicate(1, 0),)}
    assert states(machine) == [S.queued, S.waiting]


def test_another_execution_of_the_attempt_takes_over() -> None:
    machine = after(job_of(NewTask(0)), AttemptStarted(0, 1, "x"))
    assert machine.handle(AttemptStarted(0, 1, "x")) == ()
    assert machine.handle(AttemptStarted(0, 1, "y")) == (Changed(0),)
    assert machine.tasks[0].execution == "y"


def test_nothing_moves_a_job_that_has_ended() -> None:
    machine = after(job_of(NewTask(0), max_fails=3), AttemptEnded(0, 1, "x", DONE))
    assert machine.handle(AttemptEnded(0, 1, "y", DONE)) == (Duplicate(0, 1),)
    for event in (CancelRequested(), JobVoided("late"), JobSealed(9), TasksAdded((NewTask(1),)), RetryDue(0, 1), AttemptStarted(0, 1, "z")):
        assert machine.handle(event) == ()
    assert (machine.state, machine.total, machine.cancel_reason, machine.void_reason) == (JobState.succeeded, 1, None, None)


# --- failures ---


def test_a_failure_without_a_policy_is_final() -> None:
    machine = job_of(NewTask(0))
    assert machine.handle(AttemptEnded(0, 1, "x", FAILED)) == (Recorded(0, FAILED), Changed(0), Finished(JobState.failed))
    assert machine.tasks[0].reason == "ValueError: no"
    assert machine.tasks[0].failures == 1


def test_a_failure_is_tried_again_after_its_delay() -> None:
    machine = job_of(NewTask(0, retry=Retry(max_attempts=2, backoff=3, jitter=0.5)))
    assert machine.handle(AttemptEnded(0, 1, "x", FAILED, noise=0.0)) == (Recorded(0, FAILED), Changed(0), Delay(0, 1, 1.5))
    assert machine.state is JobState.running
    assert machine.handle(RetryDue(0, 1)) == (Changed(0), Queue(0, 2))
    assert machine.tasks[0] == TaskRecord(
        0, retry=Retry(max_attempts=2, backoff=3, jitter=0.5), state=S.queued, attempt=2, failures=1, reason="ValueError: no"
    )
    assert machine.handle(AttemptStarted(0, 2, "y")) == (Changed(0),)
    assert machine.tasks[0].reason == "", "why it was queued is past"
    assert machine.handle(AttemptEnded(0, 2, "y", FAILED)) == (Recorded(0, FAILED), Changed(0), Finished(JobState.failed))


def test_the_first_cause_is_named_along_a_chain() -> None:
    machine = job_of(NewTask(0), NewTask(1, deps=(0,)), NewTask(2, deps=(1,)), NewTask(3, deps=(2,)))
    assert machine.handle(AttemptEnded(0, 1, "x", FAILED)) == (
        Recorded(0, FAILED),
        Changed(0),
        Changed(1),
        Changed(2),
        Changed(3),
        Finished(JobState.failed),
    )
    assert states(machine) == [S.failed, S.aborted, S.aborted, S.aborted]
    assert reasons(machine) == ["ValueError: no", "task 0 failed", "task 0 failed", "task 0 failed"]


def test_a_task_that_comes_after_the_failure_of_what_it_needs_is_aborted() -> None:
    machine = after(JobMachine(), TasksAdded((NewTask(0),)), AttemptEnded(0, 1, "x", FAILED))
    assert machine.handle(TasksAdded((NewTask(2, deps=(1,)), NewTask(1, deps=(0,))))) == (Changed(2), Changed(1), Changed(2))
    assert states(machine) == [S.failed, S.aborted, S.aborted]
    assert reasons(machine)[1:] == ["task 0 failed", "task 0 failed"]
    assert machine.handle(JobSealed(3)) == (Finished(JobState.failed),)


@pytest.mark.parametrize("end", [AttemptEnded(0, 1, "x", FAILED), AttemptEnded(0, 1, "x", DONE), CancelRequested((0,))])
def test_what_comes_after_runs_however_it_ended(end: JobEvent) -> None:
    machine = job_of(NewTask(0), NewTask(1, after=(0,)))
    assert machine.handle(end)[-2:] == (Changed(1), Queue(1, 1))


def test_what_needs_success_and_comes_after_is_aborted_by_a_failure() -> None:
    machine = job_of(NewTask(0), NewTask(1), NewTask(2, deps=(0,), after=(1,)))
    assert machine.handle(AttemptEnded(1, 1, "x", FAILED)) == (Recorded(1, FAILED), Changed(1))
    assert machine.handle(AttemptEnded(0, 1, "x", FAILED)) == (Recorded(0, FAILED), Changed(0), Changed(2), Finished(JobState.failed))


def test_max_fails_0_halts_at_the_first() -> None:
    machine = after(job_of(NewTask(0), NewTask(1), NewTask(2), NewTask(3, after=(0,)), max_fails=0), AttemptStarted(2, 1, "y"))
    why = "more than 0 tasks failed; the last one was task 0"
    assert machine.handle(AttemptEnded(0, 1, "x", FAILED)) == (
        Recorded(0, FAILED),
        Changed(0),
        Swept((1, 3), UNSTARTED, S.aborted, why),
        Changed(2),
        Revoke(2, 1, why),
    )
    assert states(machine) == [S.failed, S.aborted, S.canceling, S.aborted]
    assert machine.handle(AttemptEnded(2, 1, "y", STOPPED)) == (Recorded(2, STOPPED), Changed(2), Finished(JobState.failed))
    assert states(machine) == [S.failed, S.aborted, S.aborted, S.aborted]
    assert reasons(machine) == ["ValueError: no", why, why, why]


def test_max_fails_counts_tasks_and_not_attempts() -> None:
    retry = Retry(max_attempts=3)
    machine = job_of(NewTask(0, retry=retry), NewTask(1), NewTask(2), max_fails=1)
    after(machine, AttemptEnded(0, 1, "x", FAILED), RetryDue(0, 1), AttemptEnded(0, 2, "x", FAILED), RetryDue(0, 2))
    assert machine.handle(AttemptEnded(0, 3, "x", FAILED)) == (Recorded(0, FAILED), Changed(0))
    assert machine.handle(AttemptEnded(1, 1, "x", FAILED))[-1] == Finished(JobState.failed)
    assert states(machine) == [S.failed, S.failed, S.aborted]


# --- crashes ---


def test_the_first_redelivery_is_free_and_then_crashes_are_counted_exactly() -> None:
    machine = after(job_of(NewTask(0, crash_limit=5)), AttemptStarted(0, 1, "x"))
    assert machine.handle(AttemptReturned(0, 1, Return.redelivered)) == (Changed(0), Queue(0, 2, isolated=True))
    assert machine.tasks[0].crashes == 0
    for attempt in range(2, 6):
        after(machine, AttemptStarted(0, attempt, "x"))
        assert machine.handle(AttemptReturned(0, attempt, Return.redelivered)) == (Changed(0), Queue(0, attempt + 1, isolated=True))
        assert machine.tasks[0].crashes == attempt - 1
    after(machine, AttemptStarted(0, 6, "x"))
    failed = Failed(Cause.crash_limit, "crashed 5 times, the last time: its worker was lost")
    assert machine.handle(AttemptReturned(0, 6, Return.redelivered)) == (Recorded(0, failed), Changed(0), Finished(JobState.failed))


def test_an_isolated_attempt_that_did_not_start_charges_nobody() -> None:
    machine = after(job_of(NewTask(0, crash_limit=2)), AttemptReturned(0, 1, Return.redelivered))
    assert machine.handle(AttemptReturned(0, 2, Return.redelivered)) == (Changed(0), Queue(0, 3, isolated=True))
    assert machine.tasks[0].crashes == 0


def test_a_task_that_never_starts_twice_is_isolated_from_the_start() -> None:
    machine = JobMachine()
    assert machine.handle(TasksAdded((NewTask(0, crash_limit=1),))) == (Changed(0), Queue(0, 1, isolated=True))
    after(machine, JobSealed(1))
    assert machine.handle(AttemptReturned(0, 1, Return.redelivered)) == (Changed(0), Queue(0, 2, isolated=True))
    after(machine, AttemptStarted(0, 2, "x"))
    failed = Failed(Cause.crash_limit, "crashed once, the last time: its worker was lost")
    assert machine.handle(AttemptReturned(0, 2, Return.redelivered)) == (Recorded(0, failed), Changed(0), Finished(JobState.failed))


@pytest.mark.parametrize("why", [Return.unstarted, Return.unrouted])
def test_what_never_starts_twice_does_not_start_again_after_its_worker_stopped_it(why: Return) -> None:
    machine = after(job_of(NewTask(0, crash_limit=1)), AttemptStarted(0, 1, "x"))
    failed = Failed(Cause.crash_limit, "crashed once, the last time: it was stopped with its worker")
    assert machine.handle(AttemptReturned(0, 1, why)) == (Recorded(0, failed), Changed(0), Finished(JobState.failed))


def test_a_crash_is_no_failure_and_needs_no_policy() -> None:
    machine = job_of(NewTask(0, retry=Retry(max_attempts=1), crash_limit=2))
    assert machine.handle(AttemptEnded(0, 1, "x", CRASHED)) == (Changed(0), Queue(0, 2, isolated=True))
    assert (machine.tasks[0].failures, machine.tasks[0].crashes) == (0, 1)
    assert machine.tasks[0].reason == "its process vanished"
    failed = Failed(Cause.crash_limit, "crashed 2 times, the last time: its process vanished")
    assert machine.handle(AttemptEnded(0, 2, "y", CRASHED)) == (Recorded(0, failed), Changed(0), Finished(JobState.failed))


def test_without_a_limit_crashes_go_on() -> None:
    machine = job_of(NewTask(0, crash_limit=None))
    for attempt in range(1, 50):
        assert machine.handle(AttemptReturned(0, attempt, Return.lost)) == (Changed(0), Queue(0, attempt + 1, isolated=True))
    assert machine.tasks[0].crashes == 49


def test_neighbours_in_a_chunk_are_not_charged() -> None:
    machine = job_of(*(NewTask(number, crash_limit=2) for number in range(3)))
    after(machine, AttemptStarted(0, 1, "x"), AttemptEnded(0, 1, "x", DONE), AttemptStarted(1, 1, "x"))
    assert machine.handle(AttemptReturned(0, 1, Return.redelivered)) == ()
    for number in (1, 2):
        assert machine.handle(AttemptReturned(number, 1, Return.redelivered)) == (Changed(number), Queue(number, 2, isolated=True))
    assert [machine.tasks[number].crashes for number in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("why", "reason"), [(Return.unstarted, "a worker gave it back before its start"), (Return.unrouted, "it came back without an outcome")]
)
def test_what_never_started_goes_out_again_as_it_was(why: Return, reason: str) -> None:
    machine = job_of(NewTask(0, crash_limit=2))
    assert machine.handle(AttemptReturned(0, 1, why)) == (Changed(0), Queue(0, 2, isolated=False))
    assert machine.tasks[0] == TaskRecord(0, crash_limit=2, state=S.queued, attempt=2, reason=reason)


# --- cancel ---


def test_cancel_ends_what_waits_and_revokes_what_may_run() -> None:
    retry = Retry(max_attempts=2)
    machine = job_of(NewTask(0), NewTask(1), NewTask(2, retry=retry), NewTask(3, deps=(0,)), NewTask(4, after=(1,)))
    after(machine, AttemptStarted(1, 1, "x"), AttemptEnded(2, 1, "y", FAILED))
    assert machine.handle(CancelRequested(None, "wrong input")) == (
        Swept((0, 2, 3, 4), UNSTARTED, S.canceled, "wrong input"),
        Changed(1),
        Revoke(1, 1, "wrong input"),
    )
    assert states(machine) == [S.canceled, S.canceling, S.canceled, S.canceled, S.canceled]
    assert reasons(machine) == ["wrong input"] * 5
    assert machine.handle(CancelRequested(None, "again")) == ()
    assert machine.handle(AttemptEnded(1, 1, "x", STOPPED)) == (Recorded(1, STOPPED), Changed(1), Finished(JobState.canceled))
    assert reasons(machine) == ["wrong input"] * 5


def test_canceling_one_task_aborts_what_needs_it() -> None:
    machine = job_of(NewTask(0), NewTask(1, deps=(0,)), NewTask(2))
    assert machine.handle(CancelRequested((0,))) == (Revoke(0, 1, "canceled"), Changed(0), Changed(1))
    assert states(machine) == [S.canceled, S.aborted, S.queued]
    assert reasons(machine) == ["canceled", "task 0 canceled", ""]


def test_tasks_that_are_canceled_together_are_all_canceled() -> None:
    machine = job_of(NewTask(0), NewTask(1, deps=(0,)), NewTask(2, after=(0,)), NewTask(3))
    assert machine.handle(CancelRequested((0, 1, 2))) == (Revoke(0, 1, "canceled"), Changed(0), Changed(1), Changed(2))
    assert states(machine) == [S.canceled, S.canceled, S.canceled, S.queued]


@pytest.mark.parametrize(("outcome", "state"), [(DONE, S.succeeded), (FAILED, S.failed), (STOPPED, S.canceled), (CRASHED, S.canceled)])
def test_what_ends_while_it_is_told_to_stop_has_its_own_end(outcome: Succeeded | Failed | Canceled | Crashed, state: TaskState) -> None:
    machine = after(job_of(NewTask(0, retry=Retry())), AttemptStarted(0, 1, "x"), CancelRequested((0,), "enough"))
    assert machine.handle(AttemptEnded(0, 1, "x", outcome))[-1] == Finished(JobState(state.value))
    assert states(machine) == [state]


@pytest.mark.parametrize("why", list(Return))
def test_what_comes_back_while_it_is_told_to_stop_has_stopped(why: Return) -> None:
    machine = after(job_of(NewTask(0)), AttemptStarted(0, 1, "x"), CancelRequested((0,), "enough"))
    assert machine.handle(AttemptReturned(0, 1, why)) == (Changed(0), Finished(JobState.canceled))
    assert reasons(machine) == ["enough"]


def test_a_task_that_was_stopped_by_somebody_else_is_canceled() -> None:
    machine = job_of(NewTask(0), NewTask(1))
    assert machine.handle(AttemptEnded(0, 1, "x", Canceled("the operator stopped it"))) == (
        Recorded(0, Canceled("the operator stopped it")),
        Changed(0),
    )
    after(machine, AttemptStarted(1, 1, "x"), AttemptEnded(1, 1, "x", Canceled()))
    assert reasons(machine) == ["the operator stopped it", "canceled"]


def test_unstarted_only_leaves_what_runs_and_never_starts_it_again() -> None:
    retry = Retry(max_attempts=5)
    machine = job_of(*(NewTask(number, retry=retry) for number in range(5)))
    after(machine, *(AttemptStarted(number, 1, "x") for number in range(1, 5)))
    assert machine.handle(CancelRequested(None, "closed", unstarted_only=True)) == (Swept((0,), UNSTARTED, S.canceled, "closed"),)
    assert states(machine) == [S.canceled, S.running, S.running, S.running, S.running]
    assert machine.handle(AttemptEnded(1, 1, "x", DONE)) == (Recorded(1, DONE), Changed(1))
    assert machine.handle(AttemptEnded(2, 1, "x", FAILED)) == (Recorded(2, FAILED), Changed(2))
    assert machine.handle(AttemptEnded(3, 1, "x", CRASHED)) == (Changed(3),)
    assert machine.handle(AttemptReturned(4, 1, Return.redelivered)) == (Changed(4), Finished(JobState.failed))
    assert states(machine) == [S.canceled, S.succeeded, S.failed, S.canceled, S.canceled]
    assert reasons(machine)[3:] == ["closed", "closed"]


def test_what_comes_after_the_cancel_is_canceled_as_it_comes() -> None:
    machine = after(JobMachine(), TasksAdded((NewTask(0),)), AttemptEnded(0, 1, "x", DONE))
    assert machine.handle(CancelRequested(None, "no")) == (Finished(JobState.canceled),)
    assert machine.handle(TasksAdded((NewTask(1), NewTask(2, direct=True), NewTask(3, deps=(1,))))) == (
        Changed(1),
        Revoke(2, 1, "no"),
        Changed(2),
        Changed(3),
    )
    assert states(machine) == [S.succeeded, S.canceled, S.canceled, S.canceled]
    assert machine.state is JobState.canceled
    machine.check()


# --- jobs that are given up ---


def test_a_job_that_is_given_up_ends_aborted() -> None:
    machine = JobMachine()
    machine.handle(TasksAdded((NewTask(0), NewTask(1), NewTask(2, deps=(1,)))))
    after(machine, AttemptStarted(0, 1, "x"))
    assert machine.handle(JobVoided("its submitter vanished")) == (
        Swept((1, 2), UNSTARTED, S.aborted, "its submitter vanished"),
        Changed(0),
        Revoke(0, 1, "its submitter vanished"),
    )
    assert machine.handle(JobVoided("again")) == ()
    assert machine.handle(AttemptReturned(0, 1, Return.lost)) == (Changed(0), Finished(JobState.aborted))
    assert reasons(machine) == ["its submitter vanished"] * 3
    assert machine.handle(TasksAdded((NewTask(3, direct=True),))) == (Revoke(3, 1, "its submitter vanished"), Changed(3))
    assert states(machine) == [S.aborted] * 4


def test_what_somebody_canceled_before_the_job_was_given_up_is_canceled() -> None:
    machine = after(job_of(NewTask(0), NewTask(1)), AttemptStarted(0, 1, "x"), CancelRequested((0,), "mine"), JobVoided("vanished"))
    assert machine.handle(AttemptEnded(0, 1, "x", STOPPED)) == (Recorded(0, STOPPED), Changed(0), Finished(JobState.canceled))
    assert states(machine) == [S.canceled, S.aborted]
    assert reasons(machine) == ["mine", "vanished"]


# --- restart ---


def test_a_restored_machine_goes_on_where_it_was() -> None:
    machine = after(job_of(NewTask(0), NewTask(1, deps=(0,)), NewTask(2, after=(1,)), max_fails=0), AttemptStarted(0, 1, "x"))
    copy = JobMachine.restore(list(machine.tasks.values()), max_fails=0, total=3)
    assert copy.state is JobState.running
    assert copy.handle(AttemptEnded(0, 1, "x", DONE)) == (Recorded(0, DONE), Changed(0), Changed(1), Queue(1, 1))
    copy.check()


def test_a_chain_of_ten_thousand_does_not_recurse() -> None:
    size = 10_000
    machine = job_of(NewTask(0), *(NewTask(number, deps=(number - 1,)) for number in range(1, size)))
    commands = machine.handle(AttemptEnded(0, 1, "x", FAILED))
    assert len(commands) == size + 2
    assert machine.counts[S.aborted] == size - 1
