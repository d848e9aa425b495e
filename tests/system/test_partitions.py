"""Several partitions of the ledger in one namespace: coordinators of their own, workers that all share."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pika
import psycopg
import pytest

from broker_jobs import Client, Job, ResourceRequest
from broker_jobs.client.link import sealed
from broker_jobs.config import sqlite_url
from broker_jobs.core.states import JobState
from broker_jobs.errors import ValidationError
from broker_jobs.ids import new_job_id, partition_of
from broker_jobs.wire.signing import Signer, SigningKey, new_key
from broker_jobs.wire.topology import Topology
from tests.support.cast import call, job_chunks
from tests.support.chains import chain, step, succeeded
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.support.postgres import Postgres
    from tests.support.rabbitmq import RabbitMQ

FAILOVER = 5.0
"""Seconds within which the work of a partition goes on when the coordinator that keeps it was killed."""


def hold(marks: str, name: str, gate: str) -> str:
    """Leave a mark of each start, and run until the gate is open; longer than a task that is not taken."""
    with Path(marks).open("a") as file:
        file.write(f"{name} {os.getppid()}\n")
    while not Path(gate).exists():
        time.sleep(0.02)
    return name


@pytest.fixture
def deployment(rabbitmq: RabbitMQ, postgres: Postgres, tmp_path: Path) -> Iterator[Daemons]:
    env = {"BROKER_JOBS_URL": rabbitmq.fresh_vhost(), "BROKER_JOBS_SIGNING_KEY": new_key()}
    with Daemons(tmp_path, {**env, "LEDGER": postgres.fresh_database()}) as daemons:
        yield daemons
        print(daemons.logs())  # shown where the test has failed


@pytest.fixture
def clients(deployment: Daemons) -> Iterator[tuple[Client, Client]]:
    """One of each partition."""
    url, key = deployment.env["BROKER_JOBS_URL"], deployment.env["BROKER_JOBS_SIGNING_KEY"]
    with Client(url, signing_key=key) as first, Client(url, signing_key=key, partition=1) as second:
        yield first, second


def coordinator(daemons: Daemons, partition: int, says: str = "keeps") -> subprocess.Popen[bytes]:
    """Another coordinator of a partition, as soon as it has said this."""
    started = daemons.start("coordinator", "start", "--partition", str(partition), "--store", daemons.env["LEDGER"])
    until(lambda: daemons.says(started, says), f"a coordinator says {says!r}")
    return started


def workers(client: Client) -> int:
    """How many a coordinator knows to be there."""
    return sum(worker.state == "active" for worker in client.cluster().workers)


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_a_partition_goes_on_within_5_s_and_the_other_undisturbed(deployment: Daemons, clients: tuple[Client, Client]) -> None:
    for partition in (0, 1):
        coordinator(deployment, partition)
    active = deployment.processes[1]
    coordinator(deployment, 0, "stands by")
    standing_by = coordinator(deployment, 1, "stands by")
    for _ in range(2):
        deployment.start("worker", "start", "--cpus", "1")
    for client in clients:
        until(lambda client=client: workers(client) == 2, lambda: f"both coordinators know both workers: {deployment.logs()}")
    (other, other_last), (job, last) = (chain(client, 80) for client in clients)
    assert [partition_of(each.id) for each in (other, job)] == [0, 1]
    for _ in range(2):
        before = succeeded(job)
        until(lambda before=before: succeeded(job) > before + 2, "the chain moves")
        others_before = succeeded(other)
        deployment.kill(active)
        at = time.monotonic()
        so_far = succeeded(job)  # answered by the next one: what the one before has recorded
        until(lambda so_far=so_far: succeeded(job) > so_far, "the chain goes on")
        assert time.monotonic() - at < FAILOVER, deployment.logs()
        assert succeeded(other) > others_before or other.info().state is JobState.succeeded, "the other partition went on meanwhile"
        assert deployment.says(standing_by, "keeps")
        active, standing_by = standing_by, coordinator(deployment, 1, "stands by")
    assert (job.result(last, timeout=60), other.result(other_last, timeout=60)) == (80, 80)
    for each in (job, other):
        assert each.info().counts == {"succeeded": 80}
        assert {task.attempt for task in each.tasks()} == {1}, "nothing was done twice"
    for client, own, others in zip(clients, (other, job), (job, other), strict=True):
        assert [found.id for found in client.jobs()] == [own.id], "a client lists the jobs of its partition"
        assert client.job(others.id).info().state is JobState.succeeded, "and finds those of another by their whole id"
        assert client.job(others.id).tasks()[0].attempt == 1


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_lost_worker_is_missed_by_each_partition(deployment: Daemons, clients: tuple[Client, Client], tmp_path: Path) -> None:
    for partition in (0, 1):
        coordinator(deployment, partition)
    worker = deployment.start("worker", "start", "--cpus", "4")
    for client in clients:
        until(lambda client=client: workers(client) == 1, "both know the worker")
    marks, gate = tmp_path / "marks", tmp_path / "gate"

    def started() -> list[str]:
        return [line.split()[0] for line in marks.read_text().splitlines()] if marks.exists() else []

    submitted = []
    for partition, client in enumerate(clients):
        job = Job()
        for number in range(2):
            job.function(hold, args=(str(marks), f"{partition}.{number}", str(gate)))
        submitted.append(client.submit(job))
    until(lambda: len(started()) == 4, lambda: f"all run at once: {deployment.logs()}")
    until(lambda: all(job.info().counts.get("running") == 2 for job in submitted), "the ledgers know it")
    deployment.kill(worker)
    for client, job in zip(clients, submitted, strict=True):
        until(lambda client=client: [each.state for each in client.cluster().workers] == ["lost"], "each coordinator misses it")
        until(lambda job=job: not job.info().counts.get("running"), "and what it ran")
    deployment.start("worker", "start", "--cpus", "4")
    until(lambda: len(started()) == 8, lambda: f"all run again: {deployment.logs()}", timeout=60)
    gate.touch()
    for partition, job in enumerate(submitted):
        assert sorted(job.results(timeout=60).values()) == [f"{partition}.0", f"{partition}.1"]
        assert job.info().counts == {"succeeded": 2}
        assert [task.attempt for task in job.tasks()] == [2, 2]
    assert sorted(started()) == sorted(2 * [f"{partition}.{number}" for partition in (0, 1) for number in (0, 1)])


@pytest.mark.timeout(120)
def test_the_work_of_one_partition_needs_no_coordinator_of_another(deployment: Daemons, clients: tuple[Client, Client]) -> None:
    coordinator(deployment, 0)
    killed = coordinator(deployment, 1)
    deployment.start("worker", "start", "--cpus", "1")
    for client in clients:
        assert client.call(step, 1) == 2
    deployment.kill(killed)
    # This one is greeted by the first partition alone.
    deployment.start("worker", "start", "--cpus", "1")
    until(lambda: workers(clients[0]) == 2, "the first partition knows both workers")
    waiting, last = chain(clients[1], 3)
    assert list(clients[0].map(step, range(50))) == list(range(1, 51))
    coordinator(deployment, 1)
    until(lambda: workers(clients[1]) == 2, "the one that comes later asks for both")
    assert waiting.result(last, timeout=60) == 3
    # A worker leaves for all of them.
    assert len(clients[1].end_workers(reason="enough").workers) == 2
    for client in clients:
        until(lambda client=client: workers(client) == 0, "both partitions know that the workers have gone")


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_class_that_one_partition_retires_goes_on_in_the_other(deployment: Daemons, clients: tuple[Client, Client]) -> None:
    retiring = coordinator(deployment, 0)
    coordinator(deployment, 1)
    deployment.start("worker", "start", "--cpus", "1")
    for client in clients:
        assert client.call(step, 1) == 2
    with psycopg.connect(deployment.env["LEDGER"], autocommit=True) as ledger:
        # A caller does not wait for the ledger, and what a live job needs is not retired.
        unfinished = "SELECT FROM broker_jobs_bj.jobs WHERE ended_ms IS NULL"
        until(lambda: not ledger.execute(unfinished).fetchall(), "the ledger has what the clients have")
        deployment.kill(retiring)
        assert ledger.execute("UPDATE broker_jobs_bj.classes SET used_ms = 0").rowcount == 1
    retiring = coordinator(deployment, 0)

    def gone() -> bool:
        listed = deployment.run("queue", "list", "--output", "quiet").stdout
        return "bj.v2.ledger.0" in listed and "task." not in listed

    until(gone, "its queues are gone", timeout=60)
    assert [each.name for each in clients[0].cluster().classes] == []
    # What the coordinator releases comes back as unroutable, and what a client puts there itself is missed.
    job, last = chain(clients[1], 3)
    assert job.result(last, timeout=60) == 3
    assert list(clients[1].map(step, range(5))) == list(range(1, 6))


@pytest.mark.timeout(120)
def test_partitions_keep_to_themselves(deployment: Daemons, clients: tuple[Client, Client]) -> None:
    for partition in (0, 1):
        coordinator(deployment, partition)
    deployment.start("worker", "start", "--cpus", "1")
    first, second = clients
    same = [client.submit(_one(), idempotency_key="same") for client in clients]
    assert len({job.id for job in same}) == 2, "a key is of a partition"
    assert second.submit(_one(), idempotency_key="same").id == same[1].id
    first.wait_for_jobs(same)
    follower = Job()
    follower.function(step, args=(1,), after=[same[0].task(0)])
    with pytest.raises(ValidationError, match=r"partition 1 .* cannot wait for job \w+, which is in partition 0"):
        second.submit(follower)
    team = Job()
    team.program(["true"], resources=ResourceRequest(nodes=2))
    with pytest.raises(ValidationError, match="partition 0 of the ledger alone"):
        second.submit(team)
    again = first.job(same[1].id).resubmit(everything=True)
    assert partition_of(again.id) == 1
    assert again.wait(60)
    assert second.forget([again, *same]) == 3, "each in its partition"
    assert first.jobs() == second.jobs() == []
    for arguments in (["--partition", "1"], []):
        report = deployment.run("ledger", "verify", "--store", deployment.env["LEDGER"], *arguments)
        assert report.returncode == 0, report.stdout + report.stderr
    shown = deployment.run("queue", "list", "--output", "quiet").stdout.split()
    assert {"bj.v2.ledger.0", "bj.v2.ledger.1"} <= set(shown)
    assert deployment.run("job", "list", "--partition", "64").returncode == 2
    done = deployment.run("submit", "--partition", "1", "--wait", "--output", "quiet", "--", "true")
    assert done.returncode == 0, done.stderr
    [job] = deployment.run("job", "list", "--partition", "1", "--output", "quiet").stdout.split()
    assert partition_of(job) == 1
    assert deployment.run("job", "list", "--output", "quiet").stdout == ""
    assert deployment.run("job", "info", job).returncode == 0, "a whole id is enough"
    assert deployment.run("job", "info", job[-8:]).returncode == 2
    assert deployment.run("job", "info", job[-8:], "--partition", "1").returncode == 0
    doctor = deployment.run("doctor", "--partition", "1")
    assert doctor.returncode == 0, doctor.stdout
    assert "namespace bj, partition 1" in doctor.stdout


@pytest.mark.timeout(120)
def test_a_worker_that_comes_starts_nothing_that_was_canceled_in_any_partition(
    deployment: Daemons, clients: tuple[Client, Client], tmp_path: Path
) -> None:
    for partition in (0, 1):
        coordinator(deployment, partition)
    first = deployment.start("worker", "start", "--cpus", "1")
    for client in clients:
        assert client.call(step, 1) == 2  # so that what follows goes to its class queue at once
    first.terminate()
    assert first.wait(30) == 0
    marks, gate = tmp_path / "marks", tmp_path / "gate"
    gate.touch()
    canceled, wanted = [], []
    for partition, client in enumerate(clients):
        for name, jobs in (("canceled", canceled), ("wanted", wanted)):
            job = Job()
            for number in range(5):
                job.function(hold, args=(str(marks), f"{name}.{partition}.{number}", str(gate)))
            jobs.append(client.submit(job))
    for submitted in canceled:
        submitted.cancel("nobody wants it")
        assert not submitted.wait(30)
    deployment.start("worker", "start", "--cpus", "1")
    for submitted in wanted:
        assert submitted.wait(60), deployment.logs()
    assert sorted(line.split()[0] for line in marks.read_text().splitlines()) == sorted(
        f"wanted.{partition}.{number}" for partition in (0, 1) for number in range(5)
    )


@pytest.mark.long
@pytest.mark.timeout(120)
def test_teams_of_the_first_partition_and_small_tasks_of_another_share_workers(deployment: Daemons, clients: tuple[Client, Client]) -> None:
    for partition in (0, 1):
        coordinator(deployment, partition)
    for _ in range(2):
        deployment.start("worker", "start", "--cpus", "1")
    for client in clients:
        until(lambda client=client: workers(client) == 2, "both know both workers")
    small, teams = Job(), Job()
    for number in range(100):
        small.function(step, args=(number,))
    for _ in range(4):
        teams.function(step, args=(0,), resources=ResourceRequest(nodes=2))
    submitted = [client.submit(job) for client, job in zip(clients, (teams, small), strict=True)]
    for job in submitted:
        assert job.wait(60), deployment.logs()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.timeout(300)
def test_a_storm_over_both_partitions(deployment: Daemons, clients: tuple[Client, Client], seed: int) -> None:
    """Coordinators and workers are killed, one after the other, while both partitions have work of every kind."""
    chance = random.Random(seed)
    replaceable = {partition: [coordinator(deployment, partition), coordinator(deployment, partition, "stands by")] for partition in (0, 1)}
    staff = [deployment.start("worker", "start", "--cpus", "1") for _ in range(3)]
    chains = [chain(client, 100) for client in clients]
    crowds = []
    for client in clients:
        job = Job()
        for number in range(400):
            job.function(step, args=(number,), crash_limit="unlimited")
        crowds.append(client.submit(job))
    ends = time.monotonic() + 40
    while time.monotonic() < ends:
        time.sleep(chance.uniform(0.5, 3.0))
        if chance.random() < 0.5:
            deployment.kill(staff.pop(0))
            staff.append(deployment.start("worker", "start", "--cpus", "1"))
        else:
            partition = chance.choice([0, 1])
            deployment.kill(replaceable[partition].pop(chance.choice([0, 1])))
            arguments = ("--partition", str(partition), "--store", deployment.env["LEDGER"])
            replaceable[partition].append(deployment.start("coordinator", "start", *arguments))
    for job, last in chains:
        assert job.result(last, timeout=120) == 100
    for job in crowds:
        assert job.results(timeout=120) == {number: number + 1 for number in range(400)}
        assert job.info().counts == {"succeeded": 400}
    assert deployment.run("dead", "list", "--output", "json").stdout.strip() == "[]"
    for partition in ("0", "1"):
        report = deployment.run("ledger", "verify", "--partition", partition, "--store", deployment.env["LEDGER"])
        assert report.returncode == 0, report.stdout


@pytest.mark.timeout(120)
def test_partitions_on_the_embedded_broker(tmp_path: Path) -> None:
    url, key = sqlite_url(tmp_path / "home" / "queue.db"), new_key()
    with Daemons(tmp_path, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": key}) as daemons:
        for environ in ({}, {"BROKER_JOBS_PARTITION": "1"}):
            started = daemons.start("coordinator", "start", env=environ)
            until(lambda started=started: daemons.says(started, "keeps"), "a coordinator keeps a ledger")
        worker = daemons.start("worker", "start", "--cpus", "1")
        with Client(url, signing_key=key) as first, Client(url, signing_key=key, partition=1) as second:
            for client in (first, second):
                job, last = chain(client, 3)
                assert job.result(last, timeout=60) == 3, daemons.logs()
                assert client.call(step, 1) == 2
            daemons.kill(worker)
            for client in (first, second):
                until(lambda client=client: [each.state for each in client.cluster().workers] == ["lost"], "each misses the worker")
        assert {path.name for path in (tmp_path / "home").glob("*.db")} == {"queue.db", "ledger.db", "ledger-1.db"}


@pytest.mark.timeout(120)
def test_what_comes_to_the_ledger_of_another_partition_is_a_dead_letter(deployment: Daemons, clients: tuple[Client, Client]) -> None:
    coordinator(deployment, 0)
    names, signer = Topology("bj"), Signer("bj", SigningKey.parse(deployment.env["BROKER_JOBS_SIGNING_KEY"]))
    [chunk] = job_chunks([call(0)], job=new_job_id(1))
    frame = sealed(chunk, signer)
    assert frame.key == names.ledger_key(1)
    connection = pika.BlockingConnection(pika.URLParameters(deployment.env["BROKER_JOBS_URL"]))
    connection.channel().basic_publish(names.tasks, names.ledger_key(0), frame.body)
    connection.close()
    reason = f"security: job {chunk.job} is of partition 1 of the ledger, not of 0"

    def letters() -> str:
        return deployment.run("dead", "list", "--output", "json").stdout

    until(lambda: reason in letters(), "it is refused, and says why")
    assert clients[0].jobs() == []


def _one() -> Job:
    job = Job()
    job.function(step, args=(1,))
    return job
