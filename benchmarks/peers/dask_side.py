"""dask.distributed: a scheduler and 2 workers of 1 thread, as processes of their own.

Its documentation: `batch_size` of `map` for very many inputs, `pure=False` for calls that are not to be recognised as the same.
"""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import TYPE_CHECKING

from distributed import Client, wait

from benchmarks import work
from benchmarks.measure import Measure, rate, timed
from benchmarks.peers.programs import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measure import Setting

BATCH = 1000
LAYERS = 100
PREDECESSORS = 10


@contextlib.contextmanager
def cluster(setting: Setting) -> Iterator[Client]:
    """A client of a cluster that works."""
    file = str(Path(setting.folder, "scheduler.json"))
    here = ("--host", "127.0.0.1", "--no-dashboard")
    workers = ("--nworkers", "2", "--nthreads", "1", "--local-directory", setting.folder)
    with (
        running("dask", "scheduler", "--port", "0", *here, "--scheduler-file", file),
        running("dask", "worker", *here, *workers, "--scheduler-file", file),
        Client(scheduler_file=file, timeout=60) as client,
    ):
        client.wait_for_workers(2, timeout=60)
        yield client


def mapped(setting: Setting) -> Measure:
    """`map` and `gather`."""
    with cluster(setting) as client:

        def run(tasks: int) -> None:
            assert client.gather(client.map(work.same, range(tasks), pure=False, batch_size=BATCH)) == list(range(tasks))

        return rate(setting, run)


def chained(setting: Setting) -> Measure:
    """Futures as arguments."""
    with cluster(setting) as client:
        client.submit(work.add, 0, pure=False).result()

        def run() -> None:
            future = client.submit(work.add, 0, pure=False)
            for _ in range(setting.tasks - 1):
                future = client.submit(work.add, future, pure=False)
            assert future.result() == setting.tasks

        return Measure(setting.tasks, {"step": timed(run) / setting.tasks * 1000})


def layered(setting: Setting) -> Measure:
    """The graph as a dictionary, sent at once: `get`, as collections of dask do."""
    with cluster(setting) as client:

        def run(tasks: int) -> None:
            chance = random.Random(1)
            before: list[str] = []
            graph: dict[str, tuple[object, ...]] = {}
            for layer, width in enumerate(work.shares(tasks, min(LAYERS, tasks))):
                names = [f"{tasks}-{layer}-{number}" for number in range(width)]
                for name in names:
                    graph[name] = (work.same, 0, *chance.sample(before, min(PREDECESSORS, len(before))))
                before = names
            wait(client.get(graph, before, sync=False))

        return rate(setting, run, 1000)
