"""The token, by which a worker's end is known."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from broker_jobs.broker import open_broker
from broker_jobs.broker.port import Outgoing
from tests.support.holder import Holder
from tests.support.inbox import PATIENCE, Inbox, run
from tests.support.station import LEDGER, NAMES, connected, put, waiting

if TYPE_CHECKING:
    from broker_jobs.broker.port import Broker, Delivery

WITHIN: Final = 1.0 + 2.0
"""The promised second, and what a loaded machine may add to it."""


def token(worker: str) -> Outgoing:
    return Outgoing(NAMES.lease, NAMES.token_key(worker), f"token of {worker}".encode())


async def returned(inbox: Inbox, broker: Broker, worker: str) -> Delivery:
    delivery = await inbox.next(WITHIN)
    assert (delivery.queue, delivery.exchange, delivery.key, delivery.body) == (
        LEDGER.name, NAMES.returned, NAMES.token_key(worker), f"token of {worker}".encode(),
    )  # fmt: skip
    assert broker.done(delivery)
    return delivery


def test_the_token_of_a_killed_process_is_returned(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            inbox = Inbox()
            await broker.consume(LEDGER.name, 10, inbox)
            holder = await Holder.start(broker_url)
            async with holder:
                await holder.hold_token(NAMES.lease_queue("w1"), token("w1"))
                await put(broker, waiting(b"a round trip"))
                assert (await inbox.next()).body == b"a round trip"
                await holder.kill()
                await returned(inbox, broker, "w1")

    run(story())


def test_the_token_of_a_connection_that_closes_is_returned(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            inbox = Inbox()
            await broker.consume(LEDGER.name, 10, inbox)
            holder = await open_broker(broker_url, name="w1", timeout=PATIENCE)
            await holder.hold_token(NAMES.lease_queue("w1"), token("w1"))
            await holder.close()
            await returned(inbox, broker, "w1")

    run(story())


def test_a_dropped_token_tells_nobody(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            inbox = Inbox()
            await broker.consume(LEDGER.name, 10, inbox)
            async with await Holder.start(broker_url) as orderly, await Holder.start(broker_url) as other:
                await orderly.hold_token(NAMES.lease_queue("w1"), token("w1"))
                await other.hold_token(NAMES.lease_queue("w2"), token("w2"))
                await orderly.drop_token()
                await orderly.close()
                await other.kill()
                await returned(inbox, broker, "w2")
                await put(broker, waiting(b"a round trip"))
                assert (await inbox.next()).body == b"a round trip"
                assert len(inbox) == 0

    run(story())


def test_each_of_many_tokens_is_returned_once(broker_url: str) -> None:
    workers = ["w1", "w2", "w3"]

    async def story() -> None:
        async with connected(broker_url) as broker, connected(broker_url), connected(broker_url):
            inbox = Inbox()
            await broker.consume(LEDGER.name, 10, inbox)
            holders = await asyncio.gather(*(Holder.start(broker_url) for _ in workers))
            await asyncio.gather(
                *(holder.hold_token(NAMES.lease_queue(name), token(name)) for holder, name in zip(holders, workers, strict=True))
            )
            await asyncio.gather(*(holder.kill() for holder in holders))
            assert {each.key for each in await inbox.take(3)} == {NAMES.token_key(name) for name in workers}
            await put(broker, waiting(b"a round trip"))
            assert (await inbox.next()).body == b"a round trip"

    run(story())


def test_a_worker_that_starts_again_holds_its_token_again(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            inbox = Inbox()
            await broker.consume(LEDGER.name, 10, inbox)
            for _ in range(2):
                async with await Holder.start(broker_url) as holder:
                    await holder.hold_token(NAMES.lease_queue("w1"), token("w1"))
                    await holder.kill()
                    await returned(inbox, broker, "w1")

    run(story())


def test_what_others_put_into_a_lease_queue_does_not_take_the_place_of_the_token(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            inbox = Inbox()
            await broker.consume(LEDGER.name, 10, inbox)
            async with await Holder.start(broker_url) as holder:
                await holder.hold_token(NAMES.lease_queue("w1"), token("w1"))
                await put(broker, [Outgoing(NAMES.lease, NAMES.token_key("w1"), b"garbage")])
                await holder.kill()
                came = await inbox.take(2)
                assert {(each.exchange, each.body) for each in came} == {(NAMES.returned, b"garbage"), (NAMES.returned, b"token of w1")}

    run(story())


def test_a_token_waits_for_a_ledger(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            inbox = Inbox()
            async with await Holder.start(broker_url) as holder:
                await holder.hold_token(NAMES.lease_queue("w1"), token("w1"))
                await holder.kill()
            await broker.consume(LEDGER.name, 10, inbox)
            await returned(inbox, broker, "w1")

    run(story())
