"""Functions in a row, each of which takes the value of the one before."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import ours, work
from benchmarks.bare import amqp, embedded
from benchmarks.case import EMBEDDED, RABBITMQ, SAFE, SAFE_EMBEDDED, Better, Bound, Case, Figure, Side, Target
from benchmarks.cases.latency import BARE, BARE_EMBEDDED, BARE_SAFE
from benchmarks.measure import Measure, timed
from benchmarks.peers import settings
from broker_jobs import Job

if TYPE_CHECKING:
    from benchmarks.measure import Setting
    from broker_jobs import Client, Task

TRIPS = 300


def chained(setting: Setting) -> Measure:
    """One job: the whole chain, from its submission to its last result, divided by its steps."""
    with ours.cluster(setting) as (_, client):
        _chain(client, min(20, setting.tasks))
        seconds = timed(lambda: _chain(client, setting.tasks))
    return Measure(setting.tasks, {"step": seconds / setting.tasks * 1000})


def _chain(client: Client, steps: int) -> None:
    job = Job(name="chain")
    task: Task = job.function(work.add, args=(0,))
    for _ in range(steps - 1):
        task = job.function(work.add, args=(task.output,))
    assert client.submit(job).result(task) == steps


def bare(setting: Setting) -> Measure:
    """The bare flow; its single round trips too, in which a step is measured."""
    if setting.url:
        calls, steps = amqp.measure(setting.url, calls=TRIPS, steps=setting.tasks)
    else:
        calls, steps = embedded.measure(f"sqlite:///{Path(setting.folder, 'bare.db')}", calls=TRIPS, steps=setting.tasks)
    return Measure(setting.tasks, {"step": statistics.mean(steps) * 1000, "trip": statistics.median(calls) * 1000})


CASE = Case(
    name="chain",
    title="chain of 300 dependent functions",
    counted="milliseconds of a step: from the submission to the last result, divided by 300; round trip: median of single ones",
    tasks=300,
    sides=(
        Side(RABBITMQ, chained, SAFE, rabbitmq=True),
        Side(EMBEDDED, chained, SAFE_EMBEDDED),
        Side(BARE, bare, BARE_SAFE, rabbitmq=True),
        Side(BARE_EMBEDDED, bare, BARE_SAFE),
        settings.celery("chained", settings.CELERY_FAST),
        settings.hyperqueue("chained", tasks=100),
        settings.dask("chained"),
    ),
    figures=(Figure("step", "ms/step", Better.lower, 2), Figure("trip", "ms round trip", Better.lower, 2)),
    targets=(
        Target(RABBITMQ, "step", Bound.most, 1.5, other=(BARE, "trip")),
        Target(EMBEDDED, "step", Bound.most, 2),
    ),
)
