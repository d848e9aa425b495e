"""The job machine: what happens to the tasks of one job, as a function of what is heard of them.

`JobMachine.handle` takes an event and returns commands as data. It reads no clock and draws no random number:
noise comes with the event. The coordinator performs the commands in the transaction that records the event.

Rules that everything here follows:

- An attempt number is made here and nowhere else, so news of an older attempt is recognised: it is answered by
  `Duplicate` or by nothing, and changes nothing. So is news that comes twice.
- A task that ended never changes.
- The first redelivery of a chunk charges nobody: its unfinished tasks go out again, *isolated*: alone in a message,
  with ``started`` confirmed before the start. From then on a lost attempt is a crash of that one task.
- Tasks, replies and the seal may come in any order. A reply for a task that is not known yet is the caller's to keep
  (`knows` tells).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from broker_jobs.core.outcome import Canceled, Cause, Crashed, Failed, Outcome, Succeeded
from broker_jobs.core.retry import GiveUp, RetryIn, decide
from broker_jobs.core.spec import NEVER_START_TWICE, Retry
from broker_jobs.core.states import ENDED, JOB_ENDED, JobState, TaskState, Trigger, job_state, step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


# --- events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task as the machine sees it.

    Attributes:
        deps: tasks whose success it waits for
        after: tasks whose end it waits for
        direct: its chunk stands in a class queue already, put there by the submitter
    """

    number: int
    deps: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    retry: Retry | None = None
    crash_limit: int | None = None
    direct: bool = False


@dataclass(frozen=True, slots=True)
class TasksAdded:
    """A chunk of the job has come."""

    tasks: tuple[NewTask, ...]


@dataclass(frozen=True, slots=True)
class JobSealed:
    """The number of tasks of the job is known: no others will come."""

    tasks: int


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """A worker says that it has begun."""

    task: int
    attempt: int
    execution: str


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """A worker says how an execution ended."""

    task: int
    attempt: int
    execution: str
    outcome: Outcome
    noise: float = 0.5


class Return(StrEnum):
    """Why an attempt comes back without an outcome."""

    unstarted = "unstarted"
    """The worker did not start it: it drains, or the chunk turned out slow."""
    redelivered = "redelivered"
    """The broker delivered its chunk for the second time: it may have run somewhere."""
    lost = "lost"
    """It ran on a worker that is gone."""
    unrouted = "unrouted"
    """The class queue gave the message up."""


@dataclass(frozen=True, slots=True)
class AttemptReturned:
    """An attempt comes back without an outcome."""

    task: int
    attempt: int
    why: Return


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The delay before an attempt is over."""

    task: int
    attempt: int


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants the end of some tasks, or of all.

    Attributes:
        tasks: their numbers; None means all, and those that are still to come
        unstarted_only: leave alone what runs
    """

    tasks: tuple[int, ...] | None = None
    reason: str = ""
    unstarted_only: bool = False


@dataclass(frozen=True, slots=True)
class JobVoided:
    """The job was given up: its submitter vanished before it was whole, or too many tasks failed."""

    reason: str


JobEvent = TasksAdded | JobSealed | AttemptStarted | AttemptEnded | AttemptReturned | RetryDue | CancelRequested | JobVoided


# --- commands -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Queue:
    """Put this attempt into its class queue, as soon as the job's window has room."""

    task: int
    attempt: int
    isolated: bool = False


@dataclass(frozen=True, slots=True)
class Delay:
    """Hand in `RetryDue` after so many seconds."""

    task: int
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Revoke:
    """Tell the workers to stop this attempt, or to drop it."""

    task: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Changed:
    """The state or the counters of this task are new: write its row."""

    task: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """The outcome in this event is the one of the task (for a retried failure: of the attempt)."""

    task: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The task has another outcome already, or the attempt is an old one: count it, and keep nothing."""

    task: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Finished:
    """All tasks have ended; nothing follows."""

    state: JobState


JobCommand = Queue | Delay | Revoke | Changed | Recorded | Duplicate | Finished


# --- the machine --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class TaskRecord:
    """What is known of one task.

    Attributes:
        attempt: 0 until it is released
        failures: attempts that failed; what the retry policy counts
        crashes: attempts that vanished with their process or worker
        execution: of the current attempt, once it is known to run
        isolated: it travels alone, and its start is confirmed before it starts
        reason: why it is in its state, for people
    """

    number: int
    deps: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    retry: Retry | None = None
    crash_limit: int | None = None
    state: TaskState = TaskState.waiting
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    execution: str = ""
    isolated: bool = False
    reason: str = ""
    missing: int = field(default=0, compare=False)

    @property
    def ended(self) -> bool:
        """Whether its state is final."""
        return self.state in ENDED


class JobMachine:
    """The tasks of one job.

    Args:
        max_fails: more failed tasks than this abort the rest; None goes on
    """

    def __init__(self, max_fails: int | None = None) -> None:
        self.max_fails = max_fails
        self.tasks: dict[int, TaskRecord] = {}
        self.counts: Counter[TaskState] = Counter()
        self.total: int | None = None
        self.state = JobState.waiting
        self.cancel_reason: str | None = None
        self.void_reason: str | None = None
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
    ) -> JobMachine:
        """The machine as it was, from the rows of its tasks and of its job."""
        machine = cls(max_fails)
        machine.total, machine.cancel_reason, machine.void_reason = total, cancel_reason, void_reason
        for record in records:
            machine.tasks[record.number] = record
            machine.counts[record.state] += 1
        for record in machine.tasks.values():
            if record.state is TaskState.waiting:
                record.missing = machine._subscribe(record)
        machine.state = job_state(machine.counts, complete=machine.closed)
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

    def handle(self, event: JobEvent) -> tuple[JobCommand, ...]:
        """Take one event; what must be done about it, in this order."""
        if self.ended:
            return self._after_the_end(event)
        commands: list[JobCommand] = []
        match event:
            case TasksAdded(tasks):
                for task in tasks:
                    commands += self._add(task)
            case JobSealed(tasks=total):
                self.total = total
            case AttemptStarted():
                commands += self._started(event)
            case AttemptEnded():
                commands += self._ended(event)
            case AttemptReturned():
                commands += self._returned(event)
            case RetryDue(task, attempt):
                record = self.tasks.get(task)
                if record and record.state is TaskState.retrying and record.attempt == attempt:
                    commands += self._queue_again(record, Trigger.retry_due, record.reason)
            case CancelRequested(tasks=numbers, reason=reason, unstarted_only=unstarted_only):
                if numbers is None:
                    self.cancel_reason = reason
                for record in self._chosen(numbers):
                    commands += self._stop(record, Trigger.cancel_asked, reason, running=not unstarted_only)
            case JobVoided(reason):
                commands += self._void(reason)
            case _:
                assert_never(event)
        state = job_state(self.counts, complete=self.closed)
        if state is not self.state:
            self.state = state
            if self.ended:
                commands.append(Finished(state))
        return tuple(commands)

    def check(self) -> None:
        """What must always be true; `AssertionError` where it is not."""
        assert self.counts.total() == len(self.tasks), "every task is counted once"
        for state in TaskState:
            assert self.counts[state] == sum(record.state is state for record in self.tasks.values()), f"the count of {state} is right"
        for record in self.tasks.values():
            deps = [self.tasks[number].state if number in self.tasks else None for number in record.deps]
            after = [self.tasks[number].ended if number in self.tasks else False for number in record.after]
            assert record.attempt >= 0
            assert record.failures + record.crashes <= record.attempt, "each failure and crash was an attempt of its own"
            match record.state:
                case TaskState.waiting:
                    open_needs = sum(state is not TaskState.succeeded for state in deps) + sum(not ended for ended in after)
                    assert record.attempt == 0, "a waiting task has no attempt"
                    assert record.missing == open_needs > 0, "a task waits for what has not ended"
                case TaskState.queued | TaskState.running | TaskState.retrying | TaskState.canceling | TaskState.succeeded | TaskState.failed:
                    assert record.attempt > 0, "what went out has an attempt"
                    assert all(state is TaskState.succeeded for state in deps), "it went out after its dependencies"
                    assert all(after), "it went out after what it follows"
                case TaskState.canceled | TaskState.aborted:
                    assert record.reason or self.cancel_reason is not None, "somebody stopped it, for a reason"
                case _:
                    assert_never(record.state)
        if self.ended:
            assert all(record.ended for record in self.tasks.values()), "a job ends after its tasks"
            assert self.closed, "a job ends whole, canceled or void"

    # --- one event each ---

    def _after_the_end(self, event: JobEvent) -> tuple[JobCommand, ...]:
        """News for a job that has ended: only duplicates are worth a word."""
        if isinstance(event, AttemptEnded):
            return (Duplicate(event.task, event.attempt),)
        return ()

    def _add(self, task: NewTask) -> Iterator[JobCommand]:
        if task.number in self.tasks:
            return
        record = TaskRecord(
            task.number, task.deps, task.after, task.retry, task.crash_limit, isolated=task.crash_limit == NEVER_START_TWICE
        )
        self.tasks[task.number] = record
        self.counts[record.state] += 1
        yield Changed(task.number)
        if self.cancel_reason is not None:
            yield from self._stop(record, Trigger.cancel_asked, self.cancel_reason, running=True)
            return
        if self.void_reason is not None:
            yield from self._stop(record, Trigger.abort_asked, self.void_reason, running=True)
            return
        for number in task.deps:
            dep = self.tasks.get(number)
            if dep and dep.ended and dep.state is not TaskState.succeeded:
                yield from self._stop(record, Trigger.abort_asked, _because_of(dep), running=True)
                return
        record.missing = self._subscribe(record)
        if not record.missing:
            yield from self._release(record, direct=task.direct)

    def _started(self, event: AttemptStarted) -> Iterator[JobCommand]:
        record = self.tasks.get(event.task)
        if not record or record.attempt != event.attempt or record.ended:
            return
        if record.state is TaskState.queued:
            record.execution = event.execution
            self._move(record, Trigger.started)
            yield Changed(record.number)
        elif record.state is TaskState.running and record.execution != event.execution:
            record.execution = event.execution
            yield Changed(record.number)

    def _ended(self, event: AttemptEnded) -> Iterator[JobCommand]:
        record = self.tasks.get(event.task)
        if not record:
            return
        if record.ended or record.attempt != event.attempt or record.state is TaskState.retrying:
            yield Duplicate(event.task, event.attempt)
            return
        record.execution = event.execution
        match event.outcome:
            case Succeeded():
                yield Recorded(record.number, event.outcome)
                yield from self._finish(record, Trigger.succeeded, "")
            case Failed() as failed:
                yield Recorded(record.number, failed)
                yield from self._failed(record, failed, event.noise)
            case Canceled(reason):
                yield Recorded(record.number, event.outcome)
                yield from self._finish(record, *self._stopped_by(record, reason))
            case Crashed() as crashed:
                yield from self._crashed(record, crashed.message)
            case _:
                assert_never(event.outcome)

    def _stopped_by(self, record: TaskRecord, reason: str) -> tuple[Trigger, str]:
        """How a task that was told to stop has ended: aborted where the job was given up, else canceled."""
        if record.state is TaskState.canceling and self.void_reason is not None:
            return Trigger.aborted, record.reason
        return Trigger.stopped, record.reason or reason or "canceled"

    def _failed(self, record: TaskRecord, failed: Failed, noise: float) -> Iterator[JobCommand]:
        record.failures += 1
        if record.state is not TaskState.canceling:
            match decide(record.retry, record.failures, failed, noise):
                case RetryIn(delay):
                    yield from self._retry_in(record, delay, failed.message)
                    return
                case GiveUp():
                    pass
        yield from self._failed_for_good(record, failed)

    def _retry_in(self, record: TaskRecord, delay: float, reason: str) -> Iterator[JobCommand]:
        record.reason, record.execution = reason, ""
        self._move(record, Trigger.backed_off)
        yield Changed(record.number)
        yield Delay(record.number, record.attempt, delay)

    def _crashed(self, record: TaskRecord, message: str) -> Iterator[JobCommand]:
        record.crashes += 1
        record.isolated = True
        if record.state is TaskState.canceling:
            yield from self._finish(record, *self._stopped_by(record, message))
        elif record.crash_limit is not None and record.crashes >= record.crash_limit:
            times = "once" if record.crashes == 1 else f"{record.crashes} times"
            outcome = Failed(Cause.crash_limit, f"crashed {times}, the last time: {message}")
            yield Recorded(record.number, outcome)
            yield from self._failed_for_good(record, outcome)
        else:
            yield from self._queue_again(record, Trigger.returned, message)

    def _failed_for_good(self, record: TaskRecord, outcome: Failed) -> Iterator[JobCommand]:
        yield from self._finish(record, Trigger.failed, outcome.message)
        if self.max_fails is not None and self.counts[TaskState.failed] > self.max_fails and self.void_reason is None:
            yield from self._void(f"more than {self.max_fails} tasks failed; the last one was task {record.number}")

    def _returned(self, event: AttemptReturned) -> Iterator[JobCommand]:
        record = self.tasks.get(event.task)
        if not record or record.ended or record.attempt != event.attempt or record.state is TaskState.retrying:
            return
        began = record.state in {TaskState.running, TaskState.canceling}
        match event.why:
            case Return.lost:
                yield from self._crashed(record, "its worker was lost")
            case Return.redelivered if record.isolated and began:
                yield from self._crashed(record, "its worker was lost")
            case Return.unstarted | Return.unrouted | Return.redelivered:
                if record.state is TaskState.canceling:
                    yield from self._finish(record, *self._stopped_by(record, ""))
                    return
                if event.why is Return.redelivered:
                    record.isolated = True
                yield from self._queue_again(record, Trigger.returned, "given back by a worker")
            case _:
                assert_never(event.why)

    def _void(self, reason: str) -> Iterator[JobCommand]:
        self.void_reason = reason
        for record in list(self.tasks.values()):
            yield from self._stop(record, Trigger.abort_asked, reason, running=True)

    # --- steps that several events share ---

    def _subscribe(self, record: TaskRecord) -> int:
        """Note what the task waits for; how many ends are missing."""
        missing = 0
        for numbers, enough in ((record.deps, {TaskState.succeeded}), (record.after, ENDED)):
            for number in numbers:
                other = self.tasks.get(number)
                if other is None or other.state not in enough:
                    self._dependents.setdefault(number, []).append(record.number)
                    missing += 1
        return missing

    def _release(self, record: TaskRecord, *, direct: bool = False) -> Iterator[JobCommand]:
        record.attempt = 1
        self._move(record, Trigger.released)
        yield Changed(record.number)
        if not direct:
            yield Queue(record.number, record.attempt, record.isolated)

    def _queue_again(self, record: TaskRecord, trigger: Trigger, reason: str) -> Iterator[JobCommand]:
        record.attempt += 1
        record.execution, record.reason = "", reason
        self._move(record, trigger)
        yield Changed(record.number)
        yield Queue(record.number, record.attempt, record.isolated)

    def _stop(self, record: TaskRecord, trigger: Trigger, reason: str, *, running: bool) -> Iterator[JobCommand]:
        """Cancel or abort a task where it is; a task that runs is revoked first."""
        if record.ended or record.state is TaskState.canceling:
            return
        if record.state is TaskState.running:
            if running:
                record.reason = reason
                self._move(record, trigger)
                yield Changed(record.number)
                yield Revoke(record.number, record.attempt, reason)
            return
        if record.state is TaskState.queued:
            # A worker may hold it, or even run it: what it has not reported yet.
            yield Revoke(record.number, record.attempt, reason)
        yield from self._finish(record, trigger, reason)

    def _finish(self, record: TaskRecord, trigger: Trigger, reason: str) -> Iterator[JobCommand]:
        """End a task, and release or abort what waited for it."""
        record.reason = reason
        self._move(record, trigger)
        yield Changed(record.number)
        ended = [record]
        while ended:
            last = ended.pop()
            for number in self._dependents.pop(last.number, ()):
                dependent = self.tasks[number]
                if dependent.state is not TaskState.waiting:
                    continue
                if last.state is not TaskState.succeeded and last.number in dependent.deps:
                    dependent.reason = _because_of(last)
                    self._move(dependent, Trigger.abort_asked)
                    yield Changed(number)
                    ended.append(dependent)
                else:
                    dependent.missing -= 1
                    if not dependent.missing:
                        yield from self._release(dependent)

    def _chosen(self, numbers: tuple[int, ...] | None) -> list[TaskRecord]:
        if numbers is None:
            return list(self.tasks.values())
        return [self.tasks[number] for number in numbers if number in self.tasks]

    def _move(self, record: TaskRecord, trigger: Trigger) -> None:
        self.counts[record.state] -= 1
        record.state = step(record.state, trigger)
        self.counts[record.state] += 1


def _because_of(task: TaskRecord) -> str:
    """Why a dependent of this task is aborted; the first cause is named, not the nearest."""
    return task.reason if task.state is TaskState.aborted and task.reason.startswith("task ") else f"task {task.number} {task.state.value}"
