"""Everything may be started again: the submitter, the broker, the coordinator; with the wrong ledger, nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job
from broker_jobs.broker import open_broker
from broker_jobs.broker.port import Outgoing
from broker_jobs.core.states import JobState
from broker_jobs.wire.signing import new_key
from broker_jobs.wire.topology import Topology
from tests.support.daemons import Daemons, until
from tests.support.inbox import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.rabbitmq import RabbitMQ, RabbitMQNode

NAMES = Topology()

SUBMITTER = """
import sys, time
from broker_jobs import Client, Job
def late(number):
    time.sleep(0.2)
    return number
job = Job("left behind")
job.map(late, range(20))
client = Client()
print(client.submit(job).id, flush=True)
client.wait_for_jobs([client.job("last")])
"""


def double(number: int) -> int:
    return 2 * number


def depths(url: str, *queues: str) -> list[int]:
    """Messages that are ready in queues; 0 where there is no such queue."""

    async def look() -> list[int]:
        broker = await open_broker(url, name="test", timeout=PATIENCE)
        try:
            found = [await broker.depth(queue) for queue in queues]
        finally:
            await broker.close()
        return [0 if depth is None else depth.ready for depth in found]

    return asyncio.run(look())


def say_garbage(url: str) -> None:
    """Put a message into the ledger queue that nobody can read."""

    async def publish() -> None:
        broker = await open_broker(url, name="test", timeout=PATIENCE)
        await broker.publish([Outgoing(NAMES.tasks, NAMES.ledger_key(0), b"garbage")])
        await broker.close()

    asyncio.run(publish())


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    with Daemons(tmp_path, {"BROKER_JOBS_SIGNING_KEY": new_key()}) as daemons:
        yield daemons


def test_a_submitter_that_was_killed_finds_its_results_by_the_id(daemons: Daemons, rabbitmq: RabbitMQ) -> None:
    url = daemons.env["BROKER_JOBS_URL"] = rabbitmq.fresh_vhost()
    daemons.start("coordinator", "start")
    daemons.start("worker", "start", "--cpus", "1")
    script = daemons.folder / "submit.py"
    script.write_text(SUBMITTER)
    submitter = subprocess.Popen([sys.executable, script], env=daemons.env, cwd=daemons.folder, stdout=subprocess.PIPE, text=True)
    assert submitter.stdout is not None
    job_id = submitter.stdout.readline().strip()
    submitter.kill()
    submitter.wait()
    submitter.stdout.close()
    assert job_id, daemons.logs()
    with Client(url, signing_key=daemons.env["BROKER_JOBS_SIGNING_KEY"]) as client:
        for name in (job_id, job_id[-8:], "last"):
            found = client.job(name)
            assert found.id == job_id
        assert client.wait_for_jobs([found], timeout=60)
        assert found.results() == {number: number for number in range(20)}


@pytest.mark.owns_node
@pytest.mark.long
@pytest.mark.parametrize("how", ["restart", "kill"])
def test_the_broker_is_started_again_with_messages_in_every_queue(daemons: Daemons, owned_node: RabbitMQNode, how: str) -> None:
    url = daemons.env["BROKER_JOBS_URL"] = owned_node.fresh_vhost()
    key = daemons.env["BROKER_JOBS_SIGNING_KEY"]
    job = Job("graph")
    first = [job.function(double, args=(number,)) for number in range(10)]
    last = job.function(sum, args=([task.output for task in first],))
    direct = Job("direct")
    direct.map(double, range(50))
    with Client(url, signing_key=key) as client:
        coordinator = daemons.start("coordinator", "start")
        until(lambda: daemons.says(coordinator, "keeps"), "the coordinator is up")
        graph = client.submit(job)
        say_garbage(url)
        until(lambda: depths(url, NAMES.dead_name) == [1], "what nobody can read is a dead letter")
        until(lambda: graph.info().counts.get("queued") == 10, "the first tasks stand in their class queue")
        daemons.kill(coordinator)
        array = client.submit(direct)
        until(lambda: depths(url, NAMES.ledger_name(0))[0] > 0, "the second job stands in the ledger queue")
        time.sleep(3)  # a new quorum queue is not safe from SIGKILL for two seconds; and confirms are not asked of the dead
        if how == "kill":
            owned_node.kill()
            owned_node.start()
        else:
            owned_node.restart()
        assert depths(url, NAMES.dead_name) == [1]
        assert depths(url, NAMES.ledger_name(0))[0] > 0
        daemons.start("coordinator", "start")
        daemons.start("worker", "start", "--cpus", "2")
        assert client.wait_for_jobs([graph, array], timeout=60), daemons.logs()
        assert graph.result(last) == sum(2 * number for number in range(10))
        assert array.results() == {number: 2 * number for number in range(50)}
        assert graph.info().state is JobState.succeeded
