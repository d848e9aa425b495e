"""The bare flow over the embedded broker: the same messages, queues and confirms as broker-jobs, and nothing else.

See `benchmarks.bare.amqp`; here the three processes talk through the broker port, since there is nothing below it that a script could use.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from benchmarks.bare.roles import play
from broker_jobs.broker import open_broker
from broker_jobs.broker.port import Outgoing
from broker_jobs.wire.topology import Binding, Exchange, Queue, QueueKind

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from multiprocessing.connection import Connection

    from broker_jobs.broker.port import Broker, Delivery

CHUNK = b"c" * 600
REPLY = b"r" * 250
EXCHANGES = (Exchange("bare.tasks"), Exchange("bare.replies"))
QUEUES = (
    Queue("bare.class", QueueKind.tasks, (Binding("bare.tasks", "class.#"), Binding("bare.tasks", "ready"))),
    Queue("bare.ledger", QueueKind.ledger, (Binding("bare.tasks", "class.*"), Binding("bare.replies", "#"))),
    Queue("bare.reply", QueueKind.tasks, (Binding("bare.replies", "#"),)),
)


async def _peer(url: str, queue: str, credit: int, serve: Callable[[Broker, asyncio.Queue[Delivery]], Coroutine[None, None, None]]) -> None:
    broker = await open_broker(url, name=queue, timeout=30)
    await broker.declare(EXCHANGES, QUEUES)
    inbox: asyncio.Queue[Delivery] = asyncio.Queue()
    await broker.consume(queue, credit, inbox.put_nowait)
    await serve(broker, inbox)
    await broker.close()


def _worker(url: str, up: Connection) -> None:
    async def serve(broker: Broker, inbox: asyncio.Queue[Delivery]) -> None:
        up.send("up")
        while True:
            delivery = await inbox.get()
            key = "call" if delivery.key == "class.call" else "step"
            await broker.publish([Outgoing("bare.replies", key, REPLY)])
            broker.done(delivery)

    asyncio.run(_peer(url, "bare.class", 4, serve))


def _ledger(url: str, up: Connection, steps: int) -> None:
    async def serve(broker: Broker, inbox: asyncio.Queue[Delivery]) -> None:
        up.send("up")
        begun = 0.0
        taken: list[float] = []
        while len(taken) < steps:
            delivery = await inbox.get()
            if delivery.key == "step":
                taken.append(time.perf_counter() - begun)
                begun = time.perf_counter()
                await broker.publish([Outgoing("bare.tasks", "ready", CHUNK)])
            elif delivery.key == "class.step":
                begun = time.perf_counter()
            broker.done(delivery)
        up.send(taken)
        up.recv()

    asyncio.run(_peer(url, "bare.ledger", 500, serve))


def _submitter(url: str, up: Connection, calls: int) -> None:
    async def serve(broker: Broker, inbox: asyncio.Queue[Delivery]) -> None:
        taken: list[float] = []
        for _ in range(calls):
            begun = time.perf_counter()
            sent = asyncio.ensure_future(broker.publish([Outgoing("bare.tasks", "class.call", CHUNK)]))
            delivery = await inbox.get()
            taken.append(time.perf_counter() - begun)
            broker.done(delivery)
            await sent
        up.send(taken)
        await broker.publish([Outgoing("bare.tasks", "class.step", CHUNK)])
        while True:
            broker.done(await inbox.get())

    asyncio.run(_peer(url, "bare.reply", 4, serve))


def measure(url: str, *, calls: int, steps: int) -> tuple[list[float], list[float]]:
    """Seconds of each call, and of each step of a chain."""
    return play(url, _worker, _ledger, _submitter, calls=calls, steps=steps)
