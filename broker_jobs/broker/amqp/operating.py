"""What operators do with queues: look into them, and give them other properties. No daemon uses it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from pika import exceptions

from broker_jobs.broker.amqp.errors import NOT_FOUND, PRECONDITION_FAILED
from broker_jobs.broker.letter import EXCHANGE, KEY, QUEUE, REASON
from broker_jobs.broker.port import Letter, Outgoing, Receipt
from broker_jobs.errors import BrokerError
from broker_jobs.wire.topology import Queue, QueueKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from broker_jobs.broker.amqp.link import Channel, Found, Link
    from broker_jobs.broker.port import Depth

    Publish = Callable[[Sequence[Outgoing]], Awaitable[list[Receipt]]]
    Declare = Callable[[Channel, Queue], Awaitable[None]]

_BATCH: Final = 64
_TAKEN_BACK_SECONDS: Final = 5.0
_PAUSE: Final = 0.01
_EMPTY_READINGS: Final = 3
"""So often a queue must say that it is empty: one that is just coming up may say so by mistake."""
_GOING_SECONDS: Final = 3.0
"""So long a consumer that has ended may still be counted."""
_HELD_SECONDS: Final = 30.0
"""So long what somebody holds may take to come back, as it does through the log of a quorum queue, on a slow disk."""
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

    @property
    def count_removed(self) -> int:
        """How many were removed."""
        return len(self._removed)

    def removed(self, letter: Letter) -> bool:
        """Whether it was removed."""
        return letter.number in self._removed

    async def remove(self, letter: Letter) -> bool:
        """Remove a message for good; False where the connection has gone, or it was removed."""
        if not self._channel.is_open or self.removed(letter):
            return False
        self._channel.ack(letter.number)
        self._removed.add(letter.number)
        return True


@contextlib.asynccontextmanager
async def browse(link: Link, publish: Publish, queue: str, most: int) -> AsyncIterator[AmqpBrowsing]:
    """Look into a queue: the messages are held until the end, and then put back in order."""
    async with link.scratch() as channel:
        held = await channel.hold(queue, most)
        others = (await channel.depth(queue)).ready
        browsing = AmqpBrowsing(channel, [_letter(found) for found in held])
        worn = [letter for letter, found in zip(browsing.letters, held, strict=True) if _times_put_back(found.headers) >= _WORN]
        try:
            yield browsing
        finally:
            left = len(held) - browsing.count_removed  # a fresh copy stands for its original
            for letter in worn:
                if not browsing.removed(letter):
                    await _renew(publish, browsing, letter)
            if browsing.count_removed:
                await channel.flush(queue)
            await channel.close()
            await _wait_for(link, queue, others + left)


async def _wait_for(link: Link, queue: str, count: int) -> None:
    """Wait until a queue has so many again: it hears later than we do of the channel's end, and the next look would miss some."""
    deadline = asyncio.get_running_loop().time() + _TAKEN_BACK_SECONDS
    async with link.scratch() as channel:
        while (await channel.depth(queue)).ready < count and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(_PAUSE)


async def _renew(publish: Publish, browsing: AmqpBrowsing, letter: Letter) -> None:
    """Put a fresh copy in place of a message that the broker would drop soon."""
    (receipt,) = await publish([Outgoing(letter.exchange, letter.key, letter.body, headers=letter.headers)])
    if receipt is Receipt.confirmed:
        await browsing.remove(letter)


async def migrate(
    link: Link, publish: Publish, declare: Declare, queue: Queue, *, former: str, back: Callable[[str, str], tuple[str, str]]
) -> bool:
    """Give a queue the properties that it should have; what waits in it moves to a queue beside it, and from there back.

    That queue gets what comes meanwhile, too: at no moment is there none that takes it. What waits in the queue of an earlier version
    comes the same way.
    """
    await _see_unused(link, former)
    beside = Queue(queue.name + MOVED, QueueKind.tasks, queue.bindings)
    if not await _fits(link, declare, queue):
        await _see_unused(link, queue.name)
        async with link.scratch() as channel:
            await declare(channel, beside)
            await _move(link, publish, queue.name, lambda found: _moved(found, beside.name))
            await channel.delete_queue(queue.name)
            await declare(channel, queue)
    left = [name for name in (beside.name, former) if await _depth(link, name) is not None]
    for name in left:
        async with link.scratch() as channel:
            for binding in queue.bindings:
                await channel.unbind(name, binding.exchange, binding.pattern)
            await _move(link, publish, name, lambda found: _returned(found, back))
            await channel.delete_queue(name)
    return bool(left)


async def _see_unused(link: Link, queue: str) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _GOING_SECONDS
    while (depth := await _depth(link, queue)) is not None and depth.consumers:
        if loop.time() > deadline:
            raise BrokerError(f"queue {queue} is consumed by {depth.consumers}: stop them, and call this again")
        await asyncio.sleep(_PAUSE)


async def _fits(link: Link, declare: Declare, queue: Queue) -> bool:
    try:
        async with link.scratch() as channel:
            await declare(channel, queue)
    except exceptions.ChannelClosedByBroker as error:
        if error.reply_code == PRECONDITION_FAILED:
            return False
        raise
    return True


async def _depth(link: Link, queue: str) -> Depth | None:
    try:
        async with link.scratch() as channel:
            return await channel.depth(queue)
    except exceptions.ChannelClosedByBroker as error:
        if error.reply_code == NOT_FOUND:
            return None
        raise


async def _move(link: Link, publish: Publish, queue: str, outgoing: Callable[[Found], Outgoing]) -> None:
    """Publish what waits in a queue, each message removed once its copy is confirmed."""
    empty = 0
    moved = asyncio.get_running_loop().time()
    while empty < _EMPTY_READINGS:
        async with link.scratch() as channel:
            if batch := await channel.hold(queue, _BATCH):
                for receipt in await publish([outgoing(found) for found in batch]):
                    if receipt is not Receipt.confirmed:
                        raise BrokerError(f"a message of {queue} could not be moved ({receipt.value}); nothing is lost: call this again")
                await channel.settle_to(queue, batch[-1].arrival.tag)
                moved = asyncio.get_running_loop().time()
                empty = 0
            elif await channel.nothing_left(queue):
                empty += 1
            elif asyncio.get_running_loop().time() < moved + _HELD_SECONDS:
                await asyncio.sleep(_PAUSE)
                empty = 0
            else:
                raise BrokerError(f"somebody holds messages of queue {queue}; nothing is lost: stop what consumes it, and call this again")
            await channel.close()


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
