"""The rows of one job against each other: what is wrong with them, in plain words. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from broker_jobs.core.outcome import Failed, Succeeded
from broker_jobs.core.states import ENDED, JOB_ENDED, JobState, TaskState, job_state
from broker_jobs.wire.inputs import is_task

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from broker_jobs.coordinator.store import JobFacts
    from broker_jobs.core.outcome import Outcome
    from broker_jobs.wire.messages import Ended, Task

_S: Final = TaskState

_SHOWN: Final = 5
"""Numbers of tasks that one sentence names."""

_TOGETHER: Final = frozenset({_S.waiting, _S.queued, _S.paused, _S.canceled, _S.aborted})
"""States in which a task in a pack may be, besides that it has succeeded."""

_OUT: Final = frozenset({_S.queued, _S.running, _S.retrying, _S.canceling, _S.succeeded, _S.failed})
"""States that a task reaches after what it waits for."""


@dataclass(frozen=True, slots=True)
class Recount:
    """What the row of a job should say, as its other rows tell with certainty.

    Attributes:
        key: of the job
        counts: tasks by state
        version: not below that of any of its tasks
    """

    key: int
    counts: Mapping[TaskState, int]
    version: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not so.

    Attributes:
        job: its id; empty for what belongs to no job
        text: what is wrong
        remedy: how it is derived anew; None where a person has to decide
    """

    job: str
    text: str
    remedy: Recount | None = None


@dataclass(frozen=True, slots=True)
class TaskRows:
    """What the ledger says of a task.

    Attributes:
        changed: the job's version that its last change made
        taken: a worker keeps it although its message was acknowledged
    """

    number: int
    state: TaskState
    options: int
    attempt: int
    failures: int
    crashes: int
    changed: int
    deps: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    chunk: str | None = None
    taken: bool = False
    due_ms: int | None = None
    worker: str = ""


@dataclass(frozen=True, slots=True)
class PackedRows:
    """A pack.

    Attributes:
        tasks: what is in it
        names: how many names it has; None where no task has one
        deps: of each task; nothing where none has any; `after` too
        waits: they came to wait in the ledger
    """

    first: int
    length: int
    options: int
    changed: int
    tasks: tuple[Task, ...]
    names: int | None
    deps: tuple[tuple[int, ...], ...] = ()
    after: tuple[tuple[int, ...], ...] = ()
    waits: bool = False


@dataclass(frozen=True, slots=True)
class MovedRows:
    """What tasks in packs have done together."""

    changed: int
    length: int
    low: int
    high: int
    numbers: tuple[int, ...]
    state: TaskState
    attempt: int
    chunk: str | None


@dataclass(frozen=True, slots=True)
class ToldRows:
    """A reply about tasks in packs."""

    changed: int
    length: int
    low: int
    high: int
    ends: tuple[Ended, ...]


@dataclass(frozen=True, slots=True)
class JobRows:
    """All rows of a job, decoded.

    Attributes:
        options: numbers of its options
        tasks: those with rows of their own
        specs: by task, the size that its row says, and the one that there is
        works: what the tasks do that have not ended
        outcomes: by task, of those with rows of their own
        blobs: keys of functions and values that are there
        linked: tasks that wait for other jobs
    """

    facts: JobFacts
    options: Sequence[int] = ()
    tasks: Sequence[TaskRows] = ()
    packs: Sequence[PackedRows] = ()
    moved: Sequence[MovedRows] = ()
    told: Sequence[ToldRows] = ()
    specs: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    works: Mapping[int, Task] = field(default_factory=dict)
    outcomes: Mapping[int, Outcome] = field(default_factory=dict)
    blobs: Collection[str] = frozenset()
    linked: Collection[int] = frozenset()


def check_job(rows: JobRows, function: str, value: str) -> list[Problem]:
    """What is wrong with a job.

    Args:
        function: what the keys of functions begin with
        value: what those of values begin with
    """
    return list(_Check(rows, function, value).problems)


class _Check:
    def __init__(self, rows: JobRows, function: str, value: str) -> None:
        self.problems: list[Problem] = []
        self._rows = rows
        self._facts = rows.facts
        self._function, self._value = function, value
        self._tasks = {task.number: task for task in rows.tasks}
        self._packed()
        self._whole()
        self._derived()
        self._payloads()
        for task in self._tasks.values():
            self._task(task)

    def _say(self, text: str, remedy: Recount | None = None) -> None:
        self.problems.append(Problem(self._facts.id, text, remedy))

    def _say_of(self, numbers: Iterable[int], text: str) -> None:
        """The same of several tasks, in one sentence."""
        found = sorted(numbers)
        if found:
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            self._say(f"task{'s' if len(found) > 1 else ''} {', '.join(map(str, found[:_SHOWN]))}{more}: {text}")

    # --- packs ---

    def _packed(self) -> None:
        """Tasks that share rows are added to the others."""
        ends: dict[int, tuple[int, Ended]] = {}
        for told in self._rows.told:
            numbers = [ended.task for ended in told.ends]
            if len(numbers) != told.length or not numbers or (min(numbers), max(numbers)) != (told.low, told.high):
                self._say(
                    f"the reply that made its version {told.changed} does not tell of {told.length} tasks from {told.low} to {told.high}"
                )
            for place, ended in enumerate(told.ends):
                ends[ended.task] = told.changed + place, ended
        stands: dict[int, tuple[int, MovedRows]] = {}
        for moved in self._rows.moved:
            numbers = list(moved.numbers)
            if len(numbers) != moved.length or not numbers or numbers != sorted({*numbers, moved.low, moved.high}):
                self._say(
                    f"the row that made its version {moved.changed} does not tell of {moved.length} tasks from {moved.low} to {moved.high}"
                )
            if moved.state not in _TOGETHER:
                self._say(f"the row that made its version {moved.changed} tells of tasks that are {moved.state.value}")
            stands.update((number, (moved.changed + place, moved)) for place, number in enumerate(numbers))
        for pack in self._rows.packs:
            numbers_of = range(pack.first, pack.first + pack.length)
            name = f"the shared row of tasks {pack.first} to {pack.first + pack.length - 1}"
            if [task.number for task in pack.tasks] != list(numbers_of):
                self._say(f"{name} holds others: {', '.join(str(task.number) for task in pack.tasks[:_SHOWN])}")
            if pack.names not in {None, pack.length}:
                self._say(f"{name} has {pack.names} names")
            self._say_of((number for number in numbers_of if number in self._tasks), f"a row of its own, and a place in {name}")
            needs = [pack.deps or ((),) * pack.length, pack.after or ((),) * pack.length]
            if any(len(each) != pack.length for each in needs):
                self._say(f"{name} does not say what each of its tasks waits for")
                continue
            for place, (number, deps, after) in enumerate(zip(numbers_of, *needs, strict=True)):
                if number in ends:
                    changed, ended = ends[number]
                    task = TaskRows(number, _S.succeeded, pack.options, ended.attempt, 0, 0, changed, deps, after)
                    if not isinstance(ended.outcome, Succeeded):
                        self._say(f"task {number} is in a shared row, and has not succeeded")
                elif number in stands:
                    changed, moved = stands[number]
                    task = TaskRows(number, moved.state, pack.options, moved.attempt, 0, 0, changed, deps, after, moved.chunk)
                else:
                    state, attempt = (_S.waiting, 0) if pack.waits else (_S.queued, 1)
                    task = TaskRows(number, state, pack.options, attempt, 0, 0, pack.changed + place, deps, after)
                self._tasks.setdefault(number, task)

    # --- the row of the job ---

    def _whole(self) -> None:
        facts, tasks = self._facts, self._tasks
        given_up = facts.cancel_reason is not None or facts.void_reason is not None
        if facts.total is not None:
            self._say_of((number for number in tasks if number >= facts.total), f"beyond the {facts.total} tasks that the job has")
        if facts.state in JOB_ENDED:
            self._say_of(
                (task.number for task in tasks.values() if task.state not in ENDED), f"not ended, and the job is {facts.state.value}"
            )
            if facts.ended_ms is None:
                self._say(f"it is {facts.state.value}, and has no time of its end")
            if not given_up and (facts.total is None or len(tasks) < facts.total):
                self._say(f"it has ended with {len(tasks)} tasks of {'?' if facts.total is None else facts.total}")
        elif facts.ended_ms is not None:
            self._say(f"it is {facts.state.value}, and has a time of its end")
        counts = Counter(task.state for task in tasks.values())
        closed = given_up or (facts.total is not None and len(tasks) >= facts.total)
        state = job_state(counts, complete=closed, paused=facts.pause_reason is not None)
        if state is not facts.state and (state in JOB_ENDED or facts.state in JOB_ENDED) and not (given_up and facts.state in JOB_ENDED):
            self._say(f"it is {facts.state.value}, and by its tasks it would be {state.value}")
        if facts.state is JobState.succeeded and facts.cancel_reason is not None and counts[_S.canceled]:
            self._say(f"it has succeeded, and {counts[_S.canceled]} of its tasks are canceled")

    def _derived(self) -> None:
        """What the row of the job repeats of those of its tasks."""
        facts = self._facts
        counts = {state: count for state, count in Counter(task.state for task in self._tasks.values()).items() if count}
        written = {state: count for state, count in facts.counts.items() if count}
        newest = max((task.changed for task in self._tasks.values()), default=0)
        remedy = Recount(facts.key, counts, max(newest, facts.version))
        if counts != written:
            self._say(f"it counts {_counted(written)}, and has {_counted(counts)}", remedy)
        if newest > facts.version:
            self._say(f"it has the version {facts.version}, and one of its tasks changed at {newest}", remedy)

    # --- payloads ---

    def _payloads(self) -> None:
        rows = self._rows
        own = {task.number for task in rows.tasks}
        self._say_of(own - rows.specs.keys(), "no row that says what is to be done")
        self._say_of(rows.specs.keys() - own, "a row that says what is to be done, and none of the state")
        self._say_of(rows.outcomes.keys() - own, "a result, and no row of the state")
        self._say_of((number for number, (said, size) in self._sizes() if said != size), "the row says another size than there is")
        self._say_of((number for number, task in rows.works.items() if task.number != number), "what is to be done is that of another task")
        ended = {number: self._tasks[number].state for number in own}
        self._say_of(
            (number for number, state in ended.items() if state is _S.succeeded and not isinstance(rows.outcomes.get(number), Succeeded)),
            "succeeded, and there is no result of that",
        )
        self._say_of(
            (number for number, state in ended.items() if state is _S.failed and not isinstance(rows.outcomes.get(number), Failed)),
            "failed, and there is nothing that says how",
        )
        known = set(rows.options)
        self._say_of((task.number for task in self._tasks.values() if task.options not in known), "options that there are not")
        if rows.options != list(range(len(rows.options))):
            self._say(f"its options are numbered {', '.join(map(str, rows.options[:_SHOWN]))}, not from 0 without a gap")
        if self._facts.total is None or len(self._tasks) < self._facts.total:
            return  # what they share may still come
        missing_code, missing_value = set(), set()
        for number, task in rows.works.items():
            if any(self._function + digest not in rows.blobs for digest in task.work.functions):
                missing_code.add(number)
            keys = [key for key in task.work.inputs if not is_task(key)]
            if number not in rows.linked and any(self._value + key not in rows.blobs for key in keys):
                missing_value.add(number)
        self._say_of(missing_code, "a function is called that is not there")
        self._say_of(missing_value, "a value is taken that is not there")

    def _sizes(self) -> Iterable[tuple[int, tuple[int, int]]]:
        return self._rows.specs.items()

    # --- one task ---

    def _task(self, task: TaskRows) -> None:
        number, state = task.number, task.state
        if number in {*task.deps, *task.after}:
            self._say(f"task {number} waits for itself")
        unknown = [other for other in (*task.deps, *task.after) if other not in self._tasks]
        if unknown and (state in _OUT or (self._facts.total is not None and len(self._tasks) >= self._facts.total)):
            self._say(f"task {number} depends on task {unknown[0]}, which there is not")
            return
        deps = [self._tasks[other].state for other in task.deps if other in self._tasks]
        after = [self._tasks[other].state for other in task.after if other in self._tasks]
        open_needs = any(dep is not _S.succeeded for dep in deps) or any(other not in ENDED for other in after) or bool(unknown)
        if state in _OUT and open_needs:
            self._say(f"task {number} is {state.value} before what it waits for")
        if state is _S.waiting and any(dep in ENDED and dep is not _S.succeeded for dep in deps):
            self._say(f"task {number} waits for a task that will never succeed")
        elif state is _S.waiting and not open_needs and number not in self._rows.linked:
            self._say(f"task {number} waits, and there is nothing that it waits for")
        if state is not _S.waiting and state in ENDED and number in self._rows.linked:
            self._say(f"task {number} is {state.value}, and still waits for another job")
        if state in _OUT and task.attempt < 1:
            self._say(f"task {number} is {state.value} without an attempt")
        if task.failures + task.crashes > task.attempt:
            self._say(f"task {number} has {task.failures} failures and {task.crashes} crashes in {task.attempt} attempts")
        if state in ENDED and (task.chunk is not None or task.taken):
            self._say(f"task {number} is {state.value}, and somebody still has it")
        if task.taken and not task.worker:
            self._say(f"task {number} is with a worker that has no name")
        if (task.due_ms is not None) != (state is _S.retrying):
            due = "has no time for its next attempt" if task.due_ms is None else "has a time for its next attempt"
            self._say(f"task {number} is {state.value}, and {due}")


def _counted(counts: Mapping[TaskState, int]) -> str:
    return ", ".join(f"{count} {state.value}" for state, count in sorted(counts.items())) or "no tasks"
