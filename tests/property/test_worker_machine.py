"""The worker's machine between a broker that loses connections, a coordinator that changes its mind, and tasks that end as they like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from broker_jobs.core.outcome import Canceled, Cause, Crashed, Failed, Succeeded
from broker_jobs.core.spec import Lane
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.ids import partition_of
from broker_jobs.wire.messages import ClassOpened, DrainAsked, Ended, HelloAsked, Returned, Revocation, Revoked, SeatState
from broker_jobs_worker.executors.port import ExecutionProgressed
from broker_jobs_worker.machine.events import DrainRequested, StopRequested, SubscribeFailed
from broker_jobs_worker.machine.state import Lifetime, OnBrokerLost, Timing
from tests.support.worker_world import (
    ELSEWHERE,
    MEMORY,
    NODES,
    ONE_CPU,
    OTHER_TEAM,
    OWN_TEAM,
    TOO_MUCH,
    TWO_CPUS,
    World,
    keys_of,
    make_chunk,
    resource_class,
)

if TYPE_CHECKING:
    from broker_jobs.core.outcome import Outcome
    from broker_jobs.core.request import Request
    from broker_jobs.wire.messages import Team

JOBS = ("0" * 31 + "1", "0" * 31 + "2", ELSEWHERE)
VALUE = Inline(Encoding.msgpack, b"x")
OUTCOMES: tuple[Outcome, ...] = (Succeeded(), Succeeded(VALUE), Failed(Cause.error, "no"), Crashed("gone"))

needs = st.sampled_from([ONE_CPU, TWO_CPUS, MEMORY, NODES])
lanes = st.sampled_from(list(Lane))
index = st.integers(0, 1_000_000)


class WorkerStory(RuleBasedStateMachine):
    """Anything that can happen to a worker, in any order."""

    def __init__(self) -> None:
        super().__init__()
        # Everything that takes long is within reach of one step.
        self.world = World(
            Timing(taken_after=0.55, hello_again=0.5, alone_after=1.0, heartbeat=0.5, grace=0.55, warm_up=0.5, stop_within=5.0),
            longest_line=3,
        )
        self.next_task = 0

    @initialize(
        idle_timeout=st.sampled_from([None, 1.0]),
        ends_at=st.sampled_from([None, None, 1005.0]),
        on_broker_lost=st.sampled_from(list(OnBrokerLost)),
    )
    def begin(self, idle_timeout: float | None, ends_at: float | None, on_broker_lost: OnBrokerLost) -> None:
        self.world.live(Lifetime(idle_timeout, ends_at, on_broker_lost))
        self.world.begin(ONE_CPU, TWO_CPUS, TOO_MUCH, NODES)

    # --- work comes ---

    @rule(
        job=st.sampled_from(JOBS),
        needs=needs,
        lane=lanes,
        count=st.integers(1, 7),
        isolated=st.booleans(),
        redelivered=st.booleans(),
        functions=st.sampled_from(["", "f", "f", "ffg"]),
        chained=st.booleans(),
    )
    def submit(
        self, job: str, needs: Request, lane: Lane, count: int, isolated: bool, redelivered: bool, functions: str, chained: bool
    ) -> None:
        count = 1 if isolated else count
        numbers = range(self.next_task, self.next_task + count)
        self.next_task += count
        chain = count - 1 if chained and needs is not NODES else 0
        self.world.put(
            make_chunk(*numbers, job=job, needs=needs, lane=lane, isolated=isolated, functions=functions, chain=chain),
            redelivered=redelivered,
        )
        self.deliver_all()

    @rule()
    def deliver_all(self) -> None:
        while sources := self.world.deliverable():
            self.world.deliver(sources[0])

    @precondition(lambda self: self.world.connected and self.world.exit is None and self.world.queued())
    @rule(pick=index)
    def deliver_late(self, pick: int) -> None:
        """A message was on its way when its queue was given up."""
        sources = self.world.queued()
        self.world.deliver(sources[pick % len(sources)])

    @precondition(lambda self: self.world.history and self.world.connected and self.world.exit is None)
    @rule(pick=index, redelivered=st.booleans())
    def copy(self, pick: int, redelivered: bool) -> None:
        """The same message comes twice."""
        self.world.arrive(self.world.history[pick % len(self.world.history)], redelivered=redelivered)

    # --- tasks end ---

    @precondition(lambda self: self.world.executions)
    @rule(pick=index, outcome=st.sampled_from(OUTCOMES), took=st.sampled_from([0, 0, 5, 100]))
    def end(self, pick: int, outcome: Outcome, took: int) -> None:
        names = self.world.endable()
        self.world.end(names[pick % len(names)], outcome, took)

    @precondition(lambda self: self.world.executions)
    @rule(pick=index, count=st.integers(2, 4))
    def end_several(self, pick: int, count: int) -> None:
        """The first ones of a line end at one moment."""
        names = self.world.endable()
        self.world.end_several(list(self.world.line_of(names[pick % len(names)])[:count]), Succeeded())

    @precondition(lambda self: self.followed())
    @rule(pick=index, count=st.integers(1, 4), took=st.sampled_from([0, 0, 5, 100]))
    def succeed(self, pick: int, count: int, took: int) -> None:
        """The first ones of a line have succeeded, and another one runs."""
        names = self.followed()
        self.world.succeed(list(self.world.line_of(names[pick % len(names)])[:-1][:count]), took)

    @rule(job=st.sampled_from(JOBS), count=st.integers(2, 5), functions=st.sampled_from(["", "f", "fg"]), ends=st.integers(0, 4))
    def submit_chain(self, job: str, count: int, functions: str, ends: int) -> None:
        """Tasks follow one another, and the first ones succeed at once."""
        numbers = range(self.next_task, self.next_task + count)
        self.next_task += count
        self.world.put(make_chunk(*numbers, job=job, functions=functions, chain=count - 1))
        self.deliver_all()
        for number in numbers[:ends]:
            names = [name for name, start in self.world.executions.items() if start.execution.task == number]
            for name in names:
                self.world.end(name, Succeeded(VALUE), 0)

    @precondition(lambda self: self.chained())
    @rule(pick=index, outcome=st.sampled_from(OUTCOMES))
    def end_in_chain(self, pick: int, outcome: Outcome) -> None:
        names = self.chained()
        self.world.end(names[pick % len(names)], outcome, 0)

    def chained(self) -> list[str]:
        return [name for name, attempt in self.world.machine._have.running.items() if attempt.state.chain is not None]  # noqa: SLF001

    def followed(self) -> list[str]:
        return [name for name in self.world.endable() if len(self.world.line_of(name)) > 1]

    @precondition(lambda self: self.world.recalls and self.world.exit is None)
    @rule(begun=st.integers(0, 2))
    def give_back(self, begun: int) -> None:
        """What of a line has not begun is free again."""
        self.world.give_back(begun)

    @precondition(lambda self: self.world.stopping & self.world.executions.keys())
    @rule(pick=index)
    def end_stopped(self, pick: int) -> None:
        names = sorted(self.world.stopping & self.world.executions.keys())
        self.world.end(names[pick % len(names)], Canceled("stopped"))

    @precondition(lambda self: self.world.executions)
    @rule(pick=index)
    def progress(self, pick: int) -> None:
        names = list(self.world.executions)
        self.world.tell(ExecutionProgressed(names[pick % len(names)], 0.5, "half"))

    # --- the broker ---

    @precondition(lambda self: self.world.published and self.world.connected)
    @rule(pick=index)
    def confirm(self, pick: int) -> None:
        numbers = list(self.world.published)
        self.world.confirm(numbers[pick % len(numbers)])

    @precondition(lambda self: self.world.published and self.world.connected)
    @rule(pick=index)
    def refuse(self, pick: int) -> None:
        numbers = list(self.world.published)
        self.world.fail(numbers[pick % len(numbers)])

    @precondition(lambda self: self.world.connected)
    @rule(stored=st.booleans())
    def disconnect(self, stored: bool) -> None:
        self.world.disconnect(stored=stored)

    @precondition(lambda self: not self.world.connected)
    @rule()
    def connect(self) -> None:
        self.world.connect()

    @precondition(lambda self: self.world.subscribed)
    @rule(pick=index)
    def queue_vanishes(self, pick: int) -> None:
        sources = list(self.world.subscribed)
        source = sources[pick % len(sources)]
        del self.world.subscribed[source]
        self.world.tell(SubscribeFailed(*source, "no such queue"))

    # --- the coordinator ---

    @precondition(lambda self: self.world.connected)
    @rule(job=st.sampled_from(JOBS), number=st.integers(0, 10), revoke=st.booleans())
    def welcome(self, job: str, number: int, revoke: bool) -> None:
        """A coordinator answers, and says what it has revoked of the jobs of its partition."""
        self.world.welcome(revoked=[Revocation(job, number, 1)] if revoke else [], partition=partition_of(job))

    @precondition(lambda self: self.world.connected)
    @rule()
    def open_class(self) -> None:
        opened = resource_class(MEMORY)
        self.world.classes = [*{*self.world.classes, opened}]
        self.world.tell(ClassOpened(opened))

    @precondition(lambda self: self.world.connected)
    @rule()
    def ask_hello(self) -> None:
        self.world.tell(HelloAsked("c"))

    @precondition(lambda self: self.world.connected and self.world.exit is None)
    @rule(team=st.sampled_from([OWN_TEAM, OWN_TEAM, OTHER_TEAM, None]), complete=st.booleans())
    def ask_team(self, team: Team | None, complete: bool) -> None:
        """A coordinator wants the worker in a team; it says that this is complete when the worker is ready."""
        seat = self.world.machine.seat
        ready = seat is not None and seat.team == team and seat.state is SeatState.ready
        self.world.ask_team(team, complete=complete and ready)

    @precondition(lambda self: self.next_task)
    @rule(job=st.sampled_from(JOBS), pick=index, whole=st.sampled_from(["job", "task", "attempt"]), unstarted_only=st.booleans())
    def revoke(self, job: str, pick: int, whole: str, unstarted_only: bool) -> None:
        number = pick % self.next_task
        task = None if whole == "job" and pick % 5 == 0 else number
        revocation = Revocation(job, task, 1 if whole == "attempt" else None, "enough", unstarted_only)
        self.world.revoked.append(revocation)
        self.world.tell(Revoked((revocation,)))

    # --- time and the end ---

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.12, 0.6, 11.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @precondition(lambda self: self.world.now > 1010)
    @rule()
    def drain(self) -> None:
        self.world.tell(DrainRequested())

    @precondition(lambda self: self.world.machine.draining)
    @rule()
    def stop(self) -> None:
        self.world.stopped = True
        self.world.tell(StopRequested())

    @precondition(lambda self: self.world.connected and self.world.now > 1010)
    @rule(boot=st.sampled_from(["boot", "another"]), stop=st.booleans())
    def ask_drain(self, boot: str, stop: bool) -> None:
        draining = self.world.machine.draining
        self.world.stopped |= stop and boot == "boot"
        self.world.tell(DrainAsked("w", boot, stop))
        assert self.world.machine.draining is (draining or boot == "boot")

    def teardown(self) -> None:
        """A drain terminates, whatever was before: everything is settled, and nobody is left."""
        world = self.world
        if world.exit is None and not world.connected:
            world.connect()
        if world.exit is None and not world.machine.draining:
            world.tell(DrainRequested())
        for _ in range(20):
            for name in list(world.executions):
                world.end(name, Canceled("stopped") if name in world.stopping else Succeeded())
            world.confirm_all()
            if world.exit is None and world.connected and world.machine.seat:
                world.ask_team(None)
            if world.exit is not None:
                break
            world.pass_time(0.5)
        assert world.exit is not None, "a drain terminates"
        if world.connected and not world.stopped:
            assert world.exit.code == 0
            assert not world.unacked
        # What has left the queues is in the ledger, or was revoked; each attempt has one last word at most, unless it was repeated.
        for key, item in world.stored:
            if isinstance(item, Ended | Returned):
                words = {other for stored, other in world.stored if stored == key and isinstance(other, Ended | Returned)}
                assert words == {item}, "an attempt has one last word"
        waiting = {key for queue in world.queues.values() for message in queue for key in keys_of(message.chunk)}
        said = {key for key, _ in world.stored}
        assert len(said | waiting) <= self.next_task * len(JOBS)


WorkerStory.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestWorkerStory = WorkerStory.TestCase
