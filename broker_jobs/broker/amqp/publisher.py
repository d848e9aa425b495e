"""Publishing with pipelined confirms, through one channel after the other.

Batches wait in order. What was sent on a channel is answered by the broker or by the channel's end; what was not sent waits for the
next channel. A channel on which the broker is silent for too long is ended. A message is sent once: whoever reads `Receipt.unknown`
decides whether to send it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from pika import exceptions

from broker_jobs.broker.amqp.errors import ACCESS_REFUSED, translate
from broker_jobs.broker.port import Receipt
from broker_jobs.core.confirms import Confirms
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from broker_jobs.broker.amqp.link import Channel, Link
    from broker_jobs.broker.port import Outgoing

_LOG: Final = logging.getLogger("broker_jobs.amqp")

SILENCE: Final = 10.0
"""Seconds that the broker has for its next answer. What goes to a quorum queue that is dead (see `AmqpBroker.dead`) is never answered for,
and holds up what comes behind it on the same channel (measured on 3.10.8). Most confirms take milliseconds, so nothing that works is that
slow, but for a disk or a link that is too slow for what it is given: each silence doubles what the next channel has, lest the same message
is sent for ever."""

_LONGEST_SILENCE: Final = 16
_LOOKS: Final = 4
_LONGEST_NAME: Final = 255
_HEADERS_BYTES: Final = 32 * 1024
_SLICE_MESSAGES: Final = 64
_SLICE_BYTES: Final = 1024 * 1024


@dataclass(slots=True, eq=False)
class _Batch:
    messages: Sequence[Outgoing]
    receipts: list[Receipt]
    open: int
    answered: asyncio.Future[None]
    sent: int = 0

    def answer(self, index: int, receipt: Receipt) -> None:
        self.receipts[index] = receipt
        self.open -= 1
        if not self.open and not self.answered.done():
            self.answered.set_result(None)


class Publisher:
    """Publishes batches of messages whenever there is a link.

    Args:
        silence: seconds after which a channel without an answer is given up, or a quarter more

    Attributes:
        denied: why the broker has closed a channel last, where a permission was missing
    """

    def __init__(self, silence: float = SILENCE) -> None:
        self.denied: str | None = None
        self._waiting: deque[_Batch] = deque()
        self._confirms: Confirms[tuple[_Batch, int]] = Confirms()
        self._link: Link | None = None
        self._channel: Channel | None = None
        self._sending = False
        self._refused = False
        self._closed = False
        self._silence = silence
        self._patience = 1
        self._watch: asyncio.TimerHandle | None = None

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        """Receipts of these messages, in their order. When it is canceled, what was not sent yet will not be.

        Raises:
            ValidationError: a routing key or the headers cannot be sent
        """
        for message in messages:
            _check(message)
        receipts = [Receipt.unknown] * len(messages)
        if not messages or self._closed:
            return receipts
        batch = _Batch(messages, receipts, len(messages), asyncio.get_running_loop().create_future())
        self._waiting.append(batch)
        if not self._sending:
            self._send()
        try:
            await batch.answered
        except asyncio.CancelledError:
            if batch in self._waiting:
                self._waiting.remove(batch)
            raise
        return receipts

    async def attach(self, link: Link) -> None:
        """Publish through this link from now on."""
        self._link = link
        self._patience = 1
        await self._open(link)

    def resume(self) -> None:
        """Go on, after the broker has taken no messages."""
        self._send()

    def detach(self) -> None:
        """The link is gone: what was sent and not answered is unknown, the rest waits."""
        self._link = self._channel = None
        self._answer(self._confirms.channel_closed())

    def close(self) -> None:
        """Answer all with `Receipt.unknown`, now and later."""
        self._closed = True
        self.detach()
        if self._watch is not None:
            self._watch.cancel()
        while self._waiting:
            batch = self._waiting.popleft()
            for index in range(batch.sent, len(batch.messages)):
                batch.answer(index, Receipt.unknown)

    async def _open(self, link: Link) -> None:
        channel = await link.channel()
        channel.on_closed = partial(self._on_channel_closed, link)
        await channel.confirm(partial(self._on_answer, channel), partial(self._on_return, channel))
        self._channel = channel
        self._send()

    def _send(self) -> None:
        """Send a slice of what waits, and the next one after others have had their turn on the loop."""
        self._sending = False
        channel, link = self._channel, self._link
        if channel is None or link is None or link.blocked is not None:
            return
        messages, size = _SLICE_MESSAGES, _SLICE_BYTES
        while self._waiting and messages > 0 and size > 0:
            batch = self._waiting[0]
            message = batch.messages[batch.sent]
            number = self._confirms.sent((batch, batch.sent))
            channel.publish(message.exchange, message.key, message.body, message.headers, str(number), mandatory=message.mandatory)
            batch.sent += 1
            if batch.sent == len(batch.messages):
                self._waiting.popleft()
            messages -= 1
            size -= len(message.body)
        if self._watch is None and self._confirms:
            self._listen(channel)
        if self._waiting:
            self._sending = True
            asyncio.get_running_loop().call_soon(self._send)

    def _on_answer(self, channel: Channel, number: int, multiple: bool, confirmed: bool) -> None:  # noqa: FBT001
        if channel is not self._channel:
            return  # it was given up, and what was sent on it is unknown
        if confirmed and self.denied:
            self.denied = None
        answer = self._confirms.acked if confirmed else self._confirms.nacked
        self._answer(answer(number, multiple=multiple))
        self._refused |= not confirmed
        if self._refused and not self._confirms:  # a full quorum queue may refuse one that it has refused for ever (measured on 3.10.8)
            self._renew()

    def _on_return(self, channel: Channel, message_id: str) -> None:
        if channel is self._channel:
            self._confirms.returned(int(message_id))

    def _answer(self, answers: Iterable[tuple[tuple[_Batch, int], Receipt]]) -> None:
        for (batch, index), receipt in answers:
            batch.answer(index, receipt)

    def _listen(self, channel: Channel, waited: int = 0) -> None:
        """See in a while whether what has waited longest for its answer still does."""
        wait = self._silence * self._patience / _LOOKS
        self._watch = asyncio.get_running_loop().call_later(wait, self._heard, channel, self._confirms.oldest, waited + 1)

    def _heard(self, listened: Channel, number: int, waited: int) -> None:
        self._watch = None
        channel, link = self._channel, self._link
        if channel is None or link is None or not self._confirms:
            return  # the next message that is sent is listened for
        silent = channel is listened and self._confirms.oldest == number and link.blocked is None
        if silent and waited < _LOOKS:
            self._listen(channel, waited)
        elif silent:
            seconds = self._silence * self._patience
            _LOG.warning("the broker has answered for none of %d published within %.3g s: another channel", len(self._confirms), seconds)
            self._patience = min(2 * self._patience, _LONGEST_SILENCE)
            self._renew()
        else:
            self._patience = max(self._patience // 2, 1)
            self._listen(channel)

    def _renew(self) -> None:
        """Go on with another channel; what was sent on this one and not answered is unknown."""
        self._refused = False
        channel, link = self._channel, self._link
        if channel is None or link is None:
            return
        self._channel = None
        channel.on_closed = lambda _: None
        channel.discard()
        self._answer(self._confirms.channel_closed())  # numbers begin anew
        self._reopening = asyncio.ensure_future(self._reopen(link))

    def _on_channel_closed(self, link: Link, reason: Exception) -> None:
        if self._link is not link:
            return
        self._channel = None
        if not isinstance(reason, exceptions.ChannelClosedByBroker):
            return  # the connection has ended, and `detach` answers
        self.denied = str(translate(reason, "what was published")) if reason.reply_code == ACCESS_REFUSED else None
        # One of the messages in flight was at fault, and the broker does not say which.
        in_flight = self._confirms.channel_closed()
        self._answer((item, Receipt.refused if receipt is Receipt.unknown else receipt) for item, receipt in in_flight)
        _LOG.error("%s", translate(reason, f"{len(in_flight)} messages refused"))
        self._reopening = asyncio.ensure_future(self._reopen(link))

    async def _reopen(self, link: Link) -> None:
        try:
            await self._open(link)
        except exceptions.AMQPError as error:
            _LOG.warning("%s", translate(error, "no new channel to publish through"))
            await link.close()  # the next connection has a channel


def _check(message: Outgoing) -> None:
    try:
        if len(message.key.encode()) > _LONGEST_NAME:
            raise ValidationError(f"a routing key has at most {_LONGEST_NAME} bytes; this one is longer: {message.key[:40]!r}…")
        if message.headers:
            sizes = [(len(name.encode()), len(value.encode())) for name, value in message.headers.items()]
            if max(size for size, _ in sizes) > _LONGEST_NAME or sum(map(sum, sizes)) > _HEADERS_BYTES:
                raise ValidationError(f"headers are short texts, {_HEADERS_BYTES} bytes in all: {', '.join(message.headers)[:80]}…")
    except UnicodeEncodeError as error:
        raise ValidationError(f"routing keys and headers are text that UTF-8 can tell, not {error.object!r:.80}") from None
