"""What daemons take while there is nothing to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from benchmarks import ours
from benchmarks.case import EMBEDDED, RABBITMQ, SAFE, SAFE_EMBEDDED, Better, Bound, Case, Figure, Side, Target
from benchmarks.measure import Measure

if TYPE_CHECKING:
    import psutil

    from benchmarks.measure import Setting

SECONDS: Final = 20


def idle(setting: Setting) -> Measure:
    """After some calls, so that everything is loaded and children are warm."""
    with ours.cluster(setting) as (made, _):
        worker, coordinator = ours.process(made, "worker"), ours.process(made, "coordinator")
        children = worker.children(recursive=True)
        time.sleep(1)
        before = {each: _cpu(each) for each in (worker, coordinator)}
        time.sleep(SECONDS)
        return Measure(
            1,
            {
                "worker": worker.memory_info().rss / 1e6,
                "worker cpu": (_cpu(worker) - before[worker]) / SECONDS * 100,
                "children": sum(child.memory_info().rss for child in children) / 1e6,
                "coordinator": coordinator.memory_info().rss / 1e6,
                "coordinator cpu": (_cpu(coordinator) - before[coordinator]) / SECONDS * 100,
            },
        )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


CASE = Case(
    name="idle",
    title="an idle worker and an idle coordinator",
    counted="resident memory, and processor time in percent of a core over 20 s; children: all that the worker's process has started",
    tasks=1,
    sides=(Side(RABBITMQ, idle, SAFE, rabbitmq=True), Side(EMBEDDED, idle, SAFE_EMBEDDED)),
    figures=(
        Figure("worker", "MB worker", Better.lower),
        Figure("worker cpu", "% worker", Better.lower, 2),
        Figure("children", "MB children", Better.lower),
        Figure("coordinator", "MB coordinator", Better.lower),
        Figure("coordinator cpu", "% coordinator", Better.lower, 2),
    ),
    targets=(
        Target(RABBITMQ, "worker", Bound.most, 60),
        Target(RABBITMQ, "worker cpu", Bound.most, 0.5),
        Target(RABBITMQ, "coordinator cpu", Bound.most, 0.5),
        Target(EMBEDDED, "worker cpu", Bound.most, 0.5),
        Target(EMBEDDED, "coordinator cpu", Bound.most, 0.5),
    ),
    once=True,
)
