"""Checks of docs/known-pains.md that no other test makes: groups, results that were read, cut connections, threads, the GIL, garbage."""

from __future__ import annotations

import asyncio
import gc
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from broker_jobs import LocalCluster
from broker_jobs.broker import open_broker
from broker_jobs.broker.port import Outgoing, Receipt
from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.spec import Lane
from broker_jobs.core.states import TaskState
from broker_jobs.wire.signing import SigningKey, new_key
from broker_jobs_worker.config import WorkerConfig
from tests.integration.test_worker_daemon import PATIENT, working
from tests.support.cast import FakeClient, FakeWorker, Work, call, job_chunks, playing, succeed, value
from tests.support.coordinator import Ground, Process
from tests.support.daemons import until
from tests.support.inbox import PATIENCE, Inbox, run
from tests.support.ledger import FakeCoordinator, function, program
from tests.support.proxy import Proxy
from tests.support.station import CLASS, connected, put, ready

if TYPE_CHECKING:
    from pathlib import Path

    from broker_jobs import Client
    from broker_jobs.core.outcome import Outcome
    from tests.support.rabbitmq import RabbitMQ

KEY = new_key()
GROUP = 500
CYCLES = 20
HELD = 4
"""Seconds for which nothing else of a process gets its turn; a connection that is silent for twice its heartbeat is given up."""


def config(url: str, tmp_path: Path) -> WorkerConfig:
    return WorkerConfig(url, "t", SigningKey.parse(KEY), tmp_path / "spool", name="w1", resources={"cpus": 1}, timing=PATIENT)


def test_3_6_a_group_of_500_is_joined_once_although_the_coordinator_is_killed_in_its_middle(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    half = asyncio.Event()
    begun = 0

    def behave(work: Work) -> Outcome:
        nonlocal begun
        begun += 1
        if begun == GROUP // 2:
            half.set()
        return succeed(work)

    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer)) as (client,):
            with Process(ground) as first:
                async with playing(FakeWorker.open(ground.url, ground.signer, behave=behave)) as (worker,):
                    group = [call(number) for number in range(GROUP)]
                    job = await client.submit(job_chunks([*group, call(GROUP, *range(GROUP))]))
                    await asyncio.wait_for(half.wait(), PATIENCE)
                    first.kill()
                    assert all(work.task.number < GROUP for work in worker.seen)
                    with Process(ground):
                        changes = await client.ended(job)
                        assert [task.state for task in changes.tasks] == [TaskState.succeeded] * (GROUP + 1)
                        [joined] = [work for work in worker.seen if work.task.number == GROUP]
                        assert dict(joined.chunk.values) == {str(number): value(number) for number in range(GROUP)}

    run(story())


def test_3_7_nothing_is_kept_of_results_that_were_read(client: Client) -> None:
    def work(number: int) -> int:
        return number

    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    assert list(client.map(work, range(1000))) == list(range(1000))
    before = objects()
    for _ in range(5):
        assert list(client.map(work, range(1000))) == list(range(1000))
    until(lambda: objects() < before + 1000, f"{objects()} objects where {before} were before 5,000 results")


def test_3_8_a_consumer_works_on_after_each_of_20_cuts(rabbitmq: RabbitMQ) -> None:
    """Each within 30 s, the patience of the inbox; what was held comes again."""

    async def story() -> None:
        url = rabbitmq.fresh_vhost()
        async with connected(url) as other, Proxy(url) as proxy, connected(proxy.url) as broker:
            inbox = Inbox()
            await broker.consume(CLASS.name, 5, inbox)
            for cycle in range(CYCLES):
                await put(other, ready(b"held %d" % cycle))
                assert (await inbox.next()).body == b"held %d" % cycle
                await proxy.cut()
                await put(other, ready(b"new %d" % cycle))
                await proxy.mend()
                came = await inbox.take(2)
                assert {each.body for each in came} == {b"held %d" % cycle, b"new %d" % cycle}
                assert all(broker.done(each) for each in came)
            assert broker.generation == 1 + CYCLES

    run(story())


def hold_the_gil(seconds: int) -> int:
    """Sleep in C, as an extension that never lets others run."""
    import ctypes  # it runs without the imports of this module

    return int(ctypes.PyDLL(None).sleep(seconds))


def test_3_12_a_function_that_holds_the_gil_costs_no_connection(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    url = rabbitmq.fresh_vhost()

    async def story() -> None:
        async with FakeCoordinator(url, KEY) as coordinator, working(config(f"{url}?heartbeat=1", tmp_path)) as daemon:
            task, functions = function(0, hold_the_gil, HELD)
            await coordinator.run(task, functions=functions)
            await coordinator.until_ended(0)
            ended = coordinator.ended(0)
            assert isinstance(ended.outcome, Succeeded)
            assert ended.ended_ms - ended.started_ms >= HELD * 1000
            assert daemon._metrics.registry.get_sample_value("broker_jobs_reconnects_total") == 0  # noqa: SLF001

    run(story())


def test_3_13_twenty_threads_share_a_client_over_one_connection(rabbitmq: RabbitMQ) -> None:
    with LocalCluster(cpus=2, url=rabbitmq.fresh_vhost()) as cluster, cluster.client() as client, ThreadPoolExecutor(20) as threads:
        assert list(threads.map(lambda number: client.call(abs, -number), range(200))) == list(range(200))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.long)])
def test_3_20_random_messages_are_dead_letters_all_of_them(rabbitmq: RabbitMQ, tmp_path: Path, count: int) -> None:
    url = rabbitmq.fresh_vhost()
    chance = random.Random(20)
    bodies = [b"%d." % number + chance.randbytes(chance.randrange(300)) for number in range(count)]
    bodies[::2] = [b"BJ\x01" + body for body in bodies[::2]]  # as ours begin

    async def story() -> None:
        vandal = await open_broker(url, name="vandal", timeout=PATIENCE)
        async with FakeCoordinator(url, KEY) as coordinator, working(config(url, tmp_path)):
            await coordinator.until(coordinator.hellos, "hello")
            good = coordinator.chunk(program(0, "true"))
            key = coordinator.names.task_key(good.resource_class, Lane.normal, 0)
            headers = [{chance.randbytes(4).hex(): chance.randbytes(20).decode("latin-1")} for _ in bodies]
            messages = [Outgoing(coordinator.names.ready, key, body, headers=more) for body, more in zip(bodies, headers, strict=True)]
            assert await vandal.publish(messages) == [Receipt.confirmed] * count
            for some in range(100, count + 1, 100):
                await coordinator.until(lambda some=some: len(coordinator.dead) >= some, f"{some} are dead letters")  # type: ignore[misc]
            assert sorted(letter.body for letter in coordinator.dead) == sorted(bodies)
            await coordinator.put(good)
            await coordinator.until_ended(0)
        await vandal.close()

    asyncio.run(asyncio.wait_for(story(), 580))
