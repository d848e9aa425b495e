"""Many no-op calls, results in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import ours, work
from benchmarks.case import EMBEDDED, RABBITMQ, RATE, SAFE, SAFE_EMBEDDED, Bound, Case, Side, Target
from benchmarks.measure import rate
from benchmarks.peers import settings

if TYPE_CHECKING:
    from benchmarks.measure import Measure, Setting


def mapped(setting: Setting) -> Measure:
    """`Client.map`."""
    with ours.cluster(setting) as (_, client):

        def run(tasks: int) -> None:
            for number, value in enumerate(client.map(work.same, range(tasks))):
                assert number == value

        return rate(setting, run)


CASE = Case(
    name="map",
    title="map of 200,000 no-ops, results in order, 1 worker with 2 children",
    counted="tasks a second from the first call to the last result; where a system keeps no results, to the last call that ran",
    tasks=200_000,
    sides=(
        Side(RABBITMQ, mapped, SAFE, rabbitmq=True),
        Side(EMBEDDED, mapped, SAFE_EMBEDDED),
        settings.celery("mapped", settings.CELERY_SAFE),
        settings.celery("mapped", settings.CELERY_FAST),
        settings.celery("in_chunks", settings.CELERY_CHUNKS),
        settings.dramatiq("counted"),
        settings.taskiq("counted"),
        settings.dask("mapped"),
    ),
    figures=(RATE,),
    targets=(
        Target(RABBITMQ, "rate", Bound.least, 25_000),
        Target(RABBITMQ, "rate", Bound.least, 60, other=(settings.CELERY_SAFE, "rate")),
        Target(EMBEDDED, "rate", Bound.least, 25_000),
    ),
)
