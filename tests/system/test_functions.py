"""Functions in the processes of a real worker, on both brokers: who replaces a dead one, what is sent once, what a process keeps."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, LocalCluster, TaskFailed, current
from broker_jobs.wire.signing import new_key
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.rabbitmq import RabbitMQNode

PATIENCE = 60.0


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.long)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh broker of each kind."""
    if request.param == "embedded":
        return f"sqlite:///{tmp_path / 'queue.db'}"
    rabbitmq: RabbitMQNode = request.getfixturevalue("rabbitmq")
    return rabbitmq.fresh_vhost()


@pytest.fixture(scope="module", params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.long)])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of a cluster with one worker of two processors, on each kind of broker."""
    url = None
    if request.param == "rabbitmq":
        rabbitmq: RabbitMQNode = request.getfixturevalue("rabbitmq")
        url = rabbitmq.fresh_vhost()
    with LocalCluster(cpus=2, url=url) as cluster, cluster.client() as found:
        yield found


def until_told(started: str, go: str) -> int:
    Path(started).write_text(str(os.getpid()))
    while not Path(go).exists():
        os.sched_yield()
    return os.getpid()


def test_3_15_a_killed_child_is_replaced_and_disturbs_nobody(url: str, tmp_path: Path) -> None:
    key = new_key()
    with Daemons(tmp_path, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": key}) as daemons:
        daemons.start("coordinator", "start")
        worker = daemons.start("worker", "start", "--cpus", "2", "--metrics-port", "auto")
        log = tmp_path / "worker-start-1.log"
        until(lambda: "numbers at" in log.read_text(), "the port of /healthz")
        found = re.search(r"numbers at (\S+)/metrics", log.read_text())
        assert found is not None
        health = f"{found[1]}/healthz"
        with Client(url, signing_key=key) as client:
            job = Job()
            doomed = job.function(until_told, args=(str(tmp_path / "doomed"), str(tmp_path / "go")))
            other = job.function(until_told, args=(str(tmp_path / "other"), str(tmp_path / "go")))
            submitted = client.submit(job)
            paths = [tmp_path / "doomed", tmp_path / "other"]
            until(lambda: all(path.exists() and path.read_text() for path in paths), "two functions run")
            victim, undisturbed = (int(path.read_text()) for path in paths)
            paths[0].unlink()
            os.kill(victim, signal.SIGKILL)
            # The task comes again, in the process that replaces the dead one.
            until(lambda: paths[0].exists() and paths[0].read_text(), "the killed task runs again")
            assert _status(health) == "ok"
            (tmp_path / "go").touch()
            assert client.wait_for_jobs([submitted], timeout=PATIENCE)
            assert submitted.result(other) == undisturbed
            assert submitted.result(doomed) not in {victim, undisturbed}
            tasks = {info.number: info for info in submitted.tasks()}
            assert tasks[other.number].attempt == 1
        assert _status(health) == "ok"
        assert worker.poll() is None


def _status(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(json.load(answer)["status"])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_3_27_no_task_is_lost_when_every_child_runs_one(url: str, tmp_path: Path) -> None:
    def only_one(_number: int) -> int:
        # It travels whole: to import this module takes each process longer than everything else.
        before: int = getattr(sys, "ran_before", 0)
        sys.ran_before = before + 1  # type: ignore[attr-defined]
        return before

    key = new_key()
    with Daemons(tmp_path, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": key}) as daemons:
        daemons.start("coordinator", "start")
        daemons.start("worker", "start", "--cpus", "2", "--child-max-tasks", "1")
        with Client(url, signing_key=key) as client:
            job = Job()
            many = job.map(only_one, range(5000))
            submitted = client.submit(job)
            assert client.wait_for_jobs([submitted], timeout=500, progress=False)
            assert submitted.results() == dict.fromkeys(many.numbers, 0)


def load() -> dict[str, int]:
    print("loading")
    return {"pid": os.getpid(), "used": 0}


def use(number: int, table: list[int]) -> tuple[int, int, int]:
    current.setup["used"] += 1
    table.append(number)
    return current.setup["pid"], current.setup["used"], len(table)


def test_a_setup_and_a_value_serve_many_tasks(client: Client) -> None:
    job = Job()
    table = job.value(list(range(50_000)))
    many = job.map(use, range(100), [table] * 100, setup=load)
    tail = job.function(sum, args=([many.output[0][2], 1],))
    submitted = client.submit(job)
    assert client.wait_for_jobs([submitted], timeout=PATIENCE)
    results = [submitted.result(task) for task in many]
    counts = [sorted(used for pid, used, _ in results if pid == process) for process in {pid for pid, _, _ in results}]
    assert 1 <= len(counts) <= 2
    assert all(each == list(range(1, len(each) + 1)) for each in counts)
    assert {length for _, _, length in results} == {50_001}
    assert submitted.result(tail) == 50_002
    assert sum(submitted.stdout(task) == b"loading\n" for task in many) == len(counts)
    assert min(used for _, used, _ in client.options(setup=load).map(use, [1], [[]])) > 0


def broken() -> None:
    raise RuntimeError("no model here")


async def count(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        await asyncio.sleep(0)
        print(number)
        yield number


def where() -> tuple[str, str, bool]:
    return sys.executable, os.environ.get("FROM_PROLOGUE", ""), hasattr(sys, "stained")


def stain() -> None:
    sys.stained = True  # type: ignore[attr-defined]


def test_ways_to_run_a_function(client: Client) -> None:
    with pytest.raises(TaskFailed, match="the setup 'broken' failed: RuntimeError: no model here") as caught:
        client.options(setup=broken).call(where)
    assert "raise RuntimeError" in str(caught.value)
    assert client.call(count, 3) == [0, 1, 2]
    fresh = client.options(isolation="fresh")
    fresh.call(stain)
    client.call(stain)
    assert fresh.call(where)[2] is False
    named = client.options(python=sys.executable, prologue="export FROM_PROLOGUE=yes")
    assert named.call(where) == (sys.executable, "yes", False)
    with pytest.raises(TaskFailed, match=r"'/nowhere/python' does not exist on worker host"):
        client.options(python="/nowhere/python").call(where)
