"""Publishing: receipts, routes, order, sizes."""

from __future__ import annotations

import asyncio
import random

from broker_jobs.broker.port import Outgoing, Receipt
from tests.support.holder import Holder
from tests.support.inbox import Inbox, run
from tests.support.station import CLASS, LEDGER, NAMES, TO_CLASS, connected, drain, numbered, put, ready


def test_one_publish_goes_to_both_queues(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            await put(broker, [Outgoing(NAMES.tasks, TO_CLASS, b"task"), Outgoing(NAMES.tasks, NAMES.ledger_key(0), b"waits")])
            inbox = Inbox()
            await broker.consume(CLASS.name, 5, inbox)
            delivery = await inbox.next()
            assert (delivery.queue, delivery.exchange, delivery.key, delivery.body, delivery.redelivered) == (
                CLASS.name, NAMES.tasks, TO_CLASS, b"task", False,
            )  # fmt: skip
            assert broker.done(delivery)
            assert await drain(broker, LEDGER.name, 2) == [b"task", b"waits"]
            assert len(inbox) == 0

    run(story())


def test_receipts_come_in_order(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            receipts = await broker.publish(
                [
                    Outgoing(NAMES.ready, TO_CLASS, b"1"),
                    Outgoing(NAMES.ready, "unheard.of.0", b"2", apart=True),
                    Outgoing(NAMES.ready, "unheard.of.0", b"3", mandatory=False),
                    Outgoing(NAMES.ready, TO_CLASS, b"4", headers={"kind": "chunk", "job": "9f2c01ab"}),
                    Outgoing(NAMES.ready, "unheard.of.0", b"5", apart=True, mandatory=False),
                ]
            )
            assert receipts == [Receipt.confirmed, Receipt.unroutable, *[Receipt.confirmed] * 3]
            assert await broker.publish([]) == []
            assert await drain(broker, CLASS.name, 2) == [b"1", b"4"]

    run(story())


def test_overlapping_publishes_keep_their_order(broker_url: str) -> None:
    calls, each = 40, 15

    async def story() -> None:
        async with connected(broker_url) as broker:
            await asyncio.gather(*(put(broker, ready(*numbered(each, call * each))) for call in range(calls)))
            taken = [int(body) for body in await drain(broker, CLASS.name, calls * each)]
            assert sorted(taken) == list(range(calls * each))
            for call in range(calls):
                mine = [number for number in taken if number // each == call]
                assert mine == sorted(mine)

    run(story())


def test_large_and_empty_bodies(broker_url: str) -> None:
    bodies = [random.Random(seed).randbytes(1024 * 1024) for seed in range(6)] + [b""]

    async def story() -> None:
        async with connected(broker_url) as broker:
            await put(broker, [Outgoing(NAMES.tasks, TO_CLASS, body) for body in bodies])
            assert await drain(broker, CLASS.name, len(bodies)) == bodies
            assert await drain(broker, LEDGER.name, len(bodies)) == bodies

    run(story())


def test_what_is_confirmed_survives_every_process(broker_url: str) -> None:
    async def story() -> None:
        holder = await Holder.start(broker_url)
        async with holder:
            await holder.declare(NAMES.exchanges(), [LEDGER, CLASS])
            assert await holder.publish(ready(*numbered(50))) == [Receipt.confirmed] * 50
        async with connected(broker_url) as broker:
            await put(broker, ready(*numbered(50, 50)))
        async with connected(broker_url) as broker:
            assert await drain(broker, CLASS.name, 100) == numbered(100)

    run(story())


def test_after_close_nothing_is_known(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            await broker.close()
            assert not broker.connected
            assert await asyncio.wait_for(broker.publish(ready(b"late")), 10) == [Receipt.unknown]

    run(story())


def test_the_server_says_what_it_is(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            name, version = broker.server.split(" ", 1)
            assert name == ("SQLite" if broker_url.startswith("sqlite:") else "RabbitMQ")
            assert all(part.isdigit() for part in version.split(".")[:2])

    run(story())
