"""HyperQueue: its wheel has the server, the worker and the client, but not the command, so they are threads of its `LocalCluster`.

Its documentation: no files for standard output and error where many short tasks are run. Its wait looks once a second, so that short
measurements are rounded up.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
from hyperqueue.task.function import PythonEnv

from benchmarks import work
from benchmarks.measure import FIRST, Measure, rate, timed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hyperqueue import Client

    from benchmarks.measure import Setting

FIRST_FUNCTIONS = 20
QUIET = {"stdout": None, "stderr": None}


@contextlib.contextmanager
def cluster(setting: Setting) -> Iterator[Client]:
    """A client of a cluster with 2 cores."""
    os.environ["PYTHONPATH"] = str(Path(work.__file__).parents[1])  # for the interpreters of its functions
    os.chdir(setting.folder)
    with LocalCluster(str(Path(setting.folder, "server")), WorkerConfig(cores=2)) as made:
        yield made.client(python_env=PythonEnv(python_bin=sys.executable))


def _measure(setting: Setting, add: Callable[[Job], object], first: int) -> Measure:
    with cluster(setting) as client:

        def run(tasks: int) -> None:
            job = Job()
            for _ in range(tasks):
                add(job)
            client.wait_for_jobs([client.submit(job)])

        return rate(setting, run, first)


def programs(setting: Setting) -> Measure:
    """A job of programs."""
    return _measure(setting, lambda job: job.program(["/bin/true"], **QUIET), FIRST)


def functions(setting: Setting) -> Measure:
    """A job of functions; each starts an interpreter there."""
    return _measure(setting, lambda job: job.function(work.same, args=(1,), **QUIET), FIRST_FUNCTIONS)


def chained(setting: Setting) -> Measure:
    """Programs in a row, since functions would start an interpreter each."""
    with cluster(setting) as client:

        def run(steps: int) -> None:
            job = Job()
            task = job.program(["/bin/true"], **QUIET)
            for _ in range(steps - 1):
                task = job.program(["/bin/true"], deps=[task], **QUIET)
            client.wait_for_jobs([client.submit(job)])

        run(2)
        return Measure(setting.tasks, {"step": timed(lambda: run(setting.tasks)) / setting.tasks * 1000})
