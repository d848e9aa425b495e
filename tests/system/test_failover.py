"""Several coordinators share one ledger in a PostgreSQL: whatever becomes of the one that keeps it, another goes on."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client
from broker_jobs.core.states import JobState
from broker_jobs.wire.signing import new_key
from tests.support.chains import chain, succeeded
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.postgres import Postgres
    from tests.support.rabbitmq import RabbitMQ

FAILOVER = 5.0
"""Seconds within which work goes on when the coordinator that keeps the ledger was killed."""


@pytest.fixture
def deployment(rabbitmq: RabbitMQ, postgres: Postgres, tmp_path: Path) -> Iterator[Daemons]:
    # A frozen process is known to the broker after two heartbeats.
    env = {"BROKER_JOBS_URL": f"{rabbitmq.fresh_vhost()}?heartbeat=2", "BROKER_JOBS_SIGNING_KEY": new_key()}
    with Daemons(tmp_path, {**env, "LEDGER": postgres.fresh_database()}) as daemons:
        yield daemons


@pytest.fixture
def client(deployment: Daemons) -> Iterator[Client]:
    with Client(deployment.env["BROKER_JOBS_URL"], signing_key=deployment.env["BROKER_JOBS_SIGNING_KEY"]) as client:
        yield client


def coordinator(daemons: Daemons, says: str) -> subprocess.Popen[bytes]:
    """Another coordinator, as soon as it has said this."""
    started = daemons.start("coordinator", "start", "--store", daemons.env["LEDGER"])
    until(lambda: daemons.says(started, says), f"a coordinator says {says!r}")
    return started


@pytest.mark.alone
@pytest.mark.timeout(120)
def test_work_goes_on_within_5_s_when_the_coordinator_is_killed(deployment: Daemons, client: Client) -> None:
    active = coordinator(deployment, "keeps")
    standing_by = coordinator(deployment, "stands by: the ledger is kept by ")
    deployment.start("worker", "start", "--cpus", "1")
    job, last = chain(client, 100)
    for _ in range(2):
        before = succeeded(job)
        until(lambda before=before: succeeded(job) > before + 2, "the chain moves")
        deployment.kill(active)
        at = time.monotonic()
        so_far = succeeded(job)  # answered by the next one: what the one before has recorded
        until(lambda so_far=so_far: succeeded(job) > so_far, "the chain goes on")
        assert time.monotonic() - at < FAILOVER, deployment.logs()
        assert deployment.says(standing_by, "keeps")
        active, standing_by = standing_by, coordinator(deployment, "stands by")
    assert job.result(last, timeout=60) == 100
    assert job.info().counts == {"succeeded": 100}
    standing_by.terminate()
    assert standing_by.wait(10) == 0, "one that stands by ends at once"
    assert {task.attempt for task in job.tasks()} == {1}, "nothing was done twice"


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_coordinator_that_wakes_up_too_late_stands_by(deployment: Daemons, client: Client) -> None:
    active = coordinator(deployment, "keeps")
    standing_by = coordinator(deployment, "stands by")
    deployment.start("worker", "start", "--cpus", "1")
    job, last = chain(client, 100)
    until(lambda: succeeded(job) > 5, "the chain moves")
    os.kill(active.pid, signal.SIGSTOP)
    try:
        until(lambda: deployment.says(standing_by, "keeps"), "the other one takes over", timeout=40)
        assert job.result(last, timeout=40) == 100
    finally:
        os.kill(active.pid, signal.SIGCONT)
    until(lambda: deployment.says(active, "stands by"), "the first one hears that it is too late, and stands by")
    assert job.info().state is JobState.succeeded
    deployment.kill(standing_by)
    assert job.info().counts == {"succeeded": 100}, "the first one keeps the ledger again"
