"""The machine itself; the rules that it follows stand in the docstring of the package."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.core.job.commands import (
    Changed,
    Delay,
    Duplicate,
    Finished,
    JobCommand,
    Queue,
    QueueAll,
    Recorded,
    Revoke,
    Swept,
    Together,
    Withdraw,
)
from broker_jobs.core.job.events import (
    AttemptEnded,
    AttemptReturned,
    AttemptsSucceeded,
    AttemptStarted,
    CancelRequested,
    DirectAdded,
    JobEvent,
    JobSealed,
    JobVoided,
    NewTask,
    OutsideEnded,
    PauseRequested,
    ResumeRequested,
    RetryDue,
    Return,
    TasksAdded,
    WaitingAdded,
)
from broker_jobs.core.job.invariants import check_job
from broker_jobs.core.job.record import OUT, TaskRecord
from broker_jobs.core.job.records import Records
from broker_jobs.core.outcome import Canceled, Cause, Crashed, Failed, Succeeded
from broker_jobs.core.retry import GiveUp, RetryIn, decide
from broker_jobs.core.spec import NEVER_START_TWICE
from broker_jobs.core.states import ENDED, JOB_ENDED, JobState, TaskState, Trigger, job_state, step

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

_UNSTARTED: Final = frozenset({TaskState.waiting, TaskState.queued, TaskState.paused, TaskState.retrying})
"""States of tasks that end at once when somebody wants their end."""

_HELD: Final = frozenset({TaskState.queued, TaskState.retrying})
"""States that are paused with their job; what waits for others goes on waiting."""

_PENDING: Final = frozenset({TaskState.waiting, TaskState.paused})
"""States in which a task may wait for others."""

_UNSUCCESSFUL: Final = ENDED - {TaskState.succeeded}

_TOGETHER: Final = 2
"""So many tasks that are released at once are told of together."""

_GONE: Final = "-"
"""The execution of a paused attempt that is not out any more, where none was heard of."""

_PAUSED: Final = "paused"
_LOST: Final = "its worker was lost"
_CAME_BACK: Final = {
    Return.unstarted: "a worker gave it back before its start",
    Return.redelivered: _LOST,
    Return.unrouted: "it came back without an outcome",
}


class JobMachine:
    """The tasks of one job.

    Args:
        max_fails: more failed tasks than this abort the rest; None goes on

    Attributes:
        tasks: those that have come, by number
        counts: how many tasks are in each state
        total: how many tasks the job has, once that is known
        state: of the job
        cancel_reason: why all of the job was canceled, or None
        void_reason: why the job was given up, or None
        pause_reason: why all of the job is paused, or None
        linked: whether one of its tasks has waited for another one
    """

    def __init__(self, max_fails: int | None = None) -> None:
        self.max_fails = max_fails
        self.tasks = Records()
        self.counts: Counter[TaskState] = Counter()
        self.total: int | None = None
        self.state = JobState.waiting
        self.cancel_reason: str | None = None
        self.void_reason: str | None = None
        self.pause_reason: str | None = None
        self.linked = False
        self._dependents: dict[int, list[int]] = {}

    @classmethod
    def restore(
        cls,
        records: Iterable[TaskRecord],
        *,
        max_fails: int | None = None,
        total: int | None = None,
        cancel_reason: str | None = None,
        void_reason: str | None = None,
        pause_reason: str | None = None,
    ) -> JobMachine:
        """The machine as it was, from the rows of its tasks and of its job."""
        machine = cls(max_fails)
        machine.total, machine.cancel_reason, machine.void_reason = total, cancel_reason, void_reason
        machine.pause_reason = pause_reason
        for record in records:
            machine.tasks.restore(record)
            machine.counts[record.state] += 1
        for record in machine.tasks.own():
            if record.state in _PENDING:
                record.missing = machine._subscribe(record)
        machine.state = machine._derived_state()
        return machine

    @property
    def complete(self) -> bool:
        """Whether every task of the job has come."""
        return self.total is not None and len(self.tasks) >= self.total

    @property
    def closed(self) -> bool:
        """Whether no task can come that would still run: the job is whole, canceled or void."""
        return self.complete or self.cancel_reason is not None or self.void_reason is not None

    @property
    def ended(self) -> bool:
        """Whether the job's state is final."""
        return self.state in JOB_ENDED

    def knows(self, task: int) -> bool:
        """Whether the chunk with this task has come."""
        return task in self.tasks

    def knows_any(self, tasks: range) -> bool:
        """Whether a chunk with one of these tasks has come."""
        return self.tasks.any_of(tasks)

    def next_of(self, number: int) -> TaskRecord | None:
        """The task that waits for this one and for nothing else, where no other one waits for this one and it may start at once then."""
        waiting = self._dependents.get(number, ())
        record = self.tasks.get(waiting[0]) if len(waiting) == 1 else None
        if record is None or record.state is not TaskState.waiting or record.missing != 1 or record.isolated:
            return None
        return record

    def handle(self, event: JobEvent) -> tuple[JobCommand, ...]:
        """Take one event; what must be done about it, in this order."""
        if self.ended and isinstance(event, JobSealed | CancelRequested | PauseRequested | ResumeRequested | JobVoided):
            return ()
        commands = list(self._take(event))
        if not self.ended:
            self.state = self._derived_state()
            if self.ended:
                commands.append(Finished(self.state))
        return tuple(commands)

    def check(self) -> None:
        """What must always be true; `AssertionError` where it is not."""
        check_job(self)

    # --- one event each ---

    def _take(self, event: JobEvent) -> Iterator[JobCommand]:
        match event:
            case TasksAdded(tasks):
                for task in tasks:
                    yield from self._add(task)
            case DirectAdded():
                yield from self._add_direct(event)
            case WaitingAdded():
                yield from self._add_waiting(event)
            case OutsideEnded():
                yield from self._outside_ended(event)
            case JobSealed(tasks=total):
                if self.total is None:
                    self.total = total
            case AttemptStarted():
                yield from self._started(event)
            case AttemptEnded():
                yield from self._ended(event)
            case AttemptsSucceeded(ended):
                yield from self._succeeded(ended)
            case AttemptReturned():
                yield from self._returned(event)
            case RetryDue(task, attempt):
                record = self.tasks.find(task)
                if record and record.state is TaskState.retrying and record.attempt == attempt:
                    yield from self._queue_again(record, Trigger.retry_due, record.reason)
            case CancelRequested():
                yield from self._cancel(event)
            case PauseRequested():
                yield from self._pause(event)
            case ResumeRequested(tasks=chosen):
                yield from self._resume(chosen)
            case JobVoided(reason):
                yield from self._void(reason)
            case _:
                assert_never(event)

    def _add(self, task: NewTask) -> Iterator[JobCommand]:
        if task.number in self.tasks or self.complete:
            return
        record = TaskRecord(
            task.number,
            task.deps,
            task.after,
            task.retry,
            task.crash_limit,
            isolated=task.crash_limit == NEVER_START_TWICE,
            outside=task.outside,
        )
        self.tasks.add(record)
        self.counts[record.state] += 1
        refusal = self._refusal(record)
        if refusal:
            if task.direct:
                yield Revoke(task.number, 1, refusal[1])
            yield from self._finish(record, *refusal)
            return
        record.missing = self._subscribe(record)
        if record.missing:
            yield Changed(record.number)
        else:
            yield from self._release(record, direct=task.direct)

    def _add_direct(self, event: DirectAdded) -> Iterator[JobCommand]:
        numbers = event.tasks
        if self.pause_reason is None and self._takes_all(event):
            self._queue_run(event)
            yield Together(numbers, TaskState.queued, came=True)
        else:
            for number in numbers:
                yield from self._add(NewTask(number, retry=event.retry, crash_limit=event.crash_limit, direct=True))

    def _add_waiting(self, event: WaitingAdded) -> Iterator[JobCommand]:
        retry, crash_limit, tasks = event.retry, event.crash_limit, self.tasks
        if not self._takes_all(event):
            for number, deps, after in zip(event.tasks, event.deps, event.after, strict=True):
                yield from self._add(NewTask(number, deps, after, retry, crash_limit))
            return
        if self.pause_reason is None and len(event.tasks) >= _TOGETHER and not (any(event.deps) or any(event.after)):
            self._queue_run(event)
            yield Together(event.tasks, TaskState.queued)
            yield QueueAll(event.tasks)
            return
        came: list[int] = []
        ready: list[TaskRecord] = []
        in_vain = any(self.counts[state] for state in _UNSUCCESSFUL)
        for number, deps, after in zip(event.tasks, event.deps, event.after, strict=True):
            record = TaskRecord(number, deps, after, retry, crash_limit)
            tasks.add(record)
            if deps or after:
                refusal = self._refusal(record) if in_vain else None
                if refusal:
                    self.counts[TaskState.waiting] += 1
                    # It ends as it comes, and with it what waits for it: of those before, it is told first that they have come.
                    yield Together(came, TaskState.waiting, came=True)
                    came = []
                    yield from self._finish(record, *refusal)
                    continue
                record.missing = self._subscribe(record)
            self.counts[TaskState.waiting] += 1
            if record.missing:
                came.append(number)
            else:
                ready.append(record)
        if came:
            yield Together(came, TaskState.waiting, came=True)
        yield from self._release_all(ready)

    def _queue_run(self, event: DirectAdded | WaitingAdded) -> None:
        """Take in tasks in a row that are all alike and may go out."""
        first = TaskRecord(event.tasks.start, (), (), event.retry, event.crash_limit, TaskState.queued, 1)
        self.tasks.add_run(first, len(event.tasks))
        self.counts[TaskState.queued] += len(event.tasks)

    def _takes_all(self, event: DirectAdded | WaitingAdded) -> bool:
        """Whether all of these tasks are new, and wanted, so that nothing has to be asked of each."""
        numbers, tasks = event.tasks, self.tasks
        wanted = self.cancel_reason is None and self.void_reason is None and event.crash_limit != NEVER_START_TWICE
        room = self.total is None or len(tasks) + len(numbers) <= self.total
        return wanted and room and not tasks.any_of(numbers)

    def _outside_ended(self, event: OutsideEnded) -> Iterator[JobCommand]:
        record = self.tasks.find(event.task)
        if not record or record.state not in _PENDING or event.need not in record.outside:
            return
        record.outside -= {event.need}
        record.missing -= 1
        if event.problem:
            yield from self._finish(record, Trigger.abort_asked, event.problem)
        elif not record.missing and record.state is TaskState.waiting:
            yield from self._release(record)

    def _refusal(self, record: TaskRecord) -> tuple[Trigger, str] | None:
        """Why a task ends as it comes, or None."""
        if self.cancel_reason is not None:
            return Trigger.cancel_asked, self.cancel_reason
        if self.void_reason is not None:
            return Trigger.abort_asked, self.void_reason
        for number in record.deps:
            dep = self.tasks.get(number)
            if dep and dep.state in _UNSUCCESSFUL:
                return Trigger.abort_asked, _because_of(number, dep)
        return None

    def _started(self, event: AttemptStarted) -> Iterator[JobCommand]:
        record = self.tasks.find(event.task)
        if not record or not (record.attempt == event.attempt or record.expects(event.attempt)):
            return
        record.attempt = event.attempt
        if record.state is TaskState.queued or record.called_back:
            record.execution, record.reason = event.execution, ""
            self._move(record, Trigger.started)
            yield Changed(record.number)
        elif record.state is TaskState.running and record.execution != event.execution:
            record.execution = event.execution
            yield Changed(record.number)

    def _ended(self, event: AttemptEnded) -> Iterator[JobCommand]:
        record = self.tasks.find(event.task)
        if not record:
            return
        if not record.expects(event.attempt):
            yield from self._late(event.task, record, event.attempt, event.execution)
            return
        record.attempt, record.execution = event.attempt, event.execution
        match event.outcome:
            case Succeeded():
                yield Recorded(record.number, event.outcome)
                yield from self._finish(record, Trigger.succeeded, "")
            case Failed() as failed:
                yield Recorded(record.number, failed)
                yield from self._failed(record, failed, event.noise)
            case Canceled(reason):
                yield Recorded(record.number, event.outcome)
                yield from self._stopped(record, reason)
            case Crashed() as crashed:
                yield from self._crashed(record, crashed.message)
            case _:
                assert_never(event.outcome)

    def _succeeded(self, ended: Iterable[tuple[int, int, str]]) -> Iterator[JobCommand]:
        tasks, counts, dependents = self.tasks, self.counts, self._dependents
        before: Counter[TaskState] = Counter()
        done: list[int] = []
        for number, attempt, execution in ended:
            record = tasks.get(number)
            if record is None:
                continue
            if not record.expects(attempt):
                yield from self._late(number, record, attempt, execution)
                continue
            if record.attempt != attempt:
                tasks[number].attempt = attempt
            before[record.state] += 1
            tasks.succeed(number, execution)
            done.append(number)
        for state, moved in before.items():
            counts[state] -= moved
            counts[step(state, Trigger.succeeded)] += moved
        if done:
            yield Together(done, TaskState.succeeded)
            if dependents:
                yield from self._advance([tasks[number] for number in done if number in dependents])

    @staticmethod
    def _late(number: int, record: TaskRecord, attempt: int, execution: str) -> Iterator[JobCommand]:
        """An outcome of an attempt that has one; the same news again, from a worker that did not hear of its arrival, is no other one."""
        if record.attempt != attempt or record.execution != execution:
            yield Duplicate(number, attempt)

    def _failed(self, record: TaskRecord, failed: Failed, noise: float) -> Iterator[JobCommand]:
        record.failures += 1
        decision = GiveUp() if self._unwanted(record) else decide(record.retry, record.failures, failed, noise)
        match decision:
            case RetryIn() if record.state is TaskState.paused:
                yield from self._hold(record, failed.message)
            case RetryIn(delay):
                record.reason = failed.message
                self._move(record, Trigger.backed_off)
                yield Changed(record.number)
                yield Delay(record.number, record.attempt, delay)
            case GiveUp():
                yield from self._failed_for_good(record, failed)
            case _:
                assert_never(decision)

    def _failed_for_good(self, record: TaskRecord, failed: Failed) -> Iterator[JobCommand]:
        yield from self._end(record, Trigger.failed, failed.message)
        if self.max_fails is not None and self.counts[TaskState.failed] > self.max_fails:
            # Before anything is released that follows the failed task.
            yield from self._void(f"more than {self.max_fails} tasks failed; the last one was task {record.number}")
        yield from self._advance([record])

    def _crashed(self, record: TaskRecord, message: str) -> Iterator[JobCommand]:
        record.crashes += 1
        record.isolated = True
        if record.state is TaskState.canceling:
            yield from self._stopped(record, message)
        elif record.crash_limit is not None and record.crashes >= record.crash_limit:
            times = "once" if record.crashes == 1 else f"{record.crashes} times"
            outcome = Failed(Cause.crash_limit, f"crashed {times}, the last time: {message}")
            yield Recorded(record.number, outcome)
            yield from self._failed_for_good(record, outcome)
        else:
            yield from self._came_back(record, message)

    def _returned(self, event: AttemptReturned) -> Iterator[JobCommand]:
        record = self.tasks.find(event.task)
        if record and record.attempt == event.attempt and record.called_back:
            # It is with nobody, as was asked for.
            yield from self._hold(record, record.reason)
            return
        if not record or record.attempt != event.attempt or record.state not in OUT:
            return
        began = record.state in {TaskState.running, TaskState.canceling}
        match event.why:
            case Return.lost:
                yield from self._crashed(record, _LOST)
            case Return.redelivered if record.isolated and began:
                yield from self._crashed(record, _LOST)
            case Return.unstarted | Return.unrouted if record.crash_limit == NEVER_START_TWICE and began:
                # A worker that stops gives back what it has ended; this one may have no second start.
                yield from self._crashed(record, event.reason or "it was stopped with its worker")
            case Return.unstarted | Return.unrouted | Return.redelivered:
                record.isolated = record.isolated or event.why is Return.redelivered
                yield from self._came_back(record, event.reason or _CAME_BACK[event.why])
            case _:
                assert_never(event.why)

    def _cancel(self, event: CancelRequested) -> Iterator[JobCommand]:
        reason = event.reason or "canceled"
        if event.tasks is None:
            self.cancel_reason = self.cancel_reason or reason
            yield from self._stop_all(Trigger.cancel_asked, reason, running=not event.unstarted_only)
        else:
            yield from self._stop(self._chosen(event.tasks), Trigger.cancel_asked, reason, running=not event.unstarted_only)

    def _void(self, reason: str) -> Iterator[JobCommand]:
        if self.void_reason is None:
            self.void_reason = reason
            yield from self._stop_all(Trigger.abort_asked, reason)

    def _pause(self, event: PauseRequested) -> Iterator[JobCommand]:
        reason = event.reason or _PAUSED
        if self.cancel_reason is not None or self.void_reason is not None:
            return
        if event.tasks is not None:
            for record in self._chosen(event.tasks):
                if record.state is TaskState.waiting or (record.state in _HELD and not record.committed(event.out)):
                    if record.state is TaskState.queued:
                        yield Withdraw(record.number, record.attempt, reason)
                    yield from self._hold(record, reason)
        elif self.pause_reason is None:
            self.pause_reason = reason
            exceptions = {record.number for record in self._chosen(event.out) if record.committed(event.out)}
            yield from self._sweep(_HELD, Trigger.paused, reason, exceptions)

    def _resume(self, tasks: tuple[int, ...] | None) -> Iterator[JobCommand]:
        if tasks is None:
            self.pause_reason = None
            waiting = [record for record in self.tasks.own() if record.state is TaskState.paused and record.missing]
            yield from self._sweep(frozenset({TaskState.paused}), Trigger.released, "", {record.number for record in waiting})
        else:
            chosen = [record for record in self._chosen(tasks) if record.state is TaskState.paused]
            waiting = [record for record in chosen if record.missing]
            for record in chosen:
                if not record.missing:
                    yield from self._queue_again(record, Trigger.released, "")
        for record in waiting:
            record.reason = ""
            self._move(record, Trigger.resumed)
            yield Changed(record.number)

    def _chosen(self, numbers: Iterable[int]) -> list[TaskRecord]:
        return [self.tasks[number] for number in dict.fromkeys(numbers) if number in self.tasks]

    # --- steps that several events share ---

    def _derived_state(self) -> JobState:
        counts = self.counts
        if not self.complete and self.closed:
            # What is still to come counts as ended: it ends as it comes.
            rest = TaskState.canceled if self.cancel_reason is not None else TaskState.aborted
            counts = counts + Counter({rest: 1})
        return job_state(counts, complete=self.closed, paused=self.pause_reason is not None)

    def _unwanted(self, record: TaskRecord) -> bool:
        """Whether the task must not go out again."""
        return record.state is TaskState.canceling or self.cancel_reason is not None

    def _subscribe(self, record: TaskRecord) -> int:
        """Note what the task waits for; how many ends are missing."""
        missing, own = len(record.outside), record.number
        tasks, dependents = self.tasks, self._dependents
        for number in (*record.deps, *record.after) if record.after else record.deps:
            other = tasks.get(number)
            if other is None or other.state not in ENDED:
                self.linked = True
                waiting = dependents.get(number)
                if waiting is None:
                    dependents[number] = [own]
                else:
                    waiting.append(own)
                missing += 1
        return missing

    def _release(self, record: TaskRecord, *, direct: bool = False) -> Iterator[JobCommand]:
        if self.pause_reason is not None and not (direct and record.crash_limit == NEVER_START_TWICE):
            if direct:
                record.attempt = 1
                yield Withdraw(record.number, record.attempt, self.pause_reason)
            yield from self._hold(record, self.pause_reason)
            return
        record.attempt = 1
        self._move(record, Trigger.released)
        yield Changed(record.number)
        if not direct:
            yield Queue(record.number, record.attempt, record.isolated)

    def _release_all(self, records: list[TaskRecord]) -> Iterator[JobCommand]:
        """Release tasks that wait for nothing any more, and for the first time."""
        if len(records) < _TOGETHER or self.pause_reason is not None:
            for record in records:
                yield from self._release(record)
            return
        for record in records:
            record.attempt, record.state = 1, step(record.state, Trigger.released)
        self.counts[TaskState.waiting] -= len(records)
        self.counts[TaskState.queued] += len(records)
        numbers = [record.number for record in records]
        yield Together(numbers, TaskState.queued)
        yield QueueAll(numbers)

    def _came_back(self, record: TaskRecord, why: str) -> Iterator[JobCommand]:
        """Queue a task again that ended without an outcome, unless nobody wants it any more."""
        if self._unwanted(record):
            yield from self._stopped(record, why)
        else:
            yield from self._queue_again(record, Trigger.returned, why)

    def _hold(self, record: TaskRecord, reason: str) -> Iterator[JobCommand]:
        """Keep a task back. One that has come back, or has failed, is not out any more."""
        if record.attempt and record.state not in {TaskState.waiting, TaskState.queued}:
            record.execution = record.execution or _GONE
        record.reason = reason or _PAUSED
        self._move(record, Trigger.paused)
        yield Changed(record.number)

    def _queue_again(self, record: TaskRecord, trigger: Trigger, reason: str) -> Iterator[JobCommand]:
        if trigger is not Trigger.released and (self.pause_reason is not None or record.state is TaskState.paused):
            record.execution = record.execution or _GONE
            yield from self._hold(record, reason)
            return
        record.attempt += 1
        record.execution, record.reason = "", reason
        self._move(record, trigger)
        yield Changed(record.number)
        yield Queue(record.number, record.attempt, record.isolated)

    def _stop(self, records: Iterable[TaskRecord], trigger: Trigger, reason: str, *, running: bool = True) -> Iterator[JobCommand]:
        """Cancel or abort tasks where they are; those that run are revoked first, or left alone.

        What waits for them is looked at when all of them are done with, so that nothing is released that is stopped next.
        """
        ended: list[TaskRecord] = []
        for record in records:
            match record.state:
                case TaskState.running if running:
                    record.reason = reason
                    self._move(record, trigger)
                    yield Changed(record.number)
                    yield Revoke(record.number, record.attempt, reason)
                case TaskState.waiting | TaskState.queued | TaskState.paused | TaskState.retrying:
                    if record.state is TaskState.queued or record.called_back:
                        # A worker may hold it, or even run it and not have said so yet.
                        yield Revoke(record.number, record.attempt, reason)
                    yield from self._end(record, trigger, reason)
                    ended.append(record)
                case _:
                    pass
        yield from self._advance(ended)

    def _stop_all(self, trigger: Trigger, reason: str, *, running: bool = True) -> Iterator[JobCommand]:
        """Cancel or abort every task: those that have not started all at once, so that a million take a moment."""
        yield from self._sweep(_UNSTARTED, trigger, reason)
        self._dependents.clear()
        if running and self.counts[TaskState.running]:
            records = [record for record in self.tasks.own() if record.state is TaskState.running]
            yield from self._stop(records, trigger, reason)

    def _sweep(self, before: frozenset[TaskState], trigger: Trigger, reason: str, exceptions: Collection[int] = ()) -> Iterator[JobCommand]:
        """Move every task that is in one of these states, but for exceptions, which have their own records and are told of as changed."""
        after = {state: step(state, trigger) for state in before}
        again = trigger is Trigger.released
        moved: list[int] = []
        for record, numbers in self.tasks.alike(before):
            if numbers[0] not in exceptions:
                self.counts[record.state] -= len(numbers)
                record.state, record.reason = after[record.state], reason
                if again:
                    record.attempt += 1
                    record.execution = ""
                moved += numbers
        (goal,) = set(after.values())
        self.counts[goal] += len(moved)
        if moved:
            yield Swept(tuple(moved), before, goal, reason)
            for number in exceptions:
                yield Changed(number)

    def _stopped(self, record: TaskRecord, said: str) -> Iterator[JobCommand]:
        """End a task of which nothing runs any more and which must not go out again."""
        if record.state is not TaskState.canceling:
            yield from self._finish(record, Trigger.stopped, self.cancel_reason or said or "canceled")
        elif record.reason == self.void_reason:
            yield from self._finish(record, Trigger.aborted, record.reason)
        else:
            # Canceled before the job was given up: somebody asked.
            yield from self._finish(record, Trigger.stopped, record.reason)

    def _finish(self, record: TaskRecord, trigger: Trigger, reason: str) -> Iterator[JobCommand]:
        """End a task, and release or abort what waited for it."""
        yield from self._end(record, trigger, reason)
        yield from self._advance([record])

    def _end(self, record: TaskRecord, trigger: Trigger, reason: str) -> Iterator[JobCommand]:
        record.reason = reason
        self._move(record, trigger)
        yield Changed(record.number)

    def _advance(self, ended: list[TaskRecord]) -> Iterator[JobCommand]:
        """Release or abort what waited for these; the list grows by what is aborted."""
        tasks, dependents = self.tasks, self._dependents
        ready: list[TaskRecord] = []
        for last in ended:
            good = last.state is TaskState.succeeded
            for number in dependents.pop(last.number, ()):
                dependent = tasks[number]
                if dependent.state not in _PENDING:
                    continue
                if not good and last.number in dependent.deps:
                    yield from self._end(dependent, Trigger.abort_asked, _because_of(last.number, last))
                    ended.append(dependent)
                else:
                    dependent.missing -= 1
                    if not dependent.missing and dependent.state is TaskState.waiting:
                        ready.append(dependent)
        yield from self._release_all(ready)

    def _move(self, record: TaskRecord, trigger: Trigger) -> None:
        self.counts[record.state] -= 1
        record.state = step(record.state, trigger)
        self.counts[record.state] += 1


def _because_of(number: int, task: TaskRecord) -> str:
    """Why a dependent of this task is aborted; the first cause is named, not the nearest."""
    return task.reason if task.state is TaskState.aborted and task.reason.startswith("task ") else f"task {number} {task.state.value}"
