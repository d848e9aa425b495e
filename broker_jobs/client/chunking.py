"""Which tasks of a job travel together, and which way: pure, tasks in, chunks out.

Consecutive tasks of one class and lane share a chunk, up to 1 MiB. Tasks that may start at once go straight to their class queue (and,
with the same publish, to the ledger), up to a window of chunks; all others go to the ledger alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from broker_jobs.core.spec import NEVER_START_TWICE, Lane, TaskOptions
from broker_jobs.core.value import CHUNK_LIMIT, Inline
from broker_jobs.wire.messages import Chunk, Function, JobHeader, Seal, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from broker_jobs.client.encoding import Callee, Encoded, Placement
    from broker_jobs.core.value import Value
    from broker_jobs.wire.messages import Origin

WINDOW: Final = 32
"""Chunks of a job that may stand in a class queue; of large ones, fewer."""

MOST_READY: Final = 100
"""Tasks of a chunk for a class queue, where nobody knows how long they take; fewer of a small job, so that several workers get some."""

MOST_WAITING: Final = 1000
"""Tasks of a chunk for the ledger, which cuts it anew."""

USUAL: Final = 5
"""Of tasks that are known to be quick, a chunk has so many times what is worth a message where `WINDOW` chunks are in a class queue."""

LARGEST: Final = 20
"""Of such tasks, a chunk has at most so many times what is worth a message."""

WORTH_MS: Final = 10
"""Work of so many milliseconds is worth a message of its own."""

MOST_WORTH: Final = 200
"""Calls, whose results a client works through while the next ones run, fill a message before they take `WORTH_MS`."""

SHARE: Final = 64
"""A chunk for a class queue has at most this part of its job."""

QUICK_SHARE: Final = 16
"""The same, where the tasks are known to be quick: less waits behind the slowest chunk than the messages cost."""

OpenClasses = frozenset[tuple[str, Lane]]
"""Classes and lanes whose queues exist."""


@dataclass(slots=True)
class _Group:
    """The chunk that is being filled.

    Attributes:
        callee: of the call before, most often that of the next, too
        placement: of the task before
        index: of its options
    """

    resource_class: str
    lane: Lane
    eligible: bool
    direct: bool
    most: int
    size: int = 0
    callee: Callee | None = None
    placement: Placement | None = None
    index: int = 0
    tasks: list[Task] = field(default_factory=list)
    options: dict[TaskOptions, int] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)

    def growth(self, encoded: Encoded) -> int:
        """Bytes that the chunk would grow by."""
        size = encoded.size
        if encoded.callee and encoded.callee is not self.callee:
            size += sum(len(function.data) for digest, function in encoded.callee.functions if digest not in self.functions)
        if encoded.values:
            size += sum(value.size for key, value in encoded.values if key not in self.values and isinstance(value, Inline))
        return size

    def add(self, encoded: Encoded, growth: int) -> None:
        self.size += growth
        if encoded.placement is not self.placement:
            self.placement = encoded.placement
            self.index = self.options.setdefault(encoded.placement.options, len(self.options))
        self.tasks.append(replace(encoded.task, options=self.index) if self.index else encoded.task)
        if encoded.callee and encoded.callee is not self.callee:
            self.callee = encoded.callee
            self.functions.update(encoded.callee.functions)
        if encoded.values:
            self.values.update(encoded.values)


class Chunker:
    """Cuts the tasks of one job into chunks, one after another.

    Args:
        job: id of the job
        header: travels with the first chunk
        origin: where its functions come from
        is_open: classes and lanes whose queues exist
        most: tasks of a chunk for a class queue (see `share`)
        window: chunks for class queues (see `window`)
        store: folder of the value store
        ordered: its tasks differ in priority: the coordinator sends them out, the most urgent first
        whole: they are the whole job; else they are added to one that is open, which has a header, and is not sealed by them
    """

    def __init__(
        self,
        job: str,
        header: JobHeader,
        origin: Origin,
        is_open: OpenClasses,
        *,
        most: int = MOST_READY,
        window: int = WINDOW,
        store: str | None = None,
        ordered: bool = False,
        whole: bool = True,
    ) -> None:
        self._job = job
        self._header = header
        self._origin = origin
        self._open = frozenset() if ordered else is_open
        self._most = most
        self._window = window
        self._store = store
        self._whole = whole
        self._group: _Group | None = None
        self._placement: Placement | None = None
        self._at_once = False
        self._tasks = self._chunks = self._direct = 0

    def add(self, encoded: Encoded) -> Chunk | None:
        """Take a task; the chunk before it, where that is full now."""
        placement, task = encoded.placement, encoded.task
        if placement is not self._placement:
            self._placement, self._at_once = placement, self._may_start_at_once(placement)
        eligible = self._at_once and not (task.deps or task.after or task.outside)
        group, full = self._group, None
        growth = group.growth(encoded) if group else 0
        if (
            group is None
            or group.eligible is not eligible
            or (
                placement is not group.placement
                and (group.resource_class, group.lane) != (placement.resource_class, placement.options.lane)
            )
            or len(group.tasks) >= group.most
            or group.size + growth > CHUNK_LIMIT
        ):
            full = self._finish(None) if group else None
            direct = eligible and self._direct < self._window
            self._direct += direct
            most = self._most if direct else MOST_WAITING
            group = self._group = _Group(placement.resource_class, placement.options.lane, eligible, direct, most)
            growth = group.growth(encoded)
        group.add(encoded, growth)
        self._tasks += 1
        return full

    def _may_start_at_once(self, placement: Placement) -> bool:
        """Whether tasks of this placement, where they wait for nothing, may go to their class queue."""
        options = placement.options
        lasting = options.crash_limit == NEVER_START_TWICE or options.resources.lasting or options.resources.nodes
        return not lasting and (placement.resource_class, options.lane) in self._open

    def close(self) -> Chunk | None:
        """The last chunk, which seals the job; None where there was no task."""
        return self._finish(Seal(self._tasks, self._chunks + 1) if self._whole else None) if self._group else None

    def _finish(self, seal: Seal | None) -> Chunk:
        group = self._group
        if group is None:
            raise ValueError("no task was added")
        self._group = None
        number = self._chunks
        self._chunks += 1
        return Chunk(
            job=self._job,
            chunk=str(number),
            resource_class=group.resource_class,
            lane=group.lane,
            submitter=self._header.submitter,
            tasks=tuple(group.tasks),
            options=tuple(group.options),
            origin=self._origin,
            functions=group.functions,
            values=group.values,
            store=self._store,
            direct=group.direct,
            header=self._header if self._whole and not number else None,
            seal=seal,
        )


def share(tasks: int, most: int = MOST_READY, worth: int = 1) -> int:
    """How many tasks make a chunk for a class queue, of so many in all: several workers shall get some.

    Args:
        most: of those of which nothing is known
        worth: so many are known to be quick enough to travel together
    """
    part = tasks // (SHARE if worth == 1 else QUICK_SHARE)
    return min(max(part, worth), max(most, min(LARGEST * worth, MOST_WAITING)))


def window(most: int, worth: int = 1) -> int:
    """How many chunks of so many tasks may go to class queues: others stand behind them, so large ones are no more work than small ones."""
    return min(WINDOW, max(WINDOW * MOST_READY, WINDOW * USUAL * worth) // most)


def cut(chunker: Chunker, tasks: Iterable[Encoded]) -> Iterator[Chunk]:
    """The chunks of a whole job."""
    for encoded in tasks:
        full = chunker.add(encoded)
        if full:
            yield full
    last = chunker.close()
    if last:
        yield last
