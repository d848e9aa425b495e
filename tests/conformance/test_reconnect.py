"""What an outage does, and what comes back by itself."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from broker_jobs.broker.port import Outgoing, Receipt
from tests.support.inbox import PATIENCE, Inbox, run
from tests.support.station import CLASS, LEDGER, NAMES, connected, drain, numbered, put, ready

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker_jobs.broker.port import Broker
    from tests.support.outage import Outage


class Watcher:
    """Notes what `Broker.watch` reports."""

    def __init__(self, broker: Broker) -> None:
        self.news: list[int | str] = []
        self._came = asyncio.Event()
        broker.watch(self._note, self._note)

    def _note(self, news: int | str) -> None:
        self.news.append(news)
        self._came.set()

    async def hears(self, count: int) -> None:
        """Wait until so much was reported."""
        async with asyncio.timeout(PATIENCE):
            while len(self.news) < count:
                self._came.clear()
                await self._came.wait()


@contextlib.asynccontextmanager
async def watched(outage: Outage) -> AsyncIterator[tuple[Broker, Watcher]]:
    async with outage, connected(outage.url) as broker:
        yield broker, Watcher(broker)


async def interrupt(outage: Outage, watcher: Watcher) -> None:
    heard = len(watcher.news)
    await outage.cut()
    await watcher.hears(heard + 1)
    await outage.mend()
    await watcher.hears(heard + 2)


def test_loss_and_return_are_reported(outage: Outage) -> None:
    async def story() -> None:
        async with watched(outage) as (broker, watcher):
            assert broker.connected
            assert broker.generation == 1
            assert broker.blocked is None
            assert watcher.news == []
            await outage.cut()
            await watcher.hears(1)
            assert not broker.connected
            assert isinstance(watcher.news[0], str)
            assert watcher.news[0]
            await outage.mend()
            await watcher.hears(2)
            assert broker.connected
            assert watcher.news[1] == broker.generation == 2
            await interrupt(outage, watcher)
            assert watcher.news[3] == broker.generation == 3

    run(story())


def test_a_delivery_is_stale_after_a_reconnect(outage: Outage) -> None:
    async def story() -> None:
        async with watched(outage) as (broker, watcher):
            await put(broker, ready(*numbered(3)))
            inbox = Inbox()
            await broker.consume(CLASS.name, 2, inbox)
            stale = await inbox.take(2)
            await interrupt(outage, watcher)
            for delivery in stale:
                assert not broker.done(delivery)
                assert not broker.release(delivery)
                assert not await broker.dead_letter(delivery, NAMES.dead, "stale")
            again = await inbox.take(2)
            assert [(each.body, each.redelivered) for each in again] == [(body, True) for body in numbered(2)]
            assert all(each.tag.generation == 2 for each in again)
            assert all(broker.done(each) for each in again)
            assert (await inbox.next()).body == b"000002"

    run(story())


def test_a_publish_waits_for_the_next_connection(outage: Outage) -> None:
    async def story() -> None:
        async with watched(outage) as (broker, watcher):
            await outage.cut()
            await watcher.hears(1)
            publishing = asyncio.ensure_future(broker.publish(ready(*numbered(3))))
            done, _ = await asyncio.wait([publishing], timeout=0.3)
            assert not done
            await outage.mend()
            assert await asyncio.wait_for(publishing, PATIENCE) == [Receipt.confirmed] * 3
            assert await drain(broker, CLASS.name, 3) == numbered(3)

    run(story())


def test_publishes_through_an_outage_are_confirmed_or_unknown(outage: Outage) -> None:
    async def story() -> None:
        async with watched(outage) as (broker, watcher):
            receipts: dict[bytes, Receipt] = {}

            async def publish(bodies: list[bytes]) -> None:
                receipts.update(zip(bodies, await broker.publish(ready(*bodies)), strict=True))

            running = [asyncio.ensure_future(publish(numbered(20, 20 * call))) for call in range(50)]
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            await interrupt(outage, watcher)
            await asyncio.wait_for(asyncio.gather(*running), PATIENCE)
            assert set(receipts.values()) <= {Receipt.confirmed, Receipt.unknown}
            confirmed = {body for body, receipt in receipts.items() if receipt is Receipt.confirmed}
            inbox, seen = Inbox(), set[bytes]()
            await broker.consume(CLASS.name, 100, inbox)
            while not confirmed <= seen:
                delivery = await inbox.next()
                assert broker.done(delivery)
                seen.add(delivery.body)
            assert seen <= set(receipts)

    run(story())


def test_subscriptions_and_private_queues_come_back_before_it_is_reported(outage: Outage) -> None:
    async def story() -> None:
        async with watched(outage) as (broker, watcher):
            inbox = Inbox()
            await broker.declare([], [NAMES.control_queue("w1")])
            await broker.consume(NAMES.control_queue("w1").name, 5, inbox)
            await put(broker, [Outgoing(NAMES.control, "w1", b"before")])
            assert (await inbox.next()).body == b"before"
            await interrupt(outage, watcher)
            await put(broker, [Outgoing(NAMES.control, "w1", b"after")])
            while (delivery := await inbox.next()).body != b"after":
                assert delivery.body == b"before"
            assert broker.done(delivery)

    run(story())


def test_a_canceled_subscription_stays_away(outage: Outage) -> None:
    async def story() -> None:
        async with watched(outage) as (broker, watcher):
            inbox, other = Inbox(), Inbox()
            subscription = await broker.consume(CLASS.name, 5, inbox)
            await subscription.cancel()
            await interrupt(outage, watcher)
            await put(broker, ready(b"new"))
            await broker.consume(CLASS.name, 5, other)
            assert (await other.next()).body == b"new"
            assert len(inbox) == 0

    run(story())


def test_the_token_is_returned_and_held_again(outage: Outage) -> None:
    token = Outgoing(NAMES.lease, NAMES.token_key("w1"), b"token")

    async def story() -> None:
        async with watched(outage) as (broker, _):
            inbox = Inbox()
            await broker.consume(LEDGER.name, 10, inbox)
            async with connected(outage.url) as worker:
                watcher = Watcher(worker)
                await worker.hold_token(NAMES.lease_queue("w1"), token)
                await interrupt(outage, watcher)
                first = await inbox.next()
                assert (first.exchange, first.key, first.body) == (NAMES.returned, token.key, token.body)
                assert broker.done(first)
            again = await inbox.next()
            assert (again.exchange, again.key, again.body) == (NAMES.returned, token.key, token.body)

    run(story())
