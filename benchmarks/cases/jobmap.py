"""A job of a million tasks: what it costs each process, and whether a task costs more in a large job than in a small one."""

from __future__ import annotations

import itertools
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks import ours, work
from benchmarks.case import RABBITMQ, SAFE, Better, Bound, Case, Figure, Side, Target
from benchmarks.measure import ALLOWANCE, GROWTH, Measure, timed
from broker_jobs import Job

if TYPE_CHECKING:
    from benchmarks.measure import Setting
    from broker_jobs import Client
    from broker_jobs.client import SubmittedJob

FIRST: Final = 1000
OFTEN: Final = 9
"""So many jobs of a size that takes less than a second or so: of one, much is chance."""
LONG: Final = 50_000
SUBMIT_SECONDS: Final = 600.0


def mapped(setting: Setting) -> Measure:
    """`Job.map` of 1,000 tasks, 10,000, … as far as the time goes; memory and submission are those of the last."""
    figures: dict[str, float] = {}
    costs = []
    with ours.cluster(setting) as (made, client):
        coordinator = ours.process(made, "coordinator")
        for tasks in itertools.takewhile(lambda size: size <= setting.tasks, (FIRST * GROWTH**power for power in itertools.count())):
            if costs and costs[-1] * tasks > setting.seconds * ALLOWANCE * 1e6:
                break
            times = [_one(client, tasks) for _ in range(1 if tasks > LONG else OFTEN)]
            costs.append(median(map(sum, times)) / tasks * 1e6)
            figures |= {"submit": times[-1][0], "rate": 1e6 / costs[-1], "submitter": ours.peak_mb(), f"cost {tasks}": costs[-1]}
            figures["coordinator"] = ours.peak_mb(coordinator.pid)
    figures["spread"] = max(costs) / min(costs)
    return Measure(tasks_of(figures), figures)


def _one(client: Client, tasks: int) -> tuple[float, float]:
    """Seconds to submit a job, and from then to its end."""
    job = Job()
    job.map(work.same, range(tasks))
    submitted: list[SubmittedJob] = []
    submission = timed(lambda: submitted.append(client.submit(job, timeout=SUBMIT_SECONDS)))
    ending = timed(lambda: client.wait_for_jobs(submitted, progress=False))
    client.forget(submitted[0])
    return submission, ending


def tasks_of(figures: dict[str, float]) -> int:
    """The largest job that was measured."""
    return max(int(key.removeprefix("cost ")) for key in figures if key.startswith("cost "))


CASE = Case(
    name="jobmap",
    title="one job.map of 1,000,000 no-ops",
    counted=(
        "of the largest job that fits into the time: tasks a second to the end of the job, seconds of `submit`, most memory of submitter "
        "and coordinator; microseconds a task for each size (of small jobs the median of nine), and the largest of those by the "
        "smallest"
    ),
    tasks=1_000_000,
    sides=(Side(RABBITMQ, mapped, SAFE, rabbitmq=True),),
    figures=(
        Figure("rate", "tasks/s"),
        Figure("submit", "s to submit", Better.lower, 1),
        Figure("submitter", "MB submitter", Better.lower),
        Figure("coordinator", "MB coordinator", Better.lower),
        *(Figure(f"cost {FIRST * GROWTH**power}", f"µs/task of {FIRST * GROWTH**power:,}", Better.lower) for power in range(4)),
        Figure("spread", "× cheapest", Better.lower, 2),
    ),
    targets=(
        Target(RABBITMQ, "submitter", Bound.most, 250, whole=True),
        Target(RABBITMQ, "coordinator", Bound.most, 400, whole=True),
        Target(RABBITMQ, "submit", Bound.most, 25, whole=True),
        Target(RABBITMQ, "spread", Bound.most, 1.25, whole=True),
    ),
    once=True,
    seconds=150,
    limit=600,
)
