"""Which workers run tasks of several nodes together; pure.

A task of several nodes stands in its class queue as any other, and no worker takes it from there by itself. For each such task a *team* is
formed: so many workers of one group, those that do least, of which each has what is needed. Each is asked in, lets end what it runs, and
says in its heartbeat that it is ready. When all are, the first of them, the *root*, is told to take one message from that queue. When its
task has ended it leaves the team by itself, which is how its end is known, and the others are let go. Where other tasks wait, they have a
moment then to take some of those, before they are asked into the next team: so neither kind starves the other.

A team whose root is lost is over. One that loses another worker, or for which there is no task any more, is given up while its root has not
begun: the root is asked to leave, and says whether it did. Of the loss of another worker than the root a task that runs hears nothing.

Nothing of this is written down. Workers say in which team they are, so a coordinator that has just started adopts the teams of the roots
that it hears, gives those up that are not at work yet, and asks workers to leave any other, after a while also those whose root it has not
heard. What a worker says decides: it is asked until both agree.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from broker_jobs.coordinator.workers import ABSENT, WorkerState
from broker_jobs.core.resources import Pool
from broker_jobs.wire.messages import Member, SeatState, Team, TeamAsked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from broker_jobs.coordinator.workers import Worker
    from broker_jobs.core.request import Request
    from broker_jobs.core.spec import Lane
    from broker_jobs.wire.messages import Seat

REST: Final = 1.0
"""Seconds in which a worker that comes from a team is left to other tasks, if some wait."""

_URGENCY: Final = ("high", "normal", "low")


class Place(NamedTuple):
    """A class queue."""

    resource_class: str
    lane: Lane


class Key(NamedTuple):
    """A worker, until it starts again."""

    worker: str
    boot: str


@dataclass(frozen=True, slots=True)
class Demand:
    """Tasks of several nodes that are in a class queue and have not started.

    Attributes:
        tasks: how many
        since: when the first of them was published, in seconds
    """

    place: Place
    request: Request
    tasks: int
    since: float


@dataclass(slots=True, eq=False)
class Formation:
    """A team that is known.

    Attributes:
        seats: what its members have said
        complete: the root was told to take the task
        ending: the root was asked to leave
    """

    team: Team
    seats: dict[Key, SeatState] = field(default_factory=dict)
    complete: bool = False
    ending: bool = False

    @property
    def members(self) -> list[Key]:
        """Its workers, the root first."""
        return [Key(member.worker, member.boot) for member in self.team.members]

    @property
    def root(self) -> Key:
        """Where the task starts."""
        return self.members[0]

    @property
    def working(self) -> bool:
        """Whether it has started, as far as is known."""
        return self.seats.get(self.root) is SeatState.working

    def is_ready(self, member: Key) -> bool:
        """Whether a member has said that it runs nothing else."""
        return self.seats.get(member, SeatState.joining) is not SeatState.joining


class Teams:
    """All teams of one ledger.

    Args:
        workers: by name, as they are known
        prefix: of the names of teams; no other coordinator has or had it

    Attributes:
        workers: the same
        adopt_until: until then, roots that say they are in an unknown team are believed
    """

    def __init__(self, workers: Mapping[str, Worker], prefix: str) -> None:
        self.adopt_until = 0.0
        self.workers = workers
        self._prefix = prefix
        self._made = 0
        self._teams: dict[str, Formation] = {}
        self._of: dict[Key, Formation] = {}
        self._resting: dict[Key, float] = {}
        self._strangers: set[Key] = set()

    def __bool__(self) -> bool:
        return bool(self._teams)

    def of(self, worker: Worker) -> Formation | None:
        """The team of a worker."""
        return self._of.get(Key(worker.name, worker.boot))

    def names(self, worker: Worker) -> tuple[str, ...]:
        """The members of the team of a worker, the root first; none where it is in none."""
        formation = self.of(worker)
        return () if formation is None else tuple(member.worker for member in formation.members)

    def at(self, place: Place) -> list[Formation]:
        """Teams for the tasks of a queue that have not started."""
        return [each for each in self._teams.values() if _place(each) == place and not each.working]

    def due(self) -> float | None:
        """When the first worker has rested, in seconds; None where none does."""
        return min(self._resting.values(), default=None)

    def hear(self, worker: str, boot: str, seat: Seat | None, now: float) -> Iterator[TeamAsked]:
        """A worker has said in which team it is: what it and others must be told, where that is not what is wanted of it."""
        key = Key(worker, boot)
        formation = self._of.get(key)
        self._strangers.discard(key)
        if seat is not None and (formation is None or seat.team.name != formation.team.name):
            if now < self.adopt_until and key == Formation(seat.team).root:
                yield from self._adopt(key, seat, now)
            elif formation is None:
                self._strangers.add(key)
                if now >= self.adopt_until or self._was_heard(Formation(seat.team).root):
                    yield TeamAsked(*key)
            else:
                yield from self._is_not_in(key, formation, now)
        elif formation is not None and seat is None:
            yield from self._is_not_in(key, formation, now)
        elif formation is not None and seat is not None:
            formation.seats[key] = seat.state
            if key == formation.root and seat.state is SeatState.working:
                formation.complete = True
            elif key == formation.root and formation.ending:
                yield TeamAsked(*key)
            elif key == formation.root and formation.complete:
                yield TeamAsked(*key, formation.team, complete=True)

    def _is_not_in(self, key: Key, formation: Formation, now: float) -> Iterator[TeamAsked]:
        """A worker is not in its team: it has left it, or has not heard of it."""
        formation.seats.pop(key, None)
        if key == formation.root and (formation.complete or formation.ending):
            yield from self._disband(formation, now)
        elif not (formation.complete or formation.ending):
            yield TeamAsked(*key, formation.team)

    def plan(self, demands: Sequence[Demand], now: float, now_ms: int, *, others: bool) -> Iterator[TeamAsked]:
        """Let teams go on, give up those that cannot or need not, and form new ones.

        Args:
            now: seconds, of a clock that never goes back
            now_ms: milliseconds since 1970
            others: there are tasks of one worker that wait for their start
        """
        for formation in list(self._teams.values()):
            yield from self._go_on(formation, now)
        waiting: defaultdict[Place, list[Formation]] = defaultdict(list)
        for formation in self._teams.values():
            if not formation.ending and not formation.working:
                waiting[_place(formation)].append(formation)
        wanted = {demand.place: demand.tasks for demand in demands}
        for place, formations in waiting.items():
            for formation in formations[wanted.get(place, 0) :]:
                yield from self._end(formation)
        self._strangers = {key for key in self._strangers if self._is_there(key)}
        self._resting = {key: until for key, until in self._resting.items() if others and until > now}
        for demand in sorted(demands, key=lambda each: (_URGENCY.index(each.place.lane.value), each.since)):
            for _ in range(demand.tasks - len(waiting[demand.place])):
                members = self._choose(demand.request, now_ms)
                if not members:
                    break
                self._made += 1
                yield from self._form(Team(f"{self._prefix}-{self._made}", *demand.place, members))

    def able(self, request: Request, now_ms: int) -> dict[str, list[Worker]]:
        """Workers that could be in a team for such a request, by group, those that do least first."""
        found: defaultdict[str, list[Worker]] = defaultdict(list)
        least = min((variant.min_time for variant in request.alternatives), default=0)
        for worker in self.workers.values():
            lasts = worker.ends_ms is None or worker.ends_ms - now_ms >= least
            if worker.state is WorkerState.active and worker.teams and lasts and Pool(worker.resources).could_ever_fit(request):
                found[worker.group].append(worker)
        for workers in found.values():
            workers.sort(key=lambda worker: (len(worker.held), worker.name))
        return found

    def _choose(self, request: Request, now_ms: int) -> tuple[Member, ...]:
        """The workers of a new team: of the group in which they do least; none where there are too few."""
        chosen: list[list[Worker]] = []
        taken = self._of.keys() | self._resting.keys() | self._strangers
        for workers in self.able(request, now_ms).values():
            free = [worker for worker in workers if not {Key(worker.name, worker.boot)} & taken]
            if len(free) >= request.nodes:
                chosen.append(free[: request.nodes])
        best = min(chosen, key=lambda workers: (sum(len(worker.held) for worker in workers), workers[0].group), default=[])
        return tuple(Member(worker.name, worker.boot, worker.host.rpartition("/")[2]) for worker in best)

    def _form(self, team: Team) -> Iterator[TeamAsked]:
        formation = self._add(team)
        for member in formation.members:
            yield TeamAsked(*member, team)

    def _adopt(self, root: Key, seat: Seat, now: float) -> Iterator[TeamAsked]:
        """Believe a root that it has a team: of two with the same member, one that works."""
        rivals = {each.team.name: each for member in Formation(seat.team).members if (each := self._of.get(member))}
        if rivals and (seat.state is not SeatState.working or any(each.working for each in rivals.values())):
            # What it says it may have said before it heard of ours: who is told to leave must not be waited for meanwhile.
            mine = self._of.get(root)
            yield from self._is_not_in(root, mine, now) if mine is not None else [TeamAsked(*root)]
            return
        for each in rivals.values():
            yield from self._disband(each, now)
        formation = self._add(seat.team)
        formation.seats[root] = seat.state
        formation.complete = formation.working
        if not formation.working:
            # What its members say of it they may say no more: orders of coordinators before this one can still come to them.
            yield from self._end(formation)

    def _add(self, team: Team) -> Formation:
        formation = self._teams[team.name] = Formation(team)
        self._of.update(dict.fromkeys(formation.members, formation))
        return formation

    def _go_on(self, formation: Formation, now: float) -> Iterator[TeamAsked]:
        """See what has become of the members of a team."""
        if not self._is_there(formation.root):
            yield from self._disband(formation, now)
        elif formation.ending or formation.working:
            pass
        elif not all(self._is_there(member, staying=True) for member in formation.members):
            yield from self._end(formation)
        elif not formation.complete and all(map(formation.is_ready, formation.members)):
            formation.complete = True
            yield TeamAsked(*formation.root, formation.team, complete=True)

    def _is_there(self, key: Key, *, staying: bool = False) -> bool:
        worker = self.workers.get(key.worker)
        gone = ABSENT | {WorkerState.draining} if staying else ABSENT
        return worker is not None and worker.boot == key.boot and worker.state not in gone

    def _was_heard(self, root: Key) -> bool:
        """Whether this worker has said in which team it is; those that are known from rows alone are suspect."""
        worker = self.workers.get(root.worker)
        return worker is not None and (worker.boot != root.boot or worker.state is not WorkerState.suspect)

    @staticmethod
    def _end(formation: Formation) -> Iterator[TeamAsked]:
        """Give a team up, if its root agrees."""
        formation.ending = True
        yield TeamAsked(*formation.root)

    def _disband(self, formation: Formation, now: float) -> Iterator[TeamAsked]:
        """A team is over."""
        del self._teams[formation.team.name]
        for member in formation.members:
            del self._of[member]
            self._resting[member] = now + REST
            yield TeamAsked(*member)

    def check(self) -> None:
        """What must always be true; `AssertionError` where it is not."""
        places = Counter(member for formation in self._teams.values() for member in formation.members)
        assert all(count == 1 for count in places.values()), "nobody is in two teams"
        assert places.keys() == self._of.keys(), "both indices agree"
        assert all(self._teams.get(formation.team.name) is formation for formation in self._of.values()), "both indices agree"


def longest(one: Request, other: Request) -> Request:
    """That of two requests of a class which needs workers for longer."""
    return max(one, other, key=lambda request: max((variant.min_time for variant in request.alternatives), default=0))


def _place(formation: Formation) -> Place:
    return Place(formation.team.resource_class, formation.team.lane)
