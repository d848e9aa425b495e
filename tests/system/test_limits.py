"""Limits hold, and nothing survives what has ended: on both brokers, with real workers (checks 3.28 and 3.1 of other queues' pains)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, LocalCluster, TaskCanceled, TimeLimitReached
from broker_jobs.wire.signing import new_key
from broker_jobs_worker.processes import processes
from tests.support import stubborn
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker_jobs import Task
    from tests.support.rabbitmq import RabbitMQ

LIMIT, GRACE = 3.0, 0.5


def soon() -> float:
    """Seconds in which what was killed is gone: one, where others leave this machine some processor time."""
    return max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


@pytest.fixture(scope="module", params=["embedded", "rabbitmq"])
def url(request: pytest.FixtureRequest) -> str | None:
    """A broker of either kind, for this file."""
    if request.param == "embedded":
        return None
    node: RabbitMQ = request.getfixturevalue("rabbitmq")
    return node.fresh_vhost()


@pytest.fixture(scope="module")
def cluster(url: str | None) -> Iterator[LocalCluster]:
    with LocalCluster(cpus=8, url=url) as found:
        yield found


def spin() -> None:
    while True:
        pass


def stuck_in_c() -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")


def deaf(folder: str) -> None:
    """A grandchild with a session of its own, which ignores SIGTERM; and it does not listen itself."""
    subprocess.run([sys.executable, stubborn.__file__, folder, "daemon"], check=True)
    while True:
        try:
            time.sleep(60)
        except (TimeLimitReached, TaskCanceled):
            continue


def stubborn_job(folder: Path, **options: float) -> tuple[Job, list[Task]]:
    """Tasks that do not end when they are asked to."""
    job = Job(name="stubborn")
    script = f"{sys.executable} {stubborn.__file__} {folder} daemon; trap '' TERM INT; while :; do sleep 1; done"
    return job, [
        job.function(spin, **options),  # type: ignore[arg-type]
        job.function(stuck_in_c, **options),  # type: ignore[arg-type]
        job.function(deaf, args=(str(folder),), **options),  # type: ignore[arg-type]
        job.program(["sh", "-c", script], **options),  # type: ignore[arg-type]
    ]


def living(folder: Path) -> list[int]:
    """The daemons that wrote down their pids there and still live."""
    pids = {int(path.name) for path in folder.iterdir() if path.name.isdigit()}
    return [process.pid for process in processes() if process.alive and process.pid in pids]


def test_check_3_28_time_limits_that_limit(cluster: LocalCluster, tmp_path: Path) -> None:
    job, tasks = stubborn_job(tmp_path, time_limit=LIMIT, grace=GRACE)
    with cluster.client() as client:
        submitted = client.submit(job)
        client.wait_for_jobs([submitted], raise_on_error=False)
        assert {number: error.cause for number, error in submitted.errors().items()} == {task.number: "time limit" for task in tasks}
        assert len(list(tmp_path.iterdir())) == 2, "both daemons were there"
        assert living(tmp_path) == []
        for info in submitted.tasks():
            assert LIMIT * 1000 <= info.ended_ms - info.started_ms <= (LIMIT + GRACE + soon()) * 1000, info
        # The slots are as good as before.
        assert list(client.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        assert client.call(os.getpid) > 0


def test_check_3_28_a_cancel_takes_the_same_ladder(cluster: LocalCluster, tmp_path: Path) -> None:
    job, _ = stubborn_job(tmp_path, grace=GRACE)
    with cluster.client() as client:
        submitted = client.submit(job)
        until(lambda: len(list(tmp_path.iterdir())) == 2, "both daemons are there")
        begin = time.monotonic()
        submitted.cancel(reason="enough")
        client.wait_for_jobs([submitted], raise_on_error=False)
        took = time.monotonic() - begin
        assert submitted.state == "canceled"
        assert living(tmp_path) == []
        assert GRACE <= took <= GRACE + soon() + 1.0  # and the news of it
        assert client.call(os.getpid) > 0


@pytest.mark.long
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_check_3_1_no_stray_of_a_worker(url: str | None, tmp_path: Path, how: str) -> None:
    left = tmp_path / "left"
    left.mkdir()
    address = url or f"sqlite:///{tmp_path}/queue.db"
    key = new_key()
    with Daemons(tmp_path, {"BROKER_JOBS_URL": address, "BROKER_JOBS_SIGNING_KEY": key}) as daemons:
        daemons.start("coordinator", "start", "--store", f"sqlite:///{tmp_path}/ledger.db")
        worker = daemons.start("worker", "start", "--cpus", "4")
        with Client(address, signing_key=key) as client:
            client.submit(stubborn_job(left, grace=GRACE)[0])
            until(lambda: len(list(left.iterdir())) == 2, "both daemons are there")
            worker.send_signal(signal.SIGKILL if how == "killed" else signal.SIGTERM)
            if how == "stopped":
                worker.send_signal(signal.SIGINT)  # the second one stops at once; two of one kind could be taken for one
            worker.wait(30)
            until(lambda: not living(left), "nothing of its tasks is left", GRACE + soon() + 5)
            until(lambda: len(daemons.alive()) == 1, f"the coordinator alone is left\n{daemons.logs()}", 10)
