"""A broker on which an earlier version of broker-jobs has worked: what it has left is found, moved and done."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, TypeVar

from broker_jobs import Client, Job
from broker_jobs.broker import open_broker
from broker_jobs.core.spec import Lane
from broker_jobs.wire.signing import new_key
from broker_jobs.wire.topology import Queue, Topology
from tests.support.daemons import Daemons, until
from tests.support.inbox import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from broker_jobs.broker.port import OperatedBroker
    from tests.support.rabbitmq import RabbitMQNode

T = TypeVar("T")
NAMES = Topology()
KEPT = (NAMES.ledger(0), NAMES.dead_letters())


def operated(url: str, work: Callable[[OperatedBroker], Awaitable[T]]) -> T:
    async def story() -> T:
        broker = await open_broker(url, name="test", timeout=PATIENCE)
        try:
            return await work(broker)
        finally:
            await broker.close()

    return asyncio.run(story())


def former(queue: Queue) -> Queue:
    return Queue(NAMES.former_name(queue.name), queue.kind, queue.bindings)


def there(url: str, queue: Queue) -> bool:
    return operated(url, lambda broker: broker.depth(queue.name)) is not None


def test_what_waits_in_earlier_queues_is_moved_by_the_command_that_the_refusal_names(rabbitmq: RabbitMQNode, tmp_path: Path) -> None:
    url, key = rabbitmq.fresh_vhost(), new_key()
    operated(url, lambda broker: broker.declare(NAMES.exchanges(), [former(queue) for queue in KEPT]))
    with Client(url, signing_key=key) as client:
        job = Job()
        job.map(abs, range(-20, 0))
        submitted = client.submit(job).id
    operated(url, lambda broker: broker.delete(NAMES.ledger_name(0)))

    with Daemons(tmp_path, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": key}) as daemons:
        refused = daemons.run("coordinator", "start")
        assert refused.returncode == 3, refused
        left = r"an earlier version of broker-jobs has left bj\.ledger\.0 \([1-9] waiting\) and bj\.dead \(0 waiting\)"
        assert re.match(left, refused.stderr)
        assert refused.stderr.strip().endswith("broker-jobs queue migrate ledger.0 dead")
        assert not there(url, KEPT[0]), "nothing is made beside it"
        assert "queue migrate ledger.0 dead" in daemons.run("doctor").stdout

        moved = daemons.run("queue", "migrate", "ledger.0", "dead")
        assert (moved.returncode, moved.stdout) == (0, "bj.v2.ledger.0: migrated\nbj.v2.dead: migrated\n"), moved
        assert not any(there(url, former(queue)) for queue in KEPT)

        coordinator = daemons.start("coordinator", "start")
        daemons.start("worker", "start", "--cpus", "2")
        with Client(url, signing_key=key) as client:
            assert client.job(submitted).wait(60), daemons.logs()
            assert list(client.job(submitted).results().values()) == list(range(20, 0, -1))
            [used] = [found.name for found in client.cluster().classes if found.name.startswith("cpus1-")]

        # Class queues hold nothing that the ledger has not, so the coordinator deletes those that are left of classes that it knows.
        coordinator.terminate()
        coordinator.wait()
        low = former(NAMES.class_queue(used, Lane.low))
        operated(url, lambda broker: broker.declare([], [low]))
        daemons.start("coordinator", "start")
        until(lambda: not there(url, low), lambda: f"it is deleted: {daemons.logs()}")
        with Client(url, signing_key=key) as client:
            assert client.call(abs, -3) == 3
