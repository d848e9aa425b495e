"""What operators do with queues: look into them, and give them other properties. No daemon uses it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from pika import exceptions

from broker_jobs.broker.amqp.errors import NOT_FOUND, PRECONDITION_FAILED
from broker_jobs.broker.port import EXCHANGE, KEY, QUEUE, REASON, Letter, Outgoing, Receipt
from broker_jobs.errors import BrokerError
from broker_jobs.wire.topology import Queue, QueueKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from broker_jobs.broker.amqp.link import Channel, Found, Link

    Publish = Callable[[Sequence[Outgoing]], Awaitable[list[Receipt]]]
    Declare = Callable[[Channel, Queue], Awaitable[None]]

_MOST_BYTES: Final = 256 * 2**20
_BATCH: Final = 64
_WORN: Final = 10
"""RabbitMQ 4 drops a message of a quorum queue that was put back 20 times, and to look at one is to put it back."""

MOVED: Final = ".moved"
_MOVED_EXCHANGE: Final = "moved-exchange"
_MOVED_KEY: Final = "moved-key"


class AmqpBrowsing:
    """A look into a queue, as `broker_jobs.broker.port.Browsing` describes it."""

    def __init__(self, channel: Channel, letters: Sequence[Letter]) -> None:
        self.letters = letters
        self._channel = channel
        self._removed: set[int] = set()

    async def remove(self, letter: Letter) -> bool:
        """Remove a message for good; False where the connection has gone, and it with it."""
        if not self._channel.is_open or letter.number in self._removed:
            return False
        self._channel.ack(letter.number)
        self._removed.add(letter.number)
        return True


@contextlib.asynccontextmanager
async def browse(link: Link, publish: Publish, queue: str, most: int) -> AsyncIterator[AmqpBrowsing]:
    """Look into a queue: the messages are held until the end, and then put back in order."""
    async with link.scratch() as channel:
        letters: list[Letter] = []
        worn: list[Letter] = []
        size = 0
        while len(letters) < most and size < _MOST_BYTES and (found := await channel.get(queue)) is not None:
            letters.append(_letter(found))
            size += len(found.arrival.body)
            if _times_put_back(found.headers) >= _WORN:
                worn.append(letters[-1])
        browsing = AmqpBrowsing(channel, letters)
        try:
            yield browsing
        finally:
            for letter in worn:
                await _renew(publish, browsing, letter)
            await channel.close()


async def _renew(publish: Publish, browsing: AmqpBrowsing, letter: Letter) -> None:
    """Put a fresh copy in place of a message that the broker would drop soon."""
    (receipt,) = await publish([Outgoing(letter.exchange, letter.key, letter.body, headers=letter.headers)])
    if receipt is Receipt.confirmed and not await browsing.remove(letter):
        return  # it was removed, and the copy is one too many: the receiver knows duplicates


async def migrate(
    link: Link, publish: Publish, declare: Declare, queue: Queue, back: Callable[[str, str], tuple[str, str]]
) -> bool:
    """Give a queue the properties that it should have; what waits in it moves to a queue beside it, and from there back.

    That queue gets what comes meanwhile, too: at no moment is there none that takes it.
    """
    beside = Queue(queue.name + MOVED, QueueKind.tasks, queue.bindings)
    if await _fits(link, declare, queue):
        if not await _exists(link, beside.name):
            return False
    else:
        async with link.scratch() as channel:
            depth = await channel.depth(queue.name)
            if depth.consumers:
                raise BrokerError(f"queue {queue.name} is consumed by {depth.consumers}: stop them, and call this again")
            await declare(channel, beside)
            await _move(channel, publish, queue.name, lambda found: _moved(found, beside.name))
            await channel.delete_queue(queue.name)
            await declare(channel, queue)
    async with link.scratch() as channel:
        for binding in beside.bindings:
            await channel.unbind(beside.name, binding.exchange, binding.pattern)
        await _move(channel, publish, beside.name, lambda found: _returned(found, back))
        await channel.delete_queue(beside.name)
    return True


async def _fits(link: Link, declare: Declare, queue: Queue) -> bool:
    try:
        async with link.scratch() as channel:
            await declare(channel, queue)
    except exceptions.ChannelClosedByBroker as error:
        if error.reply_code == PRECONDITION_FAILED:
            return False
        raise
    return True


async def _exists(link: Link, queue: str) -> bool:
    try:
        async with link.scratch() as channel:
            await channel.depth(queue)
    except exceptions.ChannelClosedByBroker as error:
        if error.reply_code == NOT_FOUND:
            return False
        raise
    return True


async def _move(channel: Channel, publish: Publish, queue: str, outgoing: Callable[[Found], Outgoing]) -> None:
    """Publish what waits in a queue, each message removed once its copy is confirmed."""
    more = True
    while more:
        batch: list[Found] = []
        while len(batch) < _BATCH and (found := await channel.get(queue)) is not None:
            batch.append(found)
        more = bool(batch)
        receipts = await publish([outgoing(found) for found in batch])
        for found, receipt in zip(batch, receipts, strict=True):
            if receipt is not Receipt.confirmed:
                raise BrokerError(f"a message of {queue} could not be moved ({receipt.value}); nothing is lost: call this again")
            channel.ack(found.arrival.tag)


def _moved(found: Found, queue: str) -> Outgoing:
    """To a queue directly, with a note of how it came."""
    letter = _letter(found)
    headers = {_MOVED_EXCHANGE: letter.exchange, _MOVED_KEY: letter.key, **letter.headers}
    return Outgoing("", queue, letter.body, headers=headers)


def _returned(found: Found, back: Callable[[str, str], tuple[str, str]]) -> Outgoing:
    letter = _letter(found)
    headers = dict(letter.headers)
    came = headers.pop(_MOVED_EXCHANGE, letter.exchange), headers.pop(_MOVED_KEY, letter.key)
    return Outgoing(*back(*came), letter.body, headers=headers)


def _letter(found: Found) -> Letter:
    headers = {name: value for name, value in found.headers.items() if isinstance(value, str)}
    if REASON not in headers:
        headers |= _given_up(found.headers.get("x-death"))
    return Letter(found.arrival.tag, found.arrival.exchange, found.arrival.key, found.arrival.body, headers)


def _given_up(deaths: object) -> dict[str, str]:
    """What the broker says of a message that it gave up itself, in our terms."""
    match deaths:
        case [{"reason": str(why), "queue": str(queue), "exchange": str(exchange), "routing-keys": [str(key), *_]}, *_]:
            return {REASON: f"broker: {why}", QUEUE: queue, EXCHANGE: exchange, KEY: key}
        case _:
            return {}


def _times_put_back(headers: Mapping[str, Any]) -> int:
    times = headers.get("x-delivery-count")
    return times if isinstance(times, int) else 0
