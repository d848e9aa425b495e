"""Uses of the public API, as users write them; a type checker reads this, nobody runs it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import assert_type

from broker_jobs import AsyncClient, Client, Job, LocalCluster, ResourceRequest, Retry, Stdio, SubmittedJob, Task, TaskArray, current
from broker_jobs.client import AsyncSubmittedJob, TaskError
from broker_jobs.core.states import JobState
from broker_jobs.hooks import JobNow, TaskNow, impl


def power(base: int, exponent: int = 2) -> float:
    current.progress(0.5, "half")
    return float(base**exponent)


class Plugin:
    @impl
    def on_task_submitting(self, client: Client, task: TaskNow) -> bool:
        return task.name != "no" and task.state == "waiting"

    @impl
    async def on_complete(self, job: JobNow) -> None:
        assert_type(job.state, JobState)


async def later(text: str) -> bytes:
    return text.encode()


def plug() -> None:
    with Client(plugins=[Plugin(), "a.module", "no:other"]) as client:
        assert_type(client.hook_failures(), dict[str, int])


def write(client: Client) -> None:
    job = Job(name="train", tags=["a", "b"], max_fails=0, cwd=Path("/data"), env={"A": "1"}, lane="low")
    one = job.function(power, args=(1,), kwargs={"exponent": 3}, resources=ResourceRequest(cpus=2, memory="4 GiB"), retry=Retry(3))
    two = job.program(
        ["sort", "-n", 3, Path("x"), b"y"], stdin="text", deps=[one], after=one, time_limit=datetime.timedelta(hours=1), crash_limit="never"
    )
    many = job.map(power, range(10), [2, 3], deps=[one, [two]], stdout=Stdio("%{TASK_ID}.out", keep="on_failure"), stderr=Path("err"))
    last = job.function(power, args=(one.output["a"][0], many.output, job.value([1])), time_limit="1h30m", grace=0, memory_limit=2**30)
    job.function(power, args=(2,), setup=dict, isolation="fresh", python=Path("/opt/venv"), prologue="module load cuda")
    job.map(power, range(3), setup=lambda: 3)
    assert_type(one, Task)
    assert_type(many, TaskArray)
    assert_type(many[0], Task)
    assert_type(many[1:], Sequence[Task])
    submitted = client.submit(job, idempotency_key="key", timeout=3)
    assert_type(submitted, SubmittedJob)
    assert_type(submitted.state, JobState)
    assert_type(client.wait_for_jobs([submitted], timeout=1.5, raise_on_error=False, progress=True), bool)
    assert_type(submitted.errors(), dict[int, TaskError])
    assert_type(submitted.stdout(last), bytes)
    submitted.result("name", timeout=3)
    submitted.cancel(reason="no", tasks=[1, "two", two])
    assert_type(client.jobs(state="failed", tags=["x"], name="train*", limit=3), list[SubmittedJob])


def call(client: Client) -> None:
    assert_type(client.call(power, 2, exponent=3), float)
    assert_type(client.call(later, "x"), bytes)
    assert_type(next(client.map(power, [1, 2])), float)
    assert_type(client.options(timeout=3, priority=1).call(power, 2), float)
    assert_type(client.options(setup=dict, isolation="warm", python="python3.12").call(power, 2), float)
    with client.executor() as pool:
        assert_type(pool.submit(power, 2), Future[float])


async def call_asynchronously(client: AsyncClient) -> None:
    assert_type(await client.call(power, 2), float)
    assert_type(await client.call(later, "x"), bytes)
    async for value in client.map(power, [1, 2]):
        assert_type(value, float)
    assert_type(await client.submit(Job()), AsyncSubmittedJob)


def cluster() -> None:
    with LocalCluster(workers=2, cpus=1) as found, found.client(timeout=3) as client:
        assert_type(client, Client)


def wrong(client: Client) -> None:
    job = Job()
    client.call(power, "text")  # type: ignore[call-overload]
    client.call(power, 1, exponents=3)  # type: ignore[call-arg, arg-type]
    job.function(power, args=3)  # type: ignore[arg-type]
    job.function(power, prioritty=3)  # type: ignore[call-arg]
    job.function(power, isolation="cold")  # type: ignore[arg-type]
    job.function(power, setup=power)  # type: ignore[arg-type]
    job.program(["true"], setup=dict)  # type: ignore[call-arg]
    job.function(power, crash_limit="sometimes")  # type: ignore[arg-type]
    job.program(["a", None])  # type: ignore[list-item]
    job.function(power, deps=[job.function(power).output])  # type: ignore[list-item]
