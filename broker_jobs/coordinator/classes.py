"""The resource classes of the ledger: which have queues, and how many there may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker_jobs.coordinator.store import ClassRow
from broker_jobs.core.resource_class import MAX_CLASSES, class_of
from broker_jobs.wire.messages import ResourceClass

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from broker_jobs.coordinator.effects import Batch
    from broker_jobs.core.request import Request

UNUSED_MS: Final = 86_400_000
"""A class that no task needed for so long loses its queues."""

_NOTED_MS: Final = 3_600_000
"""How exactly the last use is written down."""


class Classes:
    """What is known of the classes. Their queues are there once they were `opened` by this coordinator.

    Args:
        partition: of this ledger; its queues are those of all partitions
    """

    def __init__(self, rows: Iterable[ClassRow], partition: int) -> None:
        self._partition = partition
        self.known = {row.name: row for row in rows}
        self._opened: set[str] = set()

    def use(self, batch: Batch, name: str, needs: Request) -> str:
        """A task needs this class: opens it where it is new. Why it cannot be, or an empty text."""
        if needs.nodes and self._partition:
            # Two coordinators would ask the same workers into their teams.
            return f"tasks of several nodes run in partition 0 of the ledger alone, and this job is of partition {self._partition}"
        row = self.known.get(name)
        if row is None and len(self.known) >= MAX_CLASSES:
            return f"there are {MAX_CLASSES} resource classes already, one for each distinct request; round the requests to fewer values"
        if row is None or row.used_ms + _NOTED_MS <= batch.now_ms:
            if row is None:
                batch.effects.new_classes.append(name)
            row = self.known[name] = ClassRow(name, class_of(needs), batch.now_ms)
            batch.writes.classes.append(row)
        return ""

    def seen(self, batch: Batch, names: Iterable[str]) -> None:
        """A worker had tasks of these classes, perhaps of another partition: their queues stay."""
        for name in names:
            row = self.known.get(name)
            if row is not None and row.used_ms + _NOTED_MS <= batch.now_ms:
                row = self.known[name] = row._replace(used_ms=batch.now_ms)
                batch.writes.classes.append(row)

    def retire(self, batch: Batch, needed: Collection[str]) -> None:
        """Close classes that nobody has needed for long.

        Args:
            needed: classes of live jobs
        """
        for row in list(self.known.values()):
            if row.name not in needed and row.used_ms + UNUSED_MS <= batch.now_ms:
                del self.known[row.name]
                self._opened.discard(row.name)
                batch.writes.classes_done.append(row.name)
                batch.effects.close_classes.append(row.name)

    @property
    def of_nodes(self) -> frozenset[str]:
        """Classes of tasks of several nodes."""
        return frozenset(row.name for row in self.known.values() if row.needs.nodes)

    def opened(self, name: str, *, anew: bool) -> ResourceClass | None:
        """The queues of a class are there; None where it was retired meanwhile, or was open already and still is the same.

        Args:
            anew: some of them were missing
        """
        row = self.known.get(name)
        if row is None or (name in self._opened and not anew):
            return None
        self._opened.add(name)
        return ResourceClass(row.name, row.needs)

    def open(self) -> tuple[ResourceClass, ...]:
        """All that have queues."""
        return tuple(ResourceClass(row.name, row.needs) for row in self.known.values() if row.name in self._opened)
