"""Tasks that need a worker that lasts, on both brokers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, ResourceRequest
from broker_jobs.wire.signing import new_key
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.rabbitmq import RabbitMQ


@pytest.fixture(params=["embedded", "rabbitmq"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Daemons, Client]]:
    """A coordinator and a worker that ends in some minutes."""
    url, key = f"sqlite:///{tmp_path}/store/queue.db", new_key()
    (tmp_path / "store").mkdir()
    if request.param == "rabbitmq":
        node: RabbitMQ = request.getfixturevalue("rabbitmq")
        url = node.fresh_vhost()
    with Daemons(tmp_path, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": key}) as daemons:
        daemons.start("coordinator", "start")
        daemons.start("worker", "start", "--name", "brief", "--cpus", "1", "--time-limit", "5m")
        with Client(url, signing_key=key) as client:
            until(lambda: [worker.worker for worker in client.cluster().workers] == ["brief"], lambda: f"it is known: {daemons.logs()}")
            yield daemons, client


@pytest.mark.long
def test_a_task_waits_for_a_worker_that_lasts_and_bothers_nobody(site: tuple[Daemons, Client]) -> None:
    daemons, client = site
    job = Job()
    long = job.program(["true"], resources=ResourceRequest(min_time="1h"))
    short = job.program(["true"], resources=ResourceRequest(min_time=1))
    submitted = client.submit(job)

    def given_back() -> bool:
        [info] = submitted.tasks([long.number])
        return info.attempt > 1

    until(given_back, "the worker that ends has given it back")
    [brief] = submitted.explain(long).workers
    [variant] = brief.variants
    assert (variant.ever, [lacking.resource for lacking in variant.short]) == (False, ["lifetime"])
    assert client.options(timeout=30).call(abs, -1) == 1, "its plain work goes on"
    [info] = submitted.tasks([long.number])
    assert info.state == "queued"
    assert info.attempt <= 4, "it is not sent to and fro"

    daemons.start("worker", "start", "--name", "lasting", "--cpus", "1")
    client.wait_for_jobs([submitted], timeout=60)
    found = {info.number: info for info in submitted.tasks([long.number, short.number])}
    assert found[long.number].worker == "lasting"
    assert found[long.number].attempt <= 6
