"""Declaring, binding, counting and deleting."""

from __future__ import annotations

import pytest

from broker_jobs.broker.embedded.store import PRIVATE_LIMIT
from broker_jobs.broker.port import Depth, Outgoing, Receipt
from broker_jobs.errors import BrokerError, TopologyMismatch
from broker_jobs.wire.topology import Binding, Exchange, Queue, QueueKind
from tests.support.holder import Holder
from tests.support.inbox import Inbox, run, until
from tests.support.station import CLASS, LEDGER, NAMES, TO_CLASS, connected, drain, numbered, put, ready


def test_declaring_again_changes_nothing(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as first, connected(broker_url) as second:
            await put(first, ready(b"kept"))
            await second.declare(NAMES.exchanges(), [LEDGER, CLASS])
            assert await drain(second, CLASS.name, 1) == [b"kept"]

    run(story())


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("a.b.c", {"a.b.c"}),
        ("a.*.c", {"a.b.c"}),
        ("*", {"a", "c"}),
        ("a.*", {"a.b"}),
        ("#", {"a", "a.b", "a.b.c", "a.b.b.c", "b.c", "c"}),
        ("a.#", {"a", "a.b", "a.b.c", "a.b.b.c"}),
        ("#.c", {"a.b.c", "a.b.b.c", "b.c", "c"}),
        ("a.#.c", {"a.b.c", "a.b.b.c"}),
        ("*.#", {"a", "a.b", "a.b.c", "a.b.b.c", "b.c", "c"}),
        ("#.b.#", {"a.b", "a.b.c", "a.b.b.c", "b.c"}),
        ("*.*.*", {"a.b.c"}),
    ],
)
def test_star_is_one_word_and_hash_is_any_number(broker_url: str, pattern: str, taken: set[str]) -> None:
    keys = ["a", "a.b", "a.b.c", "a.b.b.c", "b.c", "c"]

    async def story() -> None:
        async with connected(broker_url) as broker:
            await broker.declare([Exchange("t.try")], [Queue("t.try.queue", QueueKind.tasks, (Binding("t.try", pattern),))])
            receipts = await broker.publish([Outgoing("t.try", key, key.encode()) for key in keys])
            assert {key for key, receipt in zip(keys, receipts, strict=True) if receipt is Receipt.confirmed} == taken
            assert set(await drain(broker, "t.try.queue", len(taken))) == {key.encode() for key in taken}

    run(story())


def test_two_bindings_that_fit_bring_one_copy(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            bindings = (Binding("t.try", "a.#"), Binding("t.try", "#.b"))
            await broker.declare([Exchange("t.try")], [Queue("t.try.queue", QueueKind.tasks, bindings)])
            await put(broker, [Outgoing("t.try", "a.b", b"once")])
            assert await drain(broker, "t.try.queue", 1) == [b"once"]

    run(story())


def test_a_later_declaration_adds_bindings(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as first, connected(broker_url) as second:
            await first.declare([Exchange("t.try")], [Queue("t.try.queue", QueueKind.tasks, (Binding("t.try", "a"),))])
            assert await first.publish([Outgoing("t.try", "b", b"early")]) == [Receipt.unroutable]
            await second.declare([], [Queue("t.try.queue", QueueKind.tasks, (Binding("t.try", "b"),))])
            await put(first, [Outgoing("t.try", "a", b"1"), Outgoing("t.try", "b", b"2")])
            assert await drain(second, "t.try.queue", 2) == [b"1", b"2"]

    run(story())


def test_a_queue_with_other_properties_is_refused(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            with pytest.raises(TopologyMismatch, match=CLASS.name):
                await broker.declare([], [Queue(CLASS.name, QueueKind.ledger)])
            with pytest.raises(TopologyMismatch, match=LEDGER.name):
                await broker.declare([], [Queue(LEDGER.name, QueueKind.ledger, dead_letter_exchange=NAMES.returned)])
            await put(broker, ready(b"still there"))
            assert await drain(broker, CLASS.name, 1) == [b"still there"]

    run(story())


def test_binding_to_an_exchange_that_is_not_there_is_refused(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            with pytest.raises(BrokerError):
                await broker.declare([], [Queue("t.try.queue", QueueKind.tasks, (Binding("t.nowhere", "#"),))])
            await put(broker, ready(b"goes on"))

    run(story())


def test_depth_counts_what_is_ready_and_who_consumes(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker, connected(broker_url) as other:
            assert await broker.depth("t.nowhere") is None
            assert await broker.depth(CLASS.name) == Depth(0, 0)
            await put(broker, ready(*numbered(5)))

            async def reads(depth: Depth) -> None:
                async def so() -> bool:
                    return await broker.depth(CLASS.name) == depth

                await until(so, f"the queue reads {depth}, not {await broker.depth(CLASS.name)}")

            await reads(Depth(5, 0))
            inbox = Inbox()
            subscription = await other.consume(CLASS.name, 2, inbox)
            taken = await inbox.take(2)
            await reads(Depth(3, 1))
            await subscription.cancel()
            assert all(other.done(each) for each in taken)
            await reads(Depth(3, 0))

    run(story())


def test_queues_that_work_are_not_dead(broker_url: str) -> None:
    """For one that is dead, see tests/integration/test_amqp_node.py."""

    async def story() -> None:
        async with connected(broker_url) as broker:
            assert await broker.dead([]) == frozenset()
            assert await broker.dead([CLASS.name, LEDGER.name]) == frozenset()
            await put(broker, ready(*numbered(3)))
            assert await broker.dead([CLASS.name]) == frozenset(), "it keeps what is in it"
            assert await drain(broker, CLASS.name, 3) == numbered(3)

    run(story())


def test_delete_takes_the_messages_along(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            await put(broker, ready(b"gone"))
            await broker.delete(CLASS.name)
            await broker.delete(CLASS.name)
            assert await broker.depth(CLASS.name) is None
            assert await broker.publish(ready(b"nowhere")) == [Receipt.unroutable]
            await broker.declare([], [CLASS])
            await put(broker, ready(b"new"))
            assert await drain(broker, CLASS.name, 1) == [b"new"]

    run(story())


def test_a_private_queue_ends_with_its_connection(broker_url: str) -> None:
    control = NAMES.control_queue("w1")
    order = [Outgoing(NAMES.control, "w1", b"order")]

    async def story() -> None:
        async with connected(broker_url) as broker:
            holder = await Holder.start(broker_url)
            async with holder:
                await holder.declare([], [control])
                await holder.consume(control.name, 10, "done")
                await put(broker, [*order, Outgoing(NAMES.control, "all", b"to all")])
                assert [each.body for each in await holder.inbox.take(2)] == [b"order", b"to all"]

            async def gone() -> bool:
                return await broker.publish(order) == [Receipt.unroutable]

            await until(gone, "the private queue of a killed process is gone")
            assert await broker.depth(control.name) is None

    run(story())


def test_what_a_slow_reader_misses_is_for_who_asks_for_it(broker_url: str) -> None:
    watching = Queue("t.watch", QueueKind.tasks, (Binding(NAMES.tasks, NAMES.dropped_key()), Binding(NAMES.replies, NAMES.dropped_key())))
    control, reply = NAMES.control_queue("w1"), NAMES.reply_queue("c1")

    async def story() -> None:
        async with connected(broker_url) as broker:
            await broker.declare([], [watching, control, reply])
            for exchange, key in ((NAMES.control, "w1"), (NAMES.replies, NAMES.answer_key("c1"))):
                await put(broker, [Outgoing(exchange, key, body) for body in numbered(PRIVATE_LIMIT + 2)])
            inbox = Inbox()
            await broker.consume(watching.name, 10, inbox)
            missed = await inbox.take(4)
            assert [each.body for each in missed] == numbered(2) * 2
            assert all(map(broker.done, missed))
            for queue in (control, reply):
                assert await broker.depth(queue.name) == Depth(PRIVATE_LIMIT, 0)

    run(story())


def test_a_private_queue_is_for_its_connection_alone(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker, connected(broker_url) as other:
            await broker.declare([], [NAMES.reply_queue("c1")])
            with pytest.raises(BrokerError):
                await other.consume(NAMES.reply_queue("c1").name, 1, Inbox())
            with pytest.raises(BrokerError):
                await other.declare([], [NAMES.reply_queue("c1")])
            await put(other, [Outgoing(NAMES.replies, NAMES.answer_key("c1"), b"answer")])
            assert await drain(broker, NAMES.reply_queue("c1").name, 1) == [b"answer"]
            await put(other, ready(b"both go on"))
            assert await drain(other, CLASS.name, 1) == [b"both go on"]

    run(story())


def test_queues_are_found_by_name_across_connections(broker_url: str) -> None:
    async def story() -> None:
        async with connected(broker_url) as broker:
            with pytest.raises(BrokerError, match=r"t\.nowhere"):
                await broker.consume("t.nowhere", 1, Inbox())
            await put(broker, [Outgoing(NAMES.tasks, TO_CLASS, b"goes on")])
            assert await drain(broker, CLASS.name, 1) == [b"goes on"]

    run(story())
