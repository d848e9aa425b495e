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

    from broker_jobs.client.encoding import Encoded
    from broker_jobs.core.value import Value

WINDOW: Final = 32
"""Chunks of a job that may stand in a class queue."""

MOST_READY: Final = 100
"""Tasks of a chunk for a class queue; fewer where the job is small, so that several workers get some."""

MOST_WAITING: Final = 1000
"""Tasks of a chunk for the ledger, which cuts it anew."""

SHARE: Final = 64
"""A chunk for a class queue has at most this part of its job."""

OpenClasses = frozenset[tuple[str, Lane]]
"""Classes and lanes whose queues exist."""


@dataclass(slots=True)
class _Group:
    """The chunk that is being filled."""

    resource_class: str
    lane: Lane
    eligible: bool
    direct: bool
    most: int
    size: int = 0
    tasks: list[Task] = field(default_factory=list)
    options: dict[TaskOptions, int] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)

    def growth(self, encoded: Encoded) -> int:
        """Bytes that the chunk would grow by."""
        size = encoded.size
        if encoded.callee:
            size += sum(len(function.data) for digest, function in encoded.callee.functions if digest not in self.functions)
        return size + sum(value.size for key, value in encoded.values if key not in self.values and isinstance(value, Inline))

    def add(self, encoded: Encoded) -> None:
        self.size += self.growth(encoded)
        index = self.options.setdefault(encoded.placement.options, len(self.options))
        self.tasks.append(replace(encoded.task, options=index) if index else encoded.task)
        if encoded.callee:
            self.functions.update(encoded.callee.functions)
        self.values.update(encoded.values)


class Chunker:
    """Cuts the tasks of one job into chunks, one after another.

    Args:
        job: id of the job
        header: travels with the first chunk
        is_open: classes and lanes whose queues exist
        most: tasks of a chunk for a class queue (see `share`)
        store: folder of the value store
        ordered: its tasks differ in priority: the coordinator sends them out, the most urgent first
        whole: they are the whole job; else they are added to one that is open, which has a header, and is not sealed by them
    """

    def __init__(
        self,
        job: str,
        header: JobHeader,
        is_open: OpenClasses,
        *,
        most: int = MOST_READY,
        store: str | None = None,
        ordered: bool = False,
        whole: bool = True,
    ) -> None:
        self._job = job
        self._header = header
        self._open = frozenset() if ordered else is_open
        self._most = most
        self._store = store
        self._whole = whole
        self._group: _Group | None = None
        self._tasks = self._chunks = self._direct = 0

    def add(self, encoded: Encoded) -> Chunk | None:
        """Take a task; the chunk before it, where that is full now."""
        placement, task = encoded.placement, encoded.task
        options = placement.options
        eligible = (
            not (task.deps or task.after or task.outside or options.crash_limit == NEVER_START_TWICE)
            and not (options.resources.lasting or options.resources.nodes)
            and (
                placement.resource_class,
                options.lane,
            )
            in self._open
        )
        group, full = self._group, None
        if (
            group is None
            or (group.resource_class, group.lane, group.eligible) != (placement.resource_class, options.lane, eligible)
            or len(group.tasks) >= group.most
            or group.size + group.growth(encoded) > CHUNK_LIMIT
        ):
            full = self._finish(None) if group else None
            direct = eligible and self._direct < WINDOW
            self._direct += direct
            group = self._group = _Group(placement.resource_class, options.lane, eligible, direct, self._most if direct else MOST_WAITING)
        group.add(encoded)
        self._tasks += 1
        return full

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
            origin=self._header.origin,
            functions=group.functions,
            values=group.values,
            store=self._store,
            direct=group.direct,
            header=self._header if self._whole and not number else None,
            seal=seal,
        )


def share(tasks: int) -> int:
    """How many tasks make a chunk for a class queue, of so many in all: several workers shall get some."""
    return min(max(tasks // SHARE, 1), MOST_READY)


def cut(chunker: Chunker, tasks: Iterable[Encoded]) -> Iterator[Chunk]:
    """The chunks of a whole job."""
    for encoded in tasks:
        full = chunker.add(encoded)
        if full:
            yield full
    last = chunker.close()
    if last:
        yield last
