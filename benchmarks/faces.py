"""How fast programs of other systems run over their faces: from the first line to the last result.

pinexQ: jobs of one step, each made by `create_and_configure_rapidly`, run by a coordinator and a worker in processes of their own, and
fetched by `wait_for_completion` and `get_result`; on the embedded broker (ledger synchronous=NORMAL), or on a private RabbitMQ (FULL).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import time

from rich.console import Console

from benchmarks import faces_xqute
from broker_jobs import LocalCluster
from broker_jobs.compat.pinexq import Job, ProcessingStep
from tests.support import served_pinexq
from tests.support.rabbitmq import RabbitMQNode


def _pinexq(jobs: int, url: str | None) -> float:
    """Seconds for so many jobs, made and fetched one after the other."""
    with LocalCluster(workers=1, url=url, steps=[served_pinexq]) as cluster, cluster.client() as client:
        step = ProcessingStep.from_name(client, "my_function")
        warm = Job(client).create_and_configure_rapidly(name="warm", processing_step_instance=step, parameters='{"x": 1}')
        warm.wait_for_completion(60)
        begun = time.perf_counter()
        made = [
            Job(client).create_and_configure_rapidly(
                name=f"job {x}", processing_step_instance=step, tags=["many"], parameters=f'{{"x": {x}}}'
            )
            for x in range(jobs)
        ]
        results = [job.wait_for_completion(300).get_result() for job in made]
        seconds = time.perf_counter() - begun
    assert results == [{"square": x * x} for x in range(jobs)]
    return seconds


def main() -> None:
    """Measure, and print a line for each face."""
    parser = argparse.ArgumentParser(prog="./scripts/bench faces", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rabbitmq", action="store_true", help="on RabbitMQ, not on the embedded broker")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as closing:
        where, url = "embedded, ledger synchronous=NORMAL", None
        if arguments.rabbitmq:
            node = RabbitMQNode()
            closing.callback(node.remove)
            node.start()
            where, url = "RabbitMQ, ledger synchronous=FULL", node.fresh_vhost()
        seconds = _pinexq(arguments.jobs, url)
    console = Console(soft_wrap=True)
    console.print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}; {where}"
    )
    console.print(f"pinexQ: {arguments.jobs:,} jobs by create_and_configure_rapidly, run and fetched: {seconds:.2f} s")
    faces_xqute.rows(lambda what, took, original: console.print(f"{what}, embedded: {took:.2f} s (xqute itself: {original:g} s)"))


if __name__ == "__main__":
    main()
