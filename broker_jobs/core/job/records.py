"""The records of the tasks of one job, so kept that a million of them take little room.

Of tasks in a row that wait for nothing, one record stands for all that nothing sets apart. Of those that have succeeded without ado,
nothing is kept but the attempt and the name of the execution, in eight bytes.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect, insort
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from broker_jobs.core.job.record import TaskRecord
from broker_jobs.core.states import TaskState

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

_ALIKE: Final = 0
"""In place of an end: the record of the run is that of the task."""

_OWN: Final = -1
"""In place of an end: the task has a record of its own."""

_SHARED: Final = frozenset({TaskState.queued, TaskState.paused, TaskState.canceled, TaskState.aborted})
"""States in which tasks may be together."""

_DIGITS: Final = 9
"""So many digits at the end of a name are kept as a number."""


class _Ends:
    """Attempts that succeeded, and the names of their executions, as numbers: those of one worker differ in the digits at the end."""

    def __init__(self) -> None:
        self._stems: list[tuple[int, str]] = []
        self._places: dict[tuple[int, str], int] = {}

    def dump(self, attempt: int, execution: str) -> int:
        """The number, larger than 0."""
        digits = execution[len(execution.rstrip("0123456789")) :][-_DIGITS:].lstrip("0")
        stem = attempt, execution[: len(execution) - len(digits)]
        place = self._places.get(stem)
        if place is None:
            self._stems.append(stem)
            place = self._places[stem] = len(self._stems)
        return place * 10**_DIGITS + int(digits or 0)

    def load(self, number: int) -> tuple[int, str]:
        """What the number stands for."""
        place, digits = divmod(number, 10**_DIGITS)
        attempt, stem = self._stems[place - 1]
        return attempt, f"{stem}{digits or ''}"


@dataclass(slots=True)
class _Run:
    """Tasks in a row.

    Attributes:
        record: of each that has nothing of its own; its number is `first`
        ends: of each, how it has succeeded, or `_ALIKE`, or `_OWN`
    """

    first: int
    record: TaskRecord
    ends: array[int]

    @property
    def numbers(self) -> range:
        """Of all tasks."""
        return range(self.first, self.first + len(self.ends))

    def continues(self, record: TaskRecord, *, shared: bool) -> bool:
        """Whether a task may be the next one.

        Args:
            shared: it is to have nothing of its own
        """
        own, alike = self.record, (record.retry, record.crash_limit) == (self.record.retry, self.record.crash_limit)
        as_it_is = (record.state, record.attempt, record.reason) == (own.state, own.attempt, own.reason)
        return alike and record.number == self.numbers.stop and (as_it_is or not shared)


class Records:
    """By number. What is asked for as an item, or by `find`, may be changed until it has ended; all else is for those who only look."""

    def __init__(self) -> None:
        self._own: dict[int, TaskRecord] = {}
        self._firsts: list[int] = []
        self._runs: dict[int, _Run] = {}
        self._last: _Run | None = None
        self._ends = _Ends()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __contains__(self, number: int) -> bool:
        return number in self._own or self._run(number) is not None

    def __iter__(self) -> Iterator[int]:
        yield from self._own
        for run in self._runs.values():
            yield from (number for number, end in zip(run.numbers, run.ends, strict=True) if end != _OWN)

    def values(self) -> Iterator[TaskRecord]:
        """All of them, in no order."""
        return map(self._single, self)

    def items(self) -> Iterator[tuple[int, TaskRecord]]:
        """All of them by number, in no order."""
        return ((number, self._single(number)) for number in self)

    def own(self) -> Iterator[TaskRecord]:
        """Those of tasks that wait for others, or that have begun; they may be changed."""
        return iter(self._own.values())

    def alike(self, states: Container[TaskState]) -> Iterator[tuple[TaskRecord, Sequence[int]]]:
        """Those of tasks in these states, each with all tasks for which it stands; it may be changed for all of these."""
        for record in self._own.values():
            if record.state in states:
                yield record, (record.number,)
        for run in self._runs.values():
            if run.record.state in states:
                numbers = [number for number, end in zip(run.numbers, run.ends, strict=True) if end == _ALIKE]
                if numbers:
                    yield run.record, numbers

    def any_of(self, numbers: range) -> bool:
        """Whether one of these is known."""
        place = bisect(self._firsts, numbers.stop - 1)
        before = self._runs[self._firsts[place - 1]].numbers.stop if place else 0
        return before > numbers.start or any(map(self._own.__contains__, numbers))

    def get(self, number: int) -> TaskRecord | None:
        """What is known of a task, if it is; the number in it may be another's."""
        record = self._own.get(number)
        if record is None:
            run = self._run(number)
            if run is not None:
                record = run.record if run.ends[number - run.first] == _ALIKE else self._single(number)
        return record

    def seen(self, number: int) -> TaskRecord:
        """What is known of a task that is known; the number in it may be another's."""
        record = self.get(number)
        if record is None:
            raise KeyError(number)
        return record

    def find(self, number: int) -> TaskRecord | None:
        """The record of a task, if it is known."""
        try:
            return self[number]
        except KeyError:
            return None

    def __getitem__(self, number: int) -> TaskRecord:
        record = self._own.get(number)
        if record is None:
            record, run = self._single(number), self._run(number)
            if run is not None and run.ends[number - run.first] == _ALIKE:
                run.ends[number - run.first] = _OWN
                self._own[number] = record
        return record

    def add(self, record: TaskRecord) -> None:
        """A new task."""
        self._own[record.number] = record
        self._length += 1

    def add_run(self, record: TaskRecord, length: int) -> None:
        """New tasks in a row that wait for nothing: this is the record of the first one, and stands for all."""
        self._start(record, array("q", bytes(8 * length)))
        self._length += length

    def restore(self, record: TaskRecord) -> None:
        """A task as it was; one that is as those before it takes no more room than they do."""
        self._length += 1
        if record.deps or record.after or record.outside:
            self._own[record.number] = record
            return
        tried = bool(record.failures or record.crashes or record.isolated)
        succeeded = record.state is TaskState.succeeded and not tried
        shared = record.state in _SHARED and not (tried or record.execution)
        run = self._run(record.number - 1)
        if run is None or not run.continues(record, shared=shared):
            came = TaskRecord(record.number, retry=record.retry, crash_limit=record.crash_limit, state=TaskState.queued, attempt=1)
            run = self._start(record if shared else came, array("q"))
        run.ends.append(_ALIKE if shared else self._ends.dump(record.attempt, record.execution) if succeeded else _OWN)
        if not (shared or succeeded):
            self._own[record.number] = record

    def succeed(self, number: int, execution: str) -> None:
        """An attempt of a task has succeeded."""
        record, run = self._own.get(number), self._run(number)
        if run is not None and record is None:
            run.ends[number - run.first] = self._ends.dump(run.record.attempt, execution)
            return
        record = self[number]
        if run is None or record.failures or record.crashes or record.isolated:
            record.state, record.execution, record.reason = TaskState.succeeded, execution, ""
        else:
            run.ends[number - run.first] = self._ends.dump(record.attempt, execution)
            del self._own[number]

    def check(self) -> None:
        """What must always be true; `AssertionError` where it is not."""
        runs = [self._runs[first] for first in self._firsts]
        assert len(runs) == len(self._runs), "every run is found"
        assert all(left.numbers.stop <= right.first for left, right in itertools.pairwise(runs)), "no task is in two runs"
        apart = {number for run in runs for number, end in zip(run.numbers, run.ends, strict=True) if end == _OWN}
        assert apart == {number for number in self._own if self._run(number) is not None}, "what has a record of its own is said to"
        assert self._length == len(list(self)), "every task is counted once"
        for run in runs:
            came = TaskRecord(run.first, retry=run.record.retry, crash_limit=run.record.crash_limit)
            own = replace(run.record, state=came.state, attempt=0, reason="")
            assert own == came, "what waits for others, or was tried, stands alone"
            assert run.record.state in _SHARED, "what has begun stands alone"

    def _start(self, record: TaskRecord, ends: array[int]) -> _Run:
        run = self._runs[record.number] = _Run(record.number, record, ends)
        insort(self._firsts, record.number)
        return run

    def _run(self, number: int) -> _Run | None:
        """The run in which a task is."""
        run = self._last
        if run is None or not 0 <= number - run.first < len(run.ends):
            # Most are asked for in a row.
            place = bisect(self._firsts, number)
            if not place:
                return None
            run = self._last = self._runs[self._firsts[place - 1]]
        return run if number - run.first < len(run.ends) else None

    def _single(self, number: int) -> TaskRecord:
        """A record for a task alone."""
        record = self._own.get(number)
        if record is not None:
            return record
        run = self._run(number)
        if run is None:
            raise KeyError(number)
        shared, end = run.record, run.ends[number - run.first]
        if end == _ALIKE:
            return replace(shared, number=number)
        attempt, execution = self._ends.load(end)
        return TaskRecord(
            number,
            retry=shared.retry,
            crash_limit=shared.crash_limit,
            state=TaskState.succeeded,
            attempt=attempt,
            execution=execution,
        )
