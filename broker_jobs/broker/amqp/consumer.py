"""Consuming and settling.

A subscription lives as long as its owner wants it; a *feed* is its consumer on one channel. The broker may end a feed (the queue
moved, the consumer was too slow), the connection may go, and the subscription goes on with another feed. Each subscription
has a channel of its own, because closing it is the one way to put deliveries back at the head of their queue, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from pika import exceptions

from broker_jobs.broker.amqp.backoff import delays
from broker_jobs.broker.amqp.errors import WEATHER, translate
from broker_jobs.broker.amqp.looking import is_cut
from broker_jobs.broker.port import Delivery, Tag
from broker_jobs.core.deliveries import DeliveryLedger

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker_jobs.broker.amqp.link import Arrival, Channel, Link
    from broker_jobs.broker.amqp.looking import Suspects

_BEHIND: Final = -1
"""The priority of consumers that leave messages to others; that of all others is 0."""

_CONSUME_SECONDS: Final = 5.0
"""What a queue has to let itself be consumed. One that is dead (see `AmqpBroker.dead`) never does, and the others need not wait."""

_LATE: Final = 0.02
"""Seconds for which what was read from a private queue stays unacknowledged: it is lost with the connection in any case, and each
acknowledgement is a packet for which the broker leaves what others wait for."""

_LOG: Final = logging.getLogger("broker_jobs.amqp")


class Feed:
    """One consumer on one channel.

    Args:
        gathers: so many acknowledgements may wait for each other, at most

    Attributes:
        consumer: its tag while it runs, else an empty text
        ended: whether the broker or the channel has ended it
        unsettled: what came on it: our numbers, and those of the channel
    """

    def __init__(self, channel: Channel, gathers: int) -> None:
        self.channel = channel
        self._gathers = gathers
        self._late: list[int] = []
        self._flushing: asyncio.TimerHandle | None = None
        self.consumer = ""
        self.ended = False
        self.unsettled: dict[int, int] = {}
        self._ending = False

    def end(self) -> None:
        """Close the channel once everything is settled."""
        self._ending = True
        self.settled()

    def settled(self) -> None:
        """Note that a delivery was settled."""
        if self._ending and not self.unsettled:
            self.flush()
            self.channel.discard()

    def ack(self, tag: int) -> None:
        """Acknowledge a delivery, now or a moment later."""
        self._late.append(tag)
        if len(self._late) >= self._gathers:
            self.flush()
        elif self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(_LATE, self.flush)

    def requeue(self, tag: int) -> None:
        """Put a delivery back."""
        self.channel.requeue(tag)

    def flush(self) -> None:
        """Send the acknowledgements that wait."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        late, self._late = self._late, []
        if late and self.channel.is_open:
            if self.unsettled:
                for tag in late:
                    self.channel.ack(tag)
            else:
                self.channel.ack(max(late), multiple=True)


class Unsettled:
    """The deliveries that can be settled: numbered on, whatever channel they came on."""

    def __init__(self) -> None:
        self._ledger = DeliveryLedger()
        self._last = 0
        self._feeds: dict[int, Feed] = {}

    def connected(self, generation: int) -> None:
        """Begin with a new connection."""
        self.forget_all()
        self._ledger.connected(generation)

    def received(self, feed: Feed, tag: int) -> Tag:
        """Our tag for a delivery."""
        self._last += 1
        ours = Tag(self._ledger.generation, self._last)
        self._ledger.received(ours)
        self._feeds[self._last] = feed
        feed.unsettled[self._last] = tag
        return ours

    def owns(self, tag: Tag) -> bool:
        """Whether it can be settled now."""
        return tag.number in self._feeds and tag.generation == self._ledger.generation

    def settle(self, tag: Tag, how: Callable[[Feed, int], None]) -> bool:
        """Settle a delivery on its channel; False where it is stale or settled already."""
        feed = self._feeds.get(tag.number)
        if feed is None or not feed.channel.is_open or not self._ledger.settle(tag):
            return False
        del self._feeds[tag.number]
        how(feed, feed.unsettled.pop(tag.number))
        feed.settled()
        return True

    def forget(self, feed: Feed) -> None:
        """The channel has gone, or is about to: what came on it is the broker's again."""
        for number in feed.unsettled:
            self._ledger.settle(Tag(self._ledger.generation, number))
            del self._feeds[number]
        feed.unsettled.clear()

    def forget_all(self) -> None:
        """The connection has gone, or is about to."""
        for feed in set(self._feeds.values()):
            self.forget(feed)


class Consumer:
    """A subscription; `forget` is called when it is canceled."""

    def __init__(
        self,
        queue: str,
        credit: int,
        receive: Callable[[Delivery], None],
        unsettled: Unsettled,
        forget: Callable[[Consumer], None],
        *,
        suspects: Suspects,
        behind: bool = False,
        private: bool = False,
    ) -> None:
        self._queue = queue
        self._behind = behind
        self._credit = credit
        self._gathers = max(1, credit // 4) if private else 1
        self._receive = receive
        self._unsettled = unsettled
        self._suspects = suspects
        self._forget = forget
        self._feed: Feed | None = None
        self._canceled = False
        self._retrying: asyncio.Task[None] | None = None

    @property
    def queue(self) -> str:
        """Name of the queue."""
        return self._queue

    @property
    def credit(self) -> int:
        """Most deliveries that may be unsettled at once."""
        return self._credit

    async def attach(self, link: Link) -> None:
        """Consume through this link from now on; pika's exceptions where it cannot be, and later where the queue does not answer."""
        if not await self._start(link):
            _LOG.warning("%s does not answer; trying again", self._queue)
            self.attach_later(link)

    async def _start(self, link: Link) -> bool:
        """Consume through this link; False where the queue does not answer."""
        if not await self._suspects.clear(self._queue):
            return False
        channel = await link.channel()
        feed = self._feed = Feed(channel, self._gathers)
        channel.on_closed = partial(self._on_closed, link, feed)
        arrived, lost = partial(self._on_arrival, feed), partial(self._on_lost, link, feed)
        try:
            async with asyncio.timeout(_CONSUME_SECONDS):
                consumer = await channel.consume(self._queue, self._credit, arrived, lost, priority=_BEHIND if self._behind else 0)
        except TimeoutError:
            self._suspects.add(self._queue)
            self._unsettled.forget(feed)
            channel.discard()
            return False
        except exceptions.AMQPError as error:
            if is_cut(error):
                self._suspects.add(self._queue)
            raise
        if feed.ended:
            raise channel.closed.result() if channel.closed.done() else exceptions.ConsumerCancelled
        feed.consumer = consumer
        if self._canceled:
            self._unsettled.forget(feed)
            channel.discard()
        return True

    def attach_later(self, link: Link) -> None:
        """Try until it can be consumed, as long as this link is up."""
        self._retrying = asyncio.ensure_future(self._attach_again(link))

    def detach(self) -> None:
        """The link is gone: wait for the next one."""
        if self._retrying is not None:
            self._retrying.cancel()

    async def cancel(self, *, requeue: bool = False) -> None:
        """Stop deliveries. What is unsettled stays ours; with `requeue`, it goes back to the head of the queue in order."""
        first, self._canceled = not self._canceled, True
        self._forget(self)
        self.detach()
        feed = self._feed
        if feed is None or feed.channel.closed.done():
            return
        with contextlib.suppress(exceptions.AMQPError):  # the channel has ended, and the consumer with it
            if requeue:
                feed.flush()
                self._unsettled.forget(feed)
                await feed.channel.close()
            elif first and feed.consumer:
                await feed.channel.cancel(feed.consumer)
                feed.end()

    def _on_arrival(self, feed: Feed, arrival: Arrival) -> None:
        tag = self._unsettled.received(feed, arrival.tag)
        delivery = Delivery(self._queue, arrival.exchange, arrival.key, arrival.body, tag, arrival.redelivered)
        try:
            self._receive(delivery)
        except Exception as error:  # noqa: BLE001 (the receiver's bug, for whoever watches over the loop; pika would end the connection)
            asyncio.get_running_loop().call_exception_handler({"message": f"receiver of {self._queue} failed", "exception": error})

    def _on_lost(self, link: Link, feed: Feed) -> None:
        feed.end()
        self._on_end(link, feed, "the broker ended the consumer")

    def _on_closed(self, link: Link, feed: Feed, reason: Exception) -> None:
        self._unsettled.forget(feed)
        if isinstance(reason, exceptions.ChannelClosedByBroker):
            self._on_end(link, feed, str(translate(reason, "the broker ended the channel")))
        feed.ended = True

    def _on_end(self, link: Link, feed: Feed, why: str) -> None:
        running, feed.consumer, feed.ended = bool(feed.consumer), "", True
        if running and not self._canceled:
            _LOG.warning("%s: %s; trying again", self._queue, why)
            self.attach_later(link)

    async def _attach_again(self, link: Link) -> None:
        for delay in delays():
            await asyncio.sleep(delay)
            if link.closed.done():
                return
            try:
                if await self._start(link):
                    return
            except WEATHER as error:
                _LOG.debug("%s", translate(error, f"{self._queue} cannot be consumed"))
