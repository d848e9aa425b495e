"""Nobody stands in the way of others for ever: long tasks, large tasks, small tasks, on both brokers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Job, LocalCluster, ResourceRequest
from tests.support.daemons import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker_jobs import Client

SIXTEEN, ONE = ResourceRequest(cpus=16), ResourceRequest(cpus=1)


@pytest.fixture(scope="module")
def sixteen(url: str | None) -> Iterator[Client]:
    """A client of one worker with sixteen processors, which only sleep."""
    with LocalCluster(cpus=16, url=url) as cluster, cluster.client() as client:
        yield client


@pytest.mark.long
def test_3_31_one_long_and_a_hundred_short_tasks_over_two_workers(url: str | None) -> None:
    """Check 3.31: within 10 % of the ideal makespan, which is that of the long one."""
    long, short = 6.5, 0.05
    with LocalCluster(workers=2, cpus=1, url=url) as cluster, cluster.client() as client:
        list(client.map(time.sleep, [0.2] * 4))  # the first children of each worker are there
        job = Job()
        job.function(time.sleep, args=(long,))
        job.map(time.sleep, [short] * 100)
        begin = time.monotonic()
        client.wait_for_jobs([client.submit(job)])
        assert time.monotonic() - begin <= 1.1 * long


@pytest.mark.parametrize(
    ("flood", "seconds", "count", "other"), [(SIXTEEN, 0.3, 60, ONE), (ONE, 0.4, 900, SIXTEEN)], ids=["large", "small"]
)
def test_a_queue_full_of_one_kind_does_not_starve_the_other(
    sixteen: Client, tmp_path: Path, flood: ResourceRequest, seconds: float, count: int, other: ResourceRequest
) -> None:
    path = tmp_path / "begun"
    full = Job()
    for _ in range(count):
        full.program(["sh", "-c", 'echo x >> "$1"; sleep "$2"', "sh", str(path), str(seconds)], resources=flood)
    submitted = sixteen.submit(full)
    until(lambda: path.exists() and path.read_bytes().count(b"x") > 3, "the flood has begun")
    job = Job()
    job.program(["true"], resources=other)
    sixteen.wait_for_jobs([sixteen.submit(job)], timeout=60)
    assert submitted.state == "running"
    assert path.read_bytes().count(b"x") < count, "most of the flood was still to come"
    submitted.cancel()
    sixteen.wait_for_jobs([submitted], raise_on_error=False)
