"""A large graph completes while its workers and its coordinator are killed again and again."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job
from broker_jobs.core.states import JOB_ENDED
from broker_jobs.wire.signing import new_key
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    from pathlib import Path

    from broker_jobs import Task
    from tests.support.rabbitmq import RabbitMQNode

LAYERS, WIDTH, FAN_IN = 10, 100, 3
MOST_KILLS = 40
"""Of workers. A machine that is so busy that these last for longer than the job may finish it in peace."""


def digest(number: int, *parents: str) -> str:
    """Something that depends on all predecessors and cannot be right by chance."""
    return hashlib.sha256(repr((number, parents)).encode()).hexdigest()


def slow_digest(number: int, *parents: str) -> str:
    """The same, so slowly that the job lasts for several kills on any machine."""
    time.sleep(0.03)
    return digest(number, *parents)


def _edges(seed: int) -> list[tuple[int, ...]]:
    """The predecessors of each task of a layered graph."""
    rng = random.Random(seed)
    edges: list[tuple[int, ...]] = []
    for layer in range(LAYERS):
        before = range((layer - 1) * WIDTH, layer * WIDTH)
        edges += [tuple(sorted(rng.sample(before, FAN_IN))) if layer else () for _ in range(WIDTH)]
    return edges


@pytest.mark.long
@pytest.mark.timeout(280)
def test_a_layered_graph_survives_the_death_of_workers_and_coordinators(rabbitmq: RabbitMQNode, tmp_path: Path) -> None:
    url, key, ledger = rabbitmq.fresh_vhost(), new_key(), tmp_path / "ledger.db"
    edges = _edges(seed=2026)
    with Daemons(tmp_path, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": key}) as daemons:
        coordinate = ("coordinator", "start", "--store", f"sqlite:///{ledger}")
        work = ("worker", "start", "--cpus", "2")
        coordinator = daemons.start(*coordinate)
        workers = [daemons.start(*work), daemons.start(*work)]
        with Client(url, signing_key=key) as client:
            job = Job(name="layers")
            tasks: list[Task] = []
            for number, parents in enumerate(edges):
                args = (number, *(tasks[parent].output for parent in parents))
                tasks.append(job.function(slow_digest, args=args, crash_limit="unlimited"))
            submitted = client.submit(job)
            worker_kills = coordinator_kills = 0
            deadline = time.monotonic() + 240
            while submitted.info().state not in JOB_ENDED:
                assert time.monotonic() < deadline, f"{submitted.info()}\n{daemons.logs()}"
                time.sleep(1)  # the rhythm of the kills, not a wait for anything
                victim = worker_kills % 2
                if worker_kills == MOST_KILLS or not daemons.says(workers[victim], "is connected"):
                    continue  # a machine that takes longer to start a worker than the rhythm allows
                daemons.kill(workers[victim])
                workers[victim] = daemons.start(*work)
                worker_kills += 1
                if worker_kills in {2, 5}:
                    daemons.kill(coordinator)
                    coordinator = daemons.start(*coordinate)
                    coordinator_kills += 1
            assert worker_kills >= 5
            assert coordinator_kills == 2
            values = submitted.results()
            expected: list[str] = []
            for number, parents in enumerate(edges):
                expected.append(digest(number, *(expected[parent] for parent in parents)))
            assert values == dict(enumerate(expected)), daemons.logs()
    with sqlite3.connect(ledger) as connection:
        states = connection.execute("select state, count(*) from tasks group by state").fetchall()
    assert states == [("succeeded", len(edges))]
    until(lambda: not daemons.alive(), "no process of the test is left", timeout=15)
