"""Which ready tasks go out as which chunk; pure.

A job may have `WINDOW` unfinished chunks in each class queue, those of its submitter included; the rest of its ready tasks
waits here, the more urgent first. Among jobs, the one that was served longest ago comes first, one chunk at a time:
so a job of a million tasks delays another by a chunk, not by itself.

How many tasks a chunk gets: as many as give each known worker slot a few chunks, `MOST_TASKS` at most, and fewer where
workers gave tasks back because the chunk was slow: a quarter of that chunk, which doubles again with each chunk that was quick.
Tasks that are known to be quick make larger chunks, since a message costs as much as many of them: a chunk should take `WORTH_MS`, or
`LARGEST` times as long where there are enough for each slot, and then a job may have only as many chunks as give each slot a few.
A few of them wait for more to become ready as long as every slot has work, that is until the next chunk has ended (Nagle's rule).

A job whose tasks differ in priority keeps them back much longer: `urgency` says which of its tasks go out.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from broker_jobs.coordinator.ready import Heap
from broker_jobs.core.value import CHUNK_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from broker_jobs.coordinator.ready import Ready

WINDOW: Final = 32
MOST_TASKS: Final = 100
CHUNKS_PER_SLOT: Final = 4
CHUNKS_AT_HAND: Final = 2
"""A slot with so many has work until it can have more."""
QUICK_MS: Final = 250
"""A chunk whose tasks ran so long in all, or less, was quick."""
WORTH_MS: Final = 50
"""A chunk of tasks that run so long in all is worth its message."""
LARGEST: Final = 4
"""It may have so many times as many, where there are enough for all slots."""
_LEAST_MS: Final = 0.1
"""Clocks tell milliseconds, and a task takes some time in any case."""


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """Tasks that may share a chunk: those with the same options; isolated ones travel alone.

    Attributes:
        options: index of the options in their job
        queue: the class queue in which they belong
    """

    options: int
    queue: str
    priority: int
    isolated: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """Tasks for one chunk.

    Attributes:
        chain: what goes along with its only task
    """

    group: Group
    tasks: tuple[Ready, ...]
    chain: tuple[int, ...] = ()


@dataclass(slots=True)
class Flight:
    """A chunk that stands in a class queue or is being worked on.

    Attributes:
        size: tasks that it had
        open: tasks of it that have not ended and have not come back
        since: when it was published, in seconds
        ran: tasks of it that have run to an end
        busy_ms: how long these ran
        split: some of it was given back because it was slow
    """

    group: Group
    size: int
    open: set[int]
    since: float
    ran: int = 0
    busy_ms: int = 0
    split: bool = False


@dataclass(slots=True)
class Window:
    """The ready tasks and unfinished chunks of one job."""

    flights: dict[str, Flight] = field(default_factory=dict)
    _ready: dict[Group, Heap] = field(default_factory=dict)
    _tops: dict[str, list[tuple[int, Ready, Group]]] = field(default_factory=dict)
    _flying: Counter[str] = field(default_factory=Counter)
    _most: dict[int, int] = field(default_factory=dict)
    _ms: dict[int, float] = field(default_factory=dict)

    def add(self, group: Group, task: Ready) -> None:
        """A task has become ready."""
        self.add_all(group, (task,))

    def add_all(self, group: Group, tasks: Iterable[Ready]) -> None:
        """Many tasks have become ready."""
        heap = self._ready.setdefault(group, Heap())
        before = heap.first if heap else None
        heap.push(tasks)
        if heap.first != before:
            self._note(group, heap.first)

    def clear(self) -> None:
        """No task is ready any more; chunks that are out stay."""
        self._ready.clear()
        self._tops.clear()

    def take_off(self, chunk: str, group: Group, tasks: Iterable[int], now: float) -> None:
        """A chunk with these tasks goes to its class queue."""
        numbers = set(tasks)
        if numbers:
            self.flights[chunk] = Flight(group, len(numbers), numbers, now)
            self._flying[group.queue] += 1

    def land(self, chunk: str, task: int, busy_ms: int | None = None) -> None:
        """A task of a chunk has ended, has come back, or was taken: when it was the last one, the chunk's place is free.

        Args:
            busy_ms: how long it ran; None where it did not run to an end
        """
        flight = self.flights.get(chunk)
        if flight is None or task not in flight.open:
            return
        flight.open.discard(task)
        if busy_ms is not None:
            flight.ran += 1
            flight.busy_ms += busy_ms
        if not flight.open:
            del self.flights[chunk]
            self._flying[flight.group.queue] -= 1
            self._note_pace(flight)
            most = self._most.get(flight.group.options)
            if most is not None and not flight.split and flight.busy_ms <= QUICK_MS:
                self._most[flight.group.options] = min(2 * most, self._most_of(flight.group))

    def _note_pace(self, flight: Flight) -> None:
        """Take in how long tasks of a chunk ran: of the latest ones, rather too long than too short."""
        if not flight.ran:
            return
        ms = flight.busy_ms / flight.ran
        before = self._ms.get(flight.group.options, ms)
        self._ms[flight.group.options] = max(ms, before + (ms - before) / 4)

    def worth(self, group: Group) -> int:
        """How many tasks are worth a message; 1 as long as nothing is known of them."""
        ms = self._ms.get(group.options)
        return 1 if ms is None or group.isolated else max(1, int(WORTH_MS / max(ms, _LEAST_MS)))

    def _most_of(self, group: Group) -> int:
        """How many tasks a chunk may have."""
        return max(MOST_TASKS, LARGEST * self.worth(group))

    def split(self, chunk: str) -> None:
        """Tasks of this chunk came back unstarted: the next ones are a quarter of it."""
        flight = self.flights.get(chunk)
        if flight is not None and not flight.split:
            flight.split = True
            self._most[flight.group.options] = max(1, flight.size // 4)

    def under_way(self) -> Counter[Group]:
        """Unfinished tasks in chunks, by group."""
        found: Counter[Group] = Counter()
        for flight in self.flights.values():
            found[flight.group] += len(flight.open)
        return found

    def more_urgent(self, group: Group, number: int) -> int:
        """How many ready tasks for the same queue come before this one; those that ended meanwhile are among them."""
        found = 0
        for other, tasks in self._ready.items():
            if other.queue == group.queue and other.priority >= group.priority:
                found += len(tasks) if other.priority > group.priority else tasks.before(number)
        return found

    def ready(self) -> Iterator[Ready]:
        """Ready tasks that are not in a chunk, in no order; those that ended meanwhile are among them."""
        return itertools.chain.from_iterable(self._ready.values())

    @property
    def waiting(self) -> int:
        """How many these are."""
        return sum(map(len, self._ready.values()))

    def waiting_queues(self) -> set[str]:
        """Class queues for which tasks are ready or under way."""
        return {group.queue for group, tasks in self._ready.items() if tasks} | {queue for queue, count in self._flying.items() if count}

    def open(self, room: int = WINDOW) -> bool:
        """Whether a chunk could go out."""
        return any(self._flying[queue] < room and self._top(queue) for queue in list(self._tops))

    def tops(self) -> list[Group]:
        """The most urgent group of each class queue, the most urgent first."""
        tops = [self._top(queue) for queue in list(self._tops)]
        return [group for *_, group in sorted(top for top in tops if top)]

    def draft(self, slots: Callable[[Group], int], current: Callable[[Ready], bool], room: int = WINDOW) -> Draft | None:
        """The next chunk, or None where no class queue has room for one. Its tasks are no longer ready.

        Args:
            slots: how many tasks of a group all known workers can run at once
            current: whether a ready attempt still waits for its start (it may have been canceled)
        """
        while True:
            tops = [top for queue in list(self._tops) if self._flying[queue] < room and (top := self._top(queue))]
            tops = [top for top in tops if not (self._gathers(top[2], slots) or self._is_full(top[2], slots))]
            if not tops:
                return None
            *_, group = min(tops)
            draft = self.fill(group, self._size(group, len(self._ready[group]), slots(group)), current)
            if draft is not None:
                return draft

    def _gathers(self, group: Group, slots: Callable[[Group], int]) -> bool:
        """Whether its ready tasks wait for more, since all slots have work and these are too few for a message."""
        flying = self._flying[group.queue]
        return flying > 0 and len(self._ready[group]) < self.worth(group) and flying >= CHUNKS_AT_HAND * slots(group)

    def _is_full(self, group: Group, slots: Callable[[Group], int]) -> bool:
        """Whether each slot has enough of its large chunks: other jobs stand behind them."""
        return self._most_of(group) > MOST_TASKS and self._flying[group.queue] >= CHUNKS_PER_SLOT * max(1, slots(group))

    def fill(self, group: Group, most: int, current: Callable[[Ready], bool]) -> Draft | None:
        """A chunk of so many ready tasks of a group, at most; None where none of these is current any more."""
        heap = self._ready[group]
        tasks: list[Ready] = []
        size = 0
        while heap and len(tasks) < most and (not tasks or size + heap.first.size <= CHUNK_LIMIT):
            task = heap.pop()
            if current(task):
                tasks.append(task)
                size += task.size
        if heap:
            self._note(group, heap.first)
        else:
            del self._ready[group]
        return Draft(group, tuple(tasks)) if tasks else None

    def _note(self, group: Group, first: Ready) -> None:
        """This task is the first of its group now."""
        heapq.heappush(self._tops.setdefault(group.queue, []), (-group.priority, first, group))

    def _top(self, queue: str) -> tuple[int, Ready, Group] | None:
        """The most urgent group of a class queue, with its first task."""
        tops = self._tops.get(queue, [])
        while tops:
            _, first, group = tops[0]
            heap = self._ready.get(group)
            if heap and heap.first == first:
                return tops[0]
            heapq.heappop(tops)
        self._tops.pop(queue, None)
        return None

    def _size(self, group: Group, ready: int, slots: int) -> int:
        if group.isolated:
            return 1
        fair, worth = -(-ready // (CHUNKS_PER_SLOT * max(1, slots))), self.worth(group)
        most = self._most_of(group)
        return max(1, min(max(fair, worth), most, self._most.get(group.options, most)))


@dataclass(slots=True)
class Turns:
    """Whose turn it is: the job that was served longest ago."""

    _served: dict[str, int] = field(default_factory=dict)
    _turn: int = 0

    def order(self, jobs: Iterable[str]) -> list[str]:
        """Jobs in the order in which they are served; among those that never were, the oldest first (ids sort by time)."""
        return sorted(jobs, key=lambda job: (self._served.get(job, 0), job))

    def served(self, job: str) -> None:
        """A chunk of the job goes out: the others come first now."""
        self._turn += 1
        self._served[job] = self._turn

    def drop(self, job: str) -> None:
        """A job has ended."""
        self._served.pop(job, None)
