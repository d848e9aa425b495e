"""Python functions as tasks of their own in one job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import ours, work
from benchmarks.case import EMBEDDED, RABBITMQ, RATE, SAFE, SAFE_EMBEDDED, Bound, Case, Side, Target
from benchmarks.measure import rate
from benchmarks.peers import settings
from broker_jobs import Job

if TYPE_CHECKING:
    from benchmarks.measure import Measure, Setting


def functions(setting: Setting) -> Measure:
    """`Job.function`, one by one, with their values."""
    with ours.cluster(setting) as (_, client):

        def run(tasks: int) -> None:
            job = Job()
            made = [job.function(work.same, args=(number,)) for number in range(tasks)]
            results = client.submit(job).results()
            assert [results[task.number] for task in made] == list(range(tasks))

        return rate(setting, run)


CASE = Case(
    name="functions",
    title="2,000 Python functions in one job",
    counted="functions a second from the submission to the last result (HyperQueue keeps none: to the end of the job)",
    tasks=2000,
    sides=(
        Side(RABBITMQ, functions, SAFE, rabbitmq=True),
        Side(EMBEDDED, functions, SAFE_EMBEDDED),
        settings.hyperqueue("functions", seconds=7),
    ),
    figures=(RATE,),
    targets=(Target(RABBITMQ, "rate", Bound.least, 300, other=(settings.HYPERQUEUE, "rate")),),
)
