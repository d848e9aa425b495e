"""A coordinator, a worker and a client on nodes of a broker, for one fault at a time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

from broker_jobs import Client, Job, ResourceRequest
from broker_jobs.broker import open_broker
from broker_jobs.coordinator.post import GONE
from broker_jobs.core.spec import Lane
from broker_jobs.wire.signing import new_key
from broker_jobs.wire.topology import Topology
from tests.support.daemons import Daemons, until
from tests.support.inbox import PATIENCE
from tests.system.chaos import work
from tests.system.chaos.links import Links

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from broker_jobs import SubmittedJob
    from tests.support.rabbitmq import RabbitMQNode

RECOVERED: Final = 60.0
"""Seconds in which a job ends after a fault: 30 s, and the work itself on a busy machine."""
NAMES: Final = Topology("bj")


class Scene:
    """As long as it is entered: everything is connected to the first node first; the worker through `link`.

    Args:
        style: of durable queues, quorum or classic
    """

    def __init__(self, folder: Path, nodes: Sequence[RabbitMQNode], style: str) -> None:
        self.nodes = nodes
        self._folder = folder
        self._style = style
        self._closing = contextlib.ExitStack()
        self.vhost = ""

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            for node in self.nodes:
                if not node.running:
                    node.start()
                until(node.answers, "all nodes are up", RECOVERED)
            self.vhost = self.nodes[0].management.make_vhost()
            links = stack.enter_context(Links([node.port for node in self.nodes]))
            self.links, self.link = links, links.make(0)
            key = new_key()
            self.daemons = stack.enter_context(Daemons(self._folder, {"BROKER_JOBS_URL": self.url(), "BROKER_JOBS_SIGNING_KEY": key}))
            self.coordinator = self.daemons.start("coordinator", "start", "--store", f"sqlite:///{self._folder}/ledger.db")
            self.worker = self.start_worker()
            self.client = stack.enter_context(Client(self.url(), signing_key=key))
            assert self.submit("warm", 4).wait(RECOVERED)
            self._closing = stack.pop_all()
        return self

    def __exit__(self, *details: object) -> None:
        self._closing.close()

    def url(self, *ports: int) -> str:
        """Address of the broker, the first node first, or by these ports."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports or [node.port for node in self.nodes])
        return f"amqp://guest:guest@{hosts}/{quote(self.vhost)}?queues={self._style}"

    def start_worker(self) -> subprocess.Popen[bytes]:
        """One more worker."""
        env = {"BROKER_JOBS_URL": self.url(*self.link.ports), work.WORKER: "worker-0"}
        process = self.daemons.start("worker", "start", "--cpus", "2", "--gpus", "0", env=env)
        until(lambda: self.daemons.says(process, "is connected"), "the worker is connected", PATIENCE)
        return process

    def submit(self, name: str, size: int, *, seconds: float = 0.0, cpus: int = 1, timeout: float = 60.0) -> SubmittedJob:
        """Submit a job of so many tasks, which go straight to their class where it is there."""
        job = Job(name=name)
        for number in range(size):
            args = (str(self._folder), name, number, 0, seconds)
            job.function(work.work, args=args, resources=ResourceRequest(cpus=cpus), crash_limit="unlimited")
        return self.client.submit(job, timeout=timeout)

    def check(self, job: SubmittedJob, name: str, size: int, timeout: float = RECOVERED) -> None:
        """Wait for the end of a job, and see that each of its tasks has one outcome, the right one."""
        assert job.wait(timeout), job.info()
        assert job.results() == {number: work.digest(name, number) for number in range(size)}
        assert job.info().counts == {"succeeded": size}

    def class_queues(self) -> list[str]:
        """Names of the queues of all classes, those of the normal lane first."""
        found = [name for name in self.queues() if name.startswith("bj.v2.task.")]
        return sorted(found, key=lambda name: not name.endswith(Lane.normal.value))

    def queues(self) -> dict[str, str]:
        """Queues of this scene, and the node on which the leader of each is."""
        text = self.up.ctl("list_queues", "-p", self.vhost, "--formatter", "json", "name", "pid")
        return {queue["name"]: str(queue["pid"]) for queue in json.loads(text)}

    def declared(self) -> int:
        """How many class queues there are, asked quickly."""
        return self.up.management.request("GET", f"queues/{quote(self.vhost)}?columns=name").count(b'"bj.v2.task.')

    @property
    def up(self) -> RabbitMQNode:
        """A node that runs."""
        return next(node for node in self.nodes if node.running)

    def replicas(self, queue: str, *nodes: RabbitMQNode) -> None:
        """Let a quorum queue have members on these nodes alone."""
        for node in self.nodes:
            if node not in nodes:
                self.up.ctl("eval", f'rabbit_quorum_queue:delete_member(<<"{self.vhost}">>, <<"{queue}">>, \'{node.name}\').')

    def move_class(self, node: RabbitMQNode, pause: float = GONE) -> None:
        """Make the queues of the class again, on this node, after a pause."""

        async def move(queues: list[str]) -> None:
            broker = await open_broker(self.url(node.port), name="mover", timeout=PATIENCE)
            for queue in queues:
                await broker.delete(queue)
            await asyncio.sleep(pause)
            (name,) = {NAMES.class_in(queue) for queue in queues}
            await broker.declare((), [NAMES.class_queue(name, lane) for lane in Lane])
            await broker.close()

        asyncio.run(move(self.class_queues()))

    def silent(self, queues: Iterable[str]) -> frozenset[str]:
        """Those of these queues that do not answer."""

        async def ask() -> frozenset[str]:
            broker = await open_broker(self.url(self.up.port), name="asking", timeout=PATIENCE)
            try:
                return await broker.dead(sorted(queues))
            finally:
                await broker.close()

        return asyncio.run(ask())

    def limit_class(self, **definition: object) -> None:
        """Set a policy for class queues, or without one remove it."""
        path = f"policies/{quote(self.vhost)}/class"
        if definition:
            self.up.management.request("PUT", path, {"pattern": r"^bj\.v2\.task\.", "definition": definition, "apply-to": "queues"})
        else:
            self.up.management.request("DELETE", path)

    def delete(self, queue: str) -> None:
        """Delete a queue, as somebody who should not."""
        self.up.management.request("DELETE", f"queues/{quote(self.vhost)}/{quote(queue)}")

    def has_run(self, name: str, count: int) -> None:
        """Wait until so many tasks of a job have run to their end."""
        path = self._folder / "effects-worker-0.jsonl"
        until(lambda: path.exists() and path.read_text().count(f'"{name}"') >= count, f"{count} tasks of {name} have run", RECOVERED)


def wait(seconds: float) -> None:
    """Let a fault last; a window is a time."""
    time.sleep(seconds)
