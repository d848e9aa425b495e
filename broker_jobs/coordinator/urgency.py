"""Which ready task of a job with priorities goes out next; pure.

What stands in a class queue cannot be overtaken any more. So a job whose tasks differ in priority has no more tasks out than all
workers can run at once, as if they were there for it alone, and a few more where its tasks are quick. The others wait in the
ledger, where the most urgent comes first, whenever it became ready.

Classes of such a job compete for the same processors. A less urgent task does not go out where a more urgent one of another class,
which found no room, would have to wait for it; it may use what the more urgent one has no use for. What no worker could ever run
holds nothing back.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from broker_jobs.coordinator.window import Group

AHEAD_MS: Final = 100
"""So much work may be out beyond what runs: it covers the way from a worker to the ledger and back."""

MOST_AHEAD: Final = 16
"""Tasks that may be out for each one that runs, however quick they are."""


@dataclass(slots=True)
class Pace:
    """How long tasks of a class queue run: of the latest ones, rather too long than too short."""

    _ms: dict[str, float] = field(default_factory=dict)

    def ran(self, queue: str, ms: int) -> None:
        """A task of this queue ran so long."""
        before = self._ms.get(queue, 0.0)
        self._ms[queue] = max(float(ms), before + (ms - before) / 8)

    def ahead(self, queue: str) -> float:
        """How many tasks may be out for each one that runs; none before one has ended."""
        ms = self._ms.get(queue)
        return 0.0 if ms is None else min(float(MOST_AHEAD), AHEAD_MS / max(1.0, ms))


@dataclass(frozen=True, slots=True)
class Fleet:
    """All workers that are there.

    Attributes:
        total: what they have together
        slots: how many tasks of a group they can run at once
        needs: what one task of a group takes of it
    """

    total: Mapping[str, int]
    slots: Callable[[Group], int]
    needs: Callable[[Group], Mapping[str, int]]


def choose(tops: Iterable[Group], out: Mapping[Group, int], fleet: Fleet, pace: Pace) -> tuple[Group, int] | None:
    """The group whose first task goes out now, and how many of its tasks may; None where all must wait.

    Args:
        tops: the most urgent group with ready tasks of each class queue, the most urgent first
        out: tasks that have left the ledger and have not ended
    """
    standing: Counter[str] = Counter()
    for group, count in out.items():
        standing[group.queue] += count
    held_back: list[Group] = []
    for group in tops:
        slots = fleet.slots(group)
        if not slots:
            # One may stand in its queue until a worker comes that can run it.
            if not standing[group.queue]:
                return group, 1
            continue
        more = 1 + pace.ahead(group.queue)
        room = min(int(slots * more) - standing[group.queue], _room(group, out, fleet, more))
        for urgent in held_back:
            if urgent.priority > group.priority:
                room = min(room, _spared(group, urgent, out, fleet))
        if room > 0:
            return group, room
        held_back.append(group)
    return None


def _room(group: Group, out: Mapping[Group, int], fleet: Fleet, more: float) -> int:
    """How many tasks of a group all workers have room for, beside what is out."""
    taken = _taken(out, fleet)
    return min((int(fleet.total[name] * more - taken[name]) // amount for name, amount in fleet.needs(group).items()), default=1)


def _spared(group: Group, urgent: Group, out: Mapping[Group, int], fleet: Fleet) -> int:
    """How many tasks of a group may be out without one of a more urgent group having to wait for them."""
    taken = _taken({other: count for other, count in out.items() if other.priority < urgent.priority}, fleet)
    wanted = fleet.needs(urgent)
    shared = ((name, amount) for name, amount in fleet.needs(group).items() if name in wanted)
    return min(((fleet.total[name] - taken[name] - wanted[name]) // amount for name, amount in shared), default=1)


def _taken(out: Mapping[Group, int], fleet: Fleet) -> Counter[str]:
    """What tasks hold or will hold; those that nobody could run take nothing from others."""
    taken: Counter[str] = Counter()
    for group, count in out.items():
        if not fleet.slots(group):
            continue
        for name, amount in fleet.needs(group).items():
            taken[name] += count * amount
    return taken
