"""From which queues a worker takes chunks, and how many at once.

The right credit of a queue is how many of its tasks could run now: those that run already, and those that fit into what is
free. As long as all work is of one kind, that is constant, so nothing changes. A change counts when it has lasted for a
moment, since every change ends a consumer and begins another.

A queue for which nothing is free is not consumed: an idle worker shall have its chunks. So that busy workers do not leave it
waiting for ever, it is *probed* now and then: consumed for a moment with a credit of one, behind all others. What comes is
older than most of what waits here, and starts when resources are free in time; `reservation` says how long it waits.

What tasks of lower lanes hold is as good as free: the next of them that ends makes room. Such a queue is consumed behind others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from broker_jobs.core.spec import Lane
from broker_jobs_worker.machine.commands import Subscribe, Unsubscribe
from broker_jobs_worker.machine.state import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broker_jobs.core.request import Request
    from broker_jobs_worker.machine.commands import Command
    from broker_jobs_worker.machine.room import Room
    from broker_jobs_worker.machine.state import Timing

CREDIT_LIMIT: Final = 64
FIRST_PROBE: Final = 0.5
RAREST_PROBE: Final = 30.0
PROBE_LASTS: Final = 0.1
FIRST_AWAY: Final = 5.0
LONGEST_AWAY: Final = 60.0
CLOSED_FOR: Final = 5.0
"""Seconds for which a queue that could not be consumed is left alone."""


@dataclass(slots=True)
class _Line:
    """One queue.

    Attributes:
        credit: 0 where it is not consumed
        behind: other workers come first
        differs_since: when the credit began to be another than the right one; None where it is right
        probe_at: when to look into it next, while nothing is free for it
        probe_until: end of the present look
        pause: between two looks
        closed_until: it could not be consumed, or what came from it cannot run here
        away: for how long it was left alone, while what comes from it cannot run here
    """

    credit: int = 0
    behind: bool = False
    differs_since: float | None = float("-inf")
    probe_at: float = float("-inf")
    probe_until: float = float("-inf")
    pause: float = FIRST_PROBE
    closed_until: float = float("-inf")
    away: float = 0.0


class CreditBook:
    """The queues of a worker.

    Args:
        timing: how long a change must last
    """

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._needs: dict[str, Request] = {}
        self._lines: dict[Source, _Line] = {}

    @property
    def subscribed(self) -> dict[Source, int]:
        """Queues that are consumed, with their credit."""
        return {source: line.credit for source, line in self._lines.items() if line.credit}

    def open(self, resource_class: str, needs: Request) -> None:
        """Consume the queues of a class from now on; the caller has seen that its tasks could ever run here."""
        self._needs[resource_class] = needs
        for lane in Lane:
            self._lines.setdefault(Source(resource_class, lane), _Line())

    def leave_off(self, resource_class: str) -> Iterator[Command]:
        """The queues of a class are others now: consume them anew, as soon as `adjust` is called."""
        for lane in Lane:
            line = self._lines.get(Source(resource_class, lane))
            if line is not None and line.credit:
                yield Unsubscribe(resource_class, lane)
                line.credit, line.differs_since = 0, float("-inf")

    def adjust(self, now: float, rooms: Callable[[Source, Request], Room]) -> Iterator[Command]:
        """Change what has been wrong for long enough."""
        for source, line in self._lines.items():
            room = rooms(source, self._needs[source.resource_class])
            right = min(CREDIT_LIMIT, room.tasks), room.behind
            if now < line.closed_until:
                continue
            if room.tasks:
                line.pause, line.probe_at = FIRST_PROBE, now + FIRST_PROBE
            elif room.closed:
                pass
            elif now < line.probe_until:
                right = 1, True
            elif line.credit == 0 and now >= line.probe_at:
                line.probe_until, line.probe_at = now + PROBE_LASTS, now + PROBE_LASTS + line.pause
                line.pause = min(2 * line.pause, RAREST_PROBE)
                line.differs_since, right = float("-inf"), (1, True)
            yield from self._change(source, line, *right, now)

    def close(self) -> Iterator[Command]:
        """Consume nothing, until `adjust` is called again."""
        for source, line in self._lines.items():
            if line.credit:
                yield Unsubscribe(*source)
            self._lines[source] = _Line()

    def failed(self, source: Source, now: float) -> None:
        """Leave a queue alone that could not be consumed."""
        self._lines[source] = _Line(closed_until=now + CLOSED_FOR)

    def leave(self, source: Source, now: float) -> Iterator[Command]:
        """Leave a queue alone for a moment, a longer one each time: what came from it is for other workers."""
        line = self._lines.get(source)
        if line is None or now < line.closed_until:
            return
        if line.credit:
            yield Unsubscribe(*source)
        away = min(2 * line.away or FIRST_AWAY, LONGEST_AWAY)
        self._lines[source] = _Line(closed_until=now + away, away=away)

    def stay(self, source: Source) -> None:
        """What came from a queue can run here."""
        if source in self._lines:
            self._lines[source].away = 0.0

    def _change(self, source: Source, line: _Line, right: int, behind: bool, now: float) -> Iterator[Command]:  # noqa: FBT001 (of `Room`)
        if (right, behind) == (line.credit, line.behind):
            line.differs_since = None
            return
        if line.differs_since is None:
            line.differs_since = now
        lasting = self._timing.settle_down if right == 0 or line.credit == 0 else self._timing.patience
        if now - line.differs_since < lasting:
            return
        if line.credit:
            yield Unsubscribe(*source)
        if right:
            yield Subscribe(*source, right, behind)
        line.credit, line.behind, line.differs_since = right, behind, None
