"""Tasks of several nodes: whole workers of one group, one task; real daemons, on both brokers."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, ResourceRequest, current
from broker_jobs.core.states import JOB_ENDED, TaskState
from broker_jobs.wire.signing import new_key
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from broker_jobs import SubmittedJob
    from tests.support.rabbitmq import RabbitMQ

TWO, THREE = ResourceRequest(nodes=2), ResourceRequest(nodes=3)


class Site:
    """A coordinator, a client, and workers that are started at will."""

    def __init__(self, daemons: Daemons, client: Client, folder: Path) -> None:
        self.daemons = daemons
        self.client = client
        self.folder = folder
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.coordinator = self.coordinate()

    def coordinate(self) -> subprocess.Popen[bytes]:
        """Start the coordinator."""
        return self.daemons.start("coordinator", "start", "--store", f"sqlite:///{self.folder / 'ledger.db'}")

    def work(self, *names: str, group: str = "default") -> None:
        """Start workers of two processors; returns when they are known."""
        for name in names:
            self.workers[name] = self.daemons.start("worker", "start", "--cpus", "2", "--name", name, "--group", group)
        until(lambda: self.present() >= set(names), lambda: f"{names} are there\n{self.daemons.logs()}")

    def present(self) -> set[str]:
        return {worker.worker for worker in self.client.cluster().workers if worker.state in {"active", "draining"}}

    def held(self, minutes: float = 5.0, **options: object) -> tuple[SubmittedJob, Path]:
        """A job of one task on three nodes that runs until a file appears; and the file."""
        go = self.folder / f"go-{time.monotonic_ns()}"
        job = Job()
        script = f"echo $BROKER_JOBS_ATTEMPT >> {go}.begun; until test -e {go}; do sleep 0.05; done"
        job.program(["sh", "-c", script], resources=THREE, time_limit=60 * minutes, **options)
        submitted = self.client.submit(job)
        until(lambda: Path(f"{go}.begun").exists(), lambda: f"it has begun: {submitted.info()}\n{self.daemons.logs()}")
        return submitted, go

    def where(self, submitted: SubmittedJob) -> str:
        """The worker that runs its task."""
        until(lambda: submitted.tasks()[0].state is TaskState.running, "the ledger knows that it runs")
        return submitted.tasks()[0].worker

    def waits(self, submitted: SubmittedJob) -> str:
        """Why its task waits."""
        return " ".join(submitted.explain(0).reasons)


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.long)])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    url = f"sqlite:///{tmp_path / 'queue.db'}"
    if request.param == "rabbitmq":
        rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
        url = rabbitmq.fresh_vhost()
    key = new_key()
    with Daemons(tmp_path, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": key}) as daemons, Client(url, signing_key=key) as client:
        client.runtime.reports_left_work = False
        yield Site(daemons, client, tmp_path)


def report() -> tuple[tuple[str, ...], str, str, str]:
    """What a function of several nodes finds."""
    nodes, hosts = (Path(os.environ[f"BROKER_JOBS_{name}_FILE"]).read_text(encoding="utf-8") for name in ("NODE", "HOST"))
    return current.nodes, os.environ["BROKER_JOBS_NUM_NODES"], nodes, hosts


def test_it_has_all_of_its_workers_and_is_told_which(site: Site, tmp_path: Path) -> None:
    site.work("a", "b", "c")
    host = socket.gethostname()
    nodes = f"{host.partition('.')[0]}\n" * 3
    job = Job()
    function = job.function(report, resources=THREE)
    program = job.program(["sh", "-c", "cat $BROKER_JOBS_NODE_FILE; echo $BROKER_JOBS_CPUS $BROKER_JOBS_NUM_NODES"], resources=THREE)
    submitted = site.client.submit(job)
    site.client.wait_for_jobs([submitted], timeout=60)
    assert submitted.result(function) == ((host,) * 3, "3", nodes, f"{host}\n" * 3)
    assert submitted.stdout(program).decode() == f"{nodes}0,1 3\n"
    # While it runs, nobody runs anything else; then everybody does.
    submitted, go = site.held()
    plain = Job()
    plain.program(["true"])
    beside = site.client.submit(plain)
    until(lambda: "busy" in site.waits(beside), site.waits(beside))
    assert beside.state == "waiting"
    root = site.where(submitted)
    assert {worker.team[0] for worker in site.client.cluster().workers} == {root}
    assert f"one task for all of them, on {root}" in " ".join(site.daemons.run("worker", "info", "b").stdout.split())
    go.touch()
    site.client.wait_for_jobs([submitted, beside], timeout=60)
    assert site.daemons.run("submit", "--wait", "--nodes", "2", "--", "true").returncode == 0
    left = [path for path in tmp_path.rglob("*") if path.suffix in {".nodes", ".hosts"}]
    assert left == []


def test_neither_kind_of_task_starves_the_other(site: Site) -> None:
    site.work("a", "b", "c")
    flood, large = Job(), Job()
    flood.map(time.sleep, [0.1] * 600)
    small = site.client.submit(flood)
    until(lambda: small.info().counts.get("succeeded", 0) > 10, "the flood has begun")
    large.program(["true"], resources=THREE)
    site.client.wait_for_jobs([site.client.submit(large)], timeout=60)
    assert small.state == "running"
    small.cancel()
    flood, few = Job(), Job()
    for _ in range(40):
        flood.program(["sleep", "0.3"], resources=THREE)
    many = site.client.submit(flood)
    until(lambda: many.info().counts.get("succeeded", 0) > 1, "the flood has begun")
    few.map(abs, range(6))
    site.client.wait_for_jobs([site.client.submit(few)], timeout=60)
    assert many.state == "running"
    many.cancel()
    site.client.wait_for_jobs([many], timeout=60, raise_on_error=False)


def test_it_fails_and_is_canceled_as_any_other(site: Site) -> None:
    site.work("a", "b", "c")
    job = Job()
    job.program(["false"], resources=TWO)
    failed = site.client.submit(job)
    assert not failed.wait(60)
    assert failed.errors()[0].cause == "exit code"
    submitted, _ = site.held()
    submitted.cancel(reason="enough")
    assert not submitted.wait(60)
    assert submitted.state == "canceled"
    # What there are too few workers for waits, says why, and is in nobody's way.
    job = Job()
    job.program(["true"], resources=ResourceRequest(nodes=4))
    waiting = site.client.submit(job)
    until(lambda: "needs 4 workers of one group" in site.waits(waiting), site.waits(waiting))
    assert "there are 3" in site.waits(waiting)
    assert any("no worker seen so far could meet" in note for note in waiting.info().notes)
    assert site.client.options(timeout=30).call(abs, -1) == 1
    assert site.client.options(timeout=30, resources=TWO).call(abs, -2) == 2
    waiting.cancel()
    assert not waiting.wait(60)


def test_its_workers_are_of_one_group(site: Site) -> None:
    site.work("a", "b", group="first")
    site.work("c", "d", group="second")
    job = Job()
    job.program(["true"], resources=THREE)
    submitted = site.client.submit(job)
    until(lambda: "there are 2" in site.waits(submitted), site.waits(submitted))
    site.work("e", group="second")
    site.client.wait_for_jobs([submitted], timeout=60)
    assert submitted.tasks()[0].worker in {"c", "d", "e"}


def test_a_root_that_is_killed_costs_a_crash_and_another_worker_the_task_nothing(site: Site) -> None:
    site.work("a", "b", "c")
    submitted, go = site.held()
    root = site.where(submitted)
    other = next(name for name in site.workers if name != root)
    site.daemons.kill(site.workers[other])
    until(lambda: other not in site.present(), "its loss is known")
    assert submitted.tasks()[0].state is TaskState.running
    site.work(f"{other}2")
    site.daemons.kill(site.workers[root])
    begun = Path(f"{go}.begun")
    site.work(f"{root}2")
    until(lambda: len(begun.read_text(encoding="utf-8").split()) == 2, lambda: f"it starts again\n{site.daemons.logs()}", timeout=60)
    assert site.where(submitted) != root
    go.touch()
    site.client.wait_for_jobs([submitted], timeout=60)
    assert submitted.tasks()[0].crashes <= 1
    assert len(begun.read_text(encoding="utf-8").split()) == 2
    assert sorted(site.client.map(abs, range(-8, 0))) == list(range(1, 9)), "all are free again"


def test_a_coordinator_that_is_killed_finds_its_teams_again(site: Site) -> None:
    site.work("a", "b", "c")
    submitted, go = site.held()
    begun = Path(f"{go}.begun")
    site.daemons.kill(site.coordinator)
    site.coordinator = site.coordinate()
    until(lambda: site.present() == {"a", "b", "c"}, "the workers have said hello")
    plain = Job()
    plain.program(["true"])
    beside = site.client.submit(plain)
    until(lambda: "busy" in site.waits(beside), site.waits(beside))
    assert submitted.state == "running"
    site.daemons.kill(site.coordinator)
    go.touch()
    site.coordinator = site.coordinate()
    site.client.wait_for_jobs([submitted, beside], timeout=90)
    assert begun.read_text(encoding="utf-8").split() == ["1"], "it ran once"
    again = Job()
    again.program(["true"], resources=THREE)
    site.client.wait_for_jobs([site.client.submit(again)], timeout=60)


def test_a_worker_that_drains_stays_for_its_team(site: Site) -> None:
    site.work("a", "b", "c")
    submitted, go = site.held()
    root = site.where(submitted)
    for name, worker in site.workers.items():
        worker.terminate()
        until(lambda name=name: site.daemons.says(site.workers[name], "takes no more tasks"), "it drains")  # type: ignore[misc]
    until(
        lambda: {worker.state for worker in site.client.cluster().workers} == {"draining"},
        f"the coordinator knows it: {site.client.cluster().workers}",
    )
    assert site.workers[root].poll() is None
    go.touch()
    site.client.wait_for_jobs([submitted], timeout=60)
    assert submitted.tasks()[0].attempt == 1
    for worker in site.workers.values():
        assert worker.wait(30) == 0
    assert submitted.state in JOB_ENDED
