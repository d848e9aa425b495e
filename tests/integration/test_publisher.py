"""Submitting through a network that fails: deadlines are kept, and what is submitted again is one job."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, LocalCluster
from broker_jobs.errors import BrokerUnavailable, CoordinatorUnavailable, SubmitUnknown
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.rabbitmq import RabbitMQ

PATIENCE = 60.0
SOON = 20.0
"""Seconds, of a deadline of one: the machine may be loaded, but nobody waits for ever."""
LATE = 6.0
"""The same, where waiting for a coordinator or for a heartbeat would take longer than that."""


@pytest.fixture(scope="module")
def cluster(rabbitmq: RabbitMQ) -> Iterator[LocalCluster]:
    with LocalCluster(cpus=2, url=rabbitmq.fresh_vhost()) as found:
        yield found


class Fuse:
    """Blows when it is sent for the first time: what is asked before a submission has been answered, and nothing of it was sent."""

    def __init__(self) -> None:
        self.blow: Callable[[], object] | None = None

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        blow, self.blow = self.blow, None
        if blow is not None:
            blow()
        return int, (0,)


def note(file: str, number: int, _: object) -> int:
    """A task that leaves a line."""
    with open(file, "a") as lines:  # noqa: PTH123 (it runs without this module's imports)
        lines.write(f"{number}\n")
    return number


def test_what_is_submitted_again_after_a_silence_is_one_job(cluster: LocalCluster, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    key = f"silence-{tmp_path.name}-{time.time_ns()}"
    job = Job(name="silence")
    fuse = Fuse()
    tasks = [job.function(note, args=(str(file), number, fuse)) for number in range(5)]
    total = job.function(sum, args=([task.output for task in tasks],))

    async def story() -> None:
        async with Proxy(cluster.url) as proxy:
            client = await asyncio.to_thread(Client, proxy.url, namespace=cluster.namespace, signing_key=cluster.key)
            client.runtime.reports_left_work = False
            try:
                loop = asyncio.get_running_loop()
                silent = threading.Event()
                fuse.blow = lambda: (loop.call_soon_threadsafe(proxy.silence), loop.call_soon_threadsafe(silent.set), silent.wait(PATIENCE))
                begun = time.monotonic()
                with pytest.raises(SubmitUnknown, match="idempotency_key") as caught:
                    await asyncio.to_thread(client.submit, job, idempotency_key=key, timeout=1)
                assert time.monotonic() - begun < SOON
                proxy.speak()
                again = await asyncio.to_thread(client.submit, job, idempotency_key=key, timeout=PATIENCE)
                assert await asyncio.to_thread(again.result, total, timeout=PATIENCE) == sum(range(5))
                assert again.id == caught.value.job_id, "it went on with what had come"
                third = await asyncio.to_thread(client.submit, job, idempotency_key=key, timeout=PATIENCE)
                assert third.id == again.id
            finally:
                await asyncio.to_thread(client.close)

    asyncio.run(asyncio.wait_for(story(), 100))
    with cluster.client() as client:
        assert [found.state for found in client.jobs(name="silence")] == ["succeeded"]
    assert sorted(file.read_text().split()) == [str(number) for number in range(5)], "each task ran once"


@pytest.mark.alone
def test_a_broker_that_is_silent_keeps_nobody_beyond_the_deadline(cluster: LocalCluster) -> None:
    async def story() -> None:
        async with Proxy(cluster.url) as proxy:
            client = await asyncio.to_thread(Client, proxy.url, namespace=cluster.namespace, signing_key=cluster.key)
            client.runtime.reports_left_work = False
            try:
                job = Job(name="late")
                job.program(["true"])
                proxy.silence()
                for key, told in ((None, SubmitUnknown), ("late", CoordinatorUnavailable)):
                    begun = time.monotonic()
                    with pytest.raises((told, BrokerUnavailable)):
                        await asyncio.to_thread(client.submit, job, idempotency_key=key, timeout=1)
                    assert time.monotonic() - begun < LATE
                proxy.speak()
            finally:
                await asyncio.to_thread(client.close)

    asyncio.run(asyncio.wait_for(story(), 100))


def test_without_a_connection_nothing_is_sent_and_nobody_waits_for_ever(cluster: LocalCluster) -> None:
    async def story() -> None:
        async with Proxy(cluster.url) as proxy:
            client = await asyncio.to_thread(Client, proxy.url, namespace=cluster.namespace, signing_key=cluster.key)
            try:
                job = Job(name="cut")
                job.program(["true"])
                await proxy.cut()
                begun = time.monotonic()
                with pytest.raises((BrokerUnavailable, SubmitUnknown)):
                    await asyncio.to_thread(client.submit, job, timeout=1)
                assert time.monotonic() - begun < SOON
                await proxy.mend()
            finally:
                await asyncio.to_thread(client.close)

    asyncio.run(asyncio.wait_for(story(), 100))
    with cluster.client() as client:
        assert client.jobs(name="cut") == []
