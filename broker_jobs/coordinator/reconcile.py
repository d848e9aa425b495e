"""Which published tasks are nowhere, so that their chunk must go out again, and which queues are of no use; pure.

A chunk in a class queue is a hint, and hints get lost: a queue that is missing, down or full takes no copy, and the broker may
confirm the publish all the same. A task is *missing* when its chunk is old enough, its class queue was seen empty twice with
some time between, and every worker that is there has since said what it holds, and it was not that.
What was seen once proves nothing: a queue that is down says 0 too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

LOOKS: Final = 10
"""How many looks are remembered."""

LATELY: Final = 60.0
"""Seconds for which it is remembered that something was wrong with a queue, and that it was told."""


@dataclass(frozen=True, slots=True)
class Published:
    """A chunk that was published, and what of it is unfinished.

    Attributes:
        since: when it was published, in seconds
    """

    job: str
    chunk: str
    queue: str
    since: float
    attempts: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a worker says that it holds: (job, task, attempt), and when it said so, in seconds."""

    heard: float
    held: Collection[tuple[str, int, int]]


@dataclass(frozen=True, slots=True)
class Missing:
    """Tasks of a chunk that must go out again, with the same attempts."""

    job: str
    chunk: str
    queue: str
    attempts: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Reconciler:
    """What was seen of the class queues. The chunks that it is shown are those that were published long ago.

    Attributes:
        apart: seconds between two looks at a queue that count as two
    """

    apart: float
    _empty: dict[str, list[float]] = field(default_factory=dict)

    def suspicious(self, chunks: Iterable[Published], inventories: Iterable[Inventory]) -> set[str]:
        """Class queues that are worth a look: tasks published there long ago are in no inventory."""
        held = {attempt for inventory in inventories for attempt in inventory.held}
        return {chunk.queue for chunk in chunks if self._loose(chunk, held)}

    def decide(
        self, depths: Mapping[str, int], chunks: Iterable[Published], inventories: Collection[Inventory], now: float
    ) -> list[Missing]:
        """What is missing, after a look at these class queues: messages in each."""
        self._look(depths, now)
        held = {attempt for inventory in inventories for attempt in inventory.held}
        oldest = min((inventory.heard for inventory in inventories), default=now)
        missing = []
        for chunk in chunks:
            first = next((look for look in self._empty.get(chunk.queue, ()) if look >= chunk.since), now)
            if first + self.apart <= now and first <= oldest:
                loose = self._loose(chunk, held)
                if loose:
                    missing.append(Missing(chunk.job, chunk.chunk, chunk.queue, loose))
        return missing

    def _look(self, depths: Mapping[str, int], now: float) -> None:
        """Keep the times of looks at a queue that was empty each time since."""
        self._empty = {queue: self._empty.get(queue, []) for queue, ready in depths.items() if not ready}
        for looks in self._empty.values():
            looks.append(now)
            del looks[:-LOOKS]

    @staticmethod
    def _loose(chunk: Published, held: Collection[tuple[str, int, int]]) -> tuple[tuple[int, int], ...]:
        return tuple((task, attempt) for task, attempt in chunk.attempts if (chunk.job, task, attempt) not in held)


@dataclass(slots=True)
class Silences:
    """Since when queues have said nothing, whenever one looked.

    Attributes:
        long: seconds after which one counts as dead; what is known at a look says nothing about another one so much later
    """

    long: float
    _since: dict[str, float] = field(default_factory=dict)
    _looked: float = -math.inf

    def look(self, silent: Iterable[str], now: float) -> frozenset[str]:
        """Take in which ones say nothing now; those that have said nothing for long."""
        before = self._since if now <= self._looked + self.long else {}
        self._since = {queue: before.get(queue, now) for queue in silent}
        self._looked = now
        return frozenset(queue for queue, since in self._since.items() if since + self.long <= now)

    @property
    def lasting(self) -> Iterable[str]:
        """Those that said nothing at the last look."""
        return tuple(self._since)

    def forget(self) -> None:
        """Begin anew: nobody has looked for a while, or queues are gone."""
        self._since.clear()


@dataclass(slots=True)
class Unheard:
    """Queues that workers have to consume anew: what is in them reaches nobody.

    RabbitMQ 3.10 forgets consumers of a quorum queue that is deleted and made again within moments, or gives its messages to those of the
    old one, and nobody is told (measured). Such a queue has messages and no consumers, or its tasks are missed each time that they go out.
    So has one whose workers all have enough to do, so it is not told for each look; they have nothing to consume anew.
    """

    _first: dict[str, float] = field(default_factory=dict)
    _told: dict[str, float] = field(default_factory=dict)

    def look(self, wrong: Iterable[str], now: float) -> set[str]:
        """Take in with which queues something is wrong now; those with which it was before, too."""
        self._first = {queue: at for queue, at in self._first.items() if now <= at + LATELY}
        self._told = {queue: at for queue, at in self._told.items() if now <= at + LATELY}
        found = set()
        for queue in wrong:
            if queue in self._told:
                continue
            if queue in self._first:
                del self._first[queue]
                self._told[queue] = now
                found.add(queue)
            else:
                self._first[queue] = now
        return found
