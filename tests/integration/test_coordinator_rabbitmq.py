"""A coordinator over RabbitMQ: the same flow, and a node that is killed under it."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

import pytest

from broker_jobs.config import sqlite_url
from broker_jobs.coordinator.config import Durability
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.errors import LedgerRefused
from broker_jobs.wire import messages as m
from tests.support.cast import FakeClient, FakeWorker, Work, call, job_chunks, playing, value
from tests.support.coordinator import Ground, in_a_thread
from tests.support.inbox import PATIENCE, run

if TYPE_CHECKING:
    from pathlib import Path

    from broker_jobs.coordinator.config import CoordinatorConfig
    from tests.support.rabbitmq import RabbitMQ, RabbitMQNode


def config(ground: Ground, url: str, **options: object) -> CoordinatorConfig:
    """Over RabbitMQ a recorded change survives the loss of power."""
    ground.url = url
    return dataclasses.replace(ground.config(**options), durability=Durability.power)


@pytest.mark.parametrize("queues", ["", "?queues=classic"])
def test_a_graph_runs_and_values_travel(tmp_path: Path, rabbitmq: RabbitMQ, queues: str) -> None:
    ground = Ground(tmp_path)

    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer)) as (client, worker):
            job = await client.submit(job_chunks([call(0), call(1, 0), call(2, 0, 1)]))
            changes = await client.ended(job)
            assert changes.info.state is JobState.succeeded
            assert dict(worker.seen[2].chunk.values) == {"0": value(0), "1": value(1)}
            direct = await client.submit(job_chunks([call(number) for number in range(250)], direct=True))
            assert (await client.ended(direct)).info.counts == {"succeeded": 250}

    with in_a_thread(config(ground, rabbitmq.fresh_vhost() + queues)):
        run(story())


def test_a_lost_worker_is_known_soon(tmp_path: Path, rabbitmq: RabbitMQ) -> None:
    ground = Ground(tmp_path)

    def take(work: Work) -> list[m.ReplyItem]:
        return [m.Taken(work.task.number, work.task.attempt, "e.1")]

    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer)) as (client,):
            lost = await FakeWorker.open(ground.url, ground.signer, "worker-lost", token=True, behave=take)
            job = await client.submit(job_chunks([call(0)]))
            await client.until(job, lambda info: info.counts.get("running") == 1)
            await lost.close()
            async with playing(FakeWorker.open(ground.url, ground.signer, "worker-2")):
                changes = await client.ended(job)
                assert [(task.attempt, task.crashes, task.worker) for task in changes.tasks] == [(2, 1, "worker-2")]

    with in_a_thread(config(ground, rabbitmq.fresh_vhost(), grace=0.5, reconnect_grace=0.5)):
        run(story())


@pytest.mark.parametrize("queues", ["", "?queues=classic"])
def test_a_namespace_stays_with_its_ledger(tmp_path: Path, rabbitmq: RabbitMQ, queues: str) -> None:
    ground = Ground(tmp_path)
    right = config(ground, rabbitmq.fresh_vhost() + queues)
    wrong = dataclasses.replace(right, store=sqlite_url(tmp_path / "wrong.db"))
    for _ in range(2):
        with in_a_thread(right):
            pass
        with pytest.raises(LedgerRefused, match=r"another ledger than .*wrong\.db keeps the namespace 't'"), in_a_thread(wrong):
            pass


@pytest.mark.owns_node
@pytest.mark.long
def test_a_broker_that_is_killed_and_restarted_loses_no_task(tmp_path: Path, owned_node: RabbitMQNode) -> None:
    ground = Ground(tmp_path)

    async def story() -> None:
        async with playing(FakeClient.open(ground.url, ground.signer), FakeWorker.open(ground.url, ground.signer, token=True)) as (
            client,
            worker,
        ):
            warm = await client.submit(job_chunks([call(0)]))
            await client.ended(warm)
            # A new quorum queue is not safe from SIGKILL for about two seconds.
            await asyncio.sleep(3)
            tasks = [call(number, *([number - 10] if number >= 10 else [])) for number in range(400)]
            job = await client.submit(job_chunks(tasks))
            await client.until(job, lambda info: info.counts.get("succeeded", 0) > 20)
            await asyncio.to_thread(owned_node.kill)
            await asyncio.to_thread(owned_node.start)

            async def beat() -> None:
                while True:
                    await worker.hello()
                    await asyncio.sleep(1)

            beating = asyncio.ensure_future(beat())
            changes = await client.ended(job, 60)
            beating.cancel()
            assert {task.state for task in changes.tasks} == {TaskState.succeeded}
            assert len(changes.tasks) == len(tasks)
            assert {task.number: task.outcome.value for task in changes.tasks} == {task.number: value(task.number) for task in tasks}  # type: ignore[union-attr]
            cluster = await client.ask(m.GetWorkers(), PATIENCE)
            assert isinstance(cluster, m.Cluster)
            assert [item.state for item in cluster.workers] == ["active"]

    with in_a_thread(config(ground, owned_node.fresh_vhost(), republish_after=3.0)):
        run(story())
