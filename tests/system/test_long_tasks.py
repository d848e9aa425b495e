"""Long tasks run once, whatever becomes of the connection meanwhile (check 3.2), and start elsewhere at once when their worker dies."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, TaskState
from broker_jobs.wire.signing import new_key
from tests.support.daemons import Daemons, until
from tests.support.rabbitmq import RabbitMQCluster, RabbitMQNode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker_jobs import SubmittedJob

IMPATIENT = {"consumer_timeout": 20_000, "channel_tick_interval": 1000}
"""A broker that closes channels which hold a message for 20 s, and looks each second."""

LONG = 90
"""Seconds for which a long task works."""

MIDDLE = 35
"""Seconds after its start at which something happens."""

GRACE = 30
"""Seconds after which a worker without a broker ends long tasks."""

STYLES = ("quorum", "classic")

LOST = "lost the connection"
"""What a daemon logs about its connection."""


@dataclass
class World:
    """A coordinator, a worker and a client of their own virtual host, and one task that works for long.

    Attributes:
        starts: file with a line for each start of the task
    """

    daemons: Daemons
    submitted: SubmittedJob
    starts: Path

    def count(self) -> int:
        """How often the task has started."""
        return len(self.starts.read_text().splitlines()) if self.starts.exists() else 0

    def ran_once(self) -> None:
        """Wait for the end: it has succeeded, at its first start."""
        logs = self.daemons.logs
        assert self.submitted.client.wait_for_jobs([self.submitted], timeout=LONG + 60, raise_on_error=False, progress=False), logs()
        assert self.count() == 1, logs()
        # The client hears of the end from the worker; the ledger may hear of it a moment later, when its broker has just come back.
        until(lambda: self.submitted.tasks()[0].state is not TaskState.running, lambda: f"the ledger knows of the end\n{logs()}")
        [task] = self.submitted.tasks()
        assert (task.state, task.attempt, task.crashes) == (TaskState.succeeded, 1, 0), f"{task}\n{logs()}"


@contextlib.contextmanager
def working(folder: Path, url: str, *options: str, worker_url: str | None = None) -> Iterator[World]:
    """A world in which the long task has started, on a worker with these options."""
    folder.mkdir()
    key, starts = new_key(), folder / "starts"
    with Daemons(folder, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": key}) as daemons:
        daemons.start("coordinator", "start", "--store", f"sqlite:///{folder / 'ledger.db'}")
        daemons.start("worker", "start", "--cpus", "1", "--url", worker_url or url, *options)
        with Client(url, signing_key=key) as client:
            job = Job(name="long")
            job.program(["sh", "-c", f"echo $BROKER_JOBS_EXECUTION >> {starts}; exec sleep {LONG}"])
            world = World(daemons, client.submit(job), starts)
            until(lambda: world.count() == 1, lambda: f"the start of the task\n{daemons.logs()}", timeout=60)
            yield world


@contextlib.contextmanager
def impatient_node() -> Iterator[RabbitMQNode]:
    """A private node with a short `consumer_timeout`."""
    node = RabbitMQNode(IMPATIENT)
    try:
        node.start()
        yield node
    finally:
        node.remove()


@pytest.mark.long
@pytest.mark.owns_node
@pytest.mark.timeout(300)
def test_3_2_a_task_longer_than_the_ack_timeout_runs_once(tmp_path: Path) -> None:
    """On quorum and on classic queues; two of the four lose all their connections in the middle."""
    with impatient_node() as node, contextlib.ExitStack() as stack:
        urls = {
            name: node.fresh_vhost() + f"?queues={name.partition('-')[0]}" for name in (*STYLES, *(f"{style}-closed" for style in STYLES))
        }
        worlds = {name: stack.enter_context(working(tmp_path / name, url)) for name, url in urls.items()}
        time.sleep(MIDDLE)  # until the middle of the tasks
        for name in STYLES:
            vhost = urls[f"{name}-closed"].partition("?")[0].rpartition("/")[2]
            node.close_connections(vhost)
        for name, world in worlds.items():
            world.ran_once()
            assert (LOST in world.daemons.logs()) == name.endswith("-closed"), world.daemons.logs()


@pytest.mark.long
@pytest.mark.owns_node
@pytest.mark.timeout(300)
def test_a_long_task_runs_once_although_the_broker_is_restarted(tmp_path: Path) -> None:
    with impatient_node() as node, contextlib.ExitStack() as stack:
        worlds = [stack.enter_context(working(tmp_path / style, node.fresh_vhost() + f"?queues={style}")) for style in STYLES]
        time.sleep(MIDDLE)  # until the middle of the tasks
        node.restart()
        for world in worlds:
            world.ran_once()
            assert LOST in world.daemons.logs()


@pytest.mark.long
@pytest.mark.owns_node
@pytest.mark.timeout(300)
def test_a_long_task_runs_once_although_the_node_of_its_worker_is_killed(tmp_path: Path) -> None:
    cluster = RabbitMQCluster(IMPATIENT)
    try:
        cluster.start()
        first, second, third = cluster.nodes
        url = first.fresh_vhost(beside=[third, second])
        login, _, rest = url.rpartition("@")
        worker_url = f"{login}@127.0.0.1:{second.port},{rest}"
        with working(tmp_path / "cluster", url, worker_url=worker_url) as world:
            time.sleep(MIDDLE)  # until the middle of the task
            second.kill()
            world.ran_once()
            assert LOST in world.daemons.logs()
    finally:
        cluster.remove()


@pytest.mark.long
@pytest.mark.owns_node
@pytest.mark.timeout(400)
def test_without_a_broker_for_long_a_worker_ends_long_tasks_unless_it_was_told_to_finish_them(tmp_path: Path) -> None:
    with impatient_node() as node, contextlib.ExitStack() as stack:
        cautious = stack.enter_context(working(tmp_path / "cautious", node.fresh_vhost()))
        patient = stack.enter_context(working(tmp_path / "patient", node.fresh_vhost(), "--on-broker-lost", "finish"))
        time.sleep(MIDDLE)  # until the middle of the tasks
        node.stop()
        time.sleep(GRACE + 5)  # for longer than a worker keeps what others may be running by then
        node.start()
        patient.ran_once()
        until(lambda: cautious.count() == 2, lambda: f"it starts again\n{cautious.daemons.logs()}", timeout=60)
        cautious.submitted.cancel()
        cautious.submitted.wait(60)
