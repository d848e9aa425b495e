"""Which faults happen to a deployment, to whom and when: everything follows from a seed; pure.

Faults run in lanes, so that windows of different lanes overlap. One lane is for the broker and what all stand on (its nodes, the disk of
the ledger), for the guarantees are about what comes back, and not about three nodes that wait for one another; the others are for
processes and their connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class Role(StrEnum):
    """What a fault can happen to."""

    worker = "worker"
    coordinator = "coordinator"
    submitter = "submitter"
    node = "node"
    store = "store"


class Kind(StrEnum):
    """What happens, and is over at the end of the window."""

    killed = "killed"
    """SIGKILL; started again."""
    frozen = "frozen"
    """SIGSTOP; SIGCONT."""
    rolled = "rolled"
    """SIGTERM, as for a new version; started again once it has ended."""
    stopped = "stopped"
    """A node, or the server of the ledger, in order; started again."""
    app_stopped = "app_stopped"
    """``rabbitmqctl stop_app``; ``start_app``."""
    closed = "closed"
    """All connections, by an operator."""
    cut = "cut"
    """Connections of a process are reset, and so are new ones."""
    delayed = "delayed"
    """What travels on them comes later."""
    throttled = "throttled"
    """…or in small pieces."""
    silent = "silent"
    """…or not at all, and nobody is told."""
    deaf = "deaf"
    """…or not what the broker says: messages come there, and their confirms do not come back."""
    memory_alarm = "memory_alarm"
    """A node has too little memory: no publisher is heard."""
    disk_alarm = "disk_alarm"
    """A node has too little disk: the same."""
    full = "full"
    """The disk of the ledger has no room."""
    clock_stepped = "clock_stepped"
    """The time of day of a process is another, by an hour."""


@dataclass(frozen=True, slots=True)
class Target:
    """One of those."""

    role: Role
    index: int = 0

    def __str__(self) -> str:
        return f"{self.role}-{self.index}"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to whom, and from when to when, in seconds from the beginning."""

    kind: Kind
    target: Target
    begins: float
    ends: float

    def __str__(self) -> str:
        return f"{self.kind} {self.target}"


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast faults follow one another, in seconds.

    Attributes:
        lanes: faults of processes at a time
        window: how long one takes, at least and at most
        gap: how long a lane rests between two
        ground_gap: the same for the lane of the broker, which a node takes seconds to leave
        rest: how long a target is left alone after a fault, so that its recovery can be seen
        quiet: how long nothing happens at first
    """

    lanes: int
    window: tuple[float, float]
    gap: tuple[float, float]
    ground_gap: tuple[float, float]
    rest: float
    quiet: float = 2.0


LONG: Final = Pace(lanes=2, window=(1.0, 14.0), gap=(4.0, 14.0), ground_gap=(8.0, 16.0), rest=30.0)
SHORT: Final = Pace(lanes=2, window=(0.5, 2.5), gap=(0.2, 0.8), ground_gap=(6.0, 8.0), rest=9.0)
"""A frozen node is not noticed in so short a time, and partitions nothing."""

_PROCESSES: Final[Mapping[Kind, tuple[Role, ...]]] = {
    Kind.killed: (Role.worker, Role.coordinator, Role.submitter),
    Kind.frozen: (Role.worker, Role.coordinator, Role.submitter),
    Kind.rolled: (Role.worker,),
    Kind.cut: (Role.worker, Role.coordinator, Role.submitter),
    Kind.delayed: (Role.worker, Role.coordinator, Role.submitter),
    Kind.throttled: (Role.worker, Role.coordinator, Role.submitter),
    Kind.silent: (Role.worker, Role.coordinator, Role.submitter),
    Kind.deaf: (Role.worker, Role.coordinator, Role.submitter),
    Kind.clock_stepped: (Role.worker, Role.coordinator),
}
_GROUND: Final[Mapping[Kind, tuple[Role, ...]]] = {
    Kind.killed: (Role.node, Role.store),
    Kind.frozen: (Role.node,),
    Kind.stopped: (Role.node, Role.store),
    Kind.app_stopped: (Role.node,),
    Kind.closed: (Role.node,),
    Kind.memory_alarm: (Role.node,),
    Kind.disk_alarm: (Role.node,),
    Kind.full: (Role.store,),
}


def can_be(kind: Kind, role: Role) -> bool:
    """Whether such a fault happens to such a target anywhere."""
    return role in _PROCESSES.get(kind, ()) or role in _GROUND.get(kind, ())


def can_step(target: Target) -> bool:
    """Whether the clock of a process can be another: that of one worker, and of one coordinator."""
    return target in {Target(Role.worker), Target(Role.coordinator)}


SHARED: Final = frozenset({Role.node, Role.store, Role.coordinator})
"""Roles that all of a partition need: while one of them is troubled, nobody's recovery there is measured."""


def partition_for(index: int, partitions: int) -> int:
    """The partition of the ledger of a coordinator or a submitter with this number: they take turns."""
    return index % partitions


def concerned(target: Target, partitions: int) -> set[int]:
    """Partitions of the ledger that work with a target."""
    if target.role in {Role.coordinator, Role.submitter}:
        return {partition_for(target.index, partitions)}
    return set(range(partitions))


def schedule(
    seed: int, seconds: float, crowd: Mapping[Role, int], pace: Pace, impossible: Collection[tuple[Kind, Role]] = ()
) -> list[Fault]:
    """The faults of a run, by their beginnings; all are over after `seconds`.

    Args:
        crowd: how many there are of each role
        impossible: what cannot be done to whom, here
    """
    chance = Random(seed)
    decks = [_Deck(chance, _GROUND, impossible), *[_Deck(chance, _PROCESSES, impossible)] * pace.lanes]
    gaps = [pace.ground_gap] + [pace.gap] * pace.lanes
    clocks = [pace.quiet + chance.uniform(*pace.gap) for _ in decks]
    free = {Target(role, index): 0.0 for role, count in crowd.items() for index in range(count)}
    found: list[Fault] = []
    while min(clocks) < seconds:
        lane = clocks.index(min(clocks))
        begins = clocks[lane]
        ends = begins + chance.uniform(*pace.window)
        clocks[lane] = ends + chance.uniform(*gaps[lane])
        choice = decks[lane].draw([target for target, since in free.items() if since <= begins])
        if choice is None or ends > seconds:
            continue
        fault = Fault(*choice, begins, ends)
        free[fault.target] = ends + pace.rest
        found.append(fault)
    return sorted(found, key=lambda fault: fault.begins)


class _Deck:
    """Kinds and roles in a random order, each once before any comes again: rare ones come, too."""

    def __init__(self, chance: Random, table: Mapping[Kind, tuple[Role, ...]], impossible: Collection[tuple[Kind, Role]]) -> None:
        self._chance = chance
        self._all = [(kind, role) for kind, roles in table.items() for role in roles if (kind, role) not in impossible]
        self._left: list[tuple[Kind, Role]] = []

    def draw(self, free: list[Target]) -> tuple[Kind, Target] | None:
        """The next one for which somebody is free."""
        for renewed in (False, True):
            if renewed:
                self._left += self._chance.sample(self._all, len(self._all))
            for place, (kind, role) in enumerate(self._left):
                wanted = [target for target in free if target.role is role and (kind is not Kind.clock_stepped or can_step(target))]
                if wanted:
                    del self._left[place]
                    return kind, self._chance.choice(wanted)
        return None
