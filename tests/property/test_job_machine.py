"""The job machine beside the naive job: any graph, any order of news, each of it told twice."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker_jobs.core.job import (
    AttemptEnded,
    AttemptReturned,
    AttemptStarted,
    CancelRequested,
    Changed,
    Duplicate,
    Finished,
    JobMachine,
    JobSealed,
    JobVoided,
    NewTask,
    Queue,
    Recorded,
    RetryDue,
    Return,
    TaskRecord,
    TasksAdded,
)
from broker_jobs.core.outcome import Canceled, Cause, Crashed, Failed, Succeeded
from broker_jobs.core.spec import Retry
from broker_jobs.core.states import ENDED, TaskState
from tests.support.naive_job import NaiveJob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.core.job import JobCommand, JobEvent
    from broker_jobs.core.outcome import Outcome

S = TaskState
RETRIES = (None, Retry(max_attempts=2, backoff=1), Retry(max_attempts=4, backoff=2, on=("time limit",)))
OUTCOMES: tuple[Outcome, ...] = (
    Succeeded(),
    Failed(Cause.error, "ValueError: no", exception_types=("builtins.ValueError",)),
    Failed(Cause.time_limit, "it took too long"),
    Canceled("stopped"),
    Crashed("its process vanished"),
)
EXECUTIONS = ("boot-1", "boot-2")

index = st.integers(0, 1_000_000)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[NewTask, ...]:
    """Tasks in the order in which they are told, which has nothing to do with the order in which they can run."""
    size = draw(st.integers(1, 9))
    tasks = []
    for number in range(size):
        needs = draw(st.lists(st.integers(0, number - 1), max_size=3)) if number else []
        cut = draw(st.integers(0, len(needs)))
        tasks.append(
            NewTask(
                number,
                deps=tuple(needs[:cut]),
                after=tuple(needs[cut:]),
                retry=draw(st.sampled_from(RETRIES)),
                crash_limit=draw(st.sampled_from([None, 1, 2, 5])),
                direct=not needs and draw(st.booleans()),
            )
        )
    return tuple(draw(st.permutations(tasks)))


class JobStory(RuleBasedStateMachine):
    """Everything that can be told of a job, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = JobMachine()
        self.naive = NaiveJob(None)
        self.tasks: tuple[NewTask, ...] = ()
        self.out: list[tuple[int, int]] = []
        self.recorded: dict[int, Outcome] = {}
        self.finished: list[Finished] = []

    @initialize(tasks=graphs(), max_fails=st.sampled_from([None, None, 0, 1, 2]))
    def begin(self, tasks: tuple[NewTask, ...], max_fails: int | None) -> None:
        self.tasks = tasks
        self.machine, self.naive = JobMachine(max_fails), NaiveJob(max_fails)

    # --- the submitter ---

    @rule(start=index, size=st.integers(1, 5))
    def chunk(self, start: int, size: int) -> None:
        start %= len(self.tasks)
        self.tell(TasksAdded(self.tasks[start : start + size]))

    @rule()
    def seal(self) -> None:
        self.tell(JobSealed(len(self.tasks)))

    # --- the workers ---

    @precondition(lambda self: self.out)
    @rule(pick=index, execution=st.sampled_from(EXECUTIONS))
    def start(self, pick: int, execution: str) -> None:
        self.tell(AttemptStarted(*self.out[-1 - pick % len(self.out)], execution))

    @precondition(lambda self: self.out)
    @rule(pick=index, execution=st.sampled_from(EXECUTIONS), outcome=st.sampled_from(OUTCOMES), noise=st.sampled_from([0.0, 0.5]))
    def end(self, pick: int, execution: str, outcome: Outcome, noise: float) -> None:
        self.tell(AttemptEnded(*self.out[-1 - pick % len(self.out)], execution, outcome, noise))

    @precondition(lambda self: self.out)
    @rule(pick=index, execution=st.sampled_from(EXECUTIONS))
    def succeed(self, pick: int, execution: str) -> None:
        self.tell(AttemptEnded(*self.out[-1 - pick % len(self.out)], execution, Succeeded()))

    @precondition(lambda self: self.out)
    @rule(pick=index, why=st.sampled_from(Return))
    def give_back(self, pick: int, why: Return) -> None:
        self.tell(AttemptReturned(*self.out[-1 - pick % len(self.out)], why))

    @rule(task=st.integers(-1, 10), attempt=st.integers(-1, 3), kind=st.integers(0, 3))
    def rumour(self, task: int, attempt: int, kind: int) -> None:
        """News of attempts that there may never have been."""
        if (task, attempt) in self.out:
            return
        events = (
            AttemptStarted(task, attempt, "rumour"),
            AttemptEnded(task, attempt, "rumour", Succeeded()),
            AttemptReturned(task, attempt, Return.lost),
            RetryDue(task, attempt),
        )
        self.tell(events[kind])

    # --- clock and people ---

    @precondition(lambda self: any(record.state is S.retrying for record in self.machine.tasks.values()))
    @rule(pick=index, late=st.integers(0, 1))
    def retry(self, pick: int, late: int) -> None:
        waiting = [record for record in self.machine.tasks.values() if record.state is S.retrying]
        record = waiting[pick % len(waiting)]
        self.tell(RetryDue(record.number, record.attempt - late))

    @rule(picks=st.lists(index, min_size=1, max_size=3), reason=st.sampled_from(["", "no more"]), unstarted_only=st.booleans())
    def cancel(self, picks: list[int], reason: str, unstarted_only: bool) -> None:
        numbers = tuple(pick % (len(self.tasks) + 1) for pick in picks)
        self.tell(CancelRequested(numbers, reason, unstarted_only))

    @precondition(lambda self: self.machine.tasks)
    @rule(sure=st.integers(0, 5), reason=st.sampled_from(["", "all wrong"]), unstarted_only=st.booleans())
    def cancel_all(self, sure: int, reason: str, unstarted_only: bool) -> None:
        if not sure:
            self.tell(CancelRequested(None, reason, unstarted_only))

    @rule(sure=st.integers(0, 5))
    def give_up(self, sure: int) -> None:
        if not sure:
            self.tell(JobVoided("its submitter vanished"))

    # --- the coordinator's end ---

    @rule(data=st.data())
    def restart(self, data: st.DataObject) -> None:
        """A coordinator that comes up reads rows in any order."""
        old = self.machine
        rows = data.draw(st.permutations([replace(record, missing=0) for record in old.tasks.values()]))
        self.machine = JobMachine.restore(
            rows, max_fails=old.max_fails, total=old.total, cancel_reason=old.cancel_reason, void_reason=old.void_reason
        )
        assert self.machine.state is old.state

    # --- what is always true ---

    @invariant()
    def agree(self) -> None:
        """The machine and the naive job are in the same state."""
        self.machine.check()
        assert {number: picture(record) for number, record in self.machine.tasks.items()} == {
            number: picture(task) for number, task in self.naive.tasks.items()
        }
        assert self.machine.state is self.naive.state

    def tell(self, event: JobEvent) -> None:
        """Give an event to both, twice, and compare what the machine asks for."""
        before = rows_of(self.machine)
        commands = self.machine.handle(event)
        changed = {number for number, row in rows_of(self.machine).items() if before.get(number) != row}
        assert {command.task for command in commands if isinstance(command, Changed)} == changed
        others = [command for command in commands if not isinstance(command, Changed)]
        # The first of equal texts is the one that equals any.
        assert unordered(self.naive.handle(event)) == unordered(others)
        self.look_at(before, commands)
        after, state = rows_of(self.machine), self.machine.state
        again = self.machine.handle(event)
        assert all(isinstance(command, Duplicate) for command in again), "news that comes twice changes nothing"
        assert (rows_of(self.machine), self.machine.state) == (after, state)
        self.naive.handle(event)

    def look_at(self, before: dict[int, TaskRecord], commands: tuple[JobCommand, ...]) -> None:
        """Check what is said of all commands alike."""
        for number, row in before.items():
            if row.state in ENDED:
                assert self.machine.tasks[number] == row, "a task that ended never changes"
        for place, command in enumerate(commands):
            match command:
                case Queue(task, attempt):
                    assert (task, attempt) not in self.out, "an attempt goes out once"
                    self.out.append((task, attempt))
                case Recorded(task, outcome):
                    assert task not in before or before[task].state not in ENDED
                    assert Changed(task) in commands[place:], "what is recorded is written afterwards"
                    self.recorded[task] = outcome
                case Finished():
                    assert not self.finished, "a job finishes once"
                    assert command is commands[-1], "nothing follows the end"
                    self.finished.append(command)
                case _:
                    pass
        self.out += [(number, 1) for number, record in self.machine.tasks.items() if record.attempt == 1 and (number, 1) not in self.out]

    def teardown(self) -> None:
        """Whatever has happened, a fair world brings the job to its end."""
        if not self.tasks:
            return
        self.tell(TasksAdded(self.tasks))
        self.tell(JobSealed(len(self.tasks)))
        for _ in range(4 * len(self.tasks)):
            for record in list(self.machine.tasks.values()):
                match record.state:
                    case S.queued | S.running:
                        self.tell(AttemptEnded(record.number, record.attempt, "last", Succeeded()))
                    case S.canceling:
                        self.tell(AttemptEnded(record.number, record.attempt, "last", Canceled("stopped")))
                    case S.retrying:
                        self.tell(RetryDue(record.number, record.attempt))
                    case _:
                        pass
        assert self.machine.ended
        assert self.finished == [Finished(self.machine.state)]
        for number, record in self.machine.tasks.items():
            outcome = self.recorded.get(number)
            assert isinstance(outcome, Succeeded) is (record.state is S.succeeded)
            assert isinstance(outcome, Failed) or record.state is not S.failed
        self.agree()


def picture(task: Any) -> tuple[object, ...]:
    """What the machine and the naive job both know of a task."""
    return task.state, task.attempt, task.failures, task.crashes, task.isolated, task.execution


def rows_of(machine: JobMachine) -> dict[int, TaskRecord]:
    """The rows of the tasks as they are now."""
    return {number: copy.copy(record) for number, record in machine.tasks.items()}


def unordered(commands: Sequence[JobCommand]) -> list[JobCommand]:
    """Commands in an order of their own."""
    return sorted(commands, key=lambda command: (type(command).__name__, getattr(command, "task", -1)))


TestJobStory = JobStory.TestCase
TestJobStory.settings = settings(stateful_step_count=40)
