"""The client over RabbitMQ: the same as embedded, and what only a network broker brings."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, LocalCluster
from broker_jobs.broker import open_broker
from broker_jobs.core.spec import Lane
from broker_jobs.errors import AccessRefused, CoordinatorUnavailable, SigningKeyMissing, VirtualHostNotFound
from broker_jobs.wire.signing import new_key
from broker_jobs.wire.topology import Topology
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.rabbitmq import RabbitMQ

PATIENCE = 60.0


def add(left: int, right: int = 0) -> int:
    return left + right


def test_jobs_and_calls(rabbitmq: RabbitMQ) -> None:
    with LocalCluster(workers=2, cpus=1, url=rabbitmq.fresh_vhost()) as cluster, cluster.client() as client:
        assert client.call(add, 1, right=2) == 3
        job = Job()
        many = job.map(add, range(200))
        total = job.function(sum, args=(many.output,))
        printed = job.program(["echo", "hello"], deps=[total])
        submitted = client.submit(job)
        assert client.wait_for_jobs([submitted], timeout=PATIENCE)
        assert submitted.result(total) == sum(range(200))
        assert submitted.stdout(printed) == b"hello\n"
        assert list(client.map(add, range(500))) == list(range(500))
        with client.executor() as pool:
            assert list(pool.map(add, range(50))) == list(range(50))
        with cluster.client() as other:
            assert other.job(submitted.id).result(total.number) == sum(range(200))


def test_a_cluster_leaves_no_queue_behind(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    with LocalCluster(cpus=1, url=url) as cluster, cluster.client() as client:
        assert client.call(add, 1) == 1
        names = Topology(cluster.namespace)
        (known,) = client.cluster().classes
        (worker,) = client.cluster().workers
    queues = [
        names.ledger_name(0),
        names.keeper_name(0),
        names.dead_name,
        names.class_name(known.name, Lane.normal),
        names.lease_queue(worker.worker).name,
    ]

    async def depths() -> list[object]:
        broker = await open_broker(url, name="look", timeout=PATIENCE)
        try:
            return [await broker.depth(queue) for queue in queues]
        finally:
            await broker.close()

    assert asyncio.run(depths()) == [None] * 5


def test_a_connection_that_is_cut_again_and_again_loses_nothing(rabbitmq: RabbitMQ) -> None:
    with LocalCluster(cpus=2, url=rabbitmq.fresh_vhost()) as cluster:

        async def story() -> None:
            async with Proxy(cluster.url) as proxy:
                client = await asyncio.to_thread(Client, proxy.url, namespace=cluster.namespace, signing_key=cluster.key)
                client.runtime.reports_left_work = False
                done = asyncio.Event()

                async def cut() -> None:
                    for _ in itertools.count():
                        await asyncio.sleep(0.3)  # the rhythm of the cuts, not a wait for anything
                        await proxy.cut()
                        await proxy.mend()
                        if done.is_set():
                            return

                cutting = asyncio.ensure_future(cut())
                try:
                    values = await asyncio.to_thread(lambda: list(client.map(add, range(2000))))
                    assert values == list(range(2000))
                    job = Job()
                    parts = job.map(add, range(300))
                    total = job.function(sum, args=(parts.output,))
                    submitted = await asyncio.to_thread(client.submit, job, timeout=PATIENCE)
                    assert await asyncio.to_thread(submitted.result, total, timeout=PATIENCE) == sum(range(300))
                finally:
                    done.set()
                    await cutting
                    await asyncio.to_thread(client.close)

        asyncio.run(asyncio.wait_for(story(), 100))


def test_a_wrong_user_or_virtual_host_is_named(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    head, _, vhost = url.rpartition("/")
    with pytest.raises(VirtualHostNotFound):
        Client(f"{head}/not-{vhost}", timeout=10)
    scheme, _, rest = head.partition("://")
    host = rest.rpartition("@")[2]
    with pytest.raises(AccessRefused) as caught:
        Client(f"{scheme}://nobody:secretive@{host}/{vhost}", timeout=10)
    assert "secretive" not in str(caught.value)


def test_without_a_key_submitting_is_refused(rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BROKER_JOBS_HOME", str(tmp_path))
    monkeypatch.delenv("BROKER_JOBS_SIGNING_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    job = Job()
    job.program(["true"])
    with Client(rabbitmq.fresh_vhost()) as client:
        with pytest.raises(SigningKeyMissing, match="broker-jobs key new"):
            client.submit(job)
        with pytest.raises(SigningKeyMissing):
            client.call(add, 1)
        with pytest.raises(SigningKeyMissing):
            client.job("last")


def test_without_a_coordinator_what_is_sent_is_kept(rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker_jobs.client.core.PATIENCE", 1.0)
    job = Job()
    job.program(["true"])
    with Client(rabbitmq.fresh_vhost(), signing_key=new_key()) as client:
        client.runtime.reports_left_work = False
        submitted = client.submit(job)
        with pytest.raises(CoordinatorUnavailable, match="broker-jobs coordinator start"):
            client.wait_for_jobs([submitted])
