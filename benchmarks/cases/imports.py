"""What a script pays before its first line."""

from __future__ import annotations

from benchmarks import importing
from benchmarks.case import OURS, Better, Bound, Case, Figure, Side, Target
from benchmarks.peers import settings

CASE = Case(
    name="imports",
    title="import broker_jobs",
    counted="milliseconds of the import in a fresh interpreter, median of 5, files cached",
    tasks=1,
    sides=(
        Side(OURS, importing.broker_jobs, ""),
        *(
            Side(name, f"benchmarks.importing:{function}", "")
            for name, function in {
                "Celery": "celery",
                settings.DRAMATIQ: "dramatiq",
                settings.TASKIQ: "taskiq",
                settings.DASK: "dask",
                settings.HYPERQUEUE: "hyperqueue",
            }.items()
        ),
    ),
    figures=(Figure("time", "ms", Better.lower),),
    targets=(Target(OURS, "time", Bound.most, 100),),
    once=True,
)
