"""The topology on which tests of the broker port play, and messages for it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from broker_jobs.broker import open_broker
from broker_jobs.broker.port import Outgoing, Receipt
from broker_jobs.core.spec import Lane
from broker_jobs.wire.topology import Topology
from tests.support.inbox import PATIENCE, Inbox

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from broker_jobs.broker.port import Broker

NAMES: Final = Topology("t")
CLASS: Final = NAMES.class_queue("cpu1", Lane.normal)
LEDGER: Final = NAMES.ledger(0)
DEAD: Final = NAMES.dead_letters()
TO_CLASS: Final = NAMES.task_key("cpu1", Lane.normal, 0)


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Broker]:
    """A broker connection with the topology declared, closed at the end."""
    broker = await open_broker(url, name="test", timeout=PATIENCE)
    try:
        await broker.declare(NAMES.exchanges(), [LEDGER, DEAD, CLASS])
        yield broker
    finally:
        await broker.close()


def ready(*bodies: bytes) -> list[Outgoing]:
    """Messages to the class queue alone."""
    return [Outgoing(NAMES.ready, TO_CLASS, body) for body in bodies]


def waiting(*bodies: bytes) -> list[Outgoing]:
    """Messages to the ledger alone."""
    return [Outgoing(NAMES.tasks, NAMES.ledger_key(0), body) for body in bodies]


def numbered(count: int, start: int = 0) -> list[bytes]:
    """Bodies that can be told apart."""
    return [b"%06d" % number for number in range(start, start + count)]


async def put(broker: Broker, messages: Sequence[Outgoing]) -> None:
    """Publish and see that all are confirmed."""
    assert await broker.publish(messages) == [Receipt.confirmed] * len(messages)


async def drain(broker: Broker, queue: str, count: int) -> list[bytes]:
    """Receive that many messages, settle each, and see that nothing else is there; bodies in order."""
    inbox = Inbox()
    subscription = await broker.consume(queue, count + 1, inbox)
    taken = await inbox.take(count)
    assert all(broker.done(each) for each in taken)
    await subscription.cancel()
    assert len(inbox) == 0
    return [each.body for each in taken]
