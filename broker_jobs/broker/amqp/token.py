"""The token, by which the others know that this process is connected.

It lies in a durable queue of its own, is held unacknowledged, and was there for longer than its time to live: when the connection
goes, the broker dead-letters it at once. It is never settled before the next one is held, so its holder is covered at every moment.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from broker_jobs.broker.amqp.errors import translate
from broker_jobs.broker.port import Receipt
from broker_jobs.errors import BrokerError

if TYPE_CHECKING:
    from broker_jobs.broker.amqp.link import Arrival, Channel, Link
    from broker_jobs.broker.amqp.publisher import Publisher
    from broker_jobs.broker.port import Outgoing
    from broker_jobs.wire.topology import Queue

_LOG: Final = logging.getLogger("broker_jobs.amqp")

_CREDIT: Final = 10  # the one that is held, its successor, and those that an earlier connection left behind
_PATIENCE: Final = 5.0


class TokenHolder:
    """Holds a token in a lease queue.

    Args:
        renewal: seconds after which the held token is replaced, since RabbitMQ closes channels that hold a message for too long
    """

    def __init__(self, lease: Queue, token: Outgoing, publisher: Publisher, renewal: float) -> None:
        self.lease = lease
        self._token = token
        self._publisher = publisher
        self._renewal = renewal
        self._channel: Channel | None = None
        self._held = 0
        self._came = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    async def hold(self, link: Link) -> None:
        """Hold it through this link from now on; the lease queue is there.

        Raises:
            BrokerError: the broker does not take it
        """
        channel = await link.channel()
        self._channel, self._held = channel, 0
        try:
            await channel.consume(self.lease.name, _CREDIT, partial(self._on_arrival, channel), channel.discard)
            await self._replace()
        except BaseException:
            channel.discard()
            raise
        self.stop()
        self._keeping = asyncio.ensure_future(self._keep(link, channel))

    def stop(self) -> None:
        """Hold on to nothing: the connection has gone, or is about to."""
        if self._keeping is not None:
            self._keeping.cancel()

    async def drop(self) -> None:
        """Settle it, and delete the queue."""
        self.stop()
        channel = self._channel
        if channel is not None and channel.is_open:
            channel.ack(self._held)
            await channel.delete_queue(self.lease.name)
            channel.discard()

    async def _replace(self) -> None:
        """Put a new token into the queue, and have it."""
        self._came.clear()
        (receipt,) = await self._publisher.publish([self._token])
        if receipt is not Receipt.confirmed:
            raise BrokerError(f"the token for {self.lease.name} was not taken: {receipt.value}; is exchange {self._token.exchange} there?")
        await self._came.wait()

    def _on_arrival(self, channel: Channel, arrival: Arrival) -> None:
        if arrival.body != self._token.body:
            # Anybody may publish here; what is held instead of the token would hide that this process has gone.
            channel.reject(arrival.tag)
            return
        if self._held:
            channel.ack(self._held)
        self._held = arrival.tag
        self._came.set()

    async def _keep(self, link: Link, channel: Channel) -> None:
        while True:
            await asyncio.wait((channel.closed,), timeout=self._renewal)
            if channel.closed.done():
                break
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self._replace()
            except (BrokerError, TimeoutError) as error:
                _LOG.warning("%s; the one before is still held", translate(error, f"token of {self.lease.name}"))
        # The others were told that this connection has gone. So it goes, and whoever watches it tells them of the next one.
        await link.close()
