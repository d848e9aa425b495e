"""Workers come and go: rolling restarts, drains, stops, ends of their time; nothing is lost, and nothing is a crash."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, TaskState
from broker_jobs.wire.signing import new_key
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from broker_jobs.wire.messages import WorkerInfo
    from tests.support.rabbitmq import RabbitMQ

TASKS = 3000


def count_me(number: int, log: str) -> int:
    """Leave a trace of this run; lines of appends are whole."""
    with Path(log).open("ab", buffering=0) as file:
        file.write(b"%d\n" % number)
    time.sleep(0.03)
    return number


class Ground:
    """A coordinator, a client, and workers that are started at will."""

    def __init__(self, daemons: Daemons, client: Client) -> None:
        self.daemons = daemons
        self.client = client

    def work(self, *options: str, cpus: int = 1) -> subprocess.Popen[bytes]:
        """Start a worker; returns at once."""
        return self.daemons.start("worker", "start", "--cpus", str(cpus), *options)

    def present(self, *names: str) -> list[WorkerInfo]:
        """Workers that have come and not gone; all of these must be among them."""

        def there() -> list[WorkerInfo]:
            return [worker for worker in self.client.cluster().workers if worker.state in {"active", "draining"}]

        until(lambda: {worker.worker for worker in there()} >= set(names), lambda: f"{names} are there\n{self.daemons.logs()}")
        return there()

    def ended(self, worker: subprocess.Popen[bytes], within: float = 20.0) -> None:
        """Wait for the end of a worker, in order."""
        until(lambda: worker.poll() is not None, lambda: f"the end of a worker\n{self.daemons.logs()}", timeout=within)
        assert worker.returncode == 0, self.daemons.logs()


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.long)])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    """A place to work, on each broker."""
    if request.param == "embedded":
        url = f"sqlite:///{tmp_path / 'queue.db'}"
    else:
        rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
        url = rabbitmq.fresh_vhost()
    key = new_key()
    with Daemons(tmp_path, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": key}) as daemons:
        daemons.start("coordinator", "start", "--store", f"sqlite:///{tmp_path / 'ledger.db'}")
        with Client(url, signing_key=key) as client:
            client.runtime.reports_left_work = False
            yield Ground(daemons, client)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_3_29_a_rolling_restart_runs_nothing_more_than_twice(ground: Ground, tmp_path: Path) -> None:
    """Each of three workers is drained and replaced, then each is stopped at once and replaced, under 3,000 tasks."""
    log = tmp_path / "runs"
    workers = [ground.work("--name", f"first-{place}") for place in range(3)]
    job = Job(name="rolling")
    job.map(count_me, range(TASKS), [str(log)] * TASKS, crash_limit="unlimited")
    submitted = ground.client.submit(job)
    ground.present("first-0", "first-1", "first-2")
    for place in range(3):
        workers[place].terminate()
        ground.ended(workers[place])
        workers[place] = ground.work("--name", f"second-{place}")
        ground.present(f"second-{place}")
    for place in range(3):
        ground.client.end_workers(f"second-{place}", stop=True, reason="a new kernel")
        ground.ended(workers[place])
        workers[place] = ground.work("--name", f"third-{place}")
        ground.present(f"third-{place}")
    under_way = submitted.info().counts["succeeded"] < TASKS
    assert ground.client.wait_for_jobs([submitted], timeout=150, raise_on_error=False, progress=False), ground.daemons.logs()
    assert under_way, "there was work at each restart"
    runs = Counter(log.read_text().split())
    assert len(runs) == TASKS
    assert max(runs.values()) <= 2, [number for number, count in runs.items() if count > 2]
    tasks = submitted.tasks()
    assert {task.state for task in tasks} == {TaskState.succeeded}
    assert {task.crashes for task in tasks} == {0}
    assert submitted.results() == {number: number for number in range(TASKS)}


def test_a_stopped_worker_gives_back_what_it_runs_and_the_task_says_why(ground: Ground, tmp_path: Path) -> None:
    first = ground.work("--name", "first", "--group", "old")
    ground.present("first")
    job = Job(name="moved")
    stubborn = f"trap '' TERM; echo start >> {tmp_path / 'starts'}; test -e {tmp_path / 'go'} || while :; do sleep 1; done"
    job.program(["sh", "-c", stubborn], grace=600)
    submitted = ground.client.submit(job)
    until((tmp_path / "starts").exists, "the start of the task")
    stopped = ground.daemons.run("worker", "stop", "--group", "old", "--reason", "a new kernel", "--output", "quiet")
    assert stopped.stdout.split() == ["first"], stopped.stderr
    ground.ended(first)
    [task] = submitted.tasks()
    assert (task.state, task.attempt, task.crashes) == (TaskState.queued, 2, 0)
    assert task.reason == "the worker was stopped: a new kernel"
    (tmp_path / "go").touch()
    ground.work("--name", "second")
    assert ground.client.wait_for_jobs([submitted], timeout=30, progress=False)


@pytest.mark.long
def test_drained_workers_finish_and_idle_ones_end(ground: Ground, tmp_path: Path) -> None:
    drained, idle = ground.work("--name", "drained"), ground.work("--name", "idle", "--idle-timeout", "1s", "--group", "spare")
    ground.present("drained")
    job = Job(name="finishing")
    job.map(_wait_for, [str(tmp_path / "go")] * 2)
    submitted = ground.client.submit(job)
    until(lambda: submitted.info().counts.get("running") == 2, "both run")
    until(lambda: [(info.worker, info.held) for info in ground.client.cluster(group="spare").workers] == [("idle", 1)], "it has one task")
    assert ground.client.end_workers("drai").workers == ("drained",)
    until(lambda: ground.client.cluster("drained").workers[0].state == "draining", "it drains")
    assert drained.poll() is None
    (tmp_path / "go").touch()
    assert ground.client.wait_for_jobs([submitted], timeout=30, progress=False)
    ground.ended(drained)
    ground.ended(idle)
    assert [task.attempt for task in submitted.tasks()] == [1, 1]
    gone = {worker.worker: (worker.state, worker.reason) for worker in ground.client.cluster().workers}
    assert gone == {"drained": ("gone", "it was asked to"), "idle": ("gone", "it had nothing to do for 1 s")}


def _wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.02)


@pytest.mark.long
def test_a_worker_whose_time_is_over_gives_back_what_runs(ground: Ground, tmp_path: Path) -> None:
    begun = time.time()
    short = ground.work("--name", "short", "--time-limit", "6s")
    [info] = ground.present("short")
    assert info.ends_ms is not None
    assert begun <= info.ends_ms / 1000 - 6 <= time.time()
    job = Job(name="too long")
    job.program(["sh", "-c", f"test -e {tmp_path / 'go'} || exec sleep 600"])
    submitted = ground.client.submit(job)
    ground.ended(short, within=18)
    [task] = submitted.tasks()
    assert (task.state, task.attempt, task.crashes) == (TaskState.queued, 2, 0)
    assert task.reason == "the time of the worker is over"


@pytest.mark.long
@pytest.mark.timeout(90)
def test_a_long_task_starts_elsewhere_within_5_s_when_its_worker_is_killed(ground: Ground, tmp_path: Path) -> None:
    """Also when it was taken: its message is acknowledged, and the worker's token alone tells that it is gone."""
    starts = tmp_path / "starts"
    workers = {name: ground.work("--name", name) for name in ("one", "two")}
    ground.present(*workers)
    job = Job(name="killed")
    job.program(["sh", "-c", f"date +%s.%N >> {starts}; exec sleep 600"])
    submitted = ground.client.submit(job)
    with sqlite3.connect(tmp_path / "ledger.db") as ledger:
        until(lambda: ledger.execute("select taken from tasks").fetchall() == [(True,)], "the task is taken", timeout=40)
    [holder] = [info.worker for info in ground.client.cluster().workers if info.held]
    killed_at = time.time()
    ground.daemons.kill(workers[holder])
    until(lambda: len(starts.read_text().split()) == 2, lambda: f"it starts elsewhere\n{ground.daemons.logs()}")
    assert float(starts.read_text().split()[1]) - killed_at < 5
    [task] = submitted.tasks()
    assert (task.attempt, task.crashes) == (2, 1)
    submitted.cancel()
    submitted.wait(20)
