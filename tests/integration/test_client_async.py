"""The asynchronous client, on real processes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import AsyncClient, Job
from broker_jobs.core.states import JobState
from broker_jobs.errors import ClientClosed, FailedJobsError, TaskCanceled, TaskFailed, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from broker_jobs import LocalCluster

PATIENCE = 30.0


def add(left: int, right: int = 0) -> int:
    return left + right


def fail(text: str) -> None:
    raise ValueError(text)


def wait_for(path: str) -> str:
    deadline = time.monotonic() + PATIENCE
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.01)
    return "went"


def _play(cluster: LocalCluster, story: Callable[[AsyncClient], Coroutine[None, None, None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), AsyncClient(cluster.url, namespace=cluster.namespace, signing_key=cluster.key) as client:
            await story(client)

    asyncio.run(run())


def test_many_calls_at_once(cluster: LocalCluster) -> None:
    async def story(client: AsyncClient) -> None:
        assert await asyncio.gather(*(client.call(add, number, right=1) for number in range(100))) == list(range(1, 101))
        assert [value async for value in client.map(add, range(300))] == list(range(300))
        with pytest.raises(TaskFailed, match="no luck"):
            await client.call(fail, "no luck")
        assert await client.options(env={"A": "b"}).call(add, 1) == 1
        with pytest.raises(ValidationError):
            await client.options(priority=0.5).call(add, 1)  # type: ignore[arg-type]

    _play(cluster, story)


def test_a_job(cluster: LocalCluster) -> None:
    async def story(client: AsyncClient) -> None:
        job = Job(name="asynchronous")
        first = job.function(add, args=(1, 2))
        second = job.function(add, args=(first.output, 3))
        printed = job.program(["echo", "hello"])
        submitted = await client.submit(job)
        assert await client.wait_for_jobs([submitted], timeout=PATIENCE)
        assert await submitted.result(second) == 6
        assert await submitted.results() == {0: 3, 1: 6, 2: 0}
        assert await submitted.stdout(printed) == b"hello\n"
        assert [part async for part in submitted.follow(printed)] == [b"hello\n"]
        assert await submitted.state() is JobState.succeeded
        assert {number: value async for number, value in submitted.as_completed()} == {0: 3, 1: 6, 2: 0}
        assert [event async for event in submitted.events()][-1].state == JobState.succeeded
        found = await client.job(submitted.id)
        assert (await found.info()).name == "asynchronous"
        assert [task.name for task in await found.tasks()] == ["add", "add", "echo"]
        assert [one.id for one in await client.jobs(name="asynchronous")] == [submitted.id]
        await client.forget(found)
        assert (await client.cluster()).workers

    _play(cluster, story)


def test_failures_and_cancellation(cluster: LocalCluster, tmp_path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        job = Job()
        bad = job.function(fail, args=("no luck",))
        waits = job.function(wait_for, args=(str(tmp_path / "never"),))
        submitted = await client.submit(job)
        with pytest.raises(TaskFailed, match="no luck"):
            await submitted.result(bad, timeout=PATIENCE)
        with pytest.raises(TimeoutError):
            await submitted.result(waits, timeout=0.1)
        await client.cancel(submitted, "enough")
        with pytest.raises(TaskCanceled, match="enough"):
            await submitted.result(waits, timeout=PATIENCE)
        with pytest.raises(FailedJobsError, match="no luck"):
            await client.wait_for_jobs(submitted)
        assert (await submitted.errors())[0].message == "ValueError: no luck"

    _play(cluster, story)


def test_a_call_ends_with_the_coroutine_that_waits_for_it(cluster: LocalCluster, tmp_path: Path) -> None:
    async def story(client: AsyncClient) -> None:
        calling = asyncio.ensure_future(client.call(wait_for, str(tmp_path / "never")))
        await asyncio.sleep(0.3)  # until it runs; earlier would be right, too
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        with pytest.raises(TimeoutError, match="was canceled"):
            await client.options(timeout=0.3).call(wait_for, str(tmp_path / "never"))
        # All processors are free again.
        assert await asyncio.wait_for(asyncio.gather(*(client.call(add, number) for number in range(8))), PATIENCE) == list(range(8))

    _play(cluster, story)


def test_after_the_end(cluster: LocalCluster) -> None:
    async def run() -> None:
        client = AsyncClient(cluster.url, namespace=cluster.namespace, signing_key=cluster.key)
        assert await client.call(add, 1) == 1
        await client.close()
        await client.close()
        with pytest.raises(ClientClosed):
            await client.call(add, 1)

    asyncio.run(run())


def test_open_jobs_and_tasks_of_earlier_ones(cluster: LocalCluster) -> None:
    async def story(client: AsyncClient) -> None:
        opened = await client.open("async", tags=["a"])
        job, later = Job(), Job()
        job.function(divmod, args=(7, 2))
        await client.submit(job, to=opened)
        assert await opened.wait_for_tasks(PATIENCE)
        earlier = await opened.task("divmod")
        total = later.function(sum, args=(earlier.output,))
        submitted = await client.submit(later)
        assert await submitted.result(total, timeout=PATIENCE) == 4
        await opened.close()
        await opened.wait(PATIENCE)
        assert (await opened.info()).state is JobState.succeeded

    _play(cluster, story)
