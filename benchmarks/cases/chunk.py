"""Slow tasks that travelled together: a chunk splits where others have room."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from benchmarks import ours
from benchmarks.case import EMBEDDED, RABBITMQ, SAFE, SAFE_EMBEDDED, Better, Bound, Case, Figure, Side, Target
from benchmarks.measure import Measure, timed
from broker_jobs import Job

if TYPE_CHECKING:
    from benchmarks.measure import Setting
    from broker_jobs import Client

WORKERS: Final = 5
CPUS: Final = 2
TASKS: Final = WORKERS * CPUS


def slept(setting: Setting) -> Measure:
    """Five workers with two slots each, all idle and warm."""
    with ours.cluster(setting, WORKERS, CPUS) as (_, client):
        for _ in range(3):
            _sleep(client, 0.1)
        return Measure(TASKS, {"makespan": timed(lambda: _sleep(client, 1.0))})


def _sleep(client: Client, seconds: float) -> None:
    job = Job()
    job.map(time.sleep, [seconds] * TASKS)
    assert client.wait_for_jobs([client.submit(job)], progress=False)


CASE = Case(
    name="chunk",
    title="ten tasks of 1 s in one map, 10 free slots on 5 workers",
    counted="seconds from the submission to the end of the job",
    tasks=TASKS,
    sides=(Side(RABBITMQ, slept, SAFE, rabbitmq=True), Side(EMBEDDED, slept, SAFE_EMBEDDED)),
    figures=(Figure("makespan", "s", Better.lower, 2),),
    targets=(Target(RABBITMQ, "makespan", Bound.most, 1.5), Target(EMBEDDED, "makespan", Bound.most, 1.5)),
    once=True,
)
