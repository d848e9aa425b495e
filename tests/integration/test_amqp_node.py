"""A RabbitMQ node that is killed, started again, or full."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job
from broker_jobs.broker import open_broker
from broker_jobs.broker.amqp import Address, AmqpBroker
from broker_jobs.broker.port import Depth, Outgoing, Receipt
from broker_jobs.core.spec import Lane
from broker_jobs.errors import BrokerBlocked, CoordinatorUnavailable, SubmitUnknown
from broker_jobs.wire.signing import new_key
from broker_jobs.wire.topology import Topology
from tests.support.inbox import PATIENCE, Inbox, run, until
from tests.support.station import CLASS, LEDGER, NAMES, connected, drain, numbered, put, ready, waiting

if TYPE_CHECKING:
    from broker_jobs.broker.port import Broker
    from tests.support.rabbitmq import RabbitMQNode

pytestmark = pytest.mark.owns_node

DEADLINE = 2.0
SETTLED = 3.0
"""Seconds after which a new quorum queue is safe from SIGKILL of a single node (measured on 3.10.8: not before 2)."""


def next_generation(broker: Broker) -> asyncio.Future[int]:
    """The number of the connection that comes after this one."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def note(generation: int) -> None:
        if not future.done():
            future.set_result(generation)

    broker.watch(note, lambda _: None)
    return future


@pytest.mark.parametrize("style", ["quorum", pytest.param("classic", marks=pytest.mark.long)])
def test_everything_comes_back_when_the_node_was_killed(owned_node: RabbitMQNode, style: str) -> None:
    names = Topology(f"kill-{style}")
    ledger, queue = names.ledger(0), names.class_queue("cpu1", Lane.normal)
    key = names.task_key("cpu1", Lane.normal, 0)
    token = Outgoing(names.lease, names.token_key("w1"), b"token")

    def tasks(*bodies: bytes) -> list[Outgoing]:
        return [Outgoing(names.ready, key, body) for body in bodies]

    async def story() -> None:
        async with connected(f"{owned_node.fresh_vhost()}?queues={style}") as broker:
            returning = next_generation(broker)
            tasks_inbox, ledger_inbox, control_inbox = Inbox(), Inbox(), Inbox()
            await broker.declare(names.exchanges(), [ledger, queue, names.control_queue("w1")])
            await broker.hold_token(names.lease_queue("w1"), token)
            await asyncio.sleep(SETTLED)
            await broker.consume(names.control_queue("w1").name, 5, control_inbox)
            await broker.consume(queue.name, 3, tasks_inbox)
            await put(broker, tasks(*numbered(10)))
            held = await tasks_inbox.take(3)
            assert broker.done(held[0])
            assert (await tasks_inbox.next()).body == b"000003"

            await asyncio.to_thread(owned_node.kill)
            publishing = asyncio.ensure_future(broker.publish(tasks(b"published meanwhile")))
            await asyncio.to_thread(owned_node.start)
            generation = await asyncio.wait_for(returning, PATIENCE)
            assert broker.connected
            assert broker.generation >= generation > 1

            assert await asyncio.wait_for(publishing, PATIENCE) in ([Receipt.confirmed], [Receipt.unknown])
            assert not any(broker.done(each) for each in held)
            seen: set[bytes] = set()
            while not set(numbered(9, 1)) <= seen:
                delivery = await tasks_inbox.next()
                seen.add(delivery.body)
                assert broker.done(delivery) or delivery.tag.generation < broker.generation
            await put(broker, [Outgoing(names.control, "w1", b"order")])
            assert (await control_inbox.next()).body == b"order"
            await broker.consume(ledger.name, 5, ledger_inbox)
            assert (await ledger_inbox.next()).body == b"token", "the ledger hears that the connection had gone"

            async def held_again() -> bool:
                depth = await broker.depth(names.lease_queue("w1").name)
                return depth is not None and (depth.ready, depth.consumers) == (0, 1)

            await until(held_again, "the token is held again")

    run(story())


@pytest.mark.long
def test_a_node_that_stops_in_order(owned_node: RabbitMQNode) -> None:
    async def story() -> None:
        async with connected(owned_node.fresh_vhost()) as broker:
            returning = next_generation(broker)
            await put(broker, ready(*numbered(3)))
            inbox = Inbox()
            await broker.consume(CLASS.name, 5, inbox)
            await inbox.take(3)
            await asyncio.sleep(SETTLED)
            await asyncio.to_thread(owned_node.restart)
            await asyncio.wait_for(returning, PATIENCE)
            again = await inbox.take(3)
            assert [(each.body, each.redelivered) for each in again] == [(body, True) for body in numbered(3)]

    run(story())


def test_a_node_without_memory_blocks_publishers_and_nobody_else(owned_node: RabbitMQNode) -> None:
    async def story() -> None:
        url = owned_node.fresh_vhost()
        async with connected(url) as broker:
            await put(broker, ready(b"before"))
            await asyncio.to_thread(owned_node.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
            try:
                publishing = asyncio.ensure_future(broker.publish(ready(b"meanwhile")))

                async def blocked() -> bool:
                    return broker.blocked is not None

                await until(blocked, "the broker says that it is blocked")
                assert broker.blocked is not None
                assert "memory" in broker.blocked
                inbox = Inbox()
                subscription = await broker.consume(CLASS.name, 1, inbox)
                assert broker.done(await inbox.next())
                await subscription.cancel()
                later = asyncio.ensure_future(broker.publish(ready(b"later")))
                done, _ = await asyncio.wait((publishing, later), timeout=0.5)
                assert not done
                assert broker.connected
            finally:
                await asyncio.to_thread(owned_node.ctl, "set_vm_memory_high_watermark", "0.6")
            assert await asyncio.wait_for(publishing, PATIENCE) == [Receipt.confirmed]
            assert await asyncio.wait_for(later, PATIENCE) == [Receipt.confirmed]
            assert broker.blocked is None
            assert broker.generation == 1
            assert await drain(broker, CLASS.name, 2) == [b"meanwhile", b"later"]

    run(story())


@pytest.mark.alone
def test_a_client_says_within_its_deadline_that_a_node_has_no_memory(owned_node: RabbitMQNode) -> None:
    job = Job(name="blocked")
    job.program(["true"])
    with Client(owned_node.fresh_vhost(), signing_key=new_key()) as client:
        client.runtime.reports_left_work = False
        owned_node.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
        try:
            # A node says that it has no memory only to those who have published something.
            for told, key in ((SubmitUnknown, None), (BrokerBlocked, None), (CoordinatorUnavailable, "blocked")):
                begun = time.monotonic()
                with pytest.raises(told, match="memory"):
                    client.submit(job, timeout=DEADLINE, idempotency_key=key)
                assert time.monotonic() - begun < DEADLINE + 2
        finally:
            owned_node.ctl("set_vm_memory_high_watermark", "0.6")
        assert client.submit(job, timeout=PATIENCE).id, "it is confirmed again"


@pytest.mark.parametrize("style", ["quorum", "classic"])
def test_a_queue_that_was_full_takes_messages_when_its_limit_is_gone(owned_node: RabbitMQNode, style: str) -> None:
    """A channel that a quorum queue has refused is refused for ever (3.10.8): that of the publisher is replaced."""
    vhost = owned_node.management.make_vhost()
    path, limit = f"policies/{vhost}/full", {"max-length": 1, "overflow": "reject-publish"}
    policy = {"pattern": "^t[.]v2[.]task[.]", "definition": limit, "apply-to": "queues"}

    async def story() -> None:
        async with connected(f"{owned_node.url(vhost)}?queues={style}") as broker:
            await asyncio.to_thread(owned_node.management.request, "PUT", path, policy)

            async def refused() -> bool:
                return await broker.publish(ready(b"one more")) == [Receipt.refused]

            await until(refused, "the queue is full")
            await asyncio.to_thread(owned_node.management.request, "DELETE", path)

            async def taken() -> bool:
                return await broker.publish(ready(b"at last")) == [Receipt.confirmed]

            await until(taken, "there is room again")

    run(story())


def test_what_the_broker_never_answers_for_is_unknown_and_others_go_on(owned_node: RabbitMQNode) -> None:
    """A quorum queue whose only member does not answer stands for one that was killed; its channel is given up, ever later."""
    silence = 0.1
    vhost = owned_node.management.make_vhost()

    async def member(what: str) -> None:
        await asyncio.to_thread(owned_node.ctl, "eval", f"sys:{what}('{vhost}_{LEDGER.name}').")

    async def story() -> None:
        address = Address.parse(f"{owned_node.url(vhost)}?queues=quorum")
        broker = await AmqpBroker.open(address, name="patient", timeout=PATIENCE, silence=silence)
        try:
            await broker.declare(NAMES.exchanges(), [LEDGER, CLASS])
            assert await broker.publish(ready(b"well")) == [Receipt.confirmed]
            generation = broker.generation
            await member("suspend")
            loop = asyncio.get_running_loop()
            took = []
            for _ in range(4):
                begun = loop.time()
                assert await broker.publish(waiting(b"silent")) == [Receipt.unknown]
                took.append(loop.time() - begun)
            assert await broker.publish(ready(b"others")) == [Receipt.confirmed]
            assert took[0] >= silence
            assert took[3] >= 8 * silence, "a broker that is only slow is not sent the same for ever"
            pending = asyncio.ensure_future(broker.publish(waiting(b"late")))
            await member("resume")
            assert (await pending)[0] in {Receipt.confirmed, Receipt.unknown}
            assert await broker.publish(waiting(b"again")) == [Receipt.confirmed]
            assert broker.generation == generation, "the connection stays"
        finally:
            await broker.close()

    run(story())


def test_a_class_queue_that_never_answers_holds_up_its_like_alone(owned_node: RabbitMQNode) -> None:
    vhost = owned_node.management.make_vhost()

    async def member(what: str) -> None:
        await asyncio.to_thread(owned_node.ctl, "eval", f"sys:{what}('{vhost}_{CLASS.name}').")

    async def story() -> None:
        broker = await open_broker(f"{owned_node.url(vhost)}?queues=quorum", name="apart", timeout=PATIENCE)
        try:
            await broker.declare(NAMES.exchanges(), [LEDGER, CLASS])
            apart = [replace(each, apart=True) for each in ready(*numbered(200))]
            assert await broker.publish(apart[:1]) == [Receipt.confirmed]
            await member("suspend")
            held = asyncio.ensure_future(broker.publish([*apart, *waiting(b"with them")]))

            async def arrived() -> bool:
                depth = await broker.depth(LEDGER.name)
                return depth is not None and depth.ready == 1

            await until(arrived, "what does not go to the class is there")
            assert await broker.publish(waiting(b"an answer")) == [Receipt.confirmed]
            assert not held.done()
            await member("resume")
            assert await held == [Receipt.confirmed] * 201
        finally:
            await broker.close()

    run(story())


def test_closing_does_not_wait_for_a_node_that_hangs(owned_node: RabbitMQNode) -> None:
    async def story() -> None:
        async with connected(owned_node.fresh_vhost()) as broker:
            publishing = asyncio.ensure_future(broker.publish(ready(*numbered(3))))
            owned_node.freeze()
            try:
                publishing_later = asyncio.ensure_future(broker.publish(ready(b"frozen")))
                await asyncio.sleep(0)
                await asyncio.wait_for(broker.close(), 10)
                assert await publishing_later == [Receipt.unknown]
                await publishing
            finally:
                owned_node.thaw()

    run(story())


@pytest.mark.long
def test_a_queue_that_is_dead_is_known_for_it_and_can_be_made_again(owned_node: RabbitMQNode) -> None:
    """A quorum queue that was made just before the node was killed; who consumes it has to do so again."""
    url = owned_node.fresh_vhost()

    async def story() -> None:
        async with connected(f"{url}?queues=quorum") as broker, connected(f"{url}?queues=quorum") as other:
            await asyncio.sleep(SETTLED)
            young = NAMES.class_queue("young", Lane.normal)
            to_young = Outgoing(NAMES.ready, NAMES.task_key("young", Lane.normal, 0), b"task")
            returning = next_generation(broker), next_generation(other)
            await broker.declare((), [young])
            await asyncio.to_thread(owned_node.kill)
            await asyncio.to_thread(owned_node.start)
            for back in returning:
                await asyncio.wait_for(back, 2 * PATIENCE)
            assert await broker.depth(young.name) == Depth(0, 0)
            lost, inbox = next_generation(other), Inbox()
            old = await asyncio.wait_for(other.consume(young.name, 1, inbox), PATIENCE)
            assert await broker.dead([CLASS.name, young.name]) == {young.name}
            await broker.delete(young.name)
            await broker.declare((), [young])
            await put(broker, [to_young])
            assert await broker.dead([young.name]) == frozenset()
            await asyncio.wait_for(lost, PATIENCE)  # the broker ends a connection that has waited for 10 s for a queue
            (arrived,) = await inbox.take(1)
            assert arrived.body == b"task"
            assert other.done(arrived)
            await old.cancel()

    run(story())


@pytest.mark.long
def test_a_lease_queue_that_was_made_just_before_the_node_was_killed(owned_node: RabbitMQNode) -> None:
    """RabbitMQ never confirms anything in such a queue; the adapter makes another."""
    names = Topology("young")

    async def story() -> None:
        async with connected(owned_node.fresh_vhost()) as broker:
            returning = next_generation(broker)
            await broker.declare(names.exchanges(), [names.ledger(0)])
            await asyncio.sleep(SETTLED)
            await broker.hold_token(names.lease_queue("w1"), Outgoing(names.lease, names.token_key("w1"), b"token"))
            await asyncio.to_thread(owned_node.kill)
            await asyncio.to_thread(owned_node.start)
            await asyncio.wait_for(returning, 2 * PATIENCE)
            assert await broker.depth(names.lease_queue("w1").name) == Depth(0, 1)

    run(story())
