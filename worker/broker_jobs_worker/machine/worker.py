"""The worker as a pure machine: events in, commands out.

Rules that everything here follows:

- A delivery is acknowledged after every reply about its attempts is confirmed, and not before.
- What runs, or is about to, holds an allocation; the allocation is released when its processes are gone.
- Deliveries die with their connection. Attempts that run do not: they are in the next `Hello`, and a copy of their message
  that comes again is tied to them. Attempts that only wait are forgotten, since the broker gives their message to somebody.
- Chunks start in the order of lane and age, and none overtakes: what does not fit keeps younger ones from starting, until
  its patience is over and it goes back. So large tasks do not starve behind small ones, nor the other way round.
- What has not started goes back by a reply, never by a release of its message: the broker would mark that as redelivered,
  and the next worker would have to treat it as if it might have run.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Canceled
from broker_jobs.core.resources import Pool, rounded
from broker_jobs.core.spec import Lane
from broker_jobs.errors import IllegalTransition
from broker_jobs.wire.messages import (
    Call,
    ClassOpened,
    Ended,
    Goodbye,
    Heartbeat,
    Held,
    Hello,
    HelloAsked,
    Progress,
    Reply,
    ResourceClass,
    Returned,
    Revoked,
    Started,
    Taken,
    Welcome,
)
from broker_jobs_worker.executors.port import Execution, ExecutionEnded, ExecutionProgressed
from broker_jobs_worker.machine.commands import Exit, Say, Settle, Start, Stop
from broker_jobs_worker.machine.credit import CreditBook
from broker_jobs_worker.machine.events import (
    ChunkArrived,
    Connected,
    Disconnected,
    DrainRequested,
    PublishConfirmed,
    PublishFailed,
    StopRequested,
    SubscribeFailed,
    Tick,
)
from broker_jobs_worker.machine.memory import KeyMemory, RevocationMemory
from broker_jobs_worker.machine.replies import ReplyBook
from broker_jobs_worker.machine.state import (
    DEFAULT_TIMING,
    Announced,
    Attempt,
    AttemptKey,
    Bundle,
    Closing,
    Due,
    Ending,
    Group,
    Running,
    Source,
    Taking,
    Waiting,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from broker_jobs.broker.port import Delivery
    from broker_jobs.core.resources import Allocation
    from broker_jobs.core.spec import Request
    from broker_jobs.wire.messages import Chunk, ReplyItem, Revocation, Task
    from broker_jobs_worker.machine.commands import Command
    from broker_jobs_worker.machine.events import Event
    from broker_jobs_worker.machine.state import Identity, Timing

LANES: Final = (Lane.high, Lane.normal, Lane.low)


class WorkerMachine:
    """What one worker does.

    Args:
        me: who it is, and what it may give to tasks
        timing: how patient it is
    """

    def __init__(self, me: Identity, timing: Timing = DEFAULT_TIMING) -> None:
        self.me = me
        self.timing = timing
        self.pool = Pool(me.total)
        self.attempts: dict[AttemptKey, Attempt] = {}
        self.dues: dict[Delivery, Due] = {}
        self.generation = 0
        self.connected = False
        self.draining = False
        self.exited = False
        self._credit = CreditBook(timing)
        self._replies = ReplyBook(me, timing.flush, timing.publish_again)
        self._bundles: dict[Lane, deque[Bundle]] = {lane: deque() for lane in LANES}
        self._running: dict[str, Attempt] = {}
        self._announced: dict[int, Attempt] = {}
        self._closed = KeyMemory()
        self._revoked = RevocationMemory()
        self._executions = 0
        self._wall = 0.0
        self._working = False
        self._warm = False
        self._since = 0.0
        self._hello_at: float | None = None
        self._beat_at = 0.0
        self._stop_by: float | None = None
        self._goodbye: int | None = None

    @property
    def subscribed(self) -> dict[Source, int]:
        """Queues that are consumed, with their credit."""
        return self._credit.subscribed

    @property
    def running(self) -> int:
        """How many executions there are."""
        return len(self._running)

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
        commands = [*self._hear(event, now)]
        commands += self._start(now)
        commands += self._replies.flush(now)
        commands += self._leave()
        return tuple(commands)

    def _hear(self, event: Event, now: float) -> Iterator[Command]:
        match event:
            case Tick(unix_ms):
                self._wall = unix_ms / 1000 - now
                yield from self._tick(now)
            case ChunkArrived(delivery, chunk):
                yield from self._arrived(delivery, chunk, now)
            case ExecutionEnded():
                self._ended(event, now)
            case ExecutionProgressed():
                self._progressed(event, now)
            case PublishConfirmed(number):
                yield from self._confirmed(number, now)
            case PublishFailed(number):
                self._replies.failed(number, now)
            case Connected(generation):
                yield from self._reached(generation, now)
                yield from self._greet(now)
            case Disconnected():
                self.connected, self._since = False, now
                yield from self._cut_off()
            case Welcome(worker, boot, classes, revoked):
                if (worker, boot) == (self.me.worker, self.me.boot):
                    self._hello_at = None
                    yield from self._revoke(revoked, now)
                    self._open(classes)
                    yield from self._work(now)
            case ClassOpened(resource_class):
                self._open((resource_class,))
                yield from self._adjust(now)
            case Revoked(revocations):
                yield from self._revoke(revocations, now)
            case HelloAsked():
                if self.connected:
                    yield from self._greet(now)
            case SubscribeFailed(resource_class, lane):
                self._credit.failed(Source(resource_class, lane), now)
            case DrainRequested():
                yield from self._drain(now)
            case StopRequested():
                yield from self._drain(now)
                yield from self._stop(now)
            case _:
                assert_never(event)

    # --- the connection -----------------------------------------------------------------------------------------------

    def _reached(self, generation: int, now: float) -> Iterator[Command]:
        """There is a connection of this generation; nothing of an older one is left."""
        if generation > self.generation:
            yield from self._cut_off()
            self.generation, self._since, self.connected = generation, now, True

    def _cut_off(self) -> Iterator[Command]:
        """Forget the deliveries, and what only waited: the broker gives it to somebody."""
        self.dues.clear()
        for attempt in list(self.attempts.values()):
            attempt.deliveries.clear()
            match attempt.state:
                case Waiting():
                    del self.attempts[attempt.key]
                case Announced(allocation=allocation, notice=notice):
                    self._withdraw(allocation, notice)
                    del self.attempts[attempt.key]
                case Running() | Closing():
                    pass
                case _:
                    assert_never(attempt.state)
        for bundles in self._bundles.values():
            bundles.clear()
        self._working = False
        yield from self._credit.close()

    def _greet(self, now: float) -> Iterator[Command]:
        self._hello_at = self._beat_at = now
        me = self.me
        yield Say(Hello(me.worker, me.boot, me.host, me.pid, me.version, me.total, self.pool.free, self._held(), self.draining))

    def _held(self) -> tuple[Held, ...]:
        return tuple(
            Held(*attempt.key, taken=isinstance(attempt.state, Running) and attempt.state.taking is not Taking.not_yet)
            for attempt in self.attempts.values()
        )

    def _open(self, classes: Iterable[ResourceClass]) -> None:
        for resource_class in classes:
            if resource_class.needs.amounts and self.pool.could_ever_fit(resource_class.needs):
                self._credit.open(resource_class.name, resource_class.needs)

    def _work(self, now: float) -> Iterator[Command]:
        """Take chunks from now on."""
        self._working = not self.draining and self.connected
        yield from self._adjust(now)

    def _adjust(self, now: float) -> Iterator[Command]:
        if self._working:
            yield from self._credit.adjust(now, self._room)

    def _room(self, source: Source, needs: Request) -> int:
        """How many tasks of a queue run, their message being held, or could start now."""
        own = sum(attempt.source == source and bool(attempt.deliveries) for attempt in (*self._running.values(), *self._announced.values()))
        return own + self.pool.how_many(needs)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> Iterator[Command]:
        timing = self.timing
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
                self._beat_at = now
                yield Say(Heartbeat(self.me.worker, self.me.boot, self.pool.free, self._held(), self.draining))
        elif self.generation and now - self._since >= timing.grace:
            yield from self._abandon()
        yield from self._adjust(now)
        if self._stop_by is not None and now >= self._stop_by:
            self.exited = True
            yield Exit(1, in_order=False)

    def _announce_and_take(self, now: float) -> None:
        """Tell the ledger what has been running for a while."""
        for attempt in self._running.values():
            match attempt.state:
                case Running(execution, since=since) as run:
                    task, number = attempt.key.task, attempt.key.attempt
                    if not run.announced and now - since >= self.timing.flush:
                        run.announced = True
                        self._say(attempt, Started(task, number, execution, self._unix_ms(since)), now)
                    if run.taking is Taking.not_yet and now - since >= self.timing.taken_after:
                        run.taking = Taking.said
                        self._say(attempt, Taken(task, number, execution), now, urgent=True)

    def _lose_patience(self, now: float) -> None:
        """Give back what has waited for too long."""
        patience = self.timing.patience if self._warm else self.timing.warm_up
        for bundles in self._bundles.values():
            while bundles and now - bundles[0].since >= patience:
                self._give_back(bundles.popleft(), now)

    def _abandon(self) -> Iterator[Command]:
        """End taken attempts: the ledger counts them as lost by now, and others run them."""
        for attempt in self._running.values():
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
        if delivery in self.dues:
            raise IllegalTransition(f"{delivery.tag} was delivered twice")
        group = Group(chunk.job, chunk.submitter, chunk.resource_class)
        source = Source(chunk.resource_class, chunk.lane)
        due = self.dues[delivery] = Due(group)
        bundle = Bundle(chunk, source, rounded(chunk.options[chunk.tasks[0].options].resources), now)
        for task in chunk.tasks:
            key = AttemptKey(chunk.job, task.number, task.attempt)
            if self._is_past(key):
                continue
            attempt = self.attempts.get(key)
            if attempt is None:
                attempt = self.attempts[key] = Attempt(key, group, source, Waiting(bundle))
                self._tie(attempt, delivery, due)
                if delivery.redelivered:
                    self._close(attempt, Returned(key.task, key.attempt, Return.redelivered), now, urgent=True)
                elif self.draining or not self.pool.could_ever_fit(bundle.request):
                    self._close(attempt, Returned(key.task, key.attempt, Return.unstarted), now, urgent=True)
                else:
                    bundle.waiting[key] = task
            else:
                self._tie(attempt, delivery, due)
        if bundle.waiting:
            self._bundles[chunk.lane].append(bundle)
        yield from self._settle(delivery)

    def _is_past(self, key: AttemptKey) -> bool:
        """Whether nothing is to be done about an attempt: it was canceled, or the ledger has its last word or knows that it is here."""
        if key in self._closed or self._revoked.reason(key) is not None:
            return True
        attempt = self.attempts.get(key)
        return attempt is not None and isinstance(attempt.state, Running) and attempt.state.taking is Taking.confirmed

    def _tie(self, attempt: Attempt, delivery: Delivery, due: Due) -> None:
        """Let the delivery wait for the attempt."""
        attempt.deliveries.add(delivery)
        due.unconfirmed.add(attempt.key)
        if not isinstance(attempt.state, Closing):
            due.unfinished.add(attempt.key)

    def _start(self, now: float) -> Iterator[Command]:
        """Start what fits, in the order of lane and age; nothing overtakes what does not fit."""
        for lane in LANES:
            bundles = self._bundles[lane]
            while bundles:
                bundle = bundles[0]
                while bundle.waiting:
                    allocation = self.pool.try_allocate(bundle.request)
                    if allocation is None:
                        return
                    key = next(iter(bundle.waiting))
                    task = bundle.waiting.pop(key)
                    attempt = self.attempts[key]
                    execution = self._execution(bundle.chunk, task, allocation)
                    if bundle.chunk.isolated:
                        notice = self._replies.announce(attempt.group, Started(*key[1:], execution.execution, self._unix_ms(now)))
                        attempt.state = Announced(execution, allocation, notice.number, bundle.since)
                        self._announced[notice.number] = attempt
                        yield notice
                    else:
                        yield self._run(attempt, execution, allocation, now, bundle.since, announced=False)
                bundles.popleft()

    def _run(self, attempt: Attempt, execution: Execution, allocation: Allocation, now: float, since: float, *, announced: bool) -> Start:
        attempt.state = Running(execution.execution, allocation, now, announced)
        self._running[execution.execution] = attempt
        return Start(execution, attempt.source.resource_class, now - since)

    def _execution(self, chunk: Chunk, task: Task, allocation: Allocation) -> Execution:
        """All that an executor needs for a task; the chunk was checked, so what it refers to is there."""
        self._executions += 1
        name = f"{self.me.boot}-{self._executions}"
        call = task.work if isinstance(task.work, Call) else None
        return Execution(
            execution=name,
            job=chunk.job,
            task=task.number,
            attempt=task.attempt,
            work=task.work,
            options=chunk.options[task.options],
            origin=chunk.origin,
            task_name=task.name,
            function=chunk.functions[call.function] if call else None,
            values={key: chunk.values[key] for key in call.inputs} if call else {},
            store=chunk.store,
            env=self._env(name, chunk, task, allocation),
        )

    def _env(self, name: str, chunk: Chunk, task: Task, allocation: Allocation) -> dict[str, str]:
        """Variables that tell a task who it is and what it may use."""
        env = {
            "BROKER_JOBS_JOB": chunk.job,
            "BROKER_JOBS_TASK": str(task.number),
            "BROKER_JOBS_ATTEMPT": str(task.attempt),
            "BROKER_JOBS_EXECUTION": name,
            "BROKER_JOBS_CPUS": _listed(allocation.indices.get("cpus", ())),
        }
        if any(resource == "gpus" for resource, _ in self.me.total.amounts):
            # Where the worker gives out graphics processors, a task without any shall see none.
            env["CUDA_VISIBLE_DEVICES"] = _listed(allocation.indices.get("gpus", ()))
        return env

    def _give_back(self, bundle: Bundle, now: float) -> None:
        """Return what of a chunk has not started."""
        for key in list(bundle.waiting):
            self._close(self.attempts[key], Returned(key.task, key.attempt, Return.unstarted), now, urgent=True)

    # --- executions ---------------------------------------------------------------------------------------------------

    def _ended(self, news: ExecutionEnded, now: float) -> None:
        attempt = self._running.get(news.execution)
        if attempt is None or not isinstance(attempt.state, Running):
            raise IllegalTransition(f"execution {news.execution} ended, and it was not running")
        self._warm = True
        task, number = attempt.key.task, attempt.key.attempt
        match news.outcome, attempt.state.ending:
            case Canceled(), Ending.stopping:
                word: Ended | Returned = Returned(task, number, Return.unrouted)
            case Canceled(), Ending.abandoned:
                word = Returned(task, number, Return.lost)
            case _:
                word = Ended(task, number, news.execution, news.outcome, news.started_ms, news.ended_ms, news.stdout, news.stderr)
        self._close(attempt, word, now)

    def _progressed(self, news: ExecutionProgressed, now: float) -> None:
        attempt = self._running.get(news.execution)
        if attempt is not None:
            self._say(attempt, Progress(attempt.key.task, attempt.key.attempt, news.fraction, news.text), now)

    def _say(self, attempt: Attempt, item: ReplyItem, now: float, *, urgent: bool = False) -> None:
        self._replies.add(attempt.group, item, now, urgent=urgent)

    def _close(self, attempt: Attempt, word: Ended | Returned, now: float, *, urgent: bool = False) -> None:
        """Say the last word about an attempt, and let go of what it holds."""
        self._let_go(attempt)
        attempt.state = Closing(word)
        self._say(attempt, word, now, urgent=urgent)
        for delivery in attempt.deliveries:
            due = self.dues[delivery]
            due.unfinished.discard(attempt.key)
            if not due.unfinished:
                self._replies.hurry(due.group)

    def _let_go(self, attempt: Attempt) -> None:
        match attempt.state:
            case Waiting(bundle):
                bundle.waiting.pop(attempt.key, None)
            case Announced(allocation=allocation, notice=notice):
                self._withdraw(allocation, notice)
            case Running(execution, allocation):
                del self._running[execution]
                self.pool.release(allocation)
            case Closing():
                raise IllegalTransition(f"a second last word about {attempt.key}")
            case _:
                assert_never(attempt.state)

    def _withdraw(self, allocation: Allocation, notice: int) -> None:
        """Do not start what was announced."""
        self._replies.withdraw(notice)
        del self._announced[notice]
        self.pool.release(allocation)

    # --- replies ------------------------------------------------------------------------------------------------------

    def _confirmed(self, number: int, now: float) -> Iterator[Command]:
        publish = self._replies.confirmed(number)
        if publish is None:
            return
        match publish.message:
            case Goodbye():
                # A message that was on its way came after the goodbye: it goes back first, and goodbye is said again.
                if not self.attempts and self._replies.empty:
                    self.exited = True
                    yield Exit(0, in_order=True)
            case Reply(job=job, items=items):
                for item in items:
                    yield from self._safe(AttemptKey(job, item.task, item.attempt), item)
                attempt = self._announced.pop(number, None)
                if attempt is not None and isinstance(attempt.state, Announced):
                    ready = attempt.state
                    yield self._run(attempt, ready.execution, ready.allocation, now, ready.since, announced=True)
            case _:
                assert_never(publish.message)

    def _safe(self, key: AttemptKey, item: ReplyItem) -> Iterator[Command]:
        """The ledger has this item."""
        match item:
            case Ended() | Returned():
                attempt = self.attempts.pop(key)
                self._closed.add(key)
                yield from self._discharge(attempt)
            case Taken():
                attempt_taken = self.attempts.get(key)
                if attempt_taken is not None and isinstance(attempt_taken.state, Running):
                    attempt_taken.state.taking = Taking.confirmed
                    yield from self._discharge(attempt_taken)
            case Started() | Progress():
                pass
            case _:
                assert_never(item)

    def _discharge(self, attempt: Attempt) -> Iterator[Command]:
        """No delivery waits for this attempt any more."""
        for delivery in attempt.deliveries:
            due = self.dues[delivery]
            due.unconfirmed.discard(attempt.key)
            due.unfinished.discard(attempt.key)
            if not due.unfinished:
                self._replies.hurry(due.group)
            yield from self._settle(delivery)
        attempt.deliveries.clear()

    def _settle(self, delivery: Delivery) -> Iterator[Command]:
        if not self.dues[delivery].unconfirmed:
            del self.dues[delivery]
            yield Settle(delivery)

    # --- endings ------------------------------------------------------------------------------------------------------

    def _revoke(self, revocations: Iterable[Revocation], now: float) -> Iterator[Command]:
        for revocation in revocations:
            self._revoked.add(revocation)
        for attempt in list(self.attempts.values()):
            reason = self._revoked.reason(attempt.key)
            if reason is None:
                continue
            match attempt.state:
                case Waiting(bundle):
                    # The coordinator has recorded its end already: nothing is to be said.
                    del bundle.waiting[attempt.key], self.attempts[attempt.key]
                    yield from self._discharge(attempt)
                case Announced():
                    self._close(attempt, Returned(attempt.key.task, attempt.key.attempt, Return.unstarted), now, urgent=True)
                case Running(execution, ending=ending) as run:
                    run.ending = Ending.revoked
                    if ending is None:
                        yield Stop(execution, reason)
                case Closing():
                    pass
                case _:
                    assert_never(attempt.state)

    def _drain(self, now: float) -> Iterator[Command]:
        self.draining = True
        self._working = False
        yield from self._credit.close()
        for bundles in self._bundles.values():
            for bundle in bundles:
                self._give_back(bundle, now)
            bundles.clear()
        for attempt in list(self._announced.values()):
            self._close(attempt, Returned(attempt.key.task, attempt.key.attempt, Return.unstarted), now, urgent=True)

    def _stop(self, now: float) -> Iterator[Command]:
        if self._stop_by is None:
            self._stop_by = now + self.timing.stop_within
        for attempt in self._running.values():
            match attempt.state:
                case Running(execution, ending=None) as run:
                    run.ending = Ending.stopping
                    yield Stop(execution, "the worker stops")

    def _leave(self) -> Iterator[Command]:
        """Say goodbye when nothing is left."""
        if not self.draining or self.exited or self.attempts or not self._replies.empty:
            return
        if self.connected:
            yield self._replies.goodbye()
        else:
            # Without a connection there is no token to drop and nobody to tell.
            self.exited = True
            yield Exit(0, in_order=False)

    def _unix_ms(self, at: float) -> int:
        return round((self._wall + at) * 1000)

    # --- what must always be true ---------------------------------------------------------------------------------------

    def check(self) -> None:
        """What must always be true; `AssertionError` where it is not."""
        self.pool.check()
        held = [attempt.state.allocation for attempt in self.attempts.values() if isinstance(attempt.state, Announced | Running)]
        assert sorted(map(id, held)) == sorted(map(id, self.pool.held)), (
            "what runs or is about to holds an allocation, and nothing else does"
        )
        assert {a.state.execution: a for a in self.attempts.values() if isinstance(a.state, Running)} == self._running, (
            "the index of executions is right"
        )
        assert {a.state.notice: a for a in self.attempts.values() if isinstance(a.state, Announced)} == self._announced, (
            "the index of notices is right"
        )
        waiting = {key: bundle for bundles in self._bundles.values() for bundle in bundles for key in bundle.waiting}
        assert waiting == {key: a.state.bundle for key, a in self.attempts.items() if isinstance(a.state, Waiting)}, (
            "what waits is in its bundle"
        )
        words = {
            (AttemptKey(job, item.task, item.attempt), item)
            for job, item in self._replies.unconfirmed()
            if isinstance(item, Ended | Returned)
        }
        assert words == {(key, a.state.word) for key, a in self.attempts.items() if isinstance(a.state, Closing)}, (
            "last words are unconfirmed or forgotten"
        )
        for delivery, due in self.dues.items():
            assert delivery.tag.generation == self.generation, "deliveries die with their connection"
            assert due.unconfirmed, "what waits for nothing is settled"
            assert due.unfinished <= due.unconfirmed
            assert due.unconfirmed == {key for key, a in self.attempts.items() if delivery in a.deliveries}, "deliveries and attempts agree"
            closing = {key for key in due.unconfirmed if isinstance(self.attempts[key].state, Closing)}
            assert due.unconfirmed - due.unfinished == closing, "unfinished are those without a last word"
        for attempt in self.attempts.values():
            assert attempt.deliveries <= self.dues.keys(), "nobody waits for a delivery that is gone"
            if isinstance(attempt.state, Waiting | Announced):
                assert attempt.deliveries, "what has not started has a message"
        if self.draining or not self.connected:
            assert not waiting, "a worker that leaves starts nothing more"
            assert not self._announced, "the same"
            assert not self.subscribed, "and takes nothing more"


def _listed(indices: Iterable[int]) -> str:
    return ",".join(map(str, indices))
