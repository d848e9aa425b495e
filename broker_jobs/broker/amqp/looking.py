"""Which queues say nothing: asked on connections of their own, since the broker may end the one on which it waits for a queue.

So does RabbitMQ 3.10 where a quorum queue has no leader: a consumer of one whose only node is down ends the connection at once (measured).
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Final

from pika import exceptions

from broker_jobs.broker.amqp.errors import INTERNAL_ERROR, NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from broker_jobs.broker.amqp.link import Link

_ANSWER_SECONDS: Final = 5.0


class _Answer(Enum):
    """What a queue says."""

    some = "some"
    none = "none"
    cut = "cut"
    """The broker ended the connection, because of one of those that were asked on it."""


class Suspects:
    """Queues that nobody could consume, or for which the broker may have ended a connection: they are asked before the next try.

    Args:
        connect: opens a connection
    """

    def __init__(self, connect: Callable[[], Awaitable[Link]]) -> None:
        self._connect = connect
        self._queues: set[str] = set()

    def add(self, queue: str) -> None:
        """Ask it next time."""
        self._queues.add(queue)

    async def clear(self, queue: str) -> bool:
        """Whether nothing is to be feared of a queue.

        Raises:
            AMQPError: there is no connection, or it went
        """
        if queue in self._queues and not await silent(self._connect, (queue,)):
            self._queues.discard(queue)
        return queue not in self._queues


def is_cut(error: Exception) -> bool:
    """Whether the broker ended the connection, as something within it went wrong."""
    return isinstance(error, exceptions.ConnectionClosedByBroker) and bool(error.reply_code == INTERNAL_ERROR)


async def silent(connect: Callable[[], Awaitable[Link]], queues: Sequence[str]) -> frozenset[str]:
    """Those of these queues that are there and do not answer within 5 s.

    Args:
        connect: opens a connection

    Raises:
        AMQPError: there is no connection, or it went
    """
    if not queues:
        return frozenset()
    link = await connect()
    try:
        answers = dict(zip(queues, await asyncio.gather(*(_ask(link, queue) for queue in queues)), strict=True))
    finally:
        await link.close()
    found = frozenset(queue for queue, answer in answers.items() if answer is _Answer.none)
    cut = [queue for queue, answer in answers.items() if answer is _Answer.cut]
    if len(queues) == 1:
        return found.union(cut)
    # That may have been too soon for the others: halves are asked apart, until one is alone.
    half = len(cut) // 2
    return found.union(*await asyncio.gather(silent(connect, cut[:half]), silent(connect, cut[half:])))


async def _ask(link: Link, queue: str) -> _Answer:
    """Whether a queue says anything at all; one that was half deleted is not found."""
    try:
        channel = await link.channel()
        async with asyncio.timeout(_ANSWER_SECONDS):
            await channel.hear(queue)
    except TimeoutError:
        return _Answer.none
    except exceptions.ChannelClosedByBroker as error:
        return _Answer.none if error.reply_code == NOT_FOUND else _Answer.some
    except exceptions.ConnectionClosedByBroker as error:
        if not is_cut(error):
            raise
        return _Answer.cut
    channel.discard()
    return _Answer.some
