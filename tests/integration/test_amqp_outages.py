"""What the adapter does when RabbitMQ takes a queue, a channel or a connection away; see tests/conformance for what both adapters do."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import TYPE_CHECKING

import pytest
from pika.exceptions import AMQPError

from broker_jobs.broker.amqp import Address, AmqpBroker
from broker_jobs.broker.amqp.link import Link
from broker_jobs.broker.port import Depth, Outgoing, Receipt, Tag
from broker_jobs.errors import BrokerError, BrokerUnavailable, ValidationError
from tests.support.inbox import PATIENCE, STORY, Inbox, run, until
from tests.support.proxy import Proxy
from tests.support.station import CLASS, DEAD, LEDGER, NAMES, TO_CLASS, connected, drain, numbered, put, ready

if TYPE_CHECKING:
    from broker_jobs.broker.port import Broker
    from tests.support.rabbitmq import RabbitMQ

NOWHERE = Outgoing("t.nowhere", "a", b"lost")
REST = 0.3


class News:
    """Waits for what `Broker.watch` reports."""

    def __init__(self, broker: Broker) -> None:
        self._queue: asyncio.Queue[int | str] = asyncio.Queue()
        broker.watch(self._queue.put_nowait, self._queue.put_nowait)

    async def down(self) -> str:
        reason = await asyncio.wait_for(self._queue.get(), PATIENCE)
        assert isinstance(reason, str)
        return reason

    async def up(self) -> int:
        generation = await asyncio.wait_for(self._queue.get(), PATIENCE)
        assert isinstance(generation, int)
        return generation


async def ready_messages(broker: Broker, count: int) -> None:
    """Wait until so many messages lie in the class queue."""

    async def so() -> bool:
        depth = await broker.depth(CLASS.name)
        return depth is not None and depth.ready == count

    await until(so, f"{count} messages are ready")


def test_a_publish_in_flight_when_the_connection_goes_is_unknown(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        url = rabbitmq.fresh_vhost()
        async with connected(url) as other, Proxy(url) as proxy, connected(proxy.url) as broker:
            news = News(broker)
            proxy.silence()
            publishing = asyncio.ensure_future(broker.publish(ready(*numbered(3))))
            await ready_messages(other, 3)
            assert not publishing.done()
            await proxy.cut()
            assert await publishing == [Receipt.unknown] * 3
            await news.down()
            await proxy.mend()
            assert await news.up() == 2
            await put(broker, ready(b"again"))
            assert await drain(other, CLASS.name, 4) == [*numbered(3), b"again"]

    run(story())


def test_what_was_not_sent_waits_and_is_sent_once(rabbitmq: RabbitMQ) -> None:
    count = 2000

    async def story() -> None:
        async with Proxy(rabbitmq.fresh_vhost()) as proxy, connected(proxy.url) as broker:
            news = News(broker)
            publishing = asyncio.ensure_future(broker.publish(ready(*numbered(count))))
            await asyncio.sleep(0)  # a first slice is sent
            await proxy.cut()
            await news.down()
            await proxy.mend()
            receipts = await asyncio.wait_for(publishing, PATIENCE)
            unknown = receipts.count(Receipt.unknown)
            assert 0 < unknown < count
            assert receipts.count(Receipt.confirmed) == count - unknown
            confirmed = [body for body, receipt in zip(numbered(count), receipts, strict=True) if receipt is Receipt.confirmed]
            inbox = Inbox()
            await broker.consume(CLASS.name, count, inbox)
            taken = [each.body for each in await inbox.take(len(confirmed))]
            while taken[-1] != confirmed[-1]:
                taken.append((await inbox.next()).body)
            assert len(taken) == len(set(taken))
            assert set(confirmed) <= set(taken)

    run(story())


def test_a_publish_that_is_canceled_is_not_sent_later(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        async with Proxy(rabbitmq.fresh_vhost()) as proxy, connected(proxy.url) as broker:
            news = News(broker)
            await proxy.cut()
            await news.down()
            publishing = asyncio.ensure_future(broker.publish(ready(b"canceled")))
            later = asyncio.ensure_future(broker.publish(ready(b"patient")))
            await asyncio.sleep(0)
            publishing.cancel()
            await proxy.mend()
            assert await asyncio.wait_for(later, PATIENCE) == [Receipt.confirmed]
            assert publishing.cancelled()
            assert await drain(broker, CLASS.name, 1) == [b"patient"]

    run(story())


def test_a_tag_never_settles_another_message(rabbitmq: RabbitMQ) -> None:
    """RabbitMQ counts from 1 on every channel, so each of these deliveries is number 1 there."""

    async def story() -> None:
        async with Proxy(rabbitmq.fresh_vhost()) as proxy, connected(proxy.url) as broker:
            news = News(broker)
            await put(broker, [*ready(b"old"), Outgoing(NAMES.tasks, NAMES.ledger_key(0), b"other queue")])
            inbox, ledger = Inbox(), Inbox()
            subscription = await broker.consume(CLASS.name, 1, inbox)
            await broker.consume(LEDGER.name, 1, ledger)
            old, other = await inbox.next(), await ledger.next()
            assert old.tag != other.tag
            assert broker.done(old)
            await put(broker, ready(b"held"))
            held = await inbox.next()
            await subscription.cancel(requeue=True)
            again = Inbox()
            await broker.consume(CLASS.name, 1, again)
            present = await again.next()
            assert (present.body, present.redelivered) == (b"held", True)
            assert not broker.done(held)
            await proxy.cut()
            await news.down()
            assert not broker.done(present)
            await proxy.mend()
            await news.up()
            newest = await again.next()
            assert (newest.body, newest.tag.generation) == (b"held", 2)
            for stale in (old, held, present, other):
                assert not broker.done(stale)
            assert newest.tag not in {Tag(2, each.tag.number) for each in (old, held, present, other)}
            await ready_messages(broker, 0)
            await proxy.cut()
            await news.down()
            await proxy.mend()
            await news.up()
            assert (await again.next()).body == b"held"

    run(story())


def test_what_arrives_while_a_consumer_is_canceled_stays_in_order(rabbitmq: RabbitMQ) -> None:
    """Pika would put it back one by one, which is at the tail of a quorum queue."""

    async def story() -> None:
        url = rabbitmq.fresh_vhost()
        async with connected(url) as other, Proxy(url) as proxy, connected(proxy.url) as broker:
            await put(other, ready(*numbered(50)))
            inbox, later = Inbox(), Inbox()
            subscription = await broker.consume(CLASS.name, 10, inbox)
            (first, *_) = await inbox.take(10)
            proxy.silence()
            assert broker.done(first)
            await ready_messages(other, 39)  # one more is on its way
            canceling = asyncio.ensure_future(subscription.cancel())
            await asyncio.sleep(0)
            proxy.speak()
            await canceling
            assert (await inbox.next()).body == b"000010"
            await subscription.cancel(requeue=True)
            await other.consume(CLASS.name, 50, later)
            assert [each.body for each in await later.take(49)] == numbered(49, 1)

    run(story())


@pytest.mark.long
def test_a_silent_broker_is_noticed(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        async with Proxy(rabbitmq.fresh_vhost()) as proxy, connected(f"{proxy.url}?heartbeat=1") as broker:
            news = News(broker)
            proxy.silence()
            assert "heartbeat" in (await news.down()).lower()
            assert not broker.connected
            proxy.speak()
            assert await news.up() == 2

    run(story())


def test_a_consumer_comes_back_with_its_queue(rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        url = rabbitmq.fresh_vhost()
        async with connected(url) as broker, connected(url) as other:
            await put(broker, ready(b"gone with its queue"))
            inbox = Inbox()
            await broker.consume(CLASS.name, 5, inbox)
            gone = await inbox.next()
            await other.delete(CLASS.name)

            async def ended() -> bool:
                return "ended the consumer" in caplog.text

            # A quorum queue that is made again before that gives its messages to the consumer of the old one, for nobody.
            await until(ended, "the broker has ended the consumer")
            await other.declare([], [CLASS])
            await put(other, ready(b"new"))
            new = await inbox.next()
            assert new.body == b"new"
            assert broker.done(new)
            broker.done(gone)  # there is nothing to acknowledge any more, and nothing to suffer from it
            await put(other, ready(b"still there"))
            assert (await inbox.next()).body == b"still there"
            assert broker.generation == 1
            assert await other.depth(CLASS.name) == Depth(0, 1)

    run(story())


def test_a_queue_that_vanished_during_an_outage_keeps_nobody_from_coming_back(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        url = rabbitmq.fresh_vhost()
        async with connected(url) as other, Proxy(url) as proxy, connected(proxy.url) as broker:
            news = News(broker)
            inbox, ledger = Inbox(), Inbox()
            await broker.consume(CLASS.name, 5, inbox)
            await broker.consume(LEDGER.name, 5, ledger)
            await proxy.cut()
            await news.down()
            await other.delete(CLASS.name)
            await proxy.mend()
            await news.up()
            await put(other, [Outgoing(NAMES.tasks, NAMES.ledger_key(0), b"ledger")])
            assert (await ledger.next()).body == b"ledger"
            await other.declare([], [CLASS])
            await put(other, ready(b"class"))
            assert (await inbox.next()).body == b"class"

    run(story())


def test_a_missing_exchange_is_refused_and_the_others_go_on(rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with connected(rabbitmq.fresh_vhost()) as broker:
            for _ in range(3):
                with caplog.at_level(logging.ERROR, "broker_jobs.amqp"):
                    assert await asyncio.wait_for(broker.publish([NOWHERE]), PATIENCE) == [Receipt.refused]
                assert "no exchange 't.nowhere'" in caplog.text
                caplog.clear()
                await put(broker, ready(b"goes on"))
            many = await asyncio.wait_for(broker.publish([NOWHERE] * 500), PATIENCE)
            assert many == [Receipt.refused] * 500
            assert broker.generation == 1

    run(story())


def test_what_cannot_be_sent_is_refused_before_it_is_sent(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        async with connected(rabbitmq.fresh_vhost()) as broker:
            for wrong in (
                Outgoing(NAMES.tasks, "k" * 256, b""),
                Outgoing(NAMES.tasks, "\udc80", b""),
                Outgoing(NAMES.tasks, "k", b"", headers={"n" * 256: ""}),
                Outgoing(NAMES.tasks, "k", b"", headers={"n": "v" * 100_000}),
                Outgoing(NAMES.tasks, "k", b"", headers={"n": "\udc80"}),
            ):
                with pytest.raises(ValidationError):
                    await broker.publish([*ready(b"not sent either"), wrong])
            await put(broker, ready(b"sent"))
            assert await drain(broker, CLASS.name, 1) == [b"sent"]

    run(story())


def test_any_reason_fits_into_a_dead_letter(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        async with connected(rabbitmq.fresh_vhost()) as broker:
            await put(broker, ready(b"hostile"))
            inbox = Inbox()
            await broker.consume(CLASS.name, 1, inbox)
            assert await broker.dead_letter(await inbox.next(), NAMES.dead, "\udc80ü" * 100_000)
            assert await drain(broker, DEAD.name, 1) == [b"hostile"]

    run(story())


def test_a_dead_letter_waits_for_its_exchange(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        async with connected(rabbitmq.fresh_vhost()) as broker:
            await put(broker, ready(b"hostile"))
            await broker.delete(DEAD.name)
            inbox = Inbox()
            await broker.consume(CLASS.name, 1, inbox)
            burying = asyncio.ensure_future(broker.dead_letter(await inbox.next(), NAMES.dead, "decode: no"))
            done, _ = await asyncio.wait((burying,), timeout=0.3)
            assert not done
            await broker.declare([], [DEAD])
            assert await asyncio.wait_for(burying, PATIENCE)
            assert await drain(broker, DEAD.name, 1) == [b"hostile"]

    run(story())


def test_without_a_connection_requests_fail_at_once(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        async with Proxy(rabbitmq.fresh_vhost()) as proxy, connected(proxy.url) as broker:
            news = News(broker)
            await proxy.cut()
            await news.down()
            for request in (
                broker.declare([], [CLASS]),
                broker.depth(CLASS.name),
                broker.delete(CLASS.name),
                broker.consume(CLASS.name, 1, Inbox()),
                broker.hold_token(NAMES.lease_queue("w1"), Outgoing(NAMES.lease, "w1.0", b"token")),
            ):
                with pytest.raises(BrokerUnavailable):
                    await request
            await proxy.mend()
            await news.up()
            await broker.declare([], [CLASS])

    run(story())


def test_a_receiver_that_fails_harms_nobody(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        failures: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
        async with connected(rabbitmq.fresh_vhost()) as broker:
            inbox = Inbox()

            def fail(delivery: object) -> None:
                raise ZeroDivisionError

            await broker.consume(LEDGER.name, 5, fail)
            await broker.consume(CLASS.name, 5, inbox)
            await put(broker, [Outgoing(NAMES.tasks, TO_CLASS, b"both")])
            assert (await inbox.next()).body == b"both"
            while not failures:
                await asyncio.sleep(0.01)
            assert isinstance(failures[0], ZeroDivisionError)
            assert broker.generation == 1
            assert broker.connected

    run(story())


def test_the_next_node_of_the_address_is_used_when_one_goes(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        url = rabbitmq.fresh_vhost()
        async with Proxy(url) as first, Proxy(url) as second:
            login, _, rest = url.rpartition("@")
            nodes = ["127.0.0.1:1", *(proxy.url.rpartition("@")[2].partition("/")[0] for proxy in (first, second))]
            async with connected(f"{login}@{','.join(nodes)}/{rest.partition('/')[2]}") as broker:
                news = News(broker)
                assert first.tasks
                assert not second.tasks
                await first.cut()
                await news.down()
                assert await news.up() == 2
                assert second.tasks
                await put(broker, ready(b"goes on"))

    run(story())


def test_the_token_is_renewed_and_never_missing(rabbitmq: RabbitMQ) -> None:
    lease = NAMES.lease_queue("w1")
    token = Outgoing(NAMES.lease, NAMES.token_key("w1"), b"token")

    async def story() -> None:
        url = rabbitmq.fresh_vhost()
        async with connected(url) as other:
            inbox = Inbox()
            await other.consume(LEDGER.name, 10, inbox)
            worker = await AmqpBroker.open(Address.parse(url), name="w1", timeout=PATIENCE, token_renewal=0.02)
            try:
                await worker.hold_token(lease, token)
                for _ in range(20):
                    assert await other.depth(lease.name) == Depth(0, 1)
                    await put(other, [Outgoing(NAMES.tasks, NAMES.ledger_key(0), b"a round trip")])
                    passed = await inbox.next()
                    assert passed.body == b"a round trip", "a renewed token must not be returned"
                    assert other.done(passed)
                    await asyncio.sleep(0.02)
            finally:
                await worker.close()
            assert 1 <= await notices(other, inbox) <= 2, "the end may come in the middle of a renewal, when there are two"
            worker = await AmqpBroker.open(Address.parse(url), name="w1", timeout=PATIENCE, token_renewal=PATIENCE)
            await worker.hold_token(lease, token)
            await worker.close()
            assert await notices(other, inbox) == 1, "one token, one notice"

    async def notices(other: AmqpBroker, inbox: Inbox) -> int:
        """Tokens that come back, once one has."""
        assert (await inbox.next()).body == b"token"
        await put(other, [Outgoing(NAMES.tasks, NAMES.ledger_key(0), b"a round trip")])
        found = 1
        while (await inbox.next()).body == b"token":
            found += 1
        return found

    run(story())


def test_a_lost_token_ends_the_connection(rabbitmq: RabbitMQ) -> None:
    """The ledger was told that the worker is gone, so it has to come back as one that was."""
    lease = NAMES.lease_queue("w1")
    token = Outgoing(NAMES.lease, NAMES.token_key("w1"), b"token")

    async def story() -> None:
        url = rabbitmq.fresh_vhost()
        async with connected(url) as other, connected(url) as worker:
            news = News(worker)
            await worker.hold_token(lease, token)
            await other.delete(lease.name)
            await news.down()
            assert await news.up() == 2
            assert await other.depth(lease.name) == Depth(0, 1)

    run(story())


def test_what_is_asked_of_a_channel_that_closes_is_refused_once(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        unheard: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
        address = Address.parse(rabbitmq.fresh_vhost())
        link = await Link.open(address, address.endpoints[0], "test")
        channel = await link.channel()
        channel.discard()
        with pytest.raises(AMQPError):
            await channel.depth(CLASS.name)
        await channel.closed
        await link.close()
        del channel, link
        gc.collect()
        await asyncio.sleep(0)
        assert not unheard

    run(story())


def test_a_token_without_an_exchange_is_an_error(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        async with connected(rabbitmq.fresh_vhost()) as broker:
            with pytest.raises(BrokerError, match=r"t\.nowhere"):
                await broker.hold_token(NAMES.lease_queue("w1"), Outgoing("t.nowhere", "w1.0", b"token"))
            await put(broker, ready(b"goes on"))

    run(story())


def test_who_rests_reads_nothing(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        clock = asyncio.get_running_loop().time
        async with connected(rabbitmq.fresh_vhost()) as broker:
            began = clock()
            broker.rest(REST)
            broker.rest(STORY)  # it rests already
            assert await broker.depth(CLASS.name) == Depth(0, 0)
            assert clock() - began >= REST
        # What was lost, or closed, meanwhile is left alone.
        broker.rest(REST)

    run(story())
