"""How long it takes to pause, resume and cancel a job of many queued tasks, and how fast a worker drops their messages.

A coordinator in a process of its own, on the embedded broker (ledger synchronous=NORMAL) or a private RabbitMQ (FULL); no worker, so that
everything stays queued. Each time is from the request to the answer, and to the state that another question then finds. The messages are
dropped by a worker's own reading and machine: signature, decoding, and the decision, one core.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from broker_jobs import Job, LocalCluster
from broker_jobs.broker.port import Delivery
from broker_jobs.core.deliveries import Tag
from broker_jobs.core.states import JobState
from broker_jobs.errors import CoordinatorUnavailable
from broker_jobs.wire.messages import Revocation, Revoked, Role
from broker_jobs.wire.signing import Signer, SigningKey
from broker_jobs.wire.topology import Topology
from broker_jobs_worker.intake import read_chunk
from broker_jobs_worker.machine.events import ChunkArrived
from tests.support import cast, worker_world
from tests.support.rabbitmq import RabbitMQNode

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 100


def add(number: int) -> int:
    """The least a function can do."""
    return number + 1


def _measured(table: Table, what: str, act: Callable[[], object], state: Callable[[], JobState], expected: JobState) -> None:
    begun = time.perf_counter()
    act()
    answered = time.perf_counter() - begun
    while state() is not expected:
        time.sleep(0.01)
    table.add_row(what, f"{answered:.2f}", f"{time.perf_counter() - begun:.2f}")


def _ledger(table: Table, tasks: int, url: str | None) -> None:
    with LocalCluster(workers=0, url=url) as cluster, cluster.client() as client:
        job = Job(name="many")
        job.map(add, range(tasks))
        submitted = client.submit(job, timeout=3600)
        recorded = 0
        while recorded < tasks:
            # Questions stand behind the tasks until all of those are recorded.
            with contextlib.suppress(CoordinatorUnavailable):
                recorded = sum(submitted.info().counts.values())
            time.sleep(1)

        def state() -> JobState:
            return JobState(submitted.info().state)

        _measured(table, f"pause {tasks:,} tasks", submitted.pause, state, JobState.paused)
        _measured(table, "resume them", submitted.resume, state, JobState.waiting)
        _measured(table, "cancel them", lambda: submitted.cancel("enough"), state, JobState.canceled)


def _dropped(tasks: int) -> float:
    """Tasks of a canceled job that a worker drops in a second."""
    world = worker_world.World()
    world.connect()
    signer, names = Signer("bj", SigningKey.parse("ab" * 32)), Topology("bj")
    chunks = cast.job_chunks((cast.call(number) for number in range(tasks)), size=CHUNK)
    frames = [signer.seal(dataclasses.replace(chunk, header=None, seal=None), Role.coordinator) for chunk in chunks]
    queue = names.class_name(chunks[0].resource_class, chunks[0].lane)
    machine = world.machine
    machine.handle(Revoked((Revocation(chunks[0].job, reason="enough"),)), 0.0)
    begun = time.perf_counter()
    for tag, frame in enumerate(frames, 1):
        delivery = Delivery(queue, "", "", frame, Tag(machine.generation, tag))
        machine.handle(ChunkArrived(delivery, read_chunk(frame, queue, signer, names)), 0.0)
    return tasks / (time.perf_counter() - begun)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="./scripts/bench control", description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--rabbitmq", action="store_true", help="on RabbitMQ, not on the embedded broker")
    arguments = parser.parse_args()
    table = Table(title="seconds", title_justify="left", box=None)
    for column, justify in (("", "left"), ("answer", "right"), ("state", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    console = Console()
    with console.status(f"{arguments.tasks:,} tasks"), contextlib.ExitStack() as closing:
        url = None
        if arguments.rabbitmq:
            node = RabbitMQNode()
            closing.callback(node.remove)
            node.start()
            url = node.fresh_vhost()
        _ledger(table, arguments.tasks, url)
        rate = _dropped(min(arguments.tasks, 100_000))
    console.print(table)
    console.print(f"a worker drops {rate:,.0f} tasks of a canceled job a second")
    console.print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
