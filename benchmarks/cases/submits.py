"""Many single calls from one client, each with a future of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import ours, work
from benchmarks.case import EMBEDDED, RABBITMQ, RATE, SAFE, SAFE_EMBEDDED, Bound, Case, Side, Target
from benchmarks.measure import rate
from benchmarks.peers import settings

if TYPE_CHECKING:
    from benchmarks.measure import Measure, Setting


def submitted(setting: Setting) -> Measure:
    """`Executor.submit`, call by call, then all results."""
    with ours.cluster(setting) as (_, client), client.executor() as pool:

        def run(tasks: int) -> None:
            futures = [pool.submit(work.same, number) for number in range(tasks)]
            assert [future.result() for future in futures] == list(range(tasks))

        return rate(setting, run)


CASE = Case(
    name="submit",
    title="10,000 separate submissions of one function each, from one client",
    counted="calls a second from the first submission to the last result; where a system keeps no results, to the last call that ran",
    tasks=10_000,
    sides=(
        Side(RABBITMQ, submitted, SAFE, rabbitmq=True),
        Side(EMBEDDED, submitted, SAFE_EMBEDDED),
        settings.celery("submitted", settings.CELERY_SAFE),
        settings.dramatiq("counted"),
    ),
    figures=(RATE,),
    targets=(
        Target(RABBITMQ, "rate", Bound.least, 5, other=(settings.CELERY_SAFE, "rate")),
        Target(RABBITMQ, "rate", Bound.least, 1, other=(settings.DRAMATIQ, "rate")),
    ),
)
