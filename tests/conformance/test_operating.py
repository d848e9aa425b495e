"""What operators do: look into queues, take out, empty, migrate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker_jobs.broker import open_broker
from broker_jobs.broker.port import Depth
from broker_jobs.errors import BrokerError
from tests.support.inbox import PATIENCE, Inbox, run, until
from tests.support.station import CLASS, DEAD, LEDGER, NAMES, TO_CLASS, connected, drain, numbered, put, ready, waiting

if TYPE_CHECKING:
    from broker_jobs.broker.port import OperatedBroker

FORMER = NAMES.former_name(LEDGER.name)


async def opened(url: str) -> OperatedBroker:
    return await open_broker(url, name="operator", timeout=PATIENCE)


def back(exchange: str, key: str) -> tuple[str, str]:
    """For migrations that are not to put anything back."""
    raise AssertionError((exchange, key))


def test_who_looks_changes_nothing(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            operator = await opened(broker_url)
            await put(broker, ready(*numbered(5)))
            for most, seen in ((3, 3), (10, 5)):
                async with operator.browse(CLASS.name, most) as browsing:
                    assert [letter.body for letter in browsing.letters] == numbered(seen)
                    assert {(letter.exchange, letter.key) for letter in browsing.letters} == {(NAMES.ready, TO_CLASS)}
            assert await drain(broker, CLASS.name, 5) == numbered(5)
            await operator.close()

    run(story())


def test_who_looks_next_misses_nothing(broker_url: str) -> None:
    """The order may be another: RabbitMQ puts what was looked at behind what was looked at before."""

    async def story() -> None:
        async with connected(broker_url) as broker:
            operator = await opened(broker_url)
            await put(broker, ready(*numbered(3)))
            for most in (1, 3) * 5:
                async with operator.browse(CLASS.name, most) as browsing:
                    assert len(browsing.letters) == most
            assert sorted(await drain(broker, CLASS.name, 3)) == numbered(3)
            await operator.close()

    run(story())


def test_what_is_removed_is_gone_and_the_rest_stays(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            operator = await opened(broker_url)
            await put(broker, ready(*numbered(300)))
            async with operator.browse(CLASS.name, 300) as browsing:
                for letter in browsing.letters[::2]:
                    assert await browsing.remove(letter)
                assert not await browsing.remove(browsing.letters[0])
            assert sorted(await drain(broker, CLASS.name, 150)) == numbered(300)[1::2]
            await operator.close()

    run(story())


def test_a_dead_letter_says_why_and_from_where(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            operator = await opened(broker_url)
            await put(broker, ready(b"by the exchange", b"by the replies"))
            inbox = Inbox()
            await broker.consume(CLASS.name, 2, inbox)
            first, second = await inbox.take(2)
            assert await broker.dead_letter(first, NAMES.dead, "decode: no")
            assert await broker.dead_letter(second, NAMES.replies, "security: no", key=NAMES.dead_key())
            where = {"queue": CLASS.name, "exchange": NAMES.ready, "key": TO_CLASS}
            async with operator.browse(DEAD.name, 10) as browsing:
                found = {letter.body: dict(letter.headers) for letter in browsing.letters}
            assert all(headers.pop("at").isdecimal() for headers in found.values())
            assert found == {b"by the exchange": {"reason": "decode: no", **where}, b"by the replies": {"reason": "security: no", **where}}
            assert await operator.depth(LEDGER.name) == Depth(0, 0), "what goes through the replies comes to the dead letters alone"
            await operator.close()

    run(story())


def test_purge_removes_what_waits_and_leaves_what_is_held(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            operator = await opened(broker_url)
            await put(broker, ready(*numbered(5)))
            inbox = Inbox()
            subscription = await broker.consume(CLASS.name, 1, inbox)
            held = await inbox.next()
            assert await operator.purge(CLASS.name) == 4
            assert await operator.purge(CLASS.name) == 0
            await subscription.cancel()
            assert broker.release(held)
            assert await drain(broker, CLASS.name, 1) == numbered(1)
            await operator.close()

    run(story())


def test_a_queue_that_is_not_there(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url):
            operator = await opened(broker_url)
            with pytest.raises(BrokerError, match=r"t\.nowhere"):
                await operator.purge("t.nowhere")
            with pytest.raises(BrokerError, match=r"t\.nowhere"):
                async with operator.browse("t.nowhere", 1):
                    pass
            await operator.close()

    run(story())


def test_a_queue_that_is_right_is_not_migrated(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            operator = await opened(broker_url)
            await put(broker, waiting(b"stays"))
            assert not await operator.migrate(LEDGER, FORMER, back)
            assert await drain(broker, LEDGER.name, 1) == [b"stays"]
            await operator.close()

    run(story())


def test_a_queue_that_is_consumed_is_not_migrated(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            operator = await opened(broker_url)
            await broker.consume(CLASS.name, 1, Inbox())

            async def consumed() -> bool:
                return await operator.depth(CLASS.name) == Depth(0, 1)

            await until(consumed, "the consumer is seen")
            other = NAMES.ledger(0)
            wrong = type(other)(CLASS.name, other.kind, CLASS.bindings, other.dead_letter_exchange)
            with pytest.raises(BrokerError, match="consumed by 1"):
                await operator.migrate(wrong, FORMER, back)
            await operator.close()

    run(story())


def test_a_migrated_queue_has_what_waited_in_it_and_its_bindings(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            operator = await opened(broker_url)
            await put(broker, ready(*numbered(150)))
            wrong = type(CLASS)(CLASS.name, LEDGER.kind, CLASS.bindings, LEDGER.dead_letter_exchange)
            assert await operator.migrate(wrong, FORMER, lambda exchange, key: (exchange, key))
            await put(broker, ready(b"new"))
            assert await drain(broker, CLASS.name, 151) == [*numbered(150), b"new"]
            assert not await operator.migrate(wrong, FORMER, back), "it has the properties now"
            assert await operator.depth(f"{CLASS.name}.moved") is None
            await operator.close()

    run(story())
