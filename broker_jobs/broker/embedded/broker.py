"""The shell: turns and transactions of one connection after the other. The theory is in the docstring of the package."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeVar

from broker_jobs.broker.embedded.connection import Connection, enter, primary_code
from broker_jobs.broker.embedded.consuming import Consuming, EmbeddedSubscription, Entry, Haul
from broker_jobs.broker.embedded.directory import URGENCY
from broker_jobs.broker.embedded.place import Place
from broker_jobs.broker.embedded.store import Store
from broker_jobs.broker.embedded.work import Batch, Pending, Work, parts
from broker_jobs.broker.letter import dead
from broker_jobs.broker.port import Delivery, Depth, Letter, Receipt
from broker_jobs.errors import BrokerError, BrokerUnavailable
from broker_jobs.wire.topology import QueueKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from broker_jobs.broker.port import Outgoing
    from broker_jobs.wire.topology import Exchange, Queue

T = TypeVar("T")

_SETTLE_WITHIN: Final = 0.01
_LOCKED_RETRY: Final = 0.001
"""Seconds until a lock is tried again that another process keeps."""
_FULL_RETRY: Final = 1.0
_LOST_RETRY: Final = (0.05, 2.0)
"""Seconds until a lost connection is tried again, at first and at most."""
_PATIENCE: Final = 1.0
"""Seconds after which waiting is reported as `blocked`."""
_CLOSING: Final = 5.0


class EmbeddedBrowsing:
    """A look into a queue, as `broker_jobs.broker.port.Browsing` describes it."""

    def __init__(self, letters: Sequence[Letter], remove: Callable[[Letter], Awaitable[bool]]) -> None:
        self.letters = letters
        self._remove = remove

    async def remove(self, letter: Letter) -> bool:
        """Remove a message for good; False where it was taken by somebody meanwhile."""
        return await self._remove(letter)


class EmbeddedBroker:
    """A `Broker` in one SQLite file; made by `EmbeddedBroker.open`."""

    def __init__(self, place: Place, name: str) -> None:
        self._place = place
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._closed = False
        self._reconnecting: asyncio.Task[None] | None = None
        self._watchers: list[tuple[Callable[[int], None], Callable[[str], None]]] = []
        self._pending = Pending()
        self._consuming = Consuming()
        self._next_turn: asyncio.Handle | None = None
        self._turn_at = 0.0
        self._stalled: tuple[float, str] | None = None
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
        return self._consuming.generation

    @property
    def blocked(self) -> str | None:
        """Why nothing could be written for more than a second, or None."""
        return self._stalled[1] if self._stalled and self._loop.time() - self._stalled[0] > _PATIENCE else None

    @property
    def denied(self) -> str | None:
        """Which permission was missing: none ever is, for whoever may write the file may publish."""
        return None

    @property
    def server(self) -> str:
        """Name and version of the database, such as ``SQLite 3.40.1``."""
        return f"SQLite {sqlite3.sqlite_version}"

    def watch(self, up: Callable[[int], None], down: Callable[[str], None]) -> None:
        """Report losses and returns of the connection."""
        self._watchers.append((up, down))

    async def _connect(self, timeout: float) -> None:
        deadline = self._loop.time() + timeout
        entries: list[Entry] = []

        def prepare(store: Store) -> None:
            store.declare(self._exchanges.values(), self._private.values())
            if self._token:
                store.hold_token(*self._token)
            entries[:] = self._consuming.enter(store)

        while not (entered := enter(self._place, self._name, prepare)):
            if self._loop.time() > deadline:
                raise BrokerUnavailable(f"another program has kept {self._place.path} locked for {timeout:.0f} s")
            await asyncio.sleep(_LOCKED_RETRY)
        self._consuming.connected()
        self._consuming.entered(entries)
        self._connection = Connection(self._loop, *entered, self._turn, self._lose)
        self._turn_soon()

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            connection.close()
        self._stalled = None
        self._consuming.lost()
        self._pending.lose(closed=self._closed)

    def _lose(self, reason: str) -> None:
        self._end()
        for _, down in self._watchers:
            self._loop.call_soon(down, f"{self._place.path}: {reason}")
        self._reconnecting = self._loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        delay, longest = _LOST_RETRY
        while True:
            await asyncio.sleep(delay)
            try:
                await self._connect(longest)
            except BrokerError:  # the file may come back, and nothing else helps
                delay = min(2 * delay, longest)
            else:
                break
        for up, _ in self._watchers:
            self._loop.call_soon(up, self.generation)

    async def close(self) -> None:
        """End the connection in order; what is unsettled goes back, and a token that was not dropped is returned."""
        if self._connection and not self._closed:

            def detached(_: None) -> None:
                self._closed = True

            with contextlib.suppress(BrokerUnavailable, TimeoutError):  # then the peers do it
                async with asyncio.timeout(_CLOSING):
                    await self._do(Store.detach, self._unavailable(), committed=detached)
        self._closed = True
        if self._reconnecting:
            self._reconnecting.cancel()
        self._end()

    def _unavailable(self) -> BrokerUnavailable:
        return BrokerUnavailable(f"there is no connection to {self._place.path}")

    # --- turns ---

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
        """Let the next transaction do this (see `Work`); the future gets `otherwise` where the connection goes first."""
        work = Work(perform, self._loop.create_future(), otherwise, committed, patient, alone, size)
        if self._closed or not (self._connection or patient):
            work.lose()
        else:
            self._pending.work.append(work)
            self._turn_soon()
        return work.done

    def _turn_soon(self, delay: float = 0.0) -> None:
        at = self._loop.time() + delay
        if self._next_turn and self._turn_at <= at:
            return
        if self._next_turn:
            self._next_turn.cancel()
        self._next_turn = self._loop.call_later(delay, self._turn) if delay else self._loop.call_soon(self._turn)
        self._turn_at = at

    def _turn(self) -> None:
        """Do what is pending and receive what is there, in one transaction."""
        if self._next_turn:
            self._next_turn.cancel()
            self._next_turn = None
        connection = self._connection
        if connection is None or self._closed:
            return
        batch = Batch()
        try:
            if self._has_reason(connection):
                if connection.store.begin():
                    batch = self._pending.take()
                    self._transact(connection, batch)
                else:
                    self._stall(f"another process keeps {self._place.path} locked", _LOCKED_RETRY)
            else:
                self._hand_out(self._receive(self._consuming.read(connection.store, self._loop.time())))
        except sqlite3.Error as error:
            match primary_code(error):
                case sqlite3.SQLITE_BUSY:
                    self._pending.put_back(batch)
                    self._stall(f"another program keeps {self._place.path} locked", _LOCKED_RETRY)
                case sqlite3.SQLITE_FULL:
                    self._pending.put_back(batch)
                    self._stall(f"the disk of {self._place.path} is full", _FULL_RETRY)
                case _:
                    batch.lose()
                    self._lose(str(error))
        except BaseException as error:  # a bug, which must not leave anybody waiting
            batch.lose()
            self._lose(f"a bug in broker-jobs: {error!r}")
            raise
        ripe = self._consuming.ripe_in(self._loop.time())
        if ripe is not None:
            self._turn_soon(ripe)

    def _has_reason(self, connection: Connection) -> bool:
        if self._pending or connection.death:
            return True
        connection.store.refresh()
        connection.watch_peers()
        return not connection.store.directory.registered or self._consuming.has_reason(connection.store, self._loop.time())

    def _transact(self, connection: Connection, batch: Batch) -> None:
        store = connection.store
        if not store.directory.registered:
            store.rollback()
            self._pending.put_back(batch)
            self._lose("another process took this connection for dead; somebody may have deleted the lock file")
            return
        try:
            if connection.death:
                store.bury_dead()
            store.settle(batch.settled)
            store.release(batch.released)
            results = [work.perform(store) for work in batch.work]
            entries = self._consuming.enter(store)
            hauls = self._consuming.claim(store, self._loop.time())
            store.commit()
        except BrokerError as error:  # of a work that is alone
            store.rollback()
            refused = batch.work.pop()
            self._pending.put_back(batch)
            refused.fail(error)
            self._turn_soon()
            return
        except BaseException:
            store.rollback()
            raise
        connection.death = False
        self._stalled = None
        connection.ring()
        connection.watch_peers()
        self._consuming.entered(entries)
        received = self._receive(hauls)
        for work, result in zip(batch.work, results, strict=True):
            work.succeed(result)
        if self._pending or entries:
            self._turn_soon()
        self._hand_out(received)

    def _receive(self, hauls: Iterable[Haul]) -> list[tuple[EmbeddedSubscription, Delivery]]:
        if any(haul.may_be_more for haul in hauls):
            self._turn_soon()
        return [(haul.subscription, delivery) for haul in hauls for delivery in self._consuming.received(haul)]

    def _hand_out(self, received: Iterable[tuple[EmbeddedSubscription, Delivery]]) -> None:
        for subscription, delivery in received:
            self._hand_over(subscription, delivery)

    def _stall(self, why: str, retry: float) -> None:
        self._stalled = self._stalled[0] if self._stalled else self._loop.time(), why
        self._turn_soon(retry)

    # --- topology ---

    async def declare(self, exchanges: Sequence[Exchange], queues: Sequence[Queue]) -> None:
        """Make exchanges and queues that are missing."""

        def perform(store: Store) -> None:
            store.declare(exchanges, queues)

        def remember(_: None) -> None:
            self._exchanges.update((each.name, each) for each in exchanges)
            self._private.update((each.name, each) for each in queues if each.kind is QueueKind.private)

        await self._do(perform, self._unavailable(), committed=remember, alone=True)

    async def delete(self, queue: str) -> None:
        """Delete a queue with what is in it."""

        def perform(store: Store) -> None:
            store.delete(queue)

        def forget(_: None) -> None:
            self._private.pop(queue, None)

        await self._do(perform, self._unavailable(), committed=forget)

    async def purge(self, queue: str) -> int:
        """Remove what waits in a queue; how many messages that were."""

        def perform(store: Store) -> int:
            return store.purge(queue)

        return await self._do(perform, self._unavailable(), alone=True)

    @contextlib.asynccontextmanager
    async def browse(self, queue: str, most: int) -> AsyncIterator[EmbeddedBrowsing]:
        """Look at the oldest `most` messages that wait in a queue."""

        def perform(store: Store) -> list[Letter]:
            return store.letters(queue, most)

        async def remove(letter: Letter) -> bool:
            return await self._do(lambda store: store.remove(queue, letter.number), self._unavailable())

        yield EmbeddedBrowsing(await self._do(perform, self._unavailable(), alone=True), remove)

    async def migrate(self, queue: Queue, former: str, back: Callable[[str, str], tuple[str, str]]) -> bool:
        """Give a queue the properties that it should have; what waits in it stays where it is.

        Queues of an earlier version there are none: they have got their names when the file was opened.
        """
        del former, back

        def perform(store: Store) -> bool:
            return store.migrate(queue)

        return await self._do(perform, self._unavailable(), alone=True)

    async def depth(self, queue: str) -> Depth | None:
        """How full a queue is; None where it does not exist."""

        def perform(store: Store) -> Depth | None:
            return store.depth(queue)

        return await self._do(perform, self._unavailable())

    async def dead(self, queues: Sequence[str]) -> frozenset[str]:  # noqa: ARG002 (the port's)
        """None: one file, one broker."""
        return frozenset()

    # --- messages ---

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        """Publish all of them, in order."""
        futures = [
            self._do(partial(Store.publish, messages=part), [Receipt.unknown] * len(part), patient=True, size=size)
            for part, size in parts(messages)
        ]
        return [receipt for future in futures for receipt in await future]

    async def consume(self, queue: str, credit: int, receive: Callable[[Delivery], None], *, behind: bool = False) -> EmbeddedSubscription:
        """Receive up to `credit` unsettled messages of a queue."""
        subscription = EmbeddedSubscription(queue, credit, receive, self._stop, behind=behind)

        def perform(store: Store) -> Entry:
            known = store.readable(queue)
            subscription.urgency = URGENCY.index(known.kind)
            subscription.private = known.kind is QueueKind.private
            return Entry(subscription, known.id, store.subscribe(known))

        def begin(entry: Entry) -> None:
            self._consuming.add(entry)
            self._turn_soon()

        await self._do(perform, self._unavailable(), committed=begin, alone=True)
        return subscription

    async def _stop(self, subscription: EmbeddedSubscription, requeue: bool) -> None:  # noqa: FBT001
        if not self._consuming.remove(subscription):
            return
        back = self._consuming.settle_all(subscription) if requeue else []
        for held in back:
            self._consuming.put_back(held)
        consumer = subscription.consumer

        def perform(store: Store) -> None:
            store.release(back)
            store.unsubscribe(consumer)

        await self._do(perform, None)

    def _hand_over(self, subscription: EmbeddedSubscription, delivery: Delivery) -> None:
        if self._consuming.holds(delivery.tag):
            try:
                subscription.receive(delivery)
            except Exception as error:  # noqa: BLE001 (the receiver's bug, for whoever watches over the loop; here it would end the connection)
                self._loop.call_exception_handler({"message": f"receiver of {subscription.queue} failed", "exception": error})

    def rest(self, seconds: float) -> None:
        """Nothing: who publishes rings late for what nobody waits for."""

    def done(self, delivery: Delivery) -> bool:
        """Acknowledge a delivery."""
        throttled = self._consuming.throttled(delivery.tag)
        held = self._consuming.settle(delivery.tag)
        if held:
            self._pending.settled.append(held)
            # Nobody waits for it, unless it gives room for the next message: it goes with the next transaction.
            self._turn_soon(0.0 if throttled else _SETTLE_WITHIN)
        return held is not None

    def release(self, delivery: Delivery) -> bool:
        """Put a delivery back into its queue, where it was."""
        held = self._consuming.settle(delivery.tag)
        if held:
            self._consuming.put_back(held)
            self._pending.released.append(held)
            self._turn_soon()
        return held is not None

    async def dead_letter(self, delivery: Delivery, exchange: str, reason: str, *, key: str | None = None) -> bool:
        """Publish the message to `exchange`, and acknowledge it.

        Raises:
            BrokerError: no queue takes it there; the message is back in its queue
        """
        held = self._consuming.settle(delivery.tag)
        if not held:
            return False
        letter = dead(delivery, exchange, reason, key)

        def perform(store: Store) -> Receipt:
            (receipt,) = store.publish([letter])
            if receipt is Receipt.confirmed:
                store.settle([held])
            else:
                store.release([held])
            return receipt

        receipt = await self._do(perform, Receipt.unknown)
        if receipt in {Receipt.unroutable, Receipt.refused}:
            self._consuming.put_back(held)
            self._turn_soon()
            raise BrokerError(f"no queue takes dead letters from exchange {exchange}: declare the topology first")
        return receipt is Receipt.confirmed

    # --- the token ---

    async def hold_token(self, lease: Queue, token: Outgoing) -> None:
        """Hold a token in its lease queue, now and after each reconnect."""

        def perform(store: Store) -> None:
            store.hold_token(lease, token)

        def remember(_: None) -> None:
            self._token = lease, token

        await self._do(perform, self._unavailable(), committed=remember, alone=True)

    async def drop_token(self) -> None:
        """Settle the token."""
        self._token = None
        await self._do(Store.drop_token, None)
