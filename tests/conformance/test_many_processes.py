"""Several processes that publish and consume at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

from broker_jobs.broker.port import Outgoing, Receipt
from tests.support.holder import Holder
from tests.support.inbox import run, until
from tests.support.station import CLASS, LEDGER, NAMES, TO_CLASS, connected, numbered

PUBLISHERS, CONSUMERS, BATCHES, SIZE = 3, 3, 20, 15
BODIES = PUBLISHERS * BATCHES * SIZE


async def flood(holder: Holder, which: int) -> None:
    for batch in range(BATCHES):
        start = (which * BATCHES + batch) * SIZE
        receipts = await holder.publish([Outgoing(NAMES.tasks, TO_CLASS, body) for body in numbered(SIZE, start)])
        assert receipts == [Receipt.confirmed] * SIZE


def test_nothing_is_lost_and_nothing_doubled(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url), contextlib.AsyncExitStack() as stack:
            everybody = await asyncio.gather(*(Holder.start(broker_url) for _ in range(PUBLISHERS + CONSUMERS + 1)))
            for holder in everybody:
                await stack.enter_async_context(holder)
            ledger, *others = everybody
            consumers, publishers = others[:CONSUMERS], others[CONSUMERS:]
            await ledger.consume(LEDGER.name, 50, "done")
            for consumer in consumers:
                await consumer.consume(CLASS.name, 7, "done")
            await asyncio.gather(*(flood(holder, which) for which, holder in enumerate(publishers)))

            async def all_there() -> bool:
                return sum(len(each.inbox) for each in consumers) >= BODIES and len(ledger.inbox) >= BODIES

            await until(all_there, "every message came to a class consumer and to the ledger")
            tasks = [each for consumer in consumers for each in await consumer.inbox.take(len(consumer.inbox))]
            noted = await ledger.inbox.take(len(ledger.inbox))
            for taken in (tasks, noted):
                assert Counter(each.body for each in taken) == Counter(numbered(BODIES))
                assert not any(each.redelivered for each in taken)
            for which in range(PUBLISHERS):
                mine = [each.body for each in noted if int(each.body) // (BATCHES * SIZE) == which]
                assert mine == sorted(mine)

    run(story())


def test_killed_consumers_lose_nothing(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url), contextlib.AsyncExitStack() as stack:
            publisher, survivor, *victims = await asyncio.gather(*(Holder.start(broker_url) for _ in range(4)))
            for holder in (publisher, survivor, *victims):
                await stack.enter_async_context(holder)
            for holder in (survivor, *victims):
                await holder.consume(CLASS.name, 5, "done")
            flooding = asyncio.ensure_future(flood(publisher, 0))
            seen = set[bytes]()
            for victim in victims:
                seen.add((await victim.inbox.next()).body)
                await victim.kill()
                seen.update(each.body for each in await victim.inbox.take(len(victim.inbox)))
            await flooding
            killed_saw = frozenset(seen)

            async def all_there() -> bool:
                for delivery in await survivor.inbox.take(len(survivor.inbox)):
                    assert delivery.redelivered or delivery.body not in killed_saw
                    seen.add(delivery.body)
                return len(seen) == BATCHES * SIZE

            await until(all_there, "every message came to somebody")

    run(story())


def test_a_killed_publisher_leaves_whole_messages(broker_url: str) -> None:
    body = bytes(range(256)) * 400

    async def story() -> None:
        async with connected(broker_url) as broker, await Holder.start(broker_url) as consumer:
            await consumer.consume(CLASS.name, 10, "done")
            for _ in range(3):
                async with await Holder.start(broker_url) as publisher:
                    publishing = asyncio.ensure_future(publisher.publish([Outgoing(NAMES.tasks, TO_CLASS, body)] * 200))
                    assert (await consumer.inbox.next()).body == body
                    await publisher.kill()
                    await asyncio.gather(publishing, return_exceptions=True)

            async def empty() -> bool:
                depth = await broker.depth(CLASS.name)
                return depth is not None and depth.ready == 0

            await until(empty, "the rest is consumed")
            assert all(each.body == body for each in await consumer.inbox.take(len(consumer.inbox)))

    run(story())
