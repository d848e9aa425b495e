"""Queues with other properties, and messages that RabbitMQ itself gives up."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pika
import pytest

from broker_jobs.broker import open_broker
from broker_jobs.broker.port import Outgoing
from broker_jobs.errors import BrokerError, TopologyMismatch
from broker_jobs.wire.topology import Queue, QueueKind
from broker_jobs.wire.way_back import way_back
from tests.support.inbox import PATIENCE, Inbox, run, until
from tests.support.station import CLASS, DEAD, LEDGER, NAMES, connected, drain, numbered, put, ready, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.rabbitmq import RabbitMQ

FORMER = NAMES.former_name(LEDGER.name)


@contextlib.contextmanager
def raw(url: str) -> Iterator[Any]:
    """A channel of a client that knows nothing of ours."""
    connection = pika.BlockingConnection(pika.URLParameters(url.partition("?")[0]))
    yield connection.channel()
    connection.close()


def back(exchange: str, key: str) -> tuple[str, str]:
    """The way back into the ledger."""
    return way_back(NAMES, LEDGER.name, exchange, key) or (NAMES.dead, key)


def test_a_queue_that_is_deleted_before_it_is_bound_is_made_again(rabbitmq: RabbitMQ) -> None:
    # Not with a quorum queue: RabbitMQ 3.10 may remember one that is deleted and declared at once for good (`cluster_not_formed`).
    url = f"{rabbitmq.fresh_vhost()}?queues=classic"

    async def story() -> None:
        async with connected(url) as first, connected(url) as second:
            for _ in range(30):
                await asyncio.gather(first.declare([], [CLASS]), *(each.delete(CLASS.name) for each in (first, second)))
            await first.declare([], [CLASS])
            await put(second, ready(b"there"))
            assert await drain(second, CLASS.name, 1) == [b"there"]

    run(story())


def test_a_property_that_differs_is_named_with_both_values_and_the_command_that_helps(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    with raw(url) as channel:
        channel.queue_declare(LEDGER.name, durable=True, arguments={"x-queue-type": "quorum", "x-single-active-consumer": True})
        channel.queue_declare(DEAD.name, durable=True, arguments={"x-queue-type": "classic"})
        channel.exchange_declare(NAMES.events, "fanout", durable=True)

    async def story() -> None:
        broker = await open_broker(url, name="test", timeout=PATIENCE)
        exchanges = [each for each in NAMES.exchanges() if each.name != NAMES.events]
        for thing, argument, wanted, found, remedy in (
            ((exchanges, [LEDGER]), "x-dead-letter-exchange", NAMES.dead, "none", f"broker-jobs queue migrate {LEDGER.name}"),
            (([], [DEAD]), "x-queue-type", "quorum", "classic", f"broker-jobs queue migrate {DEAD.name}"),
            ((NAMES.exchanges(), []), "type", "topic", "fanout", "delete it"),
        ):
            with pytest.raises(TopologyMismatch) as caught:
                await broker.declare(*thing)
            assert (caught.value.argument, caught.value.wanted, caught.value.found) == (argument, wanted, found)
            assert remedy in str(caught.value)
        await broker.close()

    run(story())


def test_a_ledger_of_an_earlier_version_is_migrated_with_what_waits_in_it(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()

    async def story() -> None:
        operator = await open_broker(url, name="operator", timeout=PATIENCE)
        earlier = Queue(LEDGER.name, QueueKind.ledger, LEDGER.bindings)
        await operator.declare(NAMES.exchanges(), [earlier])
        came = [*waiting(*numbered(70)), Outgoing(NAMES.replies, "_.0", b"a reply"), Outgoing(NAMES.returned, "w.0", b"a token")]
        await put(operator, came)
        interrupted = RuntimeError("interrupted")

        def stop(_exchange: str, _key: str) -> tuple[str, str]:
            raise interrupted

        with pytest.raises(RuntimeError):
            await operator.migrate(LEDGER, FORMER, stop)
        await put(operator, waiting(b"meanwhile"))
        assert await operator.migrate(LEDGER, FORMER, back), "it goes on"
        assert not await operator.migrate(LEDGER, FORMER, back)
        async with connected(url) as broker:
            inbox = Inbox()
            await broker.consume(LEDGER.name, 100, inbox)
            there = await inbox.take(len(came) + 1)
            found = sorted((each.exchange, each.key, each.body) for each in there)
            assert found == sorted((each.exchange, each.key, each.body) for each in [*came, *waiting(b"meanwhile")])
            assert all(map(broker.done, there))
        await operator.close()

    run(story())


def test_what_waits_in_queues_of_an_earlier_version_is_moved(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    ledger = Queue(FORMER, QueueKind.ledger, LEDGER.bindings)
    dead = Queue(NAMES.former_name(DEAD.name), QueueKind.dead, DEAD.bindings)

    async def story() -> None:
        operator = await open_broker(url, name="operator", timeout=PATIENCE)
        await operator.declare(NAMES.exchanges(), [ledger, dead])
        came = [*waiting(*numbered(70)), Outgoing(NAMES.replies, "_.0", b"a reply"), Outgoing(NAMES.returned, "w.0", b"a token")]
        await put(operator, [*came, Outgoing(NAMES.dead, "odd", b"a letter", headers={"reason": "decode: odd"})])

        inbox = Inbox()
        consumer = await operator.consume(FORMER, 1, inbox)
        held = await inbox.next()
        with pytest.raises(BrokerError, match=f"{FORMER} is consumed by 1"):
            await operator.migrate(LEDGER, FORMER, back)
        assert operator.release(held)
        await consumer.cancel(requeue=True)  # it may have the next one by now

        interrupted = RuntimeError("interrupted")
        told = iter(range(10))

        def stop(exchange: str, key: str) -> tuple[str, str]:
            if next(told) == 9:
                raise interrupted
            return back(exchange, key)

        with pytest.raises(RuntimeError):
            await operator.migrate(LEDGER, FORMER, stop)
        await put(operator, waiting(b"meanwhile"))
        assert await operator.migrate(LEDGER, FORMER, back), "it goes on"
        assert await operator.migrate(DEAD, dead.name, lambda exchange, key: (exchange, key))
        assert not await operator.migrate(LEDGER, FORMER, back)
        assert not await operator.migrate(DEAD, dead.name, back)
        assert [await operator.depth(name) for name in (FORMER, dead.name)] == [None, None]

        inbox = Inbox()
        await operator.consume(LEDGER.name, 200, inbox)
        there = await inbox.take(len(came) + 1)
        assert {(each.exchange, each.key, each.body) for each in there} == {
            (each.exchange, each.key, each.body) for each in [*came, *waiting(b"meanwhile")]
        }
        assert all(map(operator.done, there))
        async with operator.browse(DEAD.name, 10) as browsing:
            assert [(letter.body, letter.headers["reason"]) for letter in browsing.letters] == [(b"a letter", "decode: odd")]
        await operator.close()

    run(story())


def test_a_queue_is_not_deleted_while_somebody_holds_a_message_of_it(rabbitmq: RabbitMQ) -> None:
    """Such a message is neither ready nor gone: it comes back when the broker hears that its holder has ended, which a slow disk delays."""
    url = rabbitmq.fresh_vhost()
    former = NAMES.former_name(DEAD.name)

    async def story() -> None:
        operator = await open_broker(url, name="operator", timeout=PATIENCE)
        await operator.declare(NAMES.exchanges(), [Queue(former, QueueKind.dead, DEAD.bindings)])
        await put(operator, [Outgoing(NAMES.dead, "odd", body) for body in numbered(70)])
        with raw(url) as channel:

            def hold_one_more(exchange: str, key: str) -> tuple[str, str]:
                if not held:
                    method, _, body = channel.basic_get(former)
                    held.append(body)
                    asyncio.get_running_loop().call_later(1.0, channel.basic_reject, method.delivery_tag, True)
                return exchange, key

            held: list[bytes] = []
            assert await operator.migrate(DEAD, former, hold_one_more)
        assert held, "a message that came back"
        assert sorted(await drain(operator, DEAD.name, 70)) == numbered(70)
        await operator.close()

    run(story())


@pytest.mark.parametrize("style", ["quorum", "classic"])
def test_a_queue_that_is_asked_whether_it_is_dead_keeps_what_is_in_it(rabbitmq: RabbitMQ, style: str) -> None:
    """What was taken and put back would count as an attempt. (RabbitMQ 4 knows no other way.)"""

    async def story() -> None:
        async with connected(f"{rabbitmq.fresh_vhost()}?queues={style}") as broker:
            await put(broker, ready(*numbered(3)))
            for _ in range(3):
                assert await broker.dead([CLASS.name]) == frozenset()
            inbox = Inbox()
            await broker.consume(CLASS.name, 3, inbox)
            assert [(each.body, each.redelivered) for each in await inbox.take(3)] == [(body, False) for body in numbered(3)]

    run(story())


def test_what_the_broker_gives_up_of_the_ledger_is_a_dead_letter_that_knows_where_it_was(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()

    async def story() -> None:
        async with connected(url) as broker:
            operator = await open_broker(url, name="operator", timeout=PATIENCE)
            await put(broker, waiting(b"too often delivered"))
            with raw(url) as channel:
                channel.basic_qos(prefetch_count=1)
                method, _, _ = next(channel.consume(LEDGER.name))
                channel.basic_reject(method.delivery_tag, requeue=False)

            async def dead() -> bool:
                depth = await operator.depth(DEAD.name)
                return depth is not None and depth.ready == 1

            await until(dead, "it is among the dead letters")
            async with operator.browse(DEAD.name, 10) as browsing:
                [letter] = browsing.letters
            where = {"queue": LEDGER.name, "exchange": NAMES.tasks, "key": NAMES.ledger_key(0)}
            assert {name: letter.headers[name] for name in ("reason", *where)} == {"reason": "broker: rejected", **where}
            await operator.close()

    run(story())


def test_a_dead_letter_can_be_looked_at_for_ever(rabbitmq: RabbitMQ) -> None:
    """RabbitMQ 4 drops what was put back twenty times; the one of this test may be older, so its count is asked for."""
    url = rabbitmq.fresh_vhost()

    async def story() -> None:
        async with connected(url) as broker:
            operator = await open_broker(url, name="operator", timeout=PATIENCE)
            await put(broker, ready(b"hostile"))
            inbox = Inbox()
            await broker.consume(CLASS.name, 1, inbox)
            assert await broker.dead_letter(await inbox.next(), NAMES.dead, "decode: no")
            headers = []
            for _ in range(30):
                async with operator.browse(DEAD.name, 10) as browsing:
                    headers.append([(letter.body, letter.headers) for letter in browsing.letters])
            assert all(each == headers[0] for each in headers)
            with raw(url) as channel:
                _, properties, _ = channel.basic_get(DEAD.name)
                assert properties.headers.get("x-delivery-count", 0) < 20
            assert await drain(broker, DEAD.name, 1) == [b"hostile"]
            await operator.close()

    run(story())
