"""Celery: one worker, ``-c 2``. Its settings are in `celery_app`."""

from __future__ import annotations

import contextlib
import importlib
import os
import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks.measure import Measure, rate, timed
from benchmarks.peers.programs import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.measure import Setting

APP = "benchmarks.peers.celery_app"
CHUNK = 100
WARM_UP = 50


@contextlib.contextmanager
def worker(setting: Setting, *, safe: bool) -> Iterator[Any]:
    """A worker that works, and the module of its application."""
    os.environ |= {"BENCH_URL": setting.url, "BENCH_SAFE": str(int(safe))}
    module = importlib.import_module(APP)
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=warning")
    with running("celery", f"--app={APP}", "worker", "--concurrency=2", *quiet):
        assert module.same.delay(1).get(timeout=60) == 1
        yield module


def mapped_safe(setting: Setting) -> Measure:
    """A group, with results in order."""
    with worker(setting, safe=True) as module:
        return rate(setting, lambda tasks: _mapped(module, tasks))


def mapped_fast(setting: Setting) -> Measure:
    """The same with the fastest settings."""
    with worker(setting, safe=False) as module:
        return rate(setting, lambda tasks: _mapped(module, tasks))


def _mapped(module: Any, tasks: int) -> None:
    from celery import group

    assert group(module.same.s(number) for number in range(tasks)).apply_async().join_native() == list(range(tasks))


def in_chunks_fast(setting: Setting) -> Measure:
    """`chunks`, Celery's own way to put many calls into one message."""
    with worker(setting, safe=False) as module:

        def run(tasks: int) -> None:
            results = module.same.chunks(((number,) for number in range(tasks)), CHUNK).apply_async().get()
            assert [value for chunk in results for value in chunk] == list(range(tasks))

        return rate(setting, run)


def submitted_safe(setting: Setting) -> Measure:
    """`apply_async` call by call, then all results."""
    with worker(setting, safe=True) as module:

        def run(tasks: int) -> None:
            with module.app.producer_or_acquire() as producer:  # one connection and channel for all, as for a group
                results = [module.same.apply_async((number,), producer=producer) for number in range(tasks)]
            assert [result.get() for result in results] == list(range(tasks))

        return rate(setting, run)


def called_fast(setting: Setting) -> Measure:
    """`delay` and `get`, one after the other."""
    taken = []
    with worker(setting, safe=False) as module:
        for number in range(WARM_UP + setting.tasks):
            begun = time.perf_counter()
            assert module.same.delay(number).get() == number
            taken.append(time.perf_counter() - begun)
    taken = taken[WARM_UP:]
    return Measure(len(taken), {"p50": statistics.median(taken) * 1000, "p99": statistics.quantiles(taken, n=100)[98] * 1000})


def chained_fast(setting: Setting) -> Measure:
    """A `chain`: each message has the rest of the chain in it."""
    from celery import chain

    with worker(setting, safe=False) as module:
        signature = chain(module.add.s(0), *(module.add.s() for _ in range(setting.tasks - 1)))
        seconds = timed(lambda: signature.apply_async().get())
    return Measure(setting.tasks, {"step": seconds / setting.tasks * 1000})
