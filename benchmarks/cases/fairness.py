"""Many jobs of many submitters at once: nobody waits much longer than a fair share of the cluster would make him."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from typing import TYPE_CHECKING, Final

from benchmarks import ours, work
from benchmarks.case import RABBITMQ, RATE, SAFE, Better, Bound, Case, Figure, Side, Target
from benchmarks.measure import ALLOWANCE, GROWTH, Measure, timed
from broker_jobs import Client, Job

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from benchmarks.measure import Setting

SUBMITTERS: Final = 20
JOBS_EACH: Final = 5
FIRST: Final = 100
"""Tasks of each job at first."""
SUBMIT_SECONDS: Final = 600.0


def submitter(connection: Connection, url: str, namespace: str, key: str) -> None:
    """A process that submits one job after the other: for each number of tasks that it is told, seconds of each of its jobs."""
    with Client(url, namespace=namespace, signing_key=key) as client:
        connection.send("up")
        while tasks := connection.recv():
            connection.send([timed(lambda: _job(client, tasks)) for _ in range(JOBS_EACH)])


def _job(client: Client, tasks: int) -> None:
    job = Job()
    job.map(work.same, range(tasks))
    assert client.wait_for_jobs([client.submit(job, timeout=SUBMIT_SECONDS)], progress=False)


def together(setting: Setting) -> Measure:
    """20 processes, each with five jobs one after the other; beside it one job of as many tasks as all of these, alone."""
    jobs = SUBMITTERS * JOBS_EACH
    with ours.cluster(setting) as (made, client), contextlib.ExitStack() as closing:
        context = multiprocessing.get_context("spawn")
        ends = []
        for _ in range(SUBMITTERS):
            ours_end, theirs = context.Pipe()
            process = context.Process(target=submitter, args=(theirs, made.url, made.namespace, made.key), daemon=True)
            process.start()
            closing.callback(process.join)
            closing.callback(ours_end.send, 0)
            ends.append(ours_end)
        for end in ends:
            end.recv()
        most = max(1, setting.tasks // jobs)
        tasks = min(FIRST, most)
        while True:
            alone = jobs * tasks / timed(lambda: _job(client, jobs * tasks))  # noqa: B023 (called at once)
            begun = time.perf_counter()
            for end in ends:
                end.send(tasks)
            waits = [seconds for end in ends for seconds in end.recv()]
            total = jobs * tasks / (time.perf_counter() - begun)
            more = min(tasks * GROWTH, most)
            if more == tasks or more * jobs / total > setting.seconds * ALLOWANCE:
                break
            tasks = more
    fair = SUBMITTERS * tasks / total
    return Measure(jobs * tasks, {"rate": total, "alone": alone, "kept": total / alone, "wait": max(waits) / fair})


CASE = Case(
    name="fairness",
    title="100 jobs of 10,000 no-ops from 20 submitters at once",
    counted=(
        "tasks a second of all together and of one job of the same number of tasks; the longest time of a job, from its submission to its "
        "end, by the fair share: 20 such jobs at the rate of all together. Each submitter has five jobs, one after the other"
    ),
    tasks=1_000_000,
    sides=(Side(RABBITMQ, together, SAFE, rabbitmq=True),),
    figures=(
        RATE,
        Figure("alone", "tasks/s alone"),
        Figure("kept", "× alone", digits=2),
        Figure("wait", "× fair share waited", Better.lower, 2),
    ),
    targets=(Target(RABBITMQ, "wait", Bound.most, 3), Target(RABBITMQ, "kept", Bound.least, 0.8)),
    once=True,
    seconds=240,
    limit=900,
)
