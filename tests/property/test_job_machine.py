"""The job machine beside the naive job: any graph, any order of news, each of it told twice."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker_jobs.core.job import (
    AttemptEnded,
    AttemptReturned,
    AttemptsSucceeded,
    AttemptStarted,
    CancelRequested,
    Changed,
    DirectAdded,
    Duplicate,
    Finished,
    JobMachine,
    JobSealed,
    JobVoided,
    NewTask,
    OutsideEnded,
    PauseRequested,
    Queue,
    QueueAll,
    Recorded,
    ResumeRequested,
    RetryDue,
    Return,
    Revoke,
    Swept,
    TaskRecord,
    TasksAdded,
    Together,
    WaitingAdded,
    Withdraw,
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
CRASH_LIMITS = (None, 1, 2, 5)
OUT = (S.queued, S.running, S.canceling)
OUTSIDE = (frozenset[str](), frozenset[str](), frozenset[str](), frozenset({"a"}), frozenset({"a", "b"}))


class Begin(Enum):
    """An execution begins."""

    begin = "begin"


class Due(Enum):
    """The delay before an attempt is over, or another one was."""

    now = "now"
    too_early = "too early"


News = Begin | Due | Return | Succeeded | Failed | Canceled | Crashed
NEWS: tuple[News, ...] = (*4 * [Begin.begin], *Due, *Return, Succeeded(), *OUTCOMES)
EXECUTIONS = ("boot-1", "boot-2")

index = st.integers(0, 1_000_000)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[NewTask, ...]:
    """Tasks in the order in which they are told, which has nothing to do with the order in which they can run."""
    tasks = []
    for number in range(draw(st.integers(2, 9))):
        earlier = st.lists(st.integers(0, number - 1), min_size=1, max_size=2) if number else st.just([])
        deps, after = draw(st.sampled_from([(False, False), (True, False), (True, False), (False, True), (True, True)]))
        task = NewTask(
            number,
            deps=tuple(draw(earlier)) if deps else (),
            after=tuple(draw(earlier)) if after else (),
            retry=draw(st.sampled_from(RETRIES)),
            crash_limit=draw(st.sampled_from(CRASH_LIMITS)),
            outside=draw(st.sampled_from(OUTSIDE)),
        )
        tasks.append(replace(task, direct=not (task.deps or task.after or task.outside) and draw(st.booleans())))
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
        self.told = 0
        self.calm = 0
        self.cancels = 3

    @initialize(
        tasks=graphs(),
        max_fails=st.sampled_from([None, None, 0, 1]),
        told=st.sampled_from(["all", "all", "half", "nothing"]),
        calm=st.sampled_from([30, 20, 10, 0]),
    )
    def begin(self, tasks: tuple[NewTask, ...], max_fails: int | None, told: str, calm: int) -> None:
        self.tasks = tasks
        self.calm = calm
        self.machine, self.naive = JobMachine(max_fails), NaiveJob(max_fails)
        if told != "nothing":
            self.tell(TasksAdded(tasks if told == "all" else tasks[::2]))

    # --- the submitter ---

    @precondition(lambda self: not self.machine.complete)
    @rule(start=index, size=st.integers(1, 5))
    def chunk(self, start: int, size: int) -> None:
        start %= len(self.tasks)
        self.tell(TasksAdded(self.tasks[start : start + size]))

    @precondition(lambda self: self.machine.total is None)
    @rule()
    def seal(self) -> None:
        self.tell(JobSealed(len(self.tasks)))

    @precondition(lambda self: self.machine.total is None and len(self.tasks) < 12)
    @rule(count=st.integers(1, 4), retry=st.sampled_from(RETRIES), crash_limit=st.sampled_from(CRASH_LIMITS))
    def alike(self, count: int, retry: Retry | None, crash_limit: int | None) -> None:
        """More tasks, all alike and under way."""
        numbers = range(len(self.tasks), len(self.tasks) + count)
        new = tuple(NewTask(number, retry=retry, crash_limit=crash_limit, direct=True) for number in numbers)
        self.tasks += new
        self.tell_together(DirectAdded(numbers, retry, crash_limit), [TasksAdded(new)])

    @precondition(lambda self: self.machine.total is None and len(self.tasks) < 12)
    @rule(
        needs=st.lists(st.tuples(st.lists(index, max_size=2), st.lists(index, max_size=1)), min_size=1, max_size=4),
        retry=st.sampled_from(RETRIES),
        crash_limit=st.sampled_from(CRASH_LIMITS),
    )
    def waiting(self, needs: list[tuple[list[int], list[int]]], retry: Retry | None, crash_limit: int | None) -> None:
        """More tasks, alike but for what they wait for."""
        numbers = range(len(self.tasks), len(self.tasks) + len(needs))
        deps, after = (
            [tuple({pick % number: None for pick in picks}) for number, picks in zip(numbers, each, strict=True)]
            for each in zip(*needs, strict=True)
        )
        new = tuple(NewTask(*one, retry=retry, crash_limit=crash_limit) for one in zip(numbers, deps, after, strict=True))
        self.tasks += new
        self.tell_together(WaitingAdded(numbers, deps, after, retry, crash_limit), [TasksAdded((one,)) for one in new])

    # --- the workers and the clock ---

    @rule(picks=st.lists(index, min_size=1, max_size=6), execution=st.sampled_from(EXECUTIONS))
    def succeed_together(self, picks: list[int], execution: str) -> None:
        """Executions succeed, and are told of at once."""
        found = [record for record in self.machine.tasks.values() if record.expects(record.attempt)]
        chosen = {found[pick % len(found)].number: None for pick in picks} if found else {}
        ended = [(number, self.machine.tasks[number].attempt, execution) for number in chosen]
        self.tell_together(AttemptsSucceeded(ended), [AttemptEnded(*one, Succeeded()) for one in ended])

    @rule(news=st.lists(st.tuples(index, st.sampled_from(NEWS), st.sampled_from(EXECUTIONS)), min_size=1, max_size=8))
    def bustle(self, news: list[tuple[int, News, str]]) -> None:
        """Some news, each of any task of which there can be such news."""
        for pick, what, execution in news:
            states = (S.retrying,) if isinstance(what, Due) else (S.queued, S.running) if isinstance(what, Begin) else OUT
            found = [record for record in self.machine.tasks.values() if record.state in states]
            if not found:
                continue
            record = found[pick % len(found)]
            task, attempt = record.number, record.attempt
            match what:
                case Begin():
                    self.tell(AttemptStarted(task, attempt, execution))
                case Due():
                    self.tell(RetryDue(task, attempt - (what is Due.too_early)))
                case Return():
                    self.tell(AttemptReturned(task, attempt, what))
                case _:
                    self.tell(AttemptEnded(task, attempt, execution, what, noise=pick % 2 / 2))

    @precondition(lambda self: self.machine.tasks)
    @rule(task=st.integers(0, 9), older=st.integers(-1, 2), kind=st.sampled_from([AttemptStarted, AttemptEnded, AttemptReturned, RetryDue]))
    def rumour(self, task: int, older: int, kind: type[JobEvent]) -> None:
        """News of attempts that are past, or that there never was."""
        record = self.machine.tasks.get(task)
        attempt = record.attempt - older if record else 1
        if record and not older and record.state in OUT:
            return
        events = (
            AttemptStarted(task, attempt, EXECUTIONS[0]),
            AttemptEnded(task, attempt, EXECUTIONS[0], Failed(Cause.error, "no")),
            AttemptReturned(task, attempt, Return.lost),
            RetryDue(task, attempt),
        )
        self.tell(next(event for event in events if isinstance(event, kind)))

    # --- people ---

    @precondition(lambda self: self.cancels)
    @rule(picks=st.lists(index, min_size=1, max_size=3), reason=st.sampled_from(["", "no more"]), unstarted_only=st.booleans())
    def cancel(self, picks: list[int], reason: str, unstarted_only: bool) -> None:
        self.cancels -= 1
        numbers = tuple(pick % (len(self.tasks) + 1) for pick in picks)
        self.tell(CancelRequested(numbers, reason, unstarted_only))

    @precondition(lambda self: self.told > self.calm)
    @rule(reason=st.sampled_from(["", "all wrong"]), unstarted_only=st.booleans())
    def cancel_all(self, reason: str, unstarted_only: bool) -> None:
        self.tell(CancelRequested(None, reason, unstarted_only))

    @rule(
        picks=st.none() | st.lists(index, min_size=1, max_size=3),
        reason=st.sampled_from(["", "a pause"]),
        out=st.frozensets(st.integers(0, 9)),
    )
    def pause(self, picks: list[int] | None, reason: str, out: frozenset[int]) -> None:
        self.tell(PauseRequested(self.numbers(picks), reason, out))

    @rule(picks=st.none() | st.lists(index, min_size=1, max_size=3))
    def resume(self, picks: list[int] | None) -> None:
        self.tell(ResumeRequested(self.numbers(picks)))

    def numbers(self, picks: list[int] | None) -> tuple[int, ...] | None:
        return None if picks is None else tuple(pick % (len(self.tasks) + 1) for pick in picks)

    @precondition(lambda self: self.told > self.calm)
    @rule()
    def give_up(self) -> None:
        self.tell(JobVoided("its submitter vanished"))

    # --- other jobs ---

    @rule(pick=index, need=st.sampled_from("abc"), problem=st.sampled_from(["", "", "", "task 3 of job 1f2e3d4c failed"]))
    def outside(self, pick: int, need: str, problem: str) -> None:
        self.tell(OutsideEnded(pick % (len(self.tasks) + 1), need, problem))

    # --- the coordinator's end ---

    @rule(seed=index)
    def restart(self, seed: int) -> None:
        """A coordinator that comes up reads rows in any order."""
        old = self.machine
        rows = [replace(record, missing=0) for record in old.tasks.values()]
        random.Random(seed).shuffle(rows)
        self.machine = JobMachine.restore(
            rows,
            max_fails=old.max_fails,
            total=old.total,
            cancel_reason=old.cancel_reason,
            void_reason=old.void_reason,
            pause_reason=old.pause_reason,
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
        self.told += 1
        before = rows_of(self.machine)
        commands = tuple(apart(self.machine.handle(event), self.machine))
        changed = {number for number, row in rows_of(self.machine).items() if before.get(number) != row}
        swept = [command for command in commands if isinstance(command, Swept)]
        told = {command.task for command in commands if isinstance(command, Changed)} | {task for sweep in swept for task in sweep.tasks}
        assert told >= changed
        assert told == changed or swept, "exceptions of a sweep are told of although they stay"
        for sweep in swept:
            moved = {number for number, row in before.items() if row.state in sweep.before}
            assert moved <= told, "what one statement would write is what has moved, or is written afterwards"
            assert all(self.machine.tasks[task].state is sweep.after for task in sweep.tasks)
        others = [command for command in commands if not isinstance(command, Changed | Swept)]
        others += [single for sweep in swept for single in singles(sweep, before, self.machine)]
        # The first of equal texts is the one that equals any.
        assert unordered(self.naive.handle(event)) == unordered(others)
        self.look_at(before, commands)
        after, state = rows_of(self.machine), self.machine.state
        again = self.machine.handle(event)
        assert all(isinstance(command, Duplicate) for command in again), "news that comes twice changes nothing"
        assert (rows_of(self.machine), self.machine.state) == (after, state)
        self.naive.handle(event)

    def tell_together(self, event: DirectAdded | WaitingAdded | AttemptsSucceeded, singles: list[JobEvent]) -> None:
        """Give an event that means several others, and compare with a machine that is given those."""
        self.told += 1
        before = rows_of(self.machine)
        other = copy.deepcopy(self.machine)
        commands = self.machine.handle(event)
        expected = tuple(apart([command for single in singles for command in other.handle(single)], other))
        other.check()
        assert rows_of(self.machine) == rows_of(other)
        assert (self.machine.state, self.machine.counts) == (other.state, other.counts)
        assert unordered(apart(commands, self.machine)) == unordered(expected)
        self.look_at(before, expected)
        for single in singles:
            self.naive.handle(single)
        after, state = rows_of(self.machine), self.machine.state
        assert self.machine.handle(event) == (), "news that comes twice changes nothing"
        assert (rows_of(self.machine), self.machine.state) == (after, state)

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
                case Swept(after=S.queued):
                    for single in singles(command, before, self.machine):
                        assert (single.task, single.attempt) not in self.out, "an attempt goes out once"
                        self.out.append((single.task, single.attempt))
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
        self.tell(ResumeRequested())
        for _ in range(4 * len(self.tasks)):
            for record in list(self.machine.tasks.values()):
                match record.state:
                    case S.waiting:
                        for need in sorted(record.outside):
                            self.tell(OutsideEnded(record.number, need))
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


def singles(sweep: Swept, before: dict[int, TaskRecord], machine: JobMachine) -> list[Queue | Revoke | Withdraw]:
    """What a sweep asks for, task by task."""
    rows = [(before[number], machine.tasks[number]) for number in sweep.tasks]
    match sweep.after:
        case S.queued:
            return [Queue(now.number, now.attempt, now.isolated) for _, now in rows]
        case S.paused:
            return [Withdraw(row.number, row.attempt, sweep.reason) for row, _ in rows if row.state is S.queued]
        case _:
            return [Revoke(row.number, row.attempt, sweep.reason) for row, _ in rows if row.state is S.queued or row.called_back]


def apart(commands: Sequence[JobCommand], machine: JobMachine) -> list[JobCommand]:
    """What is said of tasks together, of each."""
    found: list[JobCommand] = []
    for command in commands:
        if isinstance(command, QueueAll):
            found += [Queue(number, 1, machine.tasks[number].isolated) for number in command.tasks]
        elif isinstance(command, Together):
            found += [Changed(number) for number in command.tasks]
            found += [Recorded(number, Succeeded()) for number in command.tasks if command.after is S.succeeded]
        else:
            found.append(command)
    return found


def picture(task: Any) -> tuple[object, ...]:
    """What the machine and the naive job both know of a task."""
    return task.state, task.attempt, task.failures, task.crashes, task.isolated, task.execution


def rows_of(machine: JobMachine) -> dict[int, TaskRecord]:
    """The rows of the tasks as they are now."""
    return {number: copy.copy(record) for number, record in machine.tasks.items()}


def unordered(commands: Sequence[JobCommand]) -> list[JobCommand]:
    """Commands in an order of their own."""
    return sorted(commands, key=lambda command: (type(command).__name__, getattr(command, "task", -1)))


def busy_graph(chance: random.Random) -> tuple[NewTask, ...]:
    """Like `graphs`, every one as likely as any other."""
    tasks = []
    for number in range(chance.randrange(3, 12)):
        deps, after = (tuple(chance.choices(range(number), k=chance.randrange(3))) if number else () for _ in range(2))
        outside = chance.choice(OUTSIDE)
        direct = not (deps or after or outside) and chance.choice([True, False])
        tasks.append(NewTask(number, deps, after, chance.choice(RETRIES), chance.choice(CRASH_LIMITS), direct, outside))
    chance.shuffle(tasks)
    return tuple(tasks)


@settings(max_examples=4 * settings().max_examples)
@given(st.integers(0, 2**64))
def test_a_busy_job(seed: int) -> None:
    """Much happens, and what happens is as likely as anything else."""
    chance = random.Random(seed)
    story = JobStory()
    story.begin(busy_graph(chance), chance.choice([None, None, 0, 2]), chance.choice(["all", "all", "half"]), chance.choice([40, 15, 8, 4]))
    for _ in range(chance.randrange(60)):
        news = [(chance.randrange(60), chance.choice(NEWS), chance.choice(EXECUTIONS)) for _ in range(3)]
        match chance.randrange(20):
            case 0:
                story.chunk(chance.randrange(9), chance.randrange(1, 9))
            case 1:
                story.seal()
            case 2 | 3:
                kind = chance.choice([AttemptStarted, AttemptEnded, AttemptReturned, RetryDue])
                story.rumour(chance.randrange(10), chance.randrange(-1, 3), kind)
            case 4 | 5 if story.cancels:
                story.cancel([chance.randrange(9) for _ in range(2)], chance.choice(["", "no more"]), chance.choice([True, False]))
            case 6 if story.told > story.calm:
                story.cancel_all(chance.choice(["", "all wrong"]), chance.choice([True, True, False]))
                story.bustle(news)
            case 7 if story.told > story.calm:
                story.give_up()
                story.bustle(news)
            case 8:
                story.restart(chance.randrange(99))
            case 9 | 10:
                story.outside(chance.randrange(12), chance.choice("abc"), chance.choice(["", "", "task 3 of job 1f2e3d4c failed"]))
            case 11 | 12:
                picks = chance.choice([None, [chance.randrange(60) for _ in range(3)]])
                story.pause(picks, chance.choice(["", "a pause"]), frozenset(chance.sample(range(10), 5)))
                story.bustle(news)
            case 13 if story.machine.total is None and len(story.tasks) < 12:
                story.alike(chance.randrange(1, 5), chance.choice(RETRIES), chance.choice(CRASH_LIMITS))
            case 14:
                story.succeed_together([chance.randrange(60) for _ in range(3)], chance.choice(EXECUTIONS))
            case 15:
                story.resume(chance.choice([None, [chance.randrange(60) for _ in range(3)]]))
            case _:
                story.bustle(news[:1])
        story.agree()
        if story.machine.ended and chance.randrange(3):
            break
    story.teardown()


TestJobStory = JobStory.TestCase
TestJobStory.settings = settings(stateful_step_count=20)
