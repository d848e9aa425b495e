"""Consuming and settling."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from broker_jobs.broker.embedded import consuming
from broker_jobs.broker.port import Outgoing
from tests.support.holder import Holder
from tests.support.inbox import Inbox, run, until
from tests.support.station import CLASS, DEAD, LEDGER, NAMES, connected, drain, numbered, put, ready, waiting

if TYPE_CHECKING:
    import pytest


def test_credit_bounds_what_is_unsettled(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            await put(broker, ready(*numbered(6)))
            inbox = Inbox()
            subscription = await broker.consume(CLASS.name, 2, inbox)
            assert (subscription.queue, subscription.credit) == (CLASS.name, 2)
            first, second = await inbox.take(2)
            await put(broker, ready(b"a round trip"))
            assert len(inbox) == 0
            assert broker.done(first)
            third = await inbox.next()
            await put(broker, ready(b"another"))
            assert len(inbox) == 0
            assert broker.done(third)
            assert broker.done(second)
            assert [each.body for each in await inbox.take(2)] == numbered(2, 3)

    run(story())


def test_messages_that_come_later_are_delivered(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as consumer, connected(broker_url) as publisher:
            inbox = Inbox()
            await consumer.consume(CLASS.name, 10, inbox)
            for body in numbered(30):
                await put(publisher, ready(body))
                delivery = await inbox.next()
                assert delivery.body == body
                assert consumer.done(delivery)

    run(story())


def test_a_consumer_behind_others_gets_what_they_have_no_credit_for(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of a broker that leaves them what they are quick enough for, they shall be quick enough here.
    monkeypatch.setattr(consuming, "LEFT_TO_OTHERS", 1.0)

    async def story() -> None:
        async with connected(broker_url) as first, connected(broker_url) as second, connected(broker_url) as third:
            behind, before = Inbox(), Inbox()
            await first.consume(CLASS.name, 10, behind, behind=True)
            await second.consume(CLASS.name, 2, before)
            await put(third, ready(*numbered(3)))
            came = await before.take(2)
            assert [each.body for each in came] == numbered(2)
            left = await behind.next()
            assert left.body == numbered(3)[2]
            for delivery in came:
                assert second.done(delivery)

            async def comes_before() -> bool:
                await put(third, ready(b"whose turn"))
                while not (before or behind):
                    await asyncio.sleep(0.01)
                taker, inbox = (second, before) if before else (first, behind)
                assert taker.done(await inbox.next())
                return inbox is before

            await until(comes_before, "the broker knows that there is credit again")
            for body in numbered(20, 10):
                await put(third, ready(body))
                delivery = await before.next()
                assert delivery.body == body
                assert second.done(delivery)
            assert len(behind) == 0
            assert first.done(left)

    run(story())


def test_a_delivery_is_settled_once(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            await put(broker, ready(b"1", b"2", b"3"))
            inbox = Inbox()
            subscription = await broker.consume(CLASS.name, 3, inbox)
            done, released, dead = await inbox.take(3)
            await subscription.cancel()
            assert broker.done(done)
            assert broker.release(released)
            assert await broker.dead_letter(dead, NAMES.dead, "decode: not ours")
            for delivery in (done, released, dead):
                assert not broker.done(delivery)
                assert not broker.release(delivery)
                assert not await broker.dead_letter(delivery, NAMES.dead, "again")
            assert await drain(broker, CLASS.name, 1) == [b"2"]

    run(story())


def test_release_gives_back_for_anybody(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as first, connected(broker_url) as second:
            await put(first, ready(b"passed on"))
            mine, theirs = Inbox(), Inbox()
            subscription = await first.consume(CLASS.name, 1, mine)
            delivery = await mine.next()
            await subscription.cancel()
            await second.consume(CLASS.name, 1, theirs)
            assert first.release(delivery)
            again = await theirs.next()
            assert (again.body, again.redelivered) == (b"passed on", True)
            assert second.done(again)

    run(story())


def test_what_is_released_in_a_private_queue_comes_once_more(broker_url: str) -> None:
    """Also where what was received after it is still held, and where its subscription has ended."""
    own = NAMES.reply_queue("c1")

    async def story() -> None:
        async with connected(broker_url) as broker, connected(broker_url) as other:
            await broker.declare([], [own])
            inbox = Inbox()
            subscription = await broker.consume(own.name, 10, inbox)
            await put(other, [Outgoing(NAMES.replies, NAMES.answer_key("c1"), body) for body in numbered(3)])
            first, second, third = await inbox.take(3)
            assert broker.release(second)
            again = await inbox.next()
            assert (again.body, again.redelivered) == (second.body, True)
            assert broker.done(first)
            await subscription.cancel(requeue=True)
            assert not broker.done(third)
            later = Inbox()
            await broker.consume(own.name, 10, later)
            assert {(each.body, each.redelivered) for each in await later.take(2)} == {(second.body, True), (third.body, True)}
            await put(other, [Outgoing(NAMES.replies, NAMES.answer_key("c1"), b"last")])
            assert (await later.next()).body == b"last"

    run(story())


def test_released_comes_again_to_the_same_consumer(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            await put(broker, ready(b"again"))
            inbox = Inbox()
            await broker.consume(CLASS.name, 1, inbox)
            assert broker.release(await inbox.next())
            again = await inbox.next()
            assert (again.body, again.redelivered) == (b"again", True)
            assert broker.done(again)

    run(story())


def test_cancel_keeps_what_is_unsettled(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            await put(broker, ready(*numbered(4)))
            inbox = Inbox()
            subscription = await broker.consume(CLASS.name, 2, inbox)
            kept = await inbox.take(2)
            await subscription.cancel()
            assert await drain(broker, CLASS.name, 2) == numbered(2, 2)
            assert len(inbox) == 0
            assert all(broker.done(each) for each in kept)

    run(story())


def test_cancel_with_requeue_puts_back_at_the_head_in_order(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            await put(broker, ready(*numbered(6)))
            mine, theirs = Inbox(), Inbox()
            subscription = await broker.consume(CLASS.name, 4, mine)
            taken = await mine.take(4)
            assert broker.done(taken[1])
            await mine.next()
            await subscription.cancel(requeue=True)
            assert not broker.done(taken[0])
            await broker.consume(CLASS.name, 10, theirs)
            again = await theirs.take(5)
            assert [each.body for each in again] == [b"000000", b"000002", b"000003", b"000004", b"000005"]
            assert [each.redelivered for each in again] == [True, True, True, True, False]
            assert all(broker.done(each) for each in again)

    run(story())


def test_deliveries_of_a_killed_process_come_back(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            await put(broker, ready(*numbered(5)))
            holder = await Holder.start(broker_url)
            async with holder:
                await holder.consume(CLASS.name, 3)
                assert [each.body for each in await holder.inbox.take(3)] == numbered(3)
                inbox = Inbox()
                await broker.consume(CLASS.name, 2, inbox)
                rest = await inbox.take(2)
                assert [(each.body, each.redelivered) for each in rest] == [(body, False) for body in numbered(2, 3)]
                await holder.kill()
                assert all(broker.done(each) for each in rest)
                for expected in numbered(3):
                    again = await inbox.next()
                    assert (again.body, again.redelivered) == (expected, True)
                    assert broker.done(again)

    run(story())


def test_what_a_killed_process_had_settled_does_not_come_back(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            await put(broker, ready(*numbered(20)))
            holder = await Holder.start(broker_url)
            async with holder:
                await holder.consume(CLASS.name, 5, "done")
                assert len(await holder.inbox.take(20)) == 20
                await holder.declare([], [CLASS])  # a round trip after the last `done`
                await holder.kill()
            await put(broker, ready(b"after"))
            assert (await drain(broker, CLASS.name, 1)) == [b"after"]

    run(story())


def test_closing_gives_back(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            async with connected(broker_url) as other:
                await put(other, ready(*numbered(3)))
                inbox = Inbox()
                await other.consume(CLASS.name, 3, inbox)
                taken = await inbox.take(3)
                assert other.done(taken[0])
            assert not other.done(taken[1])
            assert await drain(broker, CLASS.name, 2) == numbered(2, 1)

    run(story())


def test_a_ledger_has_one_active_consumer(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            active = await Holder.start(broker_url)
            standby = await Holder.start(broker_url)
            async with active, standby:
                await active.consume(LEDGER.name, 10)
                await standby.consume(LEDGER.name, 100)
                for body in numbered(12):
                    await put(broker, waiting(body))
                assert [each.body for each in await active.inbox.take(10)] == numbered(10)
                await standby.declare([], [LEDGER])  # a round trip: the rest waits, though the standby has credit
                assert len(standby.inbox) == 0
                await active.kill()
                again = await standby.inbox.take(12)
                assert [each.body for each in again] == numbered(12)
                assert [each.redelivered for each in again] == [True] * 10 + [False] * 2
                await put(broker, waiting(b"new"))
                assert (await standby.inbox.next()).body == b"new"

    run(story())


def test_the_standby_takes_over_when_the_active_cancels(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker, connected(broker_url) as other:
            mine, theirs = Inbox(), Inbox()
            subscription = await broker.consume(LEDGER.name, 10, mine)
            await other.consume(LEDGER.name, 10, theirs)
            await put(broker, waiting(b"1"))
            held = await mine.next()
            await subscription.cancel()
            await put(broker, waiting(b"2"))
            assert (await theirs.next()).body == b"2"
            assert broker.done(held)

    run(story())


def test_dead_letters_carry_the_message_on(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            await put(broker, ready(b"hostile"))
            inbox, graves = Inbox(), Inbox()
            await broker.consume(CLASS.name, 1, inbox)
            delivery = await inbox.next()
            assert await broker.dead_letter(delivery, NAMES.dead, "security: not signed")
            await broker.consume(DEAD.name, 1, graves)
            dead = await graves.next()
            assert (dead.queue, dead.exchange, dead.body, dead.key) == (DEAD.name, NAMES.dead, b"hostile", delivery.key)
            assert broker.done(dead)
            await put(broker, ready(b"next"))
            assert (await inbox.next()).body == b"next"

    run(story())


def test_what_comes_during_a_rest_is_delivered(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as consumer, connected(broker_url) as publisher:
            inbox = Inbox()
            await consumer.consume(CLASS.name, 10, inbox)
            consumer.rest(0.05)
            await put(publisher, ready(*numbered(3)))
            assert [each.body for each in await inbox.take(3)] == numbered(3)

    run(story())


def test_settling_one_makes_room_in_a_private_queue(broker_url: str) -> None:
    own = NAMES.reply_queue("c1")

    async def story() -> None:
        async with connected(broker_url) as broker, connected(broker_url) as other:
            await broker.declare([], [own])
            inbox = Inbox()
            await broker.consume(own.name, 8, inbox)
            await put(other, [Outgoing(NAMES.replies, NAMES.answer_key("c1"), body) for body in numbered(9)])
            first, *_ = await inbox.take(8)
            assert len(inbox) == 0
            assert broker.done(first)
            assert (await inbox.next()).body == numbered(9)[8]

    run(story())
