"""How long a call takes, and a step of a chain, beside the bare flow: the same messages, queues and confirms without broker-jobs.

Both are measured in the same run on the same broker, embedded and RabbitMQ. Safety level: RabbitMQ with quorum queues, persistent messages,
publisher confirms, ledger committed with synchronous=FULL before the acknowledgement; embedded with synchronous=NORMAL.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks import bare_amqp, bare_embedded
from broker_jobs import Client, Job, LocalCluster
from broker_jobs.client.node import stop_node
from broker_jobs.wire.signing import new_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broker_jobs import Task

WARM_UP = 50


def add(number: int) -> int:
    """The least a function can do."""
    return number + 1


def _calls(client: Client, calls: int) -> list[float]:
    taken = []
    for number in range(WARM_UP + calls):
        begun = time.perf_counter()
        assert client.call(add, number) == number + 1
        taken.append(time.perf_counter() - begun)
    return taken[WARM_UP:]


def _chain(client: Client, steps: int) -> float:
    """Seconds of a step: the whole chain, from its submission to its last result, divided."""
    job = Job(name="chain")
    task: Task = job.function(add, args=(0,))
    for _ in range(steps - 1):
        task = job.function(add, args=(task.output,))
    begun = time.perf_counter()
    submitted = client.submit(job)
    assert submitted.result(task) == steps
    return (time.perf_counter() - begun) / steps


def _row(table: Table, what: str, bare: float, ours: float) -> None:
    table.add_row(what, f"{bare * 1000:.2f}", f"{ours * 1000:.2f}", f"{ours / bare:.2f}")


def _compare(
    table: Table,
    where: str,
    connect: Callable[[], contextlib.AbstractContextManager[Client]],
    *,
    bare: Callable[[], tuple[list[float], list[float]]],
    calls: int,
    steps: int,
) -> None:
    bare_calls, bare_steps = bare()
    with connect() as client:
        ours = _calls(client, calls)
        _chain(client, min(steps, 20))
        step = _chain(client, steps)
    cut = statistics.quantiles
    _row(table, f"{where}: call, p50", statistics.median(bare_calls), statistics.median(ours))
    _row(table, f"{where}: call, p99", cut(bare_calls, n=100)[98], cut(ours, n=100)[98])
    _row(table, f"{where}: step of a {steps}-task chain", statistics.mean(bare_steps), step)


@contextlib.contextmanager
def _embedded(home: Path) -> Iterator[Client]:
    """A client as every user's without an address: the node that it has started does the work."""
    os.environ["BROKER_JOBS_HOME"] = str(home)
    try:
        with Client() as client:
            yield client
    finally:
        stop_node(home)


@contextlib.contextmanager
def _cluster(url: str) -> Iterator[Client]:
    """A client of a coordinator and a worker in processes of their own."""
    with LocalCluster(workers=1, url=url) as cluster, cluster.client() as client:
        yield client


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="./scripts/bench latency", description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    os.environ.setdefault("BROKER_JOBS_SIGNING_KEY", new_key())
    table = Table(title="latency in ms", title_justify="left", box=None)
    for column, justify in (("", "left"), ("bare flow", "right"), ("broker-jobs", "right"), ("ratio", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    console = Console()
    with tempfile.TemporaryDirectory() as folder, console.status("embedded"):
        bare_url = f"sqlite:///{folder}/bare.db"
        _compare(
            table,
            "embedded",
            lambda: _embedded(Path(folder, "home")),
            bare=lambda: bare_embedded.measure(bare_url, calls=arguments.calls, steps=arguments.steps),
            calls=arguments.calls,
            steps=arguments.steps,
        )
    from tests.support.rabbitmq import RabbitMQNode  # what follows alone needs RabbitMQ

    node = RabbitMQNode()
    with console.status("RabbitMQ"), contextlib.ExitStack() as cleanup:
        cleanup.callback(node.remove)
        node.start()
        _compare(
            table,
            "RabbitMQ",
            lambda: _cluster(node.fresh_vhost()),
            bare=lambda: bare_amqp.measure(node.fresh_vhost(), calls=arguments.calls, steps=arguments.steps),
            calls=arguments.calls,
            steps=arguments.steps,
        )
    console.print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, Linux {platform.release()}")
    console.print(table)


if __name__ == "__main__":
    main()
