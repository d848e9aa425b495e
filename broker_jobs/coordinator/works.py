"""What tasks do that wait in the ledger: those that came last are kept at hand, since most of them are published soon."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from broker_jobs.wire.codec import decode_part
from broker_jobs.wire.messages import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.coordinator.live import LiveJob
    from broker_jobs.coordinator.store import LedgerStore

MOST_BYTES: Final = 16 * 2**20
"""What the tasks take that are kept."""

_OVERHEAD: Final = 800
"""Bytes that a task takes in memory besides those that it brings."""


class Works:
    """Tasks of packs, by job and by the number of the first one."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[int, int], tuple[Sequence[Task], int]] = OrderedDict()
        self._bytes = 0

    def keep(self, job: int, tasks: Sequence[Task], size: int) -> None:
        """Keep the tasks of a new pack, and those that came longest ago no longer.

        Args:
            size: bytes of all on the wire
        """
        size += _OVERHEAD * len(tasks)
        self._kept[job, tasks[0].number] = tasks, size
        self._bytes += size
        while self._bytes > MOST_BYTES:
            self._bytes -= self._kept.popitem(last=False)[1][1]

    def find(self, job: LiveJob, numbers: Sequence[int]) -> dict[int, Task]:
        """What these tasks do."""
        found: dict[int, Task] = {}
        missing: list[int] = []
        packed: list[int] = []
        look, key, kept, facts = self._store.look, job.facts.key, self._kept, job.tasks
        for number in numbers:
            first = (facts.get(number) or facts.seen(number)).pack
            if first is None:
                missing.append(number)
                continue
            pack = kept.get((key, first))
            if pack is None:
                packed.append(number)
            else:
                found[number] = pack[0][number - first]
        if missing:
            found.update((number, decode_part(Task, spec)) for number, spec in look.specs(key, missing).items())
        if packed:
            found |= look.packs.works(key, packed)
        return found
