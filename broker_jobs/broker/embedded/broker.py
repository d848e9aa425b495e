"""The shell: one connection to the store on an event loop, made again for ever. The theory is in the package's docstring."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from broker_jobs.broker.embedded.doorbell import Doorbell
from broker_jobs.broker.embedded.lock import LockFile
from broker_jobs.broker.embedded.peers import Peers
from broker_jobs.broker.embedded.place import Place
from broker_jobs.broker.embedded.store import Held, KnownQueue, Store
from broker_jobs.broker.embedded.work import Batch, Pending, Work, parts
from broker_jobs.broker.port import Delivery, Depth, Outgoing, Receipt, Tag
from broker_jobs.core.deliveries import DeliveryLedger
from broker_jobs.errors import AccessRefused, BrokerError, BrokerUnavailable
from broker_jobs.wire.topology import QueueKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from broker_jobs.broker.embedded.store import Claimed
    from broker_jobs.wire.topology import Exchange, Queue

T = TypeVar("T")

_TICK: Final = 0.5
"""Seconds between looks at what no bell announces."""
_RETRY: Final = 0.005
"""Seconds until a lock is tried again that another process keeps."""
_FULL_RETRY: Final = 1.0
_LOST_RETRY: Final = (0.05, 2.0)
"""Seconds until a lost connection is tried again, at first and at most."""
_STALL: Final = 1.0
"""Seconds after which waiting is reported as `blocked`."""
_CLOSING: Final = 5.0
_CLAIMS: Final = 100
"""Messages that a subscription gets in one transaction at most."""


@dataclass(eq=False, slots=True)
class _Subscription:
    """A consumer.

    Attributes:
        queue_id: of the queue in the file in which `consumer` is entered; 0 where it is not
        unsettled: deliveries that count against the credit
    """

    queue: str
    credit: int
    receive: Callable[[Delivery], None]
    stop: Callable[[_Subscription, bool], Awaitable[None]]
    queue_id: int = 0
    consumer: int = 0
    unsettled: int = 0

    async def cancel(self, *, requeue: bool = False) -> None:
        """Stop deliveries."""
        await self.stop(self, requeue)


@dataclass(slots=True)
class _Connection:
    """What belongs to the present connection.

    Attributes:
        death: a peer has ended without a word
        held: by number of the delivery
        received: number of deliveries so far
        stalled: since when nothing could be written, and why
    """

    store: Store
    doorbell: Doorbell
    peers: Peers
    tick: asyncio.TimerHandle | None = None
    death: bool = False
    held: dict[int, tuple[Held, _Subscription]] = field(default_factory=dict)
    received: int = 0
    stalled: tuple[float, str] | None = None


class EmbeddedBroker:
    """A `Broker` in one SQLite file; open it with `EmbeddedBroker.open`."""

    def __init__(self, place: Place, name: str) -> None:
        self._place = place
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._connection: _Connection | None = None
        self._closed = False
        self._ledger = DeliveryLedger()
        self._pending = Pending()
        self._turn_due: asyncio.Handle | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self._watchers: list[tuple[Callable[[int], None], Callable[[str], None]]] = []
        self._subscriptions: list[_Subscription] = []
        self._exchanges: dict[str, Exchange] = {}
        self._private: dict[str, Queue] = {}
        self._token: tuple[Queue, Outgoing] | None = None

    @classmethod
    async def open(cls, url: str, *, name: str, timeout: float) -> Self:
        """Connect to the file of ``sqlite:////path/queue.db``, which is made where it is missing.

        Args:
            url: its address; with ``?durability=power`` it survives the loss of power too
            name: for people who look into the file
            timeout: seconds for which it may be locked by others

        Raises:
            AddressError: the address cannot be understood
            BrokerUnavailable: the folder is missing, or others keep the file locked
            AccessRefused: this user may not use the file
            TopologyMismatch: another version of broker-jobs made the file
            BrokerError: the file is something else, or on a network file system
        """
        broker = cls(Place.of(url), name)
        await broker._connect(timeout)
        return broker

    # --- the connection ---

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connection is not None

    @property
    def generation(self) -> int:
        """Number of the present connection, from 1."""
        return self._ledger.generation

    @property
    def blocked(self) -> str | None:
        """Why nothing can be written for more than a second, or None."""
        stalled = self._connection and self._connection.stalled
        return stalled[1] if stalled and self._loop.time() - stalled[0] > _STALL else None

    def watch(self, up: Callable[[int], None], down: Callable[[str], None]) -> None:
        """Report losses and returns of the connection."""
        self._watchers.append((up, down))

    async def _connect(self, timeout: float) -> None:
        deadline = self._loop.time() + timeout
        while not self._try_to_connect():
            if self._loop.time() > deadline:
                raise BrokerUnavailable(f"another program has kept {self._place.path} locked for {timeout:.0f} s")
            await asyncio.sleep(_RETRY)

    def _try_to_connect(self) -> bool:
        self._place.check()
        with contextlib.ExitStack() as undo, _explained(self._place):
            lock = LockFile(self._place.lock)
            undo.callback(lock.close)
            doorbell = Doorbell()
            undo.callback(doorbell.close)
            if not lock.acquire():
                return False
            try:
                store = Store(self._place, lock)
                undo.callback(store.close)
                store.begin()
                store.attach(self._name, doorbell.address)
                store.declare(self._exchanges.values(), self._private.values())
                if self._token:
                    store.hold_token(*self._token)
                entered = self._enter_consumers(store)
                store.commit()
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY:
                    raise
                return False
            undo.pop_all()
        self._begin(_Connection(store, doorbell, Peers(self._loop, self._look_for_dead)))
        self._entered(entered)
        doorbell.ring(store.everybody())
        return True

    def _begin(self, connection: _Connection) -> None:
        self._connection = connection
        self._ledger.connected(self._ledger.generation + 1)
        self._loop.add_reader(connection.doorbell.fileno(), self._rung)
        connection.tick = self._loop.call_later(_TICK, self._tick)
        connection.peers.watch(connection.store.peers)
        self._turn_soon()

    def _end(self) -> None:
        """Forget the connection: peers notice by its lock, and give back what it held."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._loop.remove_reader(connection.doorbell.fileno())
        if connection.tick:
            connection.tick.cancel()
        connection.peers.close()
        connection.doorbell.close()
        connection.store.close()
        for each in self._subscriptions:
            each.queue_id = each.consumer = each.unsettled = 0
        self._pending.lose(closed=self._closed)

    def _lose(self, reason: str) -> None:
        self._end()
        for _, down in self._watchers:
            self._loop.call_soon(down, reason)
        self._reconnecting = self._loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        delay, longest = _LOST_RETRY
        while True:
            await asyncio.sleep(delay)
            try:
                await self._connect(longest)
            except BrokerError:  # the file may come back, and nothing but that helps
                delay = min(2 * delay, longest)
            else:
                break
        for up, _ in self._watchers:
            self._loop.call_soon(up, self.generation)

    async def close(self) -> None:
        """End the connection in order; what is unsettled goes back, a token that was not dropped is returned."""
        if self._closed:
            return
        if self._reconnecting:
            self._reconnecting.cancel()
        if self._connection:
            with contextlib.suppress(BrokerUnavailable, TimeoutError):  # then the peers do it
                async with asyncio.timeout(_CLOSING):
                    await self._do(Store.detach, BrokerUnavailable("closing"), committed=self._detached)
        self._closed = True
        self._end()
        self._pending.lose(closed=True)

    def _detached(self, _: None) -> None:
        self._closed = True

    # --- turns ---

    def _turn_soon(self, delay: float = 0.0) -> None:
        if self._turn_due is None:
            self._turn_due = self._loop.call_later(delay, self._turn) if delay else self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Perform, in one transaction, what is pending, and receive what is there."""
        if self._turn_due:
            self._turn_due.cancel()
            self._turn_due = None
        connection = self._connection
        if connection is None or self._closed:
            return
        batch = Batch()
        try:
            if not self._has_reason(connection):
                return
            if not connection.store.begin():
                self._stall(connection, f"another process keeps {self._place.path} locked", _RETRY)
                return
            batch = self._pending.take()
            self._transact(connection, batch)
        except sqlite3.Error as error:
            self._failed(connection, batch, error)
        except BaseException as error:  # a bug of ours, which must not leave anybody waiting
            self._give_up(batch, f"a bug in broker-jobs: {error!r}")
            raise

    def _has_reason(self, connection: _Connection) -> bool:
        if self._pending or connection.death:
            return True
        store = connection.store
        store.refresh()
        connection.peers.watch(store.peers)
        return not store.registered or any(
            self._wanted(store, each) is not None
            or (each.unsettled < each.credit and store.active(each.queue_id, each.consumer) and store.ready(each.queue_id))
            for each in self._subscriptions
        )

    def _transact(self, connection: _Connection, batch: Batch) -> None:
        store = connection.store
        try:
            if not store.registered:
                raise _Expelled  # noqa: TRY301 (everything is undone in one place)
            if connection.death:
                store.bury_dead()
            store.settle(batch.settled)
            store.release(batch.released)
            results = [work.perform(store) for work in batch.work]
            entered = self._enter_consumers(store)
            claims = [(each, store.claim(each.queue_id, room)) for each, room in self._claiming(store)]
            store.commit()
        except _Expelled:
            store.rollback()
            self._pending.put_back(batch)
            self._lose("another process took this connection for dead; the lock file may have been deleted")
        except BrokerError as error:  # of a work that is alone
            store.rollback()
            work = batch.work.pop()
            self._pending.put_back(batch)
            work.fail(error)
            self._turn_soon()
        except BaseException:
            store.rollback()
            raise
        else:
            connection.stalled = None
            connection.death = False
            self._committed(connection, batch, results, entered, claims)

    def _committed(
        self,
        connection: _Connection,
        batch: Batch,
        results: list[Any],
        entered: list[tuple[_Subscription, int, int]],
        claims: list[tuple[_Subscription, list[Claimed]]],
    ) -> None:
        store = connection.store
        connection.doorbell.ring(store.listeners(store.touched) - {connection.doorbell.address})
        connection.peers.watch(store.peers)
        self._entered(entered)
        for subscription, claimed in claims:
            for each in claimed:
                self._receive(connection, subscription, each)
        for work, result in zip(batch.work, results, strict=True):
            work.succeed(result)
        if self._pending or entered or any(len(claimed) == _CLAIMS for _, claimed in claims):
            self._turn_soon()

    def _failed(self, connection: _Connection, batch: Batch, error: sqlite3.Error) -> None:
        match _code(error):
            case sqlite3.SQLITE_BUSY:
                self._pending.put_back(batch)
                self._stall(connection, f"another program keeps {self._place.path} locked", _RETRY)
            case sqlite3.SQLITE_FULL:
                self._pending.put_back(batch)
                self._stall(connection, f"the disk of {self._place.path} is full", _FULL_RETRY)
            case _:
                self._give_up(batch, f"{self._place.path}: {error}")

    def _give_up(self, batch: Batch, reason: str) -> None:
        for work in batch.work:
            work.lose()
        self._lose(reason)

    def _stall(self, connection: _Connection, why: str, retry: float) -> None:
        since = connection.stalled[0] if connection.stalled else self._loop.time()
        connection.stalled = since, why
        self._turn_soon(retry)

    def _rung(self) -> None:
        if self._connection:
            self._connection.doorbell.answer()
            self._turn()

    def _look_for_dead(self) -> None:
        if self._connection:
            self._connection.death = self._connection.store.dead()
            self._turn()

    def _tick(self) -> None:
        if self._connection is None:
            return
        self._connection.tick = self._loop.call_later(_TICK, self._tick)
        if self._connection.store.in_place():
            self._look_for_dead()
        else:
            self._lose(f"{self._place.path} was moved or deleted")

    def _do(
        self,
        perform: Callable[[Store], T],
        otherwise: T | BrokerError,
        *,
        committed: Callable[[T], None] | None = None,
        patient: bool = False,
        alone: bool = False,
        size: int = 0,
    ) -> asyncio.Future[T]:
        """Let the next transaction do this; the future gets `otherwise` where the connection goes first."""
        work = Work(perform, self._loop.create_future(), otherwise, committed, patient, alone, size)
        if self._closed or (self._connection is None and not patient):
            work.lose()
        else:
            self._pending.work.append(work)
            self._turn_soon()
        return work.done

    # --- topology ---

    async def declare(self, exchanges: Sequence[Exchange], queues: Sequence[Queue]) -> None:
        """Make exchanges and queues that are missing."""

        def remember(_: None) -> None:
            self._exchanges.update((each.name, each) for each in exchanges)
            self._private.update((each.name, each) for each in queues if each.kind is QueueKind.private)

        def perform(store: Store) -> None:
            store.declare(exchanges, queues)

        await self._do(perform, self._unavailable(), committed=remember, alone=True)

    async def delete(self, queue: str) -> None:
        """Delete a queue with what is in it."""

        def forget(_: None) -> None:
            self._private.pop(queue, None)

        def perform(store: Store) -> None:
            store.delete(queue)

        await self._do(perform, self._unavailable(), committed=forget)

    async def depth(self, queue: str) -> Depth | None:
        """How full a queue is; None where it does not exist."""

        def perform(store: Store) -> Depth | None:
            return store.depth(queue)

        return await self._do(perform, self._unavailable())

    def _unavailable(self) -> BrokerUnavailable:
        return BrokerUnavailable(f"there is no connection to {self._place.path}")

    # --- publishing ---

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        """Publish all of them, in order."""
        futures = [
            self._do(partial(_publish, part), [Receipt.unknown] * len(part), patient=True, size=size) for part, size in parts(messages)
        ]
        return [receipt for future in futures for receipt in await future]

    # --- consuming ---

    async def consume(self, queue: str, credit: int, receive: Callable[[Delivery], None]) -> _Subscription:
        """Receive up to `credit` unsettled messages of a queue."""
        subscription = _Subscription(queue, credit, receive, self._stop)

        def perform(store: Store) -> tuple[int, int]:
            known = store.readable(queue)
            return known.id, store.subscribe(known)

        def begin(entry: tuple[int, int]) -> None:
            subscription.queue_id, subscription.consumer = entry
            self._subscriptions.append(subscription)
            self._turn_soon()

        await self._do(perform, self._unavailable(), committed=begin, alone=True)
        return subscription

    async def _stop(self, subscription: _Subscription, requeue: bool) -> None:  # noqa: FBT001
        if subscription not in self._subscriptions:
            return
        self._subscriptions.remove(subscription)
        back: list[Held] = []
        if requeue and self._connection:
            mine = [number for number, (_, owner) in self._connection.held.items() if owner is subscription]
            back = [held for number in mine if (held := self._take(Tag(self.generation, number))) is not None]

        def perform(store: Store) -> None:
            store.release(back)
            store.unsubscribe(subscription.consumer)

        await self._do(perform, None)

    def _wanted(self, store: Store, subscription: _Subscription) -> KnownQueue | None:
        """The queue in which a subscription is not entered yet: after a reconnect, or where it was deleted and declared again."""
        known = store.queues.get(subscription.queue)
        return known if known and known.id != subscription.queue_id and known.owner in (None, store.connection) else None

    def _enter_consumers(self, store: Store) -> list[tuple[_Subscription, int, int]]:
        wanted = [(each, self._wanted(store, each)) for each in self._subscriptions]
        return [(each, known.id, store.subscribe(known)) for each, known in wanted if known]

    def _entered(self, entered: list[tuple[_Subscription, int, int]]) -> None:
        for subscription, queue_id, consumer in entered:
            subscription.queue_id, subscription.consumer = queue_id, consumer

    def _claiming(self, store: Store) -> list[tuple[_Subscription, int]]:
        return [
            (each, min(each.credit - each.unsettled, _CLAIMS))
            for each in self._subscriptions
            if each.unsettled < each.credit and store.active(each.queue_id, each.consumer)
        ]

    def _receive(self, connection: _Connection, subscription: _Subscription, claimed: Claimed) -> None:
        connection.received += 1
        tag = Tag(self.generation, connection.received)
        self._ledger.received(tag)
        connection.held[tag.number] = claimed.held, subscription
        subscription.unsettled += 1
        delivery = Delivery(subscription.queue, claimed.exchange, claimed.key, claimed.body, tag, claimed.redelivered)
        self._loop.call_soon(self._hand_over, subscription, delivery)

    def _hand_over(self, subscription: _Subscription, delivery: Delivery) -> None:
        connection = self._connection
        if connection and delivery.tag.generation == self.generation and delivery.tag.number in connection.held:
            subscription.receive(delivery)

    # --- settling ---

    def _take(self, tag: Tag) -> Held | None:
        if self._connection is None or self._closed or not self._ledger.settle(tag):
            return None
        held, subscription = self._connection.held.pop(tag.number)
        subscription.unsettled -= 1
        return held

    def done(self, delivery: Delivery) -> bool:
        """Acknowledge a delivery."""
        held = self._take(delivery.tag)
        if held is None:
            return False
        self._pending.settled.append(held)
        self._turn_soon()
        return True

    def release(self, delivery: Delivery) -> bool:
        """Put a delivery back into its queue."""
        held = self._take(delivery.tag)
        if held is None:
            return False
        self._pending.released.append(held)
        self._turn_soon()
        return True

    async def dead_letter(self, delivery: Delivery, exchange: str, reason: str) -> bool:
        """Publish the message to `exchange` with the header ``reason``, and acknowledge it.

        Raises:
            BrokerError: no queue takes it there; the message is back in its queue
        """
        held = self._take(delivery.tag)
        if held is None:
            return False
        letter = Outgoing(exchange, delivery.key, delivery.body, headers={"reason": reason})

        def perform(store: Store) -> Receipt:
            (receipt,) = store.publish([letter])
            if receipt is Receipt.confirmed:
                store.settle([held])
            else:
                store.release([held])
            return receipt

        receipt = await self._do(perform, Receipt.unknown)
        if receipt in {Receipt.unroutable, Receipt.refused}:
            raise BrokerError(f"no queue takes dead letters from exchange {exchange}: declare the topology first")
        return receipt is Receipt.confirmed

    # --- the token ---

    async def hold_token(self, lease: Queue, token: Outgoing) -> None:
        """Hold a token in its lease queue, now and after each reconnect."""

        def remember(_: None) -> None:
            self._token = lease, token

        def perform(store: Store) -> None:
            store.hold_token(lease, token)

        await self._do(perform, self._unavailable(), committed=remember, alone=True)

    async def drop_token(self) -> None:
        """Settle the token."""
        self._token = None
        await self._do(Store.drop_token, None)


class _Expelled(Exception):  # noqa: N818
    """The row of this connection is gone."""


def _publish(messages: Sequence[Outgoing], store: Store) -> list[Receipt]:
    return store.publish(messages)


def _code(error: sqlite3.Error) -> int:
    """Primary result code of SQLite; 0 for an error of the module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@contextlib.contextmanager
def _explained(place: Place) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise AccessRefused(f"{place.path} may not be used by this user: {error}") from error
    except OSError as error:
        raise BrokerUnavailable(f"{place.path} cannot be opened: {error}") from error
    except sqlite3.Error as error:
        if _code(error) in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}:
            raise AccessRefused(f"{place.path} may not be written by this user: {error}") from error
        raise BrokerUnavailable(f"{place.path} cannot be opened: {error}") from error
