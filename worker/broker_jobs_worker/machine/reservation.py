"""For what a worker keeps its resources free although something else could use them.

A task that needs many resources at once waits behind those that need few: as long as these keep coming, the moment in which
enough is free never comes. So what has come and does not fit is waited for, a little longer each time: the worker starts nothing
else and takes nothing else, in this lane and in those below, and what runs makes room. First that is for `Timing.patience`;
then the chunk goes back, for other workers; each further visit in vain doubles the time, and a visit with success halves it.
So a worker wastes about as much as what it waits for takes to end, and nothing waits for ever.

What displaces lower lanes has all the time from the beginning: the next of these that ends makes room.

No message is held for longer than a running task would hold it. A longer reservation goes on while its chunk goes back and comes again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from broker_jobs_worker.machine.state import below

if TYPE_CHECKING:
    from collections.abc import Collection

    from broker_jobs_worker.machine.state import Source, Timing

MOST_DOUBLED: Final = 16
ABSENCE: Final = 1.0
"""Seconds for which a reservation outlives its chunk, which may come again."""


@dataclass(slots=True)
class _Reservation:
    """Resources are kept for tasks of this queue.

    Attributes:
        until: then it was in vain
        seen: when a chunk of the queue was here last
    """

    source: Source
    until: float
    seen: float


@dataclass(slots=True)
class Reservations:
    """The reservation of a worker, if it has one, and how often it waited for each queue in vain."""

    timing: Timing
    _current: _Reservation | None = None
    _doubled: dict[Source, int] = field(default_factory=dict)

    @property
    def source(self) -> Source | None:
        """For what resources are kept."""
        return self._current.source if self._current else None

    def limit(self, source: Source, since: float, patience: float, *, displaces: bool) -> float:
        """Until when the oldest chunk here, of which nothing has started, may wait; beyond `patience` it has a reservation.

        Args:
            since: when it came
            patience: seconds without a reservation
            displaces: tasks of lower lanes hold resources
        """
        if self.closes(source):
            return since + patience
        allowed = math.inf if displaces else patience * 2 ** self._doubled.get(source, 0)
        if self._current is None or self._current.source != source:
            self._current = _Reservation(source, since + allowed, since) if allowed > patience else None
        until = self._current.until if self._current else since + patience
        visit = self.timing.lane_patience if displaces else self.timing.taken_after
        return since + max(patience, min(until - since, visit))

    def started(self, source: Source) -> None:
        """A task of this queue has started."""
        self._double(source, -1)
        if self.source == source:
            self._current = None

    def gave_back(self, source: Source, now: float) -> None:
        """The oldest chunk went back, and nothing of it had started."""
        if self._current is None or (self._current.source == source and now >= self._current.until):
            self._current = None
            self._double(source, 1)

    def tick(self, now: float, here: Collection[Source]) -> None:
        """Some time has passed, and chunks of these queues wait here."""
        current = self._current
        if current is None:
            return
        if current.source in here:
            current.seen = now
        elif now - current.seen >= ABSENCE or now >= current.until:
            self._current = None

    def closes(self, source: Source) -> bool:
        """Whether nothing of this queue may start, because resources are kept for another."""
        kept = self.source
        return kept is not None and kept != source and (source.lane is kept.lane or source.lane in below(kept.lane))

    def end(self) -> None:
        """Nothing waits here any more."""
        self._current = None

    def _double(self, source: Source, step: int) -> None:
        self._doubled[source] = min(MOST_DOUBLED, max(0, self._doubled.get(source, 0) + step))
        if not self._doubled[source]:
            del self._doubled[source]
