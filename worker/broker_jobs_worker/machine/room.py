"""How many tasks of each queue a worker has room for, now."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from broker_jobs_worker.machine.state import below

if TYPE_CHECKING:
    from broker_jobs.core.request import Request
    from broker_jobs.core.resources import Pool
    from broker_jobs.core.spec import Lane
    from broker_jobs_worker.machine.holdings import Holdings
    from broker_jobs_worker.machine.reservation import Reservations
    from broker_jobs_worker.machine.seating import Seating
    from broker_jobs_worker.machine.state import Source


class Room(NamedTuple):
    """What a worker has for a queue.

    Attributes:
        tasks: those that run, their message being held, and those that could start now
        behind: it is only what lower lanes will give up, so workers that have something free come first
        closed: resources are kept for something else
    """

    tasks: int
    behind: bool = False
    closed: bool = False


class Rooms:
    """Says the room of each queue, as it is at one moment.

    Args:
        ends: the worker ends some day, so that others come first for tasks that need a worker for a certain time
    """

    def __init__(self, have: Holdings, reservations: Reservations, seating: Seating, *, ends: bool = False) -> None:
        self._have = have
        self._ends = ends
        self._reservations = reservations
        self._seating = seating
        self._pools: dict[Lane, Pool | None] = {}

    def __call__(self, source: Source, needs: Request) -> Room:
        """The room of a queue."""
        if self._seating.closes(source, needs):
            return Room(0, closed=True)
        busy = self._have.held(source)
        if self._reservations.closes(source):
            return Room(busy, closed=True)
        free = self._have.pool.how_many(needs)
        if free:
            return Room(busy + free, behind=self._ends and needs.lasting)
        pool = self._without_lower(source.lane)
        more = pool.how_many(needs) if pool else 0
        if pool and busy + more:
            # For each that runs, the next is here already: else one of a lower lane would start before the broker has sent it.
            return Room(2 * (busy + more), behind=True)
        if not more and self._reservations.source == source:
            # Its chunk may come again.
            more = 1
        return Room(busy + more, behind=bool(more))

    def _without_lower(self, lane: Lane) -> Pool | None:
        """What would be free if nothing of lower lanes ran; None where nothing of them does."""
        if lane not in self._pools:
            self._pools[lane] = self._have.without(below(lane)) if self._have.displaces(lane) else None
        return self._pools[lane]
