"""A layered graph: each task waits for ten of the layer before."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from benchmarks import ours, work
from benchmarks.case import EMBEDDED, RABBITMQ, RATE, SAFE, SAFE_EMBEDDED, Bound, Case, Side, Target
from benchmarks.measure import rate
from benchmarks.peers import settings
from broker_jobs import Job

if TYPE_CHECKING:
    from benchmarks.measure import Measure, Setting
    from broker_jobs import Client, Task

LAYERS: Final = 100
PREDECESSORS: Final = 10
FIRST: Final = 1000
SUBMIT_SECONDS: Final = 600.0


def layered(setting: Setting) -> Measure:
    """One job; building it is the user's program and counts too."""
    with ours.cluster(setting) as (_, client):
        return rate(setting, lambda tasks: _run(client, tasks), FIRST)


def _run(client: Client, tasks: int) -> None:
    chance = random.Random(1)
    job = Job()
    before: list[Task] = []
    for width in work.shares(tasks, min(LAYERS, tasks)):
        before = [job.function(work.same, args=(0,), deps=chance.sample(before, min(PREDECESSORS, len(before)))) for _ in range(width)]
    assert client.wait_for_jobs([client.submit(job, timeout=SUBMIT_SECONDS)], progress=False)


CASE = Case(
    name="graph",
    title="layered graph of 100,000 no-ops: 100 layers, 10 random predecessors each",
    counted="tasks a second from the first line that builds the graph to the end of the job",
    tasks=100_000,
    sides=(
        Side(RABBITMQ, layered, SAFE, rabbitmq=True),
        Side(EMBEDDED, layered, SAFE_EMBEDDED),
        settings.dask("layered"),
    ),
    figures=(RATE,),
    targets=(Target(RABBITMQ, "rate", Bound.least, 8000),),
    once=True,
    seconds=30,
)
