"""The worker as a pure machine: events in, commands out.

Rules that everything here follows:

- A delivery is acknowledged after every reply about its attempts is confirmed, and not before.
- What runs, or is about to, holds an allocation; the allocation is released when its processes are gone.
- What a job's coordinator has revoked it says in its welcome. Each partition of the ledger has one, so a chunk waits for that of its own,
  while others may start; where nobody answers for long, work goes on without.
- Deliveries die with their connection. Attempts that run do not: they are in the next `Hello`, and a copy of their message
  that comes again is tied to them. Attempts that only wait are forgotten, since the broker gives their message to somebody.
- Chunks start in the order of lane and age, and none overtakes: what does not fit keeps younger ones from starting, until
  its patience is over and it goes back; `reservation` says when. So large tasks do not starve behind small ones, nor the other way round.
- A worker in a team does nothing but its task; `seating` says what that is.
- What has not started goes back by a reply, never by a release of its message: the broker would mark that as redelivered,
  and the next worker would have to treat it as if it might have run.

It is one file although it is long: each event is a few lines, and they all follow the same rules.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from operator import sub
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.core.job import Return
from broker_jobs.core.many import many
from broker_jobs.core.outcome import Canceled, Succeeded
from broker_jobs.core.pace import Pace
from broker_jobs.core.resource_class import rounded
from broker_jobs.core.resources import Resources
from broker_jobs.errors import IllegalTransition
from broker_jobs.ids import partition_of
from broker_jobs.wire.messages import (
    ClassOpened,
    DrainAsked,
    Ended,
    Goodbye,
    Heartbeat,
    Hello,
    HelloAsked,
    Progress,
    Reply,
    ResourceClass,
    Returned,
    Revoked,
    SeatState,
    Started,
    Taken,
    TeamAsked,
    Welcome,
)
from broker_jobs_worker.executors.port import ExecutionEnded, ExecutionProgressed, ExecutionsRecalled, ExecutionsSucceeded
from broker_jobs_worker.machine.commands import Exit, Recall, Say, Settle, Start, Stop
from broker_jobs_worker.machine.credit import CreditBook
from broker_jobs_worker.machine.events import (
    ChunkArrived,
    Connected,
    Disconnected,
    DrainRequested,
    ExecutionsEnded,
    PublishConfirmed,
    PublishFailed,
    StopRequested,
    SubscribeFailed,
    Tick,
)
from broker_jobs_worker.machine.execution import make_execution, make_followers, sort_of
from broker_jobs_worker.machine.holdings import Holdings
from broker_jobs_worker.machine.memory import KeyMemory, RevocationMemory
from broker_jobs_worker.machine.replies import ReplyBook
from broker_jobs_worker.machine.reservation import Reservations
from broker_jobs_worker.machine.room import Rooms
from broker_jobs_worker.machine.seating import Seating
from broker_jobs_worker.machine.state import (
    DEFAULT_TIMING,
    ENDLESS,
    Announced,
    Attempt,
    AttemptKey,
    Bundle,
    Chain,
    Closing,
    Ending,
    Group,
    Line,
    OnBrokerLost,
    Running,
    Source,
    Taking,
    Waiting,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from broker_jobs.broker.port import Delivery
    from broker_jobs.core.request import Request
    from broker_jobs.core.resources import Allocation
    from broker_jobs.core.value import Value
    from broker_jobs.wire.messages import Chunk, ReplyItem, Revocation, Seat, Task, Team
    from broker_jobs_worker.executors.port import Execution
    from broker_jobs_worker.machine.commands import Command
    from broker_jobs_worker.machine.events import Control, Event
    from broker_jobs_worker.machine.state import Identity, Lifetime, Timing


LINE_MS: Final = 50
"""A line should take about so many milliseconds: it holds back a cancel, a drain, and what the end of one waits for."""

NOTHING: Final = Resources(())


class WorkerMachine:
    """What one worker does.

    Args:
        me: who it is, and what it may give to tasks
        timing: how patient it is
        lifetime: when it ends by itself
        longest_line: how many executions may be handed over at once, to run one after the other

    Attributes:
        leaving: why it takes nothing more
    """

    def __init__(self, me: Identity, timing: Timing = DEFAULT_TIMING, lifetime: Lifetime = ENDLESS, *, longest_line: int = 1) -> None:
        self.me = me
        self.timing = timing
        self.lifetime = lifetime
        self.generation = 0
        self.connected = False
        self.draining = False
        self.leaving = ""
        self.exited = False
        self._have = Holdings(me.total)
        self._pace = Pace(LINE_MS)
        self._longest_line = longest_line
        self._credit = CreditBook(timing)
        self._reservations = Reservations(timing)
        self._seating = Seating(me.worker)
        self._replies = ReplyBook(me, timing.flush, timing.publish_again)
        self._closed = KeyMemory()
        self._closed_in_chains = KeyMemory()
        self._revoked = RevocationMemory()
        self._executions = 0
        self._names = f"{me.boot}-{me.life}" if me.life else me.boot
        self._wall = 0.0
        self._working = False
        self._welcomed: set[int] = set()
        self._used: set[str] = set()
        self._warm = False
        self._since = 0.0
        self._hello_at: float | None = None
        self._heard_at = 0.0  # the coordinator of the teams
        self._beat_at = 0.0
        self._stop_by: float | None = None
        self._stop_reason = ""
        self._busy_at: float | None = None

    @property
    def subscribed(self) -> dict[Source, int]:
        """Queues that are consumed, with their credit."""
        return self._credit.subscribed

    @property
    def running(self) -> int:
        """How many executions there are."""
        return len(self._have.running)

    @property
    def seat(self) -> Seat | None:
        """Its place in a team."""
        return self._seating.seat

    @property
    def free(self) -> Resources:
        """What no task holds; nothing while the worker is in a team."""
        return NOTHING if self._seating.team else self._have.pool.free

    @property
    def at_work(self) -> bool:
        """Whether something is to be done soon, with or without news."""
        return self._busy or not self._replies.empty or self._hello_at is not None or not self.connected or self.draining

    def resume(self, execution: Execution) -> bool:
        """Go on with what an earlier process of this worker has started, before anything else happens; False where it does not fit."""
        allocation = self._have.pool.try_allocate(rounded(execution.options.resources), math.inf)
        if allocation is None:
            return False
        # The ledger may know that it runs, and that it is taken, or not: that it is taken is said again.
        state = Running(execution.execution, allocation, -math.inf, announced=True)
        key = AttemptKey(execution.job, execution.task, execution.attempt)
        group = Group(execution.job, execution.submitter, execution.resource_class)
        self._have.resume(Attempt(key, group, Source(execution.resource_class, execution.options.lane), state), state)
        return True

    def handle(self, event: Event, now: float) -> tuple[Command, ...]:
        """Take one event; what must be done about it, in this order.

        Args:
            event: what happened
            now: seconds of a clock that never goes back

        Raises:
            IllegalTransition: an event that cannot happen now
        """
        if self.exited:
            return ()
        return tuple(self._follow(event, now))

    def _follow(self, event: Event, now: float) -> Iterator[Command]:
        yield from self._hear(event, now)
        if self._busy or self._busy_at is None:
            self._busy_at = now
        if not self.exited:
            yield from self._start(now)
            yield from self._look_at_seat(now)
            yield from self._replies.flush(now)
            yield from self._leave()

    def _hear(self, event: Event, now: float) -> Iterator[Command]:
        match event:
            case Tick(unix_ms):
                self._wall = unix_ms / 1000 - now
                yield from self._tick(now)
            case ChunkArrived(delivery, chunk):
                yield from self._arrived(delivery, chunk, now)
            case ExecutionEnded() | ExecutionsSucceeded():
                yield from self._over(event, now)
            case ExecutionsEnded(ends):
                for each in ends:
                    yield from self._over(each, now)
            case ExecutionProgressed():
                self._progressed(event, now)
            case ExecutionsRecalled(executions):
                yield from self._recalled(executions, now)
            case PublishConfirmed(number):
                yield from self._confirmed(number, now)
            case PublishFailed(number):
                yield from self._failed(number, now)
            case Connected(generation):
                yield from self._reached(generation, now)
                yield from self._greet(now)
            case Disconnected():
                self.connected, self._since = False, now
                yield from self._cut_off()
            case Welcome() | ClassOpened() | Revoked() | TeamAsked() | DrainAsked() | HelloAsked():
                yield from self._told(event, now)
            case SubscribeFailed(resource_class, lane):
                self._credit.failed(Source(resource_class, lane), now)
            case DrainRequested():
                yield from self._drain(now, "it got a signal")
            case StopRequested():
                yield from self._stop(now, "the worker stops")
            case _:
                assert_never(event)

    def _told(self, message: Control, now: float) -> Iterator[Command]:
        """A coordinator says this."""
        match message:
            case Welcome(worker, boot, classes, revoked, partition=partition):
                if (worker, boot) == (self.me.worker, self.me.boot):
                    self._hello_at = None
                    self._welcomed.add(partition)
                    if not partition:
                        self._heard_at = now
                    yield from self._revoke(revoked, now)
                    self._open(classes)
                    yield from self._work(now)
            case ClassOpened(resource_class, anew):
                if anew:
                    yield from self._credit.leave_off(resource_class.name)
                self._open((resource_class,))
                yield from self._adjust(now)
            case Revoked(revocations):
                yield from self._revoke(revocations, now)
            case TeamAsked(worker, boot, team, complete):
                if (worker, boot) == (self.me.worker, self.me.boot):
                    yield from self._team_up(team, now, complete=complete)
            case DrainAsked(worker, boot, stop, reason):
                if (worker, boot) == (self.me.worker, self.me.boot):
                    why = f": {reason}" if reason else ""
                    yield from self._stop(now, f"the worker was stopped{why}") if stop else self._drain(now, f"it was asked to{why}")
            case HelloAsked():
                if self.connected:
                    yield from self._greet(now)
            case _:
                assert_never(message)

    # --- the connection -----------------------------------------------------------------------------------------------

    def _reached(self, generation: int, now: float) -> Iterator[Command]:
        """There is a connection of this generation; nothing of an older one is left."""
        if generation > self.generation:
            yield from self._cut_off()
            self.generation, self._since, self._heard_at, self.connected = generation, now, now, True

    def _cut_off(self) -> Iterator[Command]:
        """Forget the deliveries, and what only waited: the broker gives it to somebody."""
        for notice in self._have.announced:
            self._replies.withdraw(notice)
        self._have.cut_off()
        self._reservations.end()
        self._working = False
        self._welcomed.clear()
        yield from self._credit.close()

    def _greet(self, now: float) -> Iterator[Command]:
        self._hello_at = self._beat_at = now
        me = self.me
        yield Say(
            Hello(
                me.worker,
                me.boot,
                me.host,
                me.pid,
                me.version,
                me.total,
                self.free,
                self._have.inventory(),
                self.draining,
                me.group,
                me.started_ms,
                me.ends_ms,
                teams=True,
                seat=self._seating.seat,
                steps=me.steps,
                away_ms=me.away_ms,
            )
        )

    def _beat(self, now: float) -> Iterator[Command]:
        """Say what is held here."""
        self._beat_at = now
        used, self._used = tuple(sorted(self._used)), set()
        yield Say(Heartbeat(self.me.worker, self.me.boot, self.free, self._have.inventory(), self.draining, self._seating.seat, used))

    def _open(self, classes: Iterable[ResourceClass]) -> None:
        for resource_class in classes:
            if self._have.pool.could_ever_fit(resource_class.needs):
                self._credit.open(resource_class.name, resource_class.needs)

    def _work(self, now: float) -> Iterator[Command]:
        """Take chunks from now on."""
        self._working = not self.draining and self.connected
        yield from self._adjust(now)

    def _adjust(self, now: float) -> Iterator[Command]:
        if self._working:
            yield from self._credit.adjust(
                now, Rooms(self._have, self._reservations, self._seating, ends=self.lifetime.ends_at is not None)
            )

    # --- teams --------------------------------------------------------------------------------------------------------

    @property
    def _busy(self) -> bool:
        """Whether something is to be done here, now or as soon as others are ready."""
        return bool(self._have.attempts) or self._seating.team is not None

    @property
    def _waits_for_team(self) -> bool:
        """Whether it would leave, if the coordinator let it go: its team may be at work elsewhere."""
        return self.draining and self._seating.team is not None and not self._seating.working

    @property
    def _has_team_task(self) -> bool:
        """Whether the task of its team is here, and has not ended; what else was here may wait for its confirm."""
        place = self._seating.place
        return any(attempt.source == place and not isinstance(attempt.state, Closing) for attempt in self._have.attempts.values())

    def _team_up(self, team: Team | None, now: float, *, complete: bool) -> Iterator[Command]:
        """A coordinator wants this worker in a team, or in none."""
        if team is not None and self.draining:
            return  # the heartbeat says why not
        if self._seating.ask(team, complete=complete, at_work=self._has_team_task):
            if team is not None:
                yield from self._credit.close()
                self._clear(now)
            yield from self._beat(now)
        yield from self._adjust(now)

    def _look_at_seat(self, now: float) -> Iterator[Command]:
        """See whether what ran here has ended."""
        if self._seating.look(idle=not self._have.pool.held) and self.connected:
            yield from self._beat(now)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> Iterator[Command]:
        timing = self.timing
        yield from self._recall(now)
        self._announce_and_take(now)
        self._lose_patience(now)
        yield from self._replies.repeat(now)
        if self.connected:
            if self._hello_at is not None:
                if now - self._hello_at >= timing.hello_again:
                    yield from self._greet(now)
                if not self._working and now - self._since >= timing.alone_after:
                    yield from self._work(now)
            if now - self._beat_at >= timing.heartbeat:
                yield from self._greet(now) if self._waits_for_team else self._beat(now)
            if self._waits_for_team and now - self._heard_at >= timing.alone_after:
                self._seating.leave()  # nobody is there to let it go
        elif self.generation and now - self._since >= timing.grace and self.lifetime.on_broker_lost is OnBrokerLost.stop:
            yield from self._abandon()
        yield from self._expire(now)
        yield from self._adjust(now)
        if self._stop_by is not None and now >= self._stop_by:
            self.exited = True
            yield Exit(1, in_order=False)

    def _expire(self, now: float) -> Iterator[Command]:
        """End by itself, when its time is over or nothing has come for long."""
        ends_at, idle_timeout = self.lifetime.ends_at, self.lifetime.idle_timeout
        if ends_at is not None and now >= ends_at and self._stop_by is None:
            yield from self._stop(now, "the time of the worker is over")
        idle_since = now if self._busy or self._busy_at is None else self._busy_at
        if idle_timeout is not None and now - idle_since >= idle_timeout and not self.draining:
            yield from self._drain(now, f"it had nothing to do for {idle_timeout:g} s")

    def _announce_and_take(self, now: float) -> None:
        """Tell the ledger what has been running for a while."""
        for attempt in self._have.running.values():
            match attempt.state:
                case Running(execution, since=since) as run if run.alone:
                    task, number = attempt.key.task, attempt.key.attempt
                    if not run.announced and now - since >= self.timing.flush:
                        run.announced = True
                        self._say(attempt, Started(task, number, execution, self._unix_ms(since)), now, urgent=True)
                    if run.taking is Taking.not_yet and now - since >= self.timing.taken_after:
                        run.taking = Taking.said
                        self._say(attempt, Taken(task, number, execution), now, urgent=True)

    def _recall(self, now: float) -> Iterator[Command]:
        """Take back what waits behind a slow one: it may run elsewhere."""
        lines = {
            id(line): line for attempt in self._have.running.values() if isinstance(attempt.state, Running) and (line := attempt.state.line)
        }
        for line in lines.values():
            # Of the last one it is asked once, too: a child that has lost its ticket would never begin it.
            patience = self.timing.line_patience
            stuck = now - line.moved >= patience and (len(line.left) > 1 or line.asked < line.moved)
            # Others could help: what is left is shared out anew.
            long = now - line.begun >= patience and len(line.left) > 1 and self._have.pool.how_many(line.bundle.request) > 0
            if (stuck or long) and now - line.asked >= patience:
                line.asked = now
                yield Recall(next(iter(line.left)))

    def _lose_patience(self, now: float) -> None:
        """Give back what has waited for too long."""
        patience = self.timing.patience if self._warm else self.timing.warm_up
        waiting = []
        for bundle in list(self._have.waiting()):
            if not self._is_early(bundle, now):
                waiting.append(bundle)
            elif now >= bundle.since + patience:
                self._have.bundles[bundle.source.lane].remove(bundle)
                self._give_back(bundle, now)
        self._reservations.tick(now, {bundle.source for bundle in waiting})
        for place, bundle in enumerate(waiting):
            until, whole = bundle.since + patience, len(bundle.waiting) == len(bundle.chunk.tasks)
            if whole and bundle.source == waiting[0].source:
                until = self._reservations.limit(bundle.source, bundle.since, patience, displaces=self._have.displaces(bundle.source.lane))
            if now >= until:
                self._have.bundles[bundle.source.lane].remove(bundle)
                self._give_back(bundle, now)
                if place == 0 and whole:
                    self._reservations.gave_back(bundle.source, now)

    def _abandon(self) -> Iterator[Command]:
        """End taken attempts: the ledger counts them as lost by now, and others run them."""
        for attempt in self._have.running.values():
            match attempt.state:
                case Running(execution, taking=Taking.said | Taking.confirmed, ending=None) as run:
                    run.ending = Ending.abandoned
                    yield Stop(execution, "the worker has had no connection to the broker for too long")

    # --- chunks -------------------------------------------------------------------------------------------------------

    def _arrived(self, delivery: Delivery, chunk: Chunk, now: float) -> Iterator[Command]:
        stale = delivery.tag.generation < self.generation or (delivery.tag.generation == self.generation and not self.connected)
        if stale:
            return
        yield from self._reached(delivery.tag.generation, now)
        self._used.add(chunk.resource_class)
        called = chunk.header is not None and chunk.header.ephemeral
        group = Group(chunk.job, chunk.submitter, chunk.resource_class, called)
        source = Source(chunk.resource_class, chunk.lane)
        bundle = Bundle(chunk, source, rounded(chunk.options[chunk.tasks[0].options].resources), now)
        refused = self._refusal(delivery, bundle, now)
        due, waits = self._have.receive(delivery, group), Waiting(bundle)
        for place, task in enumerate((*chunk.tasks, *chunk.chain)):
            key = AttemptKey(chunk.job, task.number, task.attempt)
            known = self._have.attempts.get(key)
            if self._is_past(key, known):
                continue
            # Of a chunk that comes again, what follows its task may have begun, too.
            chained = place >= len(chunk.tasks)
            if chained and known is None and (not delivery.redelivered or key in self._closed_in_chains):
                continue
            attempt = known or Attempt(key, group, source, waits, chained=chained)
            self._have.tie(attempt, due)
            if known:
                continue
            if refused is None:
                bundle.waiting[key] = task
                continue
            self._return(attempt, refused[0], now, refused[1])
            if refused[1]:
                yield from self._credit.leave(source, now)
        if bundle.waiting:
            self._credit.stay(source)
            self._have.bundles[chunk.lane].append(bundle)
        if not due.unconfirmed:
            del self._have.dues[delivery]
            yield Settle(delivery)

    def _refusal(self, delivery: Delivery, bundle: Bundle, now: float) -> tuple[Return, str] | None:
        """How what is new of a chunk goes back at once, and why where the queue is to be left for that; None where it may start."""
        request = bundle.request
        if delivery.redelivered:
            return Return.redelivered, ""
        if self.draining or self._seating.closes(bundle.source, request) or not self._have.pool.could_ever_fit(request):
            return Return.unstarted, ""
        if not self._lasts(request, now):
            return Return.unstarted, "a worker that had it has less time left than it needs"
        return None

    def _lasts(self, request: Request, now: float) -> bool:
        """Whether this worker will be there for as long as such a task needs."""
        lifetime = self._lifetime_ms(now)
        return any(variant.min_time <= lifetime for variant in request.alternatives)

    def _lifetime_ms(self, now: float) -> float:
        """How long this worker will be there."""
        return math.inf if self.lifetime.ends_at is None else (self.lifetime.ends_at - now) * 1000

    def _is_past(self, key: AttemptKey, attempt: Attempt | None) -> bool:
        """Whether nothing is to be done about an attempt: it was canceled, or the ledger has its last word or knows that it is here."""
        if key in self._closed or self._revoked.of(key) is not None:
            return True
        return attempt is not None and isinstance(attempt.state, Running) and attempt.state.taking is Taking.confirmed

    def _start(self, now: float) -> Iterator[Command]:
        """Start what fits; what is isolated is announced first."""
        while granted := self._have.grant(
            self._is_closed, lambda bundle: self._is_early(bundle, now), self._lifetime_ms(now), self._line_of
        ):
            bundle, together, allocation = granted
            attempt = together[0][0]
            execution = make_execution(self._new_name(), bundle.chunk, together[0][1], allocation, self.me.total, hosts=self._seating.hosts)
            if len(together) > 1:
                yield self._run_line(bundle, together, execution, allocation, now)
                continue
            if bundle.request.nodes:
                self._seating.started()
                yield from self._beat(now)
            ready = Announced(execution, allocation, 0, bundle.since)
            if bundle.chunk.isolated:
                started = Started(attempt.key.task, attempt.key.attempt, execution.execution, self._unix_ms(now))
                notice = self._replies.announce(attempt.group, started)
                self._have.announce(attempt, replace(ready, notice=notice.number))
                yield notice
            else:
                chain = Chain(bundle.chunk, deque(bundle.chunk.chain), now) if bundle.chunk.chain else None
                yield self._run(attempt, ready, now, chain)

    def _new_name(self) -> str:
        self._executions += 1
        return f"{self._names}-{self._executions}"

    def _line_of(self, bundle: Bundle) -> int:
        """How many of a chunk may be handed over at once: quick ones, and not more than the share of those that could start now."""
        fitting = min(self._longest_line, self._pace.fitting(sort_of(next(iter(bundle.waiting.values())).work)))
        if fitting == 1:
            return 1
        slots = 1 + self._have.pool.how_many(bundle.request)
        return min(fitting, -(-len(bundle.waiting) // slots))

    def _run_line(
        self, bundle: Bundle, together: list[tuple[Attempt, Task]], leader: Execution, allocation: Allocation, now: float
    ) -> Start:
        self._reservations.started(bundle.source)
        names = [leader.execution, *(self._new_name() for _ in together[1:])]
        line, sort = Line(bundle, now, now, dict(zip(names, together, strict=True))), sort_of(leader.work)
        for name, (attempt, _) in line.left.items():
            self._have.run(attempt, Running(name, allocation, now, announced=False, line=line, sort=sort))
        followers = make_followers(names[1:], [task for _, task in together[1:]], leader)
        return Start(leader, bundle.source.resource_class, now - bundle.since, tuple(followers))

    def _run(self, attempt: Attempt, ready: Announced, now: float, chain: Chain | None = None) -> Start:
        self._reservations.started(attempt.source)
        execution = ready.execution
        running = Running(
            execution.execution, ready.allocation, now, announced=bool(ready.notice), sort=sort_of(execution.work), chain=chain
        )
        self._have.run(attempt, running)
        return Start(ready.execution, attempt.source.resource_class, now - ready.since)

    def _is_early(self, bundle: Bundle, now: float) -> bool:
        """Whether the coordinator of its partition has not answered on this connection, and may do so."""
        return now - self._since < self.timing.alone_after and partition_of(bundle.chunk.job) not in self._welcomed

    def _is_closed(self, source: Source, request: Request) -> bool:
        """Whether nothing of this queue may start, because of others."""
        return self._seating.closes(source, request) or self._reservations.closes(source)

    def _give_back(self, bundle: Bundle, now: float) -> None:
        """Return what of a chunk has not started."""
        for key in list(bundle.waiting):
            self._return(self._have.attempts[key], Return.unstarted, now)

    # --- executions ---------------------------------------------------------------------------------------------------

    def _over(self, news: ExecutionEnded | ExecutionsSucceeded, now: float) -> Iterator[Command]:
        if isinstance(news, ExecutionEnded):
            yield from self._ended(news, now)
        else:
            self._succeeded(news, now)

    def _succeeded(self, news: ExecutionsSucceeded, now: float) -> None:
        """`_ended`, for several of a line in one pass."""
        first = self._have.running.get(news.executions[0])
        state = None if first is None else first.state
        if first is None or not isinstance(state, Running) or (line := state.line) is None:
            raise IllegalTransition(f"execution {news.executions[0]} ended, and it is in no line")
        self._warm = True
        line.moved = now
        try:
            attempts = [line.left[execution][0] for execution in news.executions]
        except KeyError as missing:
            raise IllegalTransition(f"execution {missing} ended, and it is not in the line of {news.executions[0]}") from None
        tasks, tries = [attempt.key.task for attempt in attempts], [attempt.key.attempt for attempt in attempts]
        started_ms = (news.started_ms, *news.ended_ms[:-1])
        words = many(Ended, tasks, tries, news.executions, many(Succeeded, news.values), started_ms, news.ended_ms)
        self._pace.several_ended(state.sort, list(map(sub, news.ended_ms, started_ms)))
        size = sum(len(value.data) for value in news.values if value is not None)
        self._replies.add_ends(first.group, words, size, now)
        for group in self._have.close_all(line, list(zip(attempts, words, strict=True))):
            self._replies.hurry(group)

    def _ended(self, news: ExecutionEnded, now: float) -> Iterator[Command]:
        attempt = self._have.running.get(news.execution)
        if attempt is None or not isinstance(attempt.state, Running):
            raise IllegalTransition(f"execution {news.execution} ended, and it was not running")
        self._warm = True
        if attempt.state.sort:
            took = news.ended_ms - news.started_ms
            if attempt.state.line is not None:
                took = min(took, LINE_MS)  # the others of its line have said more
            # One that prints is the last of its line.
            self._pace.ended(attempt.state.sort, LINE_MS + 1 if news.stdout.size or news.stderr.size else took)
        if attempt.state.line is not None:
            attempt.state.line.moved = now
        task, number = attempt.key.task, attempt.key.attempt
        match news.outcome, attempt.state.ending:
            case Canceled(), Ending.stopping:
                # Not a kind of its own: coordinators of 0.1.0 would not understand the whole reply.
                word: Ended | Returned = Returned(task, number, Return.unrouted, self._stop_reason)
            case Canceled(), Ending.abandoned:
                word = Returned(task, number, Return.lost)
            case _:
                times, printed, after = (news.started_ms, news.ended_ms), (news.stdout, news.stderr), attempt.state.after
                word = Ended(task, number, news.execution, news.outcome, *times, *printed, after)
                if isinstance(news.outcome, Succeeded) and (chain := attempt.state.chain) is not None:
                    given = {} if news.outcome.value is None else {str(task): news.outcome.value}
                    follower = self._follower(attempt, chain, given, now)
                    if follower is not None:
                        yield self._hand_on(attempt, follower, word, given, now)
                        return
        self._close(attempt, word, now)

    def _follower(self, attempt: Attempt, chain: Chain, given: Mapping[str, Value], now: float) -> Task | None:
        """What of its chain begins now that an attempt has succeeded: only what can begin at once, and as long as all of it is quick."""
        if not chain.left or not attempt.dues or now - chain.begun >= self.timing.line_patience:
            return None
        task, chunk = chain.left.popleft(), chain.chunk
        key, request = AttemptKey(chunk.job, task.number, task.attempt), rounded(chunk.options[task.options].resources)
        if (
            key in self._have.attempts
            or self._is_past(key, None)
            or self._revoked.names(key.job, key.task)
            or not all(name in given or name in chunk.values for name in task.work.inputs)
        ):
            return None
        others_first = self._is_closed(attempt.source, request) or self._have.waits_above(attempt.source.lane)
        return None if self.draining or others_first or not self._lasts(request, now) else task

    def _hand_on(self, attempt: Attempt, task: Task, word: Ended, given: Mapping[str, Value], now: float) -> Start:
        """Begin what follows an attempt; the ledger hears of it together with the success, and does not send it to anybody."""
        state, name = attempt.state, self._new_name()
        if not isinstance(state, Running) or state.chain is None:
            raise IllegalTransition(f"nothing follows {attempt.key}")
        chunk = state.chain.chunk
        execution = make_execution(name, chunk, task, state.allocation, self.me.total, given=given)
        sort, after = sort_of(task.work), state.execution
        running = Running(name, state.allocation, now, announced=True, sort=sort, chain=state.chain, after=after)
        follower = Attempt(AttemptKey(chunk.job, task.number, task.attempt), attempt.group, attempt.source, running, chained=True)
        self._say(attempt, word, now)
        self._say(follower, Started(task.number, task.attempt, name, self._unix_ms(now), after), now)
        self._have.hand_on(attempt, word, follower, name)
        return Start(execution, attempt.source.resource_class, 0.0)

    def _recalled(self, executions: Sequence[str], now: float) -> Iterator[Command]:
        """These have not begun: they wait again, unless something has been decided about them meanwhile."""
        if not executions:
            return
        first = self._have.running.get(executions[0])
        if first is None or not isinstance(first.state, Running) or (line := first.state.line) is None:
            raise IllegalTransition(f"execution {executions[0]} was recalled, and it is in no line")
        for attempt in self._have.put_back(line, executions):
            if not attempt.dues:
                # They died with their connection, so the broker gives it to somebody.
                self._have.drop(attempt)
            elif self._revoked.of(attempt.key) is not None:
                self._have.drop(attempt)
                yield from self._discharge((attempt,))
            elif self.draining or self._seating.closes(attempt.source, line.bundle.request):
                self._return(attempt, Return.unstarted, now)
        for attempt, _ in line.left.values():
            if isinstance(attempt.state, Running):
                attempt.state.since = line.moved

    def _progressed(self, news: ExecutionProgressed, now: float) -> None:
        attempt = self._have.running.get(news.execution)
        if attempt is not None:
            self._say(attempt, Progress(attempt.key.task, attempt.key.attempt, news.fraction, news.text), now)

    def _say(self, attempt: Attempt, item: ReplyItem, now: float, *, urgent: bool = False) -> None:
        self._replies.add(attempt.group, item, now, urgent=urgent)

    def _return(self, attempt: Attempt, why: Return, now: float, reason: str = "") -> None:
        """Give it back, without waiting for what else there is to say."""
        if isinstance(attempt.state, Announced):
            self._replies.withdraw(attempt.state.notice)
        self._close(attempt, Returned(attempt.key.task, attempt.key.attempt, why, reason), now)
        self._replies.hurry(attempt.group)

    def _close(self, attempt: Attempt, word: Ended | Returned, now: float) -> None:
        """Say the last word about it."""
        self._say(attempt, word, now)
        for group in self._have.close(attempt, word):
            self._replies.hurry(group)

    # --- replies ------------------------------------------------------------------------------------------------------

    def _confirmed(self, number: int, now: float) -> Iterator[Command]:
        publish = self._replies.confirmed(number)
        if publish is None:
            return
        match publish.message:
            case Goodbye():
                # A message that was on its way came after the goodbye: it goes back first, and goodbye is said again.
                if not self._have.attempts and self._replies.empty:
                    self.exited = True
                    yield Exit(0, in_order=True)
            case Reply(job=job, items=items):
                yield from self._safe(job, items)
                attempt = self._have.announced.get(number)
                if attempt is not None and isinstance(attempt.state, Announced):
                    yield self._run(attempt, attempt.state, now)
            case _:
                assert_never(publish.message)

    def _failed(self, number: int, now: float) -> Iterator[Command]:
        """The ledger may not have this: it goes out again."""
        publish = self._replies.failed(number, now)
        if publish is not None and isinstance(publish.message, Goodbye):
            self._replies.withdraw(number)
            if not self._have.attempts and self._replies.empty:
                # There may be no ledger at all, and nothing is held: the token says the rest.
                self.exited = True
                yield Exit(0, in_order=False)

    def _safe(self, job: str, items: Iterable[ReplyItem]) -> Iterator[Command]:
        """The ledger has these items."""
        closed: list[AttemptKey] = []
        in_chains: list[AttemptKey] = []
        known: list[Attempt] = []
        for item in items:
            key = AttemptKey(job, item.task, item.attempt)
            attempt = self._have.attempts.get(key)
            match item:
                case Ended() | Returned():
                    if attempt is None:
                        raise IllegalTransition(f"the last word about {key} is confirmed twice")
                    self._have.drop(attempt)
                    known.append(attempt)
                    (in_chains if attempt.chained else closed).append(key)
                case Taken():
                    if attempt is not None and isinstance(attempt.state, Running):
                        attempt.state.taking = Taking.confirmed
                        known.append(attempt)
                case Started() | Progress():
                    pass
                case _:
                    assert_never(item)
        self._closed.add(closed)
        self._closed_in_chains.add(in_chains)
        yield from self._discharge(known)

    def _discharge(self, attempts: Iterable[Attempt]) -> Iterator[Command]:
        """No delivery waits for these attempts any more."""
        for each in self._have.discharge(attempts):
            if isinstance(each, Group):
                self._replies.hurry(each)
            else:
                yield Settle(each)

    # --- endings ------------------------------------------------------------------------------------------------------

    def _revoke(self, revocations: Iterable[Revocation], now: float) -> Iterator[Command]:
        jobs = set()
        for revocation in revocations:
            self._revoked.add(revocation)
            jobs.add(revocation.job)
        for attempt in list(self._have.attempts.values()):
            if attempt.key.job in jobs and isinstance(attempt.state, Running):
                # Of what follows it no attempt was released, so none is named.
                attempt.state.chain = None
            covering = self._revoked.of(attempt.key)
            if covering is None:
                continue
            match attempt.state:
                case Waiting():
                    # The coordinator has recorded its end, or that it is held back: nothing is to be said.
                    self._have.drop(attempt)
                    yield from self._discharge((attempt,))
                case Announced():
                    self._return(attempt, Return.unstarted, now)
                case Running(execution, ending=ending) as run if not covering.unstarted_only:
                    run.ending = Ending.revoked
                    if ending is None:
                        yield Stop(execution, covering.reason)
                case Running() | Closing():
                    pass
                case _:
                    assert_never(attempt.state)

    def _drain(self, now: float, why: str) -> Iterator[Command]:
        self.draining, self.leaving = True, why
        self._working = False
        yield from self._credit.close()
        self._clear(now)
        for attempt in list(self._have.announced.values()):
            self._return(attempt, Return.unstarted, now)
        if self._seating.root and not self._seating.working:
            self._seating.leave()
        self._heard_at = now
        if self._waits_for_team and self.connected:
            yield from self._greet(now)  # is somebody there?

    def _clear(self, now: float) -> None:
        """Give back whatever waits."""
        for bundles in self._have.bundles.values():
            for bundle in bundles:
                self._give_back(bundle, now)
            bundles.clear()
        self._reservations.end()

    def _stop(self, now: float, reason: str) -> Iterator[Command]:
        yield from self._drain(now, reason)
        if not self._seating.working:
            self._seating.leave()
        if self._stop_by is None:
            self._stop_by, self._stop_reason = now + self.timing.stop_within, reason
        for attempt in self._have.running.values():
            match attempt.state:
                case Running(execution, ending=None) as run:
                    run.ending = Ending.stopping
                    yield Stop(execution, self._stop_reason, self.timing.kill_within)

    def _leave(self) -> Iterator[Command]:
        """Say goodbye when nothing is left."""
        if not self.draining or self._have.attempts or not self._replies.empty or (self._seating.team and self.connected):
            return
        if self.connected:
            yield self._replies.goodbye(self.leaving)
        else:
            # Without a connection there is no token to drop and nobody to tell.
            self.exited = True
            yield Exit(0, in_order=False)

    def _unix_ms(self, at: float) -> int:
        return round((self._wall + at) * 1000)

    # --- what must always be true ---------------------------------------------------------------------------------------

    def check(self) -> None:
        """What must always be true; `AssertionError` where it is not."""
        self._have.check()
        closing = {(key, attempt.state.word) for key, attempt in self._have.attempts.items() if isinstance(attempt.state, Closing)}
        items = list(self._replies.unconfirmed())
        words = {(AttemptKey(job, item.task, item.attempt), item) for job, item in items if isinstance(item, Ended | Returned)}
        assert words == closing, "a last word is unconfirmed or forgotten"
        assert all(delivery.tag.generation == self.generation for delivery in self._have.dues), "deliveries die with their connection"
        seat = self._seating.seat
        if seat is not None:
            assert all(source == self._seating.place for source in self.subscribed), "a worker in a team takes nothing else"
            assert seat.state is not SeatState.ready or not self._have.pool.held, "and does nothing else"
        if self.draining or not self.connected:
            assert not any(self._have.bundles.values()), "a worker that leaves starts nothing more"
            assert not self._have.announced, "the same"
            assert not self.subscribed, "and takes nothing more"
