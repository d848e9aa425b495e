"""A job that has not ended, in memory: its machine, and what a chunk or a row needs besides. No payloads: those stay on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from broker_jobs.coordinator.chains import LONGEST, following
from broker_jobs.coordinator.kept import Kept, TaskFacts
from broker_jobs.coordinator.ready import Ready
from broker_jobs.coordinator.reconcile import Published
from broker_jobs.coordinator.store import JobFacts, LinkRow, NewTaskRow, PackRow, Place, TaskRow, move_rows
from broker_jobs.coordinator.store.parts import clean
from broker_jobs.coordinator.urgency import Pace
from broker_jobs.coordinator.window import Group, Window
from broker_jobs.core.job import JobMachine, Reservations
from broker_jobs.core.states import ENDED, TaskState

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator

    from broker_jobs.coordinator.store import MoveRow
    from broker_jobs.core.job import TaskRecord
    from broker_jobs.core.spec import TaskOptions
    from broker_jobs.wire.messages import Origin


_TOGETHER: Final = frozenset({TaskState.waiting, TaskState.queued, TaskState.paused, TaskState.canceled, TaskState.aborted})
"""States in which a task may be that is in a pack and does not succeed."""

_AT_ONCE: Final = 1000
"""So many tasks of a job become ready at once when it is restored."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Options that tasks of the job share, and where such tasks go.

    Attributes:
        queue: name of the class queue
        origin: where their functions come from; None is where the job's come from
    """

    options: TaskOptions
    resource_class: str
    queue: str
    origin: Origin | None = None


@dataclass(slots=True)
class LiveJob:
    """A job and its tasks.

    Attributes:
        chunks: the submitter's chunks that have come
        new: tasks without a row yet
        dirty: tasks whose row is out of date, in the order in which they changed
        stalled: ready tasks that need a value which has not come yet
        taken: tasks that a worker keeps although their chunk was acknowledged
        following: tasks that went along with another one, or may have, and that nothing was heard of
        fresh: the job has no row yet
        reservations: numbers that submissions got, where the job was opened
        ordered: its tasks differ in priority, so that `urgency` says which go out
    """

    facts: JobFacts
    machine: JobMachine
    tasks: Kept = field(default_factory=Kept)
    shared: list[Shared] = field(default_factory=list)
    window: Window = field(default_factory=Window)
    chunks: set[str] = field(default_factory=set)
    new: dict[int, NewTaskRow] = field(default_factory=dict)
    dirty: dict[int, None] = field(default_factory=dict)
    stalled: list[Ready] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)
    following: set[int] = field(default_factory=set)
    fresh: bool = False
    ordered: bool = False
    pace: Pace = field(default_factory=Pace)
    reservations: Reservations = field(default_factory=Reservations)
    _indices: dict[tuple[TaskOptions, Origin | None], int] = field(default_factory=dict)

    @classmethod
    def restore(
        cls,
        facts: JobFacts,
        shared: list[Shared],
        chunks: set[str],
        tasks: Iterable[tuple[TaskRecord, NewTaskRow, TaskRow]],
        now: float,
        *,
        links: Iterable[LinkRow] = (),
        packs: Iterable[PackRow] = (),
    ) -> Self:
        """The job as its rows tell it."""
        outside: dict[int, set[str]] = {}
        for link in links:
            outside.setdefault(link.number, set()).add(link.need)
        kept = Kept()
        for pack in packs:
            kept.add_pack(TaskFacts(pack.options, pack.size), pack.first, pack.length)
        flights: dict[str, list[int]] = {}
        ready: list[int] = []
        taken: set[int] = set()

        def records() -> Iterator[TaskRecord]:
            for record, new, row in tasks:
                if record.ended:
                    kept.drop(record.number)
                else:
                    record.outside = frozenset(outside.get(record.number, ()))
                    kept.restore(
                        record.number,
                        TaskFacts(new.options, new.size, row.chunk, row.worker, row.boot, row.due_ms, row.started_ms, row.ended_ms),
                    )
                    if row.taken:
                        taken.add(record.number)
                    if row.chunk is not None:
                        flights.setdefault(row.chunk, []).append(record.number)
                    elif record.state is TaskState.queued:
                        ready.append(record.number)
                yield record

        machine = JobMachine.restore(
            records(),
            max_fails=facts.max_fails,
            total=facts.total,
            cancel_reason=facts.cancel_reason,
            void_reason=facts.void_reason,
            pause_reason=facts.pause_reason,
        )
        job = cls(facts, machine, kept, chunks=chunks, taken=taken)
        for item in shared:
            job.share(item)
        for chunk, numbers in flights.items():
            job.window.take_off(chunk, job.group(numbers[0]), numbers, now)
            if len(numbers) == 1:
                job.following.update(following(job, numbers[0], LONGEST))
        for place in range(0, len(ready), _AT_ONCE):
            job.make_all_ready(ready[place : place + _AT_ONCE])
        return job

    @property
    def whole(self) -> bool:
        """Whether every task has come that is known to come."""
        return self.machine.complete or (self.facts.open and len(self.machine.tasks) >= self.reservations.total)

    @property
    def all_out(self) -> bool:
        """Whether all its tasks have gone out, so that none waits for the outcome of another one."""
        return not (self.machine.counts[TaskState.waiting] or self.stalled or self.window.waiting)

    def index(self, options: TaskOptions, origin: Origin | None) -> int | None:
        """The index of these options in `shared`."""
        return self._indices.get((options, origin))

    def share(self, shared: Shared) -> int:
        """Add options; their index."""
        self._indices[shared.options, shared.origin] = len(self.shared)
        self.shared.append(shared)
        self.ordered = self.ordered or shared.options.priority != self.shared[0].options.priority
        return len(self.shared) - 1

    def group(self, number: int) -> Group:
        """With which tasks this one may share a chunk."""
        index = self.tasks.seen(number).options
        shared = self.shared[index]
        # A task of several nodes travels alone: while it runs, nothing else of its chunk could.
        alone = self.machine.tasks.seen(number).isolated or shared.options.resources.nodes > 0
        return Group(index, shared.queue, shared.options.priority, alone)

    def make_ready(self, number: int, attempt: int) -> None:
        """An attempt may go out."""
        self.window.add(self.group(number), Ready(number, attempt, self.tasks.seen(number).size))

    def make_all_ready(self, numbers: Iterable[int]) -> None:
        """Many attempts may go out."""
        groups: dict[tuple[int, bool], list[Ready]] = {}
        for number in numbers:
            record, task = self.machine.tasks.seen(number), self.tasks.get(number) or self.tasks.seen(number)
            groups.setdefault((task.options, record.isolated), []).append(Ready(number, record.attempt, task.size))
        for tasks in groups.values():
            self.window.add_all(self.group(tasks[0].number), tasks)

    def go_again(self, number: int, now_ms: int) -> None:
        """Its next attempt may go out: forget where the last one was."""
        self.land(number)
        task = self.tasks[number]
        self.taken.discard(number)
        task.worker = task.boot = ""
        task.due_ms = task.started_ms = task.ended_ms = None
        task.ready_ms = now_ms

    def current(self, task: Ready) -> bool:
        """Whether a ready attempt still waits to go out."""
        record, facts = self.machine.tasks.seen(task.number), self.tasks.get(task.number)
        return record.state is TaskState.queued and record.attempt == task.attempt and (facts is None or facts.chunk is None)

    def land(self, number: int, busy_ms: int | None = None) -> None:
        """A task leaves the chunk that holds it; None where it has not run to an end there."""
        facts = self.tasks.get(number)
        if facts is not None and facts.chunk is not None:
            self.window.land(facts.chunk, number, busy_ms)
            facts.chunk = None

    def out(self) -> Counter[Group]:
        """Tasks that have left the ledger and have not ended."""
        out = self.window.under_way()
        out.update(self.group(number) for number in self.taken)
        return out

    def published(self, before: float) -> list[Published]:
        """Chunks that stand in class queues since before a time, with their unfinished attempts."""
        tasks = self.machine.tasks
        return [
            Published(
                self.facts.id,
                chunk,
                flight.group.queue,
                flight.since,
                tuple((number, tasks.seen(number).attempt) for number in flight.open),
            )
            for chunk, flight in self.window.flights.items()
            if flight.since <= before
        ]

    def moves_alone(self, number: int) -> bool:
        """Whether the row of a task would say what those of tasks that move together do not: then its pack has to be taken apart."""
        record, facts = self.machine.tasks.seen(number), self.tasks.seen(number)
        of_its_own = record.failures or record.crashes or record.isolated or record.execution
        begun = facts.worker or facts.due_ms is not None or facts.started_ms is not None or number in self.taken
        return record.state not in _TOGETHER or bool(of_its_own or begun)

    def rows(self) -> tuple[list[tuple[NewTaskRow, TaskRow]], list[TaskRow], list[MoveRow]]:
        """The rows that are out of date: new ones, others, and those of tasks in packs.

        Each task gets a version of its own; what has ended is forgotten here.
        """
        new_rows: list[tuple[NewTaskRow, TaskRow]] = []
        rows: list[TaskRow] = []
        moved: list[tuple[int, Place]] = []
        records, kept = self.machine.tasks, self.tasks
        for number in self.dirty:
            record, facts = records.seen(number), kept.get(number) or kept.seen(number)
            if facts.pack is not None:
                moved.append((number, Place(record.state.value, record.attempt, facts.chunk, clean(record.reason), facts.ended_ms)))
            else:
                self.facts.version += 1
                row = self._row(number)
                new = self.new.get(number)
                if new is None:
                    rows.append(row)
                else:
                    new_rows.append((new, row))
            if record.state in ENDED:
                kept.drop(number)
        self.new.clear()
        self.dirty.clear()
        moves = move_rows(self.facts.key, self.facts.version, moved)
        self.facts.version += len(moved)
        return new_rows, rows, moves

    def forget_packed(self, numbers: Iterable[int]) -> None:
        """These tasks have ended: what is in a pack has no row that would have to be written first."""
        for number in numbers:
            if (self.tasks.get(number) or self.tasks.seen(number)).pack is not None:
                self.tasks.drop(number)
                self.dirty.pop(number, None)

    def _row(self, number: int) -> TaskRow:
        record, facts = self.machine.tasks.seen(number), self.tasks[number]
        return TaskRow(
            record.state.value,
            record.attempt,
            record.failures,
            record.crashes,
            record.isolated,
            clean(record.execution),
            clean(record.reason),
            facts.chunk,
            facts.worker,
            facts.boot,
            number in self.taken,
            facts.due_ms,
            facts.started_ms,
            facts.ended_ms,
            self.facts.version,
            self.facts.key,
            number,
        )
