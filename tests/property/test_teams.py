"""Teams between workers that die, drain and start again, a coordinator that is killed, and messages that get lost.

The seats are those of real workers; everything else of a worker is a flag. Messages between two parties keep their order, and any may be
lost.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker_jobs.coordinator.teams import REST, Demand, Place, Teams
from broker_jobs.coordinator.workers import AskHello, Worker, Workers
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import Need, Request, Variant
from broker_jobs.core.resource_class import class_name
from broker_jobs.core.resources import Resources
from broker_jobs.core.spec import Lane
from broker_jobs.wire.messages import Heartbeat, Held, Hello, TeamAsked, Token
from broker_jobs_worker.machine.seating import Seating
from broker_jobs_worker.machine.state import Source

GRACE = 3.0
TOTAL = Resources((("cpus", 2 * UNIT),))
GROUPS = {"w0": "a", "w1": "a", "w2": "a", "w3": "a", "w4": "b"}
REQUESTS = {nodes: Request.of((Variant((Need("cpus", UNIT),), nodes=nodes),)) for nodes in (1, 2, 3)}
PLACES = {nodes: Place(class_name(request), Lane.normal) for nodes, request in REQUESTS.items()}
ONE = Request()
workers = st.sampled_from(sorted(GROUPS))
sizes = st.sampled_from(sorted(REQUESTS))


@dataclass
class Player:
    """A worker."""

    name: str
    boot: str
    seating: Seating
    busy: bool = False
    task: int | None = None
    draining: bool = False
    alive: bool = True
    inbox: deque[TeamAsked] = field(default_factory=deque)

    @property
    def idle(self) -> bool:
        return not self.busy and self.task is None


class TeamStory(RuleBasedStateMachine):
    """Anything that can happen to teams, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.boots = 0
        self.tasks = 0
        self.queued: dict[int, int] = {}
        """Tasks in class queues, with their numbers of nodes."""
        self.reported: set[int] = set()
        """Tasks whose start the coordinator knows."""
        self.taken: dict[int, int] = {}
        self.post: deque[Hello | Heartbeat | Token] = deque()
        self.players: dict[str, Player] = {}
        self.others = False
        self.workers = Workers(GRACE)
        self.teams = Teams(self.workers.known, "c0")
        for name in GROUPS:
            self._start(name)
        self._deliver_post()

    # --- workers ---

    def _start(self, name: str) -> None:
        self.boots += 1
        self.players[name] = Player(name, f"b{self.boots}", Seating(name))
        self._hello(self.players[name])

    def _hello(self, player: Player) -> None:
        free, held = TOTAL, self._held(player)
        self.post.append(
            Hello(
                player.name,
                player.boot,
                f"machine/{player.name}",
                1,
                "0.2.0",
                TOTAL,
                free,
                held,
                player.draining,
                GROUPS[player.name],
                teams=True,
                seat=player.seating.seat,
            )
        )

    def _beat(self, player: Player) -> None:
        self.post.append(Heartbeat(player.name, player.boot, TOTAL, self._held(player), player.draining, player.seating.seat))

    @staticmethod
    def _held(player: Player) -> tuple[Held, ...]:
        return (Held("job", 0, 1),) if player.busy else ()

    def _look(self, player: Player) -> None:
        if player.seating.look(idle=player.idle):
            self._beat(player)

    @rule(name=workers)
    def beat(self, name: str) -> None:
        if self.players[name].alive:
            self._beat(self.players[name])

    @rule(name=workers)
    def hear(self, name: str) -> None:
        """A worker gets the oldest message for it."""
        player = self.players[name]
        if not player.inbox or not player.alive:
            return
        asked = player.inbox.popleft()
        if (asked.worker, asked.boot) != (player.name, player.boot) or (asked.team is not None and player.draining):
            return
        if player.seating.ask(asked.team, complete=asked.complete, at_work=player.seating.root and not player.idle):
            self._beat(player)
        self._look(player)

    @rule(name=workers)
    def lose_order(self, name: str) -> None:
        if self.players[name].inbox:
            self.players[name].inbox.popleft()

    @rule(name=workers)
    def start_something(self, name: str) -> None:
        """A worker starts a task of another class."""
        player = self.players[name]
        if player.alive and player.idle and not player.draining and not player.seating.closes(Source(class_name(ONE), Lane.normal), ONE):
            player.busy = True

    @rule(name=workers)
    def end_something(self, name: str) -> None:
        player = self.players[name]
        player.busy = False
        if player.alive:
            self._look(player)

    @rule(name=workers, nodes=sizes)
    def take(self, name: str, nodes: int) -> None:
        """A root takes the oldest message of its queue."""
        player = self.players[name]
        task = next((task for task, wanted in self.queued.items() if wanted == nodes), None)
        if task is None or not player.alive or player.seating.closes(Source(*PLACES[nodes]), REQUESTS[nodes]):
            return
        assert player.idle, "a root whose team is ready does nothing else"
        del self.queued[task]
        self.taken[task] = nodes
        player.task = task
        player.seating.started()
        self._beat(player)

    @rule(name=workers)
    def report(self, name: str) -> None:
        """The reply of a root comes, before or after its heartbeat."""
        task = self.players[name].task
        if task is not None:
            self.reported.add(task)

    @rule(name=workers)
    def end(self, name: str) -> None:
        player = self.players[name]
        if player.task is not None:
            self._over(player)
            self._look(player)

    def _over(self, player: Player) -> None:
        assert player.task is not None
        del self.taken[player.task]
        player.task = None

    @rule(name=workers)
    def die(self, name: str) -> None:
        """A worker is killed; its messages that are on their way come, then its token, and it starts again some time."""
        player = self.players[name]
        if not player.alive:
            return
        player.alive = player.busy = False
        player.inbox.clear()
        if player.task is not None:
            self.queued[player.task] = self.taken[player.task]
            self.reported.discard(player.task)
            self._over(player)
        self.post.append(Token(player.name, player.boot))

    @rule(name=workers)
    def start(self, name: str) -> None:
        if not self.players[name].alive:
            self._start(name)

    @rule(name=workers)
    def drain(self, name: str) -> None:
        player = self.players[name]
        player.draining = True
        if player.seating.root and not player.seating.working:
            player.seating.leave()

    # --- tasks ---

    @rule(nodes=sizes)
    def submit(self, nodes: int) -> None:
        self.tasks += 1
        self.queued[self.tasks] = nodes

    @rule(nodes=sizes, rounds=st.integers(1, 4))
    def submit_and_go_on(self, nodes: int, rounds: int) -> None:
        self.submit(nodes)
        self.go_on(rounds)

    @rule(rounds=st.integers(1, 2))
    def go_on(self, rounds: int) -> None:
        """For a while everything arrives, and roots take what there is."""
        for _ in range(rounds):
            self._deliver_post()
            self._plan()
            for name, player in self.players.items():
                while player.inbox and player.alive:
                    self.hear(name)
                for nodes in REQUESTS:
                    self.take(name, nodes)

    @precondition(lambda self: self.queued)
    @rule()
    def cancel(self) -> None:
        self.queued.pop(next(iter(self.queued)))

    # --- the coordinator ---

    @rule()
    def deliver(self) -> None:
        """The coordinator handles a batch of one message."""
        if self.post:
            self._take(self.post.popleft())
        self._plan()

    @rule()
    def lose_message(self) -> None:
        if self.post and isinstance(self.post[0], Heartbeat):
            self.post.popleft()

    @rule(others=st.booleans())
    def plan(self, others: bool) -> None:
        self.others = others
        self._plan()

    @rule()
    def restart_coordinator(self) -> None:
        """It is killed: all that it knew but its rows is gone."""
        rows = list(self.workers.known.values())
        self.boots += 1
        self.workers = Workers(GRACE)
        self.workers.restore(
            (Worker(row.name, row.boot, row.state, self.now, 0, row.host, resources=row.resources) for row in rows), self.now + GRACE
        )
        self.teams = Teams(self.workers.known, f"c{self.boots}")
        self.teams.adopt_until = self.now + GRACE
        for player in self.players.values():
            if player.alive:
                self._hello(player)

    @rule()
    def pass_time(self) -> None:
        self._deliver_post()
        self.now += GRACE
        for command in list(self.workers.tick(self.now)):
            # Who has said nothing for a minute is asked for a hello, and lost only if none comes.
            if isinstance(command, AskHello) and self.players[command.worker].alive:
                self._hello(self.players[command.worker])
        self._plan()

    def _take(self, message: Hello | Heartbeat | Token) -> None:
        list(self.workers.hear(message, self.now, 0))
        if not isinstance(message, Token):
            self._ask(list(self.teams.hear(message.worker, message.boot, message.seat, self.now)))

    def _deliver_post(self) -> None:
        while self.post:
            self._take(self.post.popleft())

    def _plan(self) -> None:
        demands = []
        for nodes, place in PLACES.items():
            count = sum(wanted == nodes for task, wanted in {**self.queued, **self.taken}.items() if task not in self.reported)
            if count:
                demands.append(Demand(place, REQUESTS[nodes], count, 0.0))
        self._ask(list(self.teams.plan(demands, self.now, 0, others=self.others)))
        self.teams.check()

    def _ask(self, orders: list[TeamAsked]) -> None:
        for asked in orders:
            player = self.players[asked.worker]
            if player.alive:
                player.inbox.append(asked)

    # --- what must always be true ---

    @invariant()
    def a_task_has_all_of_its_workers(self) -> None:
        for player in self.players.values():
            if player.task is None or not player.alive:
                continue
            team = player.seating.team
            assert team is not None, "a task of several nodes runs in a team"
            assert len(team.members) == self.taken[player.task], "as large as it wants"
            for member in team.members:
                other = self.players[member.worker]
                if other.boot == member.boot and other.alive:
                    assert other.seating.team == team, "all that are alive are in it"
                    assert not other.busy, "and do nothing else"
                    assert other is player or other.task is None, "and do nothing else"

    def teardown(self) -> None:
        """When nothing is lost any more, every task runs for which there are workers, and in the end nobody is in a team."""
        for name, player in list(self.players.items()):
            player.draining = False
            if not player.alive:
                self._start(name)
        for _ in range(60 + 30 * len(self.queued)):
            self._settle()
        assert not self.queued, "every task gets its workers"
        assert not self.taken
        assert not any(player.seating.team for player in self.players.values()), "nobody stays in a team"
        assert not self.teams

    def _settle(self) -> None:
        """A round in which everything arrives."""
        for name, player in self.players.items():
            while player.inbox:
                self.hear(name)
            self.end_something(name)
            self.report(name)
            self.end(name)
            for nodes in REQUESTS:
                self.take(name, nodes)
            self.a_task_has_all_of_its_workers()
            self._beat(player)
        self._deliver_post()
        self.now += max(GRACE, REST)
        list(self.workers.tick(self.now))
        self._plan()


TeamStory.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
TestTeamStory = TeamStory.TestCase


def test_what_was_said_of_a_team_to_one_coordinator_is_not_believed_by_the_next() -> None:
    """Two have died whose orders are still on their way: a worker says that it is ready in one team, and then goes to the other one."""
    story = TeamStory()
    story.drain("w0")
    story.submit(2)
    story.deliver()
    story.restart_coordinator()
    story.deliver()
    story.submit(1)
    story.deliver()
    story.restart_coordinator()
    story.teardown()


def test_who_is_asked_into_a_team_is_not_told_to_leave_for_what_it_said_before() -> None:
    """The root of a team of the coordinator before goes to one of the next, which hears only then that it was in the other."""
    story = TeamStory()
    story.submit(3)
    story.die("w2")
    story.plan(others=False)
    story.go_on(rounds=1)
    story.submit_and_go_on(nodes=2, rounds=1)
    story.start("w2")
    story.deliver()
    story.hear("w0")
    story.restart_coordinator()
    story.go_on(rounds=2)
    story.a_task_has_all_of_its_workers()
    story.teardown()
