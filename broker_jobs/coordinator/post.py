"""The coordinator's connection to the broker: what has arrived goes into its inbox, and what a batch brought about is carried out.

Nothing here decides. Everything runs on the event loop of the broker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from broker_jobs.broker.former import refuse_former
from broker_jobs.broker.port import Outgoing, Receipt
from broker_jobs.config import shown
from broker_jobs.coordinator.reconcile import Silences
from broker_jobs.core.spec import Lane
from broker_jobs.data.files import Files
from broker_jobs.data.store import ValueStore
from broker_jobs.errors import BrokerError, BrokerUnavailable, LedgerRefused, TopologyMismatch, ValueStoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from broker_jobs.broker.port import Broker, Delivery, Depth, Subscription
    from broker_jobs.coordinator.config import CoordinatorConfig
    from broker_jobs.coordinator.effects import Effects
    from broker_jobs.coordinator.store import OutboxRow
    from broker_jobs.wire.topology import Topology

CREDIT: Final = 1000
"""Messages of the ledger queue that wait here for their batch."""

AGAIN: Final = 0.25
"""Seconds until something that the broker did not take is tried again."""

GONE: Final = 1.0
"""Seconds for which a class queue that somebody has deleted stays away. Consumers of a quorum queue that is made again at once get its
messages counted as theirs and never see one (measured on 3.10.8); 0.3 s later they have heard of its end, and consume anew."""

YOUNG: Final = 5.0
"""Seconds for which a new queue may be lost with its node: a quorum queue that was made just before is dead when the node is back, for ever
(3.10.8; measured: up to 2 s)."""

DEAD: Final = 5.0
"""Seconds between two looks, of 5 s each, that find a queue dead. For as long as that, a cluster may need to find out that a node is frozen
(`net_ticktime = 10`), and its queues just have no leader meanwhile."""

SILENT: Final = 20.0
"""Seconds for which an empty queue says nothing at any look, while nobody has its tasks, until it counts as dead however old it is: longer
than a cluster needs to give it another leader (`net_ticktime = 10`). One that needs longer does not delete it before, either (measured)."""

PREDECESSOR: Final = 15.0
"""Seconds after which the broker has noticed that a coordinator is gone, its host included."""

LAST_WORDS: Final = 5.0
"""Seconds that unconfirmed messages have at the end."""

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message of the ledger queue, and when it came, in seconds."""

    delivery: Delivery
    at: float


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The broker has these messages of the outbox."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A class has queues now; `missing` are those that it had not."""

    name: str
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Looked:
    """How full class queues are."""

    depths: Mapping[str, Depth]


@dataclass(frozen=True, slots=True)
class Reconnected:
    """The connection is back."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection cannot go on."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Stop:
    """End in order."""


Item = Arrived | Confirmed | Opened | Looked | Reconnected | Broken | Stop


class Post:
    """Publishes, acknowledges, declares and receives for the ledger.

    Args:
        broker: its connection; somebody else opens and closes it
        put: takes what arrives
    """

    def __init__(self, config: CoordinatorConfig, broker: Broker, topology: Topology, put: Callable[[Item], None]) -> None:
        self._config = config
        self._topology = topology
        self._partition = config.partition
        self._of = f"the namespace {topology.namespace!r}" + (f", partition {config.partition}," if config.partition else "")
        self._put = put
        self._loop = asyncio.get_running_loop()
        self._broker = broker
        self._subscription: Subscription | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: dict[str, asyncio.Event] = {}
        self._seen: dict[str, float] = {}  # class queues: since when they are there
        self._gone_at = 0.0
        self._silences = Silences(SILENT)
        self._doubted: set[str] = set()  # class queues for which a message was not answered
        self._asking = False
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(
            asyncio.Lock
        )  # what is opened and what is retired, one after the other

    async def open(self) -> None:
        """Declare what every namespace has.

        Raises:
            TopologyMismatch: a queue has other properties, or an earlier version has left one that somebody has to move
            BrokerError: the broker refuses, or the connection went
        """
        kept = (self._topology.ledger(self._partition), self._topology.dead_letters())
        await refuse_former(self._broker, self._topology, kept)
        await self._broker.declare(self._topology.exchanges(), kept)
        self._broker.watch(lambda _: self._put(Reconnected()), self._gone)

    async def claim(self, ledger: str) -> None:
        """Say at the broker which ledger keeps the namespace; the first one that does stays it.

        Args:
            ledger: its id

        Raises:
            LedgerRefused: another one keeps it
            BrokerError: the broker refuses, or the connection went
        """
        try:
            await self._broker.declare((), [self._topology.keeper(self._partition, ledger)])
        except TopologyMismatch as error:
            name = self._topology.keeper_name(self._partition)
            raise LedgerRefused(
                f"another ledger than {shown(self._config.store)} keeps {self._of} at this broker: "
                f"use its store. Where that is lost for good, delete the queue {name} (of an embedded broker, its file), and start again"
            ) from error

    async def consume(self) -> None:
        """Let messages arrive.

        Raises:
            LedgerRefused: another coordinator receives them
        """
        await self._be_alone()
        self._subscription = await self._broker.consume(self._topology.ledger_name(self._partition), CREDIT, self._receive)

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._broker.connected

    async def consumers(self) -> int:
        """How many receive from the ledger queue; one where that cannot be asked."""
        try:
            depth = await self._broker.depth(self._topology.ledger_name(self._partition))
        except BrokerError:
            return 1
        return 0 if depth is None else depth.consumers

    def look(self, queues: Iterable[str]) -> None:
        """Count the messages of class queues, and of those that have said nothing, or did not confirm a message."""
        wanted = {*queues, *self._silences.lasting, *self._doubted}
        if wanted:
            self._spawn(self._look(sorted(wanted)))

    def ledger_depth(self, tell: Callable[[int], None]) -> None:
        """Tell how many messages wait in the ledger queue."""
        self._spawn(self._ledger_depth(tell))

    async def drain(self) -> None:
        """Receive nothing more, and wait a moment for confirms; what is not acknowledged goes back to the queue."""
        if self._subscription is not None:
            await self._subscription.cancel(requeue=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_WORDS if self.connected else 0)

    async def close(self) -> None:
        """Do nothing more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _be_alone(self) -> None:
        """Wait until the connection of a predecessor that was killed is gone; whoever stays keeps another ledger of this namespace."""
        name = self._topology.ledger_name(self._partition)
        deadline = self._loop.time() + PREDECESSOR
        while (depth := await self._broker.depth(name)) is not None and depth.consumers:
            if self._loop.time() > deadline:
                raise LedgerRefused(
                    f"another coordinator, with another store than {shown(self._config.store)}, keeps the ledger of {self._of} "
                    f"at this broker: stop it, or use its store"
                )
            await asyncio.sleep(AGAIN)

    def _gone(self, reason: str) -> None:
        self._gone_at = self._loop.time()
        self._silences.forget()
        _LOG.warning("the connection is gone: %s", reason)

    def _receive(self, delivery: Delivery) -> None:
        self._put(Arrived(delivery, time.monotonic()))

    def perform(self, effects: Effects, done: Sequence[Delivery] = (), dead: Iterable[tuple[Delivery, str]] = ()) -> None:
        """Acknowledge what was recorded, and publish what followed from it."""
        for delivery in done:
            self._broker.done(delivery)
        for name in (*effects.open_classes, *effects.new_classes):
            self._opening.setdefault(name, asyncio.Event())
        if effects.open_classes:
            self._spawn(self._open(effects.open_classes))
        if effects.new_classes:
            # Another partition may just have made their queues: to ask them would take the first message, and mark it as redelivered.
            self._spawn(self._open(effects.new_classes, frozenset()))
        ready: list[OutboxRow] = []
        for row in effects.outbox:
            opening = self._opening.get(self._class_of(row))
            if opening is None:
                ready.append(row)
            else:
                self._spawn(self._publish_after(opening, row))
        if ready or effects.sends:
            self._spawn(self._publish(ready, effects.sends))
        for delivery, reason in dead:
            self._spawn(self._bury(delivery, reason))
        for name in effects.close_classes:
            self._spawn(self._retire(name))
        for store, job in effects.forget:
            self._spawn(asyncio.to_thread(ValueStore(store).forget, job))
        for store, key in effects.delete:
            self._spawn(asyncio.to_thread(_remove, store, key))

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._put(Broken(error))

    async def _publish(self, rows: Sequence[OutboxRow], sends: Sequence[Outgoing] = ()) -> None:
        """Publish rows of the outbox until they are confirmed, and the others once."""
        left = list(rows)
        once = list(sends)
        while left or once:
            messages = [self._outgoing(row) for row in left]
            receipts = await self._broker.publish(messages + once)
            once.clear()
            answers = list(zip(left, receipts, strict=False))
            confirmed = tuple([row.id for row, receipt in answers if self._settled(row, receipt)])
            if confirmed:
                self._put(Confirmed(confirmed))
            left = [row for row, receipt in answers if not self._settled(row, receipt)]
            if left:
                if self.connected:
                    self._doubted |= {self._queue_of(row) for row, receipt in answers if receipt is Receipt.unknown and self._class_of(row)}
                await self._repair({self._class_of(row) for row, receipt in answers if receipt is Receipt.unroutable and row.mandatory})
                await asyncio.sleep(AGAIN)

    def _outgoing(self, row: OutboxRow) -> Outgoing:
        return Outgoing(row.exchange, row.key, row.body, mandatory=row.mandatory, apart=row.exchange == self._topology.ready)

    @staticmethod
    def _settled(row: OutboxRow, receipt: Receipt) -> bool:
        return receipt is Receipt.confirmed or (receipt is Receipt.unroutable and not row.mandatory)

    async def _repair(self, classes: set[str]) -> None:
        """Declare the queues of classes again that should be there."""
        if classes:
            await asyncio.sleep(GONE)
        for name in sorted(classes):
            async with self._changing[name]:
                with contextlib.suppress(BrokerUnavailable):
                    await self._declare(name)

    async def _publish_after(self, opened: asyncio.Event, row: OutboxRow) -> None:
        await opened.wait()
        await self._publish((row,))

    def _class_of(self, row: OutboxRow) -> str:
        """The class for whose queue a message is, or an empty text."""
        return row.key.partition(".")[0] if row.exchange == self._topology.ready else ""

    def _queue_of(self, row: OutboxRow) -> str:
        """The queue of a class for which a message is."""
        name, lane, _ = row.key.split(".")
        return self._topology.class_name(name, Lane(lane))

    async def _open(self, names: Iterable[str], dead: frozenset[str] | None = None) -> None:
        """Declare the queues of classes, and tell which were missing. Dead ones count as such: what should be in them, the ledger has.

        Args:
            dead: queues of which that is known; None: those that say nothing are asked
        """
        classes = {name: [self._topology.class_name(name, lane) for lane in Lane] for name in sorted(names)}
        queues = [queue for lanes in classes.values() for queue in lanes]
        missing: set[str] = set()
        async with contextlib.AsyncExitStack() as changing:
            for name in classes:
                await changing.enter_async_context(self._changing[name])
            opened = False
            while not opened:
                try:
                    depths = {queue: await self._broker.depth(queue) for queue in queues}
                    missing.update(queue for queue, depth in depths.items() if depth is None)
                    if dead is None:
                        # What an earlier version has left of them: the ledger has what is in there.
                        former = [self._topology.former_name(queue) for queue in queues if queue not in self._seen]
                        await asyncio.gather(*(self._broker.delete(queue) for queue in former))
                        dead = await self._died_young([queue for queue, depth in depths.items() if _may_be_dead(depth)])
                    missing |= dead
                    await self._remove(dead)
                    for name in classes:
                        await self._declare(name)
                    opened = True
                except BrokerUnavailable:
                    await asyncio.sleep(AGAIN)
        for name, lanes in classes.items():
            waiting = self._opening.pop(name, None)
            if waiting is not None:
                waiting.set()
            self._put(Opened(name, tuple([queue for queue in lanes if queue in missing])))
            now = self._loop.time()
            self._seen.update({queue: now for queue in lanes if queue in missing or queue not in self._seen})

    async def _died_young(self, queues: Iterable[str]) -> frozenset[str]:
        """Those of these empty queues that went with the connection just after they were made."""
        suspects = [queue for queue in queues if self._gone_at < self._seen.get(queue, self._gone_at) + YOUNG]
        dead = await self._find_dead(suspects)
        if dead:
            await asyncio.sleep(DEAD)
            dead = await self._find_dead(sorted(dead))
        return dead

    async def _remove(self, dead: Iterable[str]) -> None:
        """Delete what is of no use any more."""
        if dead:
            _LOG.warning("%s: the broker has lost what it needs for them; they are made again", ", ".join(sorted(dead)))
            await asyncio.gather(*(self._broker.delete(queue) for queue in dead))
            await asyncio.sleep(GONE)

    async def _find_dead(self, suspects: Sequence[str]) -> frozenset[str]:
        """Those of these queues that are dead; none where the ledger does not answer either, and much is just not as it should be."""
        if not suspects:
            return frozenset()
        ledger = self._topology.ledger_name(self._partition)
        dead = await self._broker.dead([ledger, *suspects])
        return frozenset() if ledger in dead else dead

    async def _declare(self, name: str) -> None:
        await self._broker.declare((), [self._topology.class_queue(name, lane) for lane in Lane])

    async def _retire(self, name: str) -> None:
        """Delete the queues of a class, if nothing is in them."""
        queues = [self._topology.class_name(name, lane) for lane in Lane]
        async with self._changing[name]:
            try:
                depths = [await self._broker.depth(queue) for queue in queues]
                if not any(depth is not None and depth.ready for depth in depths):
                    for queue in queues:
                        await self._broker.delete(queue)
                        self._seen.pop(queue, None)
                    self._silences.forget()
            except BrokerUnavailable:
                _LOG.info("the queues of class %s stay: the connection is gone", name)

    async def _look(self, queues: Sequence[str]) -> None:
        depths: dict[str, Depth] = {}
        for queue in queues:
            try:
                depth = await self._broker.depth(queue)
            except BrokerUnavailable:
                return
            if depth is not None:
                depths[queue] = depth
            else:
                await self._open((self._topology.class_in(queue),))
        self._put(Looked(depths))
        if not self._asking:
            self._asking = True
            try:
                await self._ask(depths)
            finally:
                self._asking = False

    async def _ask(self, known: Mapping[str, Depth]) -> None:
        """Make queues again that have been silent for long, of classes of which one should not be empty, and is.

        Args:
            known: those that should not be empty, and how full they are
        """
        begun = self._loop.time()
        doubted = {*self._silences.lasting, *self._doubted}
        classes = {self._topology.class_in(queue) for queue, depth in known.items() if _may_be_dead(depth, doubted=queue in doubted)}
        lanes = [self._topology.class_name(name, lane) for name in sorted(classes) for lane in Lane]
        try:
            depths = {lane: known.get(lane) or await self._broker.depth(lane) for lane in lanes}
            silent = await self._find_dead([lane for lane in lanes if _may_be_dead(depths[lane], doubted=lane in doubted)])
        except BrokerUnavailable:
            return
        self._doubted.difference_update(doubted)
        dead = self._silences.look(silent, begun)
        if dead:
            await self._open({self._topology.class_in(queue) for queue in dead}, dead)

    async def _ledger_depth(self, tell: Callable[[int], None]) -> None:
        try:
            depth = await self._broker.depth(self._topology.ledger_name(self._partition))
        except BrokerError:
            return
        if depth is not None:
            tell(depth.ready)

    async def _bury(self, delivery: Delivery, reason: str) -> None:
        await self._broker.dead_letter(delivery, self._topology.dead, reason)


def _may_be_dead(depth: Depth | None, *, doubted: bool = False) -> bool:
    """Whether a queue has said nothing of itself.

    Args:
        doubted: it did not confirm a message, or answer when it was asked: a dead one may go on saying what was true once (measured)
    """
    return depth is not None and (doubted or not (depth.ready or depth.consumers))


def _remove(store: str, key: str) -> None:
    """Remove the bytes of data; where the store cannot be reached from here, they stay."""
    try:
        Files(store).remove(key)
    except ValueStoreError as error:
        _LOG.warning("%s", error)
