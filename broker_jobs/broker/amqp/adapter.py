"""The broker port over RabbitMQ.

A *session* is a pair of connections, one for publishing and one for everything else, so that a broker which stops reading from
publishers (an alarm) still delivers and settles. The two live and die together: when one goes, so does the other, and the next
session restores what the owner of this object has asked for, in this order: private queues, subscriptions, publishing, the token.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from itertools import cycle
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeVar

from pika import exceptions

from broker_jobs.broker.amqp.arguments import declaration
from broker_jobs.broker.amqp.backoff import delays
from broker_jobs.broker.amqp.consumer import Consumer, Feed, Unsettled
from broker_jobs.broker.amqp.errors import ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, WEATHER, may_pass, reason, translate
from broker_jobs.broker.amqp.link import Channel, Link
from broker_jobs.broker.amqp.looking import Suspects, silent
from broker_jobs.broker.amqp.operating import browse, migrate
from broker_jobs.broker.amqp.publisher import SILENCE, Publisher
from broker_jobs.broker.amqp.session import Session
from broker_jobs.broker.amqp.token import TokenHolder
from broker_jobs.broker.letter import dead
from broker_jobs.broker.port import Outgoing, Receipt
from broker_jobs.errors import BrokerUnavailable
from broker_jobs.wire.topology import Exchange, Queue, QueueKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from broker_jobs.broker.amqp.address import Address
    from broker_jobs.broker.amqp.operating import AmqpBrowsing
    from broker_jobs.broker.port import Delivery, Depth, Subscription

_LOG: Final = logging.getLogger("broker_jobs.amqp")

TOKEN_RENEWAL: Final = 5.0
"""A quarter of the shortest ``consumer_timeout`` that we promise to work with, 20 s; RabbitMQ itself advises against less than 5 min.
A client cannot ask for the broker's value, and a message every 5 s costs nothing that anybody would notice."""

_RESTORE_SECONDS: Final = 30.0
_HOLD_SECONDS: Final = 5.0
_HURRIED_SECONDS: Final = 1.0
_REASON_CHARACTERS: Final = 2000

News = TypeVar("News", int, str)


class _Watcher(NamedTuple):
    up: Callable[[int], None]
    down: Callable[[str], None]


class AmqpBroker:
    """A connection to RabbitMQ, as `broker_jobs.broker.port.Broker` describes it.

    Made by `AmqpBroker.open`.
    """

    def __init__(self, address: Address, name: str, token_renewal: float, silence: float) -> None:
        self._address = address
        self._name = name
        self._where = f"the broker at {address}"
        self._token_renewal = token_renewal
        self._endpoints = cycle(address.endpoints)
        self._endpoint = address.endpoints[0]
        self._session: Session | None = None
        self._server = ""
        self._generation = 0
        self._publisher = Publisher(silence)
        self._apart = Publisher(silence)
        self._unsettled = Unsettled()
        self._suspects = Suspects(self._connect_to_look)
        self._private: dict[str, Queue] = {}
        self._consumers: dict[Consumer, None] = {}
        self._token: TokenHolder | None = None
        self._watchers: list[_Watcher] = []
        self._keeping: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, address: Address, *, name: str, timeout: float, token_renewal: float = TOKEN_RENEWAL, silence: float = SILENCE
    ) -> Self:
        """Connect, on the running event loop.

        Args:
            address: where
            name: shown by the broker's tools
            timeout: seconds to wait for a broker that does not answer yet
            token_renewal: seconds after which a held token is replaced
            silence: seconds without a confirm after which what was published is unknown

        Raises:
            AccessRefused: wrong user or password, or no permission for the virtual host
            VirtualHostNotFound: there is no such virtual host
            BrokerUnavailable: nothing answers, or something else than RabbitMQ
        """
        broker = cls(address, name, token_renewal, silence)
        await broker._open(timeout)
        return broker

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._session is not None and not self._session.lost

    @property
    def generation(self) -> int:
        """Number of the present connection, from 1."""
        return self._generation

    @property
    def blocked(self) -> str | None:
        """Why the broker takes no messages now (an alarm of memory or disk), or None."""
        return self._session.publishing.blocked if self._session is not None else None

    @property
    def denied(self) -> str | None:
        """Which permission was missing when a message was refused last, or None."""
        return self._publisher.denied or self._apart.denied

    @property
    def server(self) -> str:
        """Name and version of the broker, such as ``RabbitMQ 3.10.8``."""
        return self._server

    def watch(self, up: Callable[[int], None], down: Callable[[str], None]) -> None:
        """Call `up(generation)` after each reconnect, and `down(reason)` after each loss."""
        self._watchers.append(_Watcher(up, down))

    async def declare(self, exchanges: Sequence[Exchange], queues: Sequence[Queue]) -> None:
        """Make exchanges and queues that are missing, with their bindings. Private ones are made again after a reconnect."""
        with self._speaking_of(self._where):
            async with contextlib.AsyncExitStack() as channels:
                channel = await channels.enter_async_context(self._link().scratch())
                things: list[Exchange | Queue] = [*exchanges, *queues]
                for thing in things:
                    with self._speaking_of(f"{type(thing).__name__.lower()} {thing.name}"):
                        channel = await self._made(channels, channel, thing)

    async def _made(self, channels: contextlib.AsyncExitStack, channel: Channel, thing: Exchange | Queue) -> Channel:
        """Make this, or see that it is there; the channel to go on with, as the broker ends one on which something failed."""
        for delay in delays():
            try:
                await self._make(channel, thing)
            except exceptions.ChannelClosedByBroker as error:
                deleted = error.reply_code == NOT_FOUND and f"no queue '{thing.name}'" in error.reply_text
                if error.reply_code != ACCESS_REFUSED and not deleted:
                    raise
                channel = await channels.enter_async_context(self._link().scratch())
                if deleted:  # by somebody else, before it was bound
                    await asyncio.sleep(delay)
                    continue
                await self._see(channel, thing, error)
            return channel
        raise AssertionError  # there is always another delay

    async def delete(self, queue: str) -> None:
        """Delete a queue with what is in it; one that does not exist is no error."""
        self._private.pop(queue, None)
        with self._speaking_of(f"queue {queue}"):
            async with self._link().scratch() as channel:
                await channel.delete_queue(queue)

    async def purge(self, queue: str) -> int:
        """Remove what waits in a queue; how many messages that were."""
        with self._speaking_of(f"queue {queue}"):
            async with self._link().scratch() as channel:
                return await channel.purge(queue)

    @contextlib.asynccontextmanager
    async def browse(self, queue: str, most: int) -> AsyncIterator[AmqpBrowsing]:
        """Look at the oldest `most` messages that wait in a queue."""
        with self._speaking_of(f"queue {queue}"):
            async with browse(self._link(), self._publisher.publish, queue, most) as browsing:
                yield browsing

    async def migrate(self, queue: Queue, former: str, back: Callable[[str, str], tuple[str, str]]) -> bool:
        """Give a queue the properties that it should have, with all that waits in it and in the one before; False where all is done."""
        with self._speaking_of(f"queue {queue.name}"):
            return await migrate(self._link(), self._publisher.publish, self._declare, queue, former=former, back=back)

    async def depth(self, queue: str) -> Depth | None:
        """How full a queue is; None where it does not exist."""
        with self._speaking_of(f"queue {queue}"):
            async with self._link().scratch() as channel:
                try:
                    return await channel.depth(queue)
                except exceptions.ChannelClosedByBroker as error:
                    if error.reply_code == NOT_FOUND:
                        return None
                    raise

    async def dead(self, queues: Sequence[str]) -> frozenset[str]:
        """Those of these queues, empty as far as one can see, that are there and do not answer.

        A quorum queue that was made up to 2 s before its only node was killed is like that on 3.10.8 (measured): it can be declared,
        says that it has no messages, takes what is published without a confirm, and lets nobody consume. The broker ends connections
        that ask for that, sooner or later, so the question has one of its own.
        """
        with self._speaking_of(self._where):
            return await silent(self._connect_to_look, queues)

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        """Publish all of them, in order, and wait until the broker has answered for each."""
        apart = [each for each in messages if each.apart]
        if not apart:
            return await self._publisher.publish(messages)
        if len(apart) == len(messages):
            return await self._apart.publish(messages)
        others = [each for each in messages if not each.apart]
        answers = [iter(each) for each in await asyncio.gather(self._publisher.publish(others), self._apart.publish(apart))]
        return [next(answers[each.apart]) for each in messages]

    async def consume(self, queue: str, credit: int, receive: Callable[[Delivery], None], *, behind: bool = False) -> Subscription:
        """Receive up to `credit` unsettled messages of a queue."""
        link = self._link()
        private = queue in self._private
        consumer = Consumer(queue, credit, receive, self._unsettled, self._forget, suspects=self._suspects, behind=behind, private=private)
        with self._speaking_of(f"queue {queue}"):
            await consumer.attach(link)
        self._consumers[consumer] = None
        return consumer

    def rest(self, seconds: float) -> None:
        """Let deliveries wait for so long."""
        if self._session is not None:
            self._session.consuming.rest(seconds)

    def done(self, delivery: Delivery) -> bool:
        """Acknowledge a delivery; False where it is stale or settled already."""
        return self._unsettled.settle(delivery.tag, Feed.ack)

    def release(self, delivery: Delivery) -> bool:
        """Put a delivery back into its queue, for anybody; False as for `done`."""
        return self._unsettled.settle(delivery.tag, Feed.requeue)

    async def dead_letter(self, delivery: Delivery, exchange: str, reason: str, *, key: str | None = None) -> bool:
        """Publish the message to `exchange`, and acknowledge it once that is confirmed; False as for `done`."""
        told = reason[:_REASON_CHARACTERS].encode(errors="backslashreplace").decode()
        letter = dead(delivery, exchange, told, key)
        for delay in delays():
            if not self._unsettled.owns(delivery.tag):
                return False
            (receipt,) = await self._publisher.publish([letter])
            if receipt is Receipt.confirmed:
                return self.done(delivery)
            _LOG.warning("a dead letter of %s was not taken by exchange %s: %s", delivery.queue, exchange, receipt.value)
            await asyncio.sleep(delay)
        raise AssertionError  # `delays` has no end

    async def hold_token(self, lease: Queue, token: Outgoing) -> None:
        """Declare the lease queue, put the token into it and hold it, from now on and after each reconnect (before `up` is called)."""
        await self.drop_token()
        session = self._present()
        holder = TokenHolder(lease, token, self._publisher, self._token_renewal)
        with self._speaking_of(f"queue {lease.name}"):
            await session.during(self._hold(holder, session))
        self._token = holder

    async def drop_token(self) -> None:
        """Settle the token: this process ends in order, and nobody has to be told."""
        holder, self._token = self._token, None
        if holder is None:
            return
        try:
            await holder.drop()
        except exceptions.AMQPError as error:
            _LOG.warning("%s", translate(error, f"the token of {holder.lease.name} may have been returned"))

    async def close(self) -> None:
        """End the connection; what is unsettled goes back."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait((self._keeping,))
        session = self._session
        self._leave()
        for publisher in (self._publisher, self._apart):
            publisher.close()
        if session is not None:
            await session.close()

    # --- the life of the connection ---

    async def _open(self, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        refusals = 0
        before: BaseException | None = None
        for delay in delays():
            begun = loop.time()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._connect()
                break
            except WEATHER as failure:
                # A try that the deadline has cut short says nothing; the one before it has.
                hurried = isinstance(failure, TimeoutError) and loop.time() - begun < _HURRIED_SECONDS
                error = before = before if before is not None and hurried else failure
                refusals += not may_pass(error)
                # One node does not stand for the others: whoever is in front of one that is down may answer for it.
                if refusals == len(self._address.endpoints) or loop.time() + delay > deadline:
                    raise translate(error, self._where) from None
            await asyncio.sleep(delay)
        self._keeping = asyncio.ensure_future(self._keep())

    async def _connect(self) -> None:
        """Open a session with the next node, and restore what there was in the one before."""
        self._endpoint = next(self._endpoints)
        session = await Session.open(self._address, self._endpoint, self._name)
        self._server = session.consuming.server
        self._generation += 1
        self._unsettled.connected(self._generation)
        try:
            async with asyncio.timeout(_RESTORE_SECONDS):
                await session.during(self._restore(session))
        except BaseException:
            self._leave()
            await session.close()
            raise
        self._session = session

    async def _restore(self, session: Session) -> None:
        link = session.consuming
        for queue in self._private.values():
            await self._take_back(link, queue)
        for consumer in list(self._consumers):
            try:
                await consumer.attach(link)
            except exceptions.ChannelClosedByBroker:
                consumer.attach_later(link)  # its queue is gone, or not there yet; the others go on
        session.publishing.on_unblocked = self._resume
        await asyncio.gather(self._publisher.attach(session.publishing), self._apart.attach(session.publishing))
        if self._token is not None:
            await self._hold(self._token, session)

    async def _take_back(self, link: Link, queue: Queue) -> None:
        """Make a private queue again; the broker may not have noticed yet that the connection before is gone."""
        for delay in delays():
            try:
                async with link.scratch() as channel:
                    return await self._declare(channel, queue)
            except exceptions.ChannelClosedByBroker as error:
                if error.reply_code != RESOURCE_LOCKED:
                    raise
            await asyncio.sleep(delay)
        raise AssertionError  # there is always another delay

    async def _hold(self, holder: TokenHolder, session: Session) -> None:
        link = session.consuming
        try:
            async with asyncio.timeout(_HOLD_SECONDS):
                async with link.scratch() as channel:
                    await self._declare(channel, holder.lease)
                await holder.hold(link)
        except TimeoutError:
            # A quorum queue that was made within a second before a single node was killed takes messages, and never confirms
            # or delivers one (measured on 3.10.8). The next try makes a new one.
            async with link.scratch() as channel:
                await channel.delete_queue(holder.lease.name)
            raise

    async def _make(self, channel: Channel, thing: Exchange | Queue) -> None:
        match thing:
            case Exchange(name):
                await channel.declare_exchange(name)
            case Queue(name, kind):
                await self._declare(channel, thing)
                if kind is QueueKind.private:
                    self._private[name] = thing

    async def _see(self, channel: Channel, thing: Exchange | Queue, refused: Exception) -> None:
        """Whether somebody has made what this user may not make; `refused` where nobody has."""
        try:
            match thing:
                case Exchange(name):
                    await channel.exists(exchange=name)
                case Queue(name, kind):
                    if kind is QueueKind.private:
                        raise refused
                    await channel.exists(queue=name)
        except exceptions.ChannelClosedByBroker:
            raise refused from None

    async def _declare(self, channel: Channel, queue: Queue) -> None:
        await channel.declare_queue(queue.name, declaration(queue, self._address.queues))
        for binding in queue.bindings:
            await channel.bind(queue.name, binding.exchange, binding.pattern)

    async def _keep(self) -> None:
        """Connect again whenever the connection has gone, until canceled."""
        while (session := self._session) is not None:
            why = reason(await session.end_of())
            self._leave()
            _LOG.warning("lost the connection to %s: %s", self._where, why)
            for watcher in self._watchers:
                self._tell(watcher.down, why)
            await session.close()
            await self._reconnect()
            _LOG.info("connected to %s again", self._where)
            for watcher in self._watchers:
                self._tell(watcher.up, self._generation)

    async def _reconnect(self) -> None:
        for delay in delays():
            await asyncio.sleep(delay)
            try:
                await self._connect()
                break
            except Exception as error:  # noqa: BLE001 (whatever it is: the owner has nobody else who would try again)
                _LOG.warning("%s; trying again", translate(error, self._where))

    def _leave(self) -> None:
        """Stop using the session, and regard as lost what belongs to it."""
        self._session = None
        for publisher in (self._publisher, self._apart):
            publisher.detach()
        self._unsettled.forget_all()
        for consumer in self._consumers:
            consumer.detach()
        if self._token is not None:
            self._token.stop()

    def _resume(self) -> None:
        for publisher in (self._publisher, self._apart):
            publisher.resume()

    def _tell(self, tell: Callable[[News], None], news: News) -> None:
        try:
            tell(news)
        except Exception as error:  # noqa: BLE001 (the watcher's bug, for whoever watches over the loop)
            asyncio.get_running_loop().call_exception_handler({"message": "watcher of the broker failed", "exception": error})

    def _forget(self, consumer: Consumer) -> None:
        self._consumers.pop(consumer, None)

    def _present(self) -> Session:
        if self._session is None or self._session.lost:
            raise BrokerUnavailable(f"there is no connection to {self._where} now")
        return self._session

    async def _connect_to_look(self) -> Link:
        """A connection that the broker may end."""
        return await Link.open(self._address, self._endpoint, f"{self._name} (looking)")

    def _link(self) -> Link:
        return self._present().consuming

    @contextlib.contextmanager
    def _speaking_of(self, what: str) -> Iterator[None]:
        try:
            yield
        except WEATHER as error:
            raise translate(error, what) from None
