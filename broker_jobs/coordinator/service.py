"""The coordinator: it keeps the ledger and talks to the broker, on one event loop, with an inbox between the two.

A batch is whatever has arrived, a single message as well. It is handled in one transaction; then it is acknowledged, and what
followed from it is published. So whatever is killed between two steps is done again by the next coordinator, and changes nothing.
A batch that may take long is recorded in a thread, one at a time. An error in the handling of a message is a bug: the last events
are logged, nothing is acknowledged, and the coordinator stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter, deque
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.broker import open_broker
from broker_jobs.coordinator.admission import admit
from broker_jobs.coordinator.config import Durability
from broker_jobs.coordinator.ledger import Ledger
from broker_jobs.coordinator.post import Arrived, Broken, Confirmed, Item, Looked, Opened, Post, Reconnected, Stop
from broker_jobs.coordinator.store import LedgerStore
from broker_jobs.coordinator.telling import Telling
from broker_jobs.coordinator.workers import WorkerState
from broker_jobs.errors import BrokerError, DecodeError, LedgerRefused, MessageError, SecurityError
from broker_jobs.metrics import CoordinatorMetrics, MetricsServer, Pulse
from broker_jobs.wire.messages import Chunk, Goodbye, Heartbeat, Hello, Reply, Request, Token
from broker_jobs.wire.signing import Signer
from broker_jobs.wire.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from broker_jobs.broker.port import Broker, Delivery
    from broker_jobs.coordinator.admission import LedgerMessage
    from broker_jobs.coordinator.config import CoordinatorConfig
    from broker_jobs.coordinator.effects import Effects
    from broker_jobs.hooks.facts import Told

BATCH: Final = 500
"""Messages in one transaction at most."""

BATCH_BYTES: Final = 2**20
"""Bytes of these, about: those of small tasks take a hundred times as much while they are recorded."""

QUICK_ITEMS: Final = 20
QUICK_BYTES: Final = 32 * 1024
"""A batch of so few messages with so few bytes is recorded within a few milliseconds."""

COMPANY: Final = 0.02
"""Seconds for which a chunk that is in its class queue, too, and a reply that sets nothing free, wait for others: fewer transactions, and
where no job waits for the ledger, fewer looks at what has come."""

TIDY: Final = 0.2
"""Seconds after which confirmed messages leave the outbox when nothing else is written."""

STORY: Final = 200
"""Events that are remembered for the log of a bug."""

BRIEFLY: Final = 5
"""Items of a reply that are remembered."""

LAST_MOMENTS: Final = 5.0
"""Seconds that plugins have at the end."""

STAND_BY: Final = 0.25
"""Seconds after which a coordinator that stands by asks for the ledger again."""

WATCH: Final = 1.0
"""Seconds after which it looks again whether anybody works."""

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What came of one transaction.

    Attributes:
        done: deliveries that are recorded
        dead: deliveries that cannot be, each with the reason
        oldest: when the first of them arrived, in seconds
    """

    effects: Effects
    done: list[Delivery]
    dead: list[tuple[Delivery, str]]
    oldest: float | None


class _Stopped(Exception):
    """The coordinator was stopped while it stood by."""


class Coordinator:
    """Keeps the ledger of a namespace, or of a partition of it. `serve` works until `stop`, which any thread may call, also before.

    Args:
        config: its settings
        broker: a connection of the loop on which it will serve, which somebody else closes; without one, it opens its own
        hooks: plugins, which are told of what was recorded

    Attributes:
        ready: set as soon as messages are consumed
        reached: whether it has had the database of its ledger
        metrics_port: where numbers are served once it is ready; 0 is nowhere
    """

    def __init__(self, config: CoordinatorConfig, broker: Broker | None = None, *, hooks: Told | None = None) -> None:
        self.ready = threading.Event()
        self.reached = False
        self.metrics_port = 0
        self._config = config
        self._lent = broker
        self._hooks = hooks
        self._telling = Telling(hooks) if hooks is not None else None
        self._troubles: Counter[str] = Counter()
        self._topology = Topology(config.namespace)
        self._signer = Signer(config.namespace, config.key)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inbox: deque[Item] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._urgent = False
        self._calm = False
        self._company: asyncio.TimerHandle | None = None
        self._rest: Callable[[float], None] = lambda _: None
        self._story: deque[tuple[float, object]] = deque(maxlen=STORY)
        self._name = f"{config.name} of partition {config.partition}" if config.partition else config.name
        self._metrics = CoordinatorMetrics(config.partition)
        self._pulse = Pulse({"partition": config.partition})
        self._next_look = 0.0
        self._tidy_at: float | None = None
        self._unfinished = 0
        self._stopping = threading.Event()
        self._attended = 0.0

    @property
    def idle(self) -> bool:
        """Whether no job is unfinished."""
        return self._unfinished == 0

    def run(self) -> None:
        """Work until `stop`, on an event loop of its own; see `serve`."""
        asyncio.run(self.serve())

    async def serve(self) -> None:
        """Work until `stop`. Where another coordinator has a ledger that several share, stand by until it is gone.

        Raises:
            LedgerRefused: another coordinator holds the ledger, or it is of another namespace or partition
            LedgerLost: another coordinator has taken the ledger over, or its database does not answer any more
            BrokerError: there is no broker, or it refuses
        """
        config = self._config
        self._loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as closing:
            ledger_thread = closing.enter_context(ThreadPoolExecutor(1, "ledger"))
            kept = closing.enter_context(contextlib.ExitStack())  # the ledger, until the broker has let go of everything
            if config.metrics_port:
                server = MetricsServer(self._metrics.registry, self._pulse, host=config.metrics_host, port=config.metrics_port)
                closing.callback(server.close)
                self.metrics_port = server.port
            broker = self._lent
            if broker is None:
                broker = await open_broker(config.url, name=config.name, timeout=config.connect_timeout)
                closing.push_async_callback(broker.close)
            post = Post(config, broker, self._topology, self._put)
            self._rest = broker.rest
            closing.push_async_callback(post.close)
            try:
                await post.open()
                store = await self._take_up(post, ledger_thread)
                kept.callback(store.close)
                await self._keep(store, post, ledger_thread)
            except _Stopped:
                return
            except (LedgerRefused, BrokerError):  # weather, or what a person must set right: the text says it all
                if self._hooks is not None:
                    await asyncio.to_thread(self._hooks.close, LAST_MOMENTS)
                raise
            except Exception:
                for at, event in self._story:
                    _LOG.error("%.3f s ago: %s", time.monotonic() - at, event)
                _LOG.exception("the coordinator stops; nothing of the last batch was acknowledged")
                raise

    def stop(self) -> None:
        """Finish the batch, publish what it brought about, and end."""
        self._stopping.set()
        self._inbox.append(Stop())
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._wake)

    # --- the loop ---

    async def _take_up(self, post: Post, ledger_thread: Executor) -> LedgerStore:
        """Open the ledger, when it is free."""
        self._attended = time.monotonic()
        watching = asyncio.ensure_future(self._watch(post))
        try:
            return await asyncio.get_running_loop().run_in_executor(ledger_thread, self._open_store)
        except asyncio.CancelledError:
            self._stopping.set()  # nobody waits for that thread any more
            raise
        finally:
            watching.cancel()

    def _open_store(self) -> LedgerStore:
        config = self._config
        durable = config.durability is Durability.power
        store = LedgerStore(
            config.store, config.namespace, partition=config.partition, durable=durable, holder=config.name, wait=self._stand_by
        )
        self.reached = True
        return store

    def _stand_by(self, holder: str) -> float:
        """Wait a moment for the ledger; seconds for which nobody has received what is for it."""
        if not self.reached:
            self.reached = True
            _LOG.info("coordinator %s stands by: the ledger is kept by %s", self._name, holder)
        if self._stopping.wait(STAND_BY):
            raise _Stopped
        return time.monotonic() - self._attended

    async def _watch(self, post: Post) -> None:
        """Notice that nobody consumes the ledger queue, although somebody may hold the ledger."""
        while True:
            if not post.connected or await post.consumers():
                self._attended = time.monotonic()
            self._pulse.beat(connected=post.connected, standby=True)
            await asyncio.sleep(WATCH)

    async def _keep(self, store: LedgerStore, post: Post, ledger_thread: Executor) -> None:
        """Take the ledger up, work until told to stop, and put it down."""
        loop = asyncio.get_running_loop()
        await post.claim(store.id)
        # Before the rows are read, which may take a while: who stands by sees that somebody is there.
        await post.consume()
        ledger, effects = await loop.run_in_executor(ledger_thread, self._load, store)
        post.perform(effects)
        self.ready.set()
        if self._hooks is not None:
            self._hooks.begin()
        _LOG.info("coordinator %s keeps %s: %d jobs have not ended", self._name, store.name, len(ledger.jobs.live))
        await self._work(store, ledger, post, ledger_thread)
        await post.drain()
        if self._hooks is not None:
            await asyncio.to_thread(self._hooks.close, LAST_MOMENTS)
        await loop.run_in_executor(ledger_thread, self._tidy, store, ledger)

    def _load(self, store: LedgerStore) -> tuple[Ledger, Effects]:
        store.take_epoch()
        program = version("broker-jobs")
        with store.answering():
            ledger = Ledger(self._config, store, self._signer, self._topology, version=program, telling=self._telling)
            effects = ledger.load(time.monotonic(), _now_ms())
        self._unfinished = len(ledger.jobs.live)
        return ledger, effects

    async def _work(self, store: LedgerStore, ledger: Ledger, post: Post, ledger_thread: Executor) -> None:
        loop = asyncio.get_running_loop()
        more = True
        while True:
            items = await self._receive(0.0 if more else self._patience(ledger))
            if any(isinstance(item, Stop) for item in items):
                # What else has arrived goes back to the queue.
                self._confirm(items, ledger)
                return
            if self._only_confirms(items, ledger):
                more = False
                continue
            if store.local and self._is_quick(items):
                batch = self._record(items, store, ledger)
            else:
                batch = await loop.run_in_executor(ledger_thread, self._record, items, store, ledger)
            post.perform(batch.effects, batch.done, batch.dead)
            if self._hooks is not None:
                self._hooks.tell(batch.effects.moments)
            self._count(batch)
            more = batch.effects.more
            self._calm = ledger.calm
            now = time.monotonic()
            if now >= self._next_look:
                self._next_look = now + self._config.look
                post.look(ledger.suspicious(now))
                self._beat(ledger, post)

    def _is_quick(self, items: list[Item]) -> bool:
        """Whether their batch takes about as long as the way to another thread and back: then it need not go there.

        A disk may take seconds for a write that has to be durable, and the connection has heartbeats to answer.
        """
        if self._config.durability is Durability.power or len(items) > QUICK_ITEMS:
            return False
        return sum(len(item.delivery.body) for item in items if isinstance(item, Arrived)) <= QUICK_BYTES

    def _put(self, item: Item) -> None:
        """Something has happened; called on the loop."""
        self._inbox.append(item)
        if isinstance(item, Arrived) and self._has_time(item.delivery):
            if self._company is None:
                self._company = asyncio.get_running_loop().call_later(COMPANY, self._wake)
                if self._calm:
                    self._rest(COMPANY)
        else:
            self._wake()

    def _has_time(self, delivery: Delivery) -> bool:
        """Whether nobody waits for the record of this: its tasks are on their way; or its client hears of it, too, and no task needs it."""
        exchange, key = delivery.exchange, delivery.key
        return self._topology.is_direct(exchange, key) or (self._calm and self._topology.is_heard(exchange, key))

    def _wake(self) -> None:
        self._urgent = True
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def _receive(self, patience: float) -> list[Item]:
        """What has arrived; waits for something that is urgent."""
        inbox = self._inbox
        if not self._urgent:
            # The loop gets its turn in any case, and what it brings is taken along.
            loop = asyncio.get_running_loop()
            self._arrival = loop.create_future()
            waking = loop.call_later(patience, self._wake) if patience > 0 else loop.call_soon(self._wake)
            await self._arrival
            self._arrival = None
            waking.cancel()
        if self._company is not None:
            self._company.cancel()
            self._company = None
        items = batch_of(inbox)
        self._urgent = bool(inbox)
        return items

    def _patience(self, ledger: Ledger) -> float:
        now = time.monotonic()
        until = min(self._next_look, now + ledger.due_in(now))
        return max(0.001, (until if self._tidy_at is None else min(until, self._tidy_at)) - now)

    def _only_confirms(self, items: list[Item], ledger: Ledger) -> bool:
        """Whether nothing has to be written now: confirms wait for the next transaction, a moment at most."""
        if not items or not all(isinstance(item, Confirmed) for item in items):
            return False
        self._confirm(items, ledger)
        if ledger.unconfirmed_deletions > BATCH:
            return False
        if self._tidy_at is None:
            self._tidy_at = time.monotonic() + TIDY
        return True

    @staticmethod
    def _confirm(items: Iterable[Item], ledger: Ledger) -> None:
        for item in items:
            if isinstance(item, Confirmed):
                ledger.confirmed(item.numbers)

    def _record(self, items: list[Item], store: LedgerStore, ledger: Ledger) -> _Batch:
        """One transaction, and what follows from it."""
        done: list[Delivery] = []
        dead: list[tuple[Delivery, str]] = []
        arrived: list[Delivery] = []
        others: list[Item] = []
        oldest: float | None = None
        for item in items:
            match item:
                case Arrived(delivery, at):
                    oldest = at if oldest is None else oldest
                    arrived.append(delivery)
                case Broken(error):
                    raise error
                case Reconnected():
                    self._metrics.reconnects.inc()
                    others.append(item)
                case _:
                    others.append(item)
        self._tidy_at = None
        with store.transaction():
            ledger.begin(time.monotonic(), _now_ms())
            for delivery in arrived:
                # Not all of them first: a thousand chunks are a million tasks, each a few objects.
                opened = self._open(delivery)
                if isinstance(opened, str):
                    dead.append((delivery, opened))
                else:
                    done.append(delivery)
                    ledger.take(opened, returned=delivery.exchange == self._topology.returned)
            for item in others:
                self._take(item, ledger)
            effects = ledger.finish()
        self._unfinished = len(ledger.jobs.live)
        return _Batch(effects, done, dead, oldest)

    def _take(self, item: Item, ledger: Ledger) -> None:
        self._tell(item)
        match item:
            case Confirmed(numbers):
                ledger.confirmed(numbers)
            case Opened(name, missing):
                ledger.opened(name, missing)
            case Looked(depths):
                ledger.looked(depths)
            case Reconnected():
                ledger.reconnected()
            case Arrived() | Broken() | Stop():
                pass
            case _:
                assert_never(item)

    def _open(self, delivery: Delivery) -> LedgerMessage | str:
        """The message of a delivery, or why it is refused."""
        try:
            opened = self._signer.open(delivery.body)
            message = admit(opened, self._topology, delivery.exchange, delivery.key, self._config.partition)
        except SecurityError as error:
            return f"security: {error}"
        except (DecodeError, MessageError) as error:
            return f"decode: {error}"
        self._tell(brief(message))
        return message

    def _tidy(self, store: LedgerStore, ledger: Ledger) -> None:
        """Take what was confirmed in the end out of the outbox."""
        with store.transaction():
            ledger.begin(time.monotonic(), _now_ms())
            self._confirm(self._inbox, ledger)
            ledger.tidy()

    # --- what people see ---

    def _tell(self, event: object) -> None:
        self._story.append((time.monotonic(), event))

    def _count(self, batch: _Batch) -> None:
        metrics, counted = self._metrics, batch.effects.counted
        metrics.batches.inc()
        metrics.batch_messages.observe(len(batch.done))
        if batch.oldest is not None:
            metrics.ledger_lag.set(time.monotonic() - batch.oldest)
        for _, reason in batch.dead:
            _LOG.warning("a message was refused: %s", reason)
            metrics.dead_letters.labels(reason.partition(":")[0]).inc()
        for histogram, durations in ((metrics.queue, counted.queued), (metrics.end_to_end, counted.ended)):
            for name, milliseconds in durations.items():
                histogram.observe(name, milliseconds)
        by_label = ((metrics.crashes, counted.crashes), (metrics.duplicates, counted.duplicates), (metrics.dropped, counted.dropped))
        for counter, counts in by_label:
            for name, count in counts.items():
                counter.labels(name).inc(count)

    def _beat(self, ledger: Ledger, post: Post) -> None:
        metrics = self._metrics
        connected = post.connected
        metrics.connected.set(connected)
        jobs = Counter(job.machine.state.value for job in ledger.jobs.live.values())
        for state in ("waiting", "running", "paused"):
            metrics.jobs.labels(state).set(jobs[state])
        workers = Counter(worker.state.value for worker in ledger.workers.known.values())
        for name in {state.value for state in WorkerState}:
            metrics.workers.labels(name).set(workers[name])
        metrics.outbox.set(ledger.outbox_messages)
        self._count_hooks()
        if connected:
            post.ledger_depth(metrics.ledger_messages.set)
        self._pulse.beat(connected=connected, standby=False, jobs=len(ledger.jobs.live))

    def _count_hooks(self) -> None:
        if self._hooks is None or self._telling is None:
            return
        too_many = {"all": self._telling.dropped} if self._telling.dropped else {}
        for counter, counts in (
            (self._metrics.hook_failures, self._hooks.failures()),
            (self._metrics.hook_dropped, {**self._hooks.dropped(), **too_many}),
        ):
            for name, count in counts.items():
                counter.labels(name).inc(count - self._troubles[f"{counter} {name}"])
                self._troubles[f"{counter} {name}"] = count


def batch_of(inbox: deque[Item]) -> list[Item]:
    """Take out what is recorded in one transaction; at least one item where there are any."""
    items: list[Item] = []
    size = 0
    while inbox and len(items) < BATCH and size < BATCH_BYTES:
        item = inbox.popleft()
        items.append(item)
        size += len(item.delivery.body) if isinstance(item, Arrived) else 0
    return items


def brief(message: LedgerMessage) -> tuple[object, ...]:
    """What a message was about, without its payloads."""
    match message:
        case Chunk():
            return message.tag, message.job, message.chunk, len(message.tasks)
        case Reply(items=items):
            return message.tag, message.job, message.worker, *((item.tag, item.task, item.attempt) for item in items[:BRIEFLY])
        case Request():
            return message.tag, message.reply_to, message.question.tag
        case Hello() | Heartbeat() | Goodbye() | Token():
            return message.tag, message.worker, message.boot
        case _:
            assert_never(message)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
