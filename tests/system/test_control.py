"""Cancel, pause and resume on real processes and both brokers: what must not start does not, whoever was away meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, LocalCluster
from broker_jobs.broker import open_broker
from broker_jobs.core.spec import Lane
from broker_jobs.core.states import JobState
from broker_jobs.errors import JobActive, JobNotFound, TaskAborted
from broker_jobs.ids import short
from broker_jobs.wire.messages import CancelResult, PauseResult, ResumeResult
from broker_jobs.wire.topology import Topology
from tests.support.daemons import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.rabbitmq import RabbitMQ

PATIENCE = 60.0


@pytest.fixture(params=[pytest.param("embedded", marks=pytest.mark.long), "rabbitmq", pytest.param("classic", marks=pytest.mark.long)])
def url(request: pytest.FixtureRequest) -> str | None:
    """A broker of either kind; RabbitMQ with quorum queues and with classic ones."""
    if request.param == "embedded":
        return None
    node: RabbitMQ = request.getfixturevalue("rabbitmq")
    return node.fresh_vhost() + ("?queues=classic" if request.param == "classic" else "")


@pytest.fixture
def cluster(url: str | None) -> Iterator[LocalCluster]:
    """A coordinator, and no worker yet."""
    with LocalCluster(workers=0, cpus=1, url=url) as found:
        yield found


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with cluster.client() as found:
        yield found


def restart_coordinator(cluster: LocalCluster) -> None:
    """It is killed, and another takes its ledger."""
    (pid,) = [pid for pid, what in cluster.processes.items() if "coordinator" in what]
    os.kill(pid, signal.SIGKILL)
    cluster.start_coordinator()


def alive(pid: int) -> bool:
    """Whether there is a process with this id."""
    return Path(f"/proc/{pid}").exists()


def standing(cluster: LocalCluster, client: Client) -> int:
    """Messages in the class queues."""
    names = Topology(cluster.namespace)
    classes = [known.name for known in client.cluster().classes]

    async def count() -> int:
        broker = await open_broker(cluster.url, name="look", timeout=PATIENCE)
        try:
            depths = [await broker.depth(names.class_name(name, lane)) for name in classes for lane in Lane]
            return sum(depth.ready for depth in depths if depth is not None)
        finally:
            await broker.close()

    return asyncio.run(count())


def touching(folder: Path, number: int, name: str = "job", *tags: str) -> Job:
    """Tasks that leave a file each."""
    job = Job(name=name, tags=tags)
    for position in range(number):
        job.program(["touch", str(folder / f"{name}-{position}")])
    return job


def test_3_23_a_cancel_holds_for_messages_that_stand_in_a_class_queue(cluster: LocalCluster, client: Client, tmp_path: Path) -> None:
    canceled = client.submit(touching(tmp_path, 5, "canceled"))
    until(lambda: standing(cluster, client), "a message in the class queue")
    # No worker is there to hear of it.
    assert canceled.cancel("wrong input") == CancelResult(before_start=5)
    assert canceled.state is JobState.canceled
    restart_coordinator(cluster)
    until(lambda: standing(cluster, client), "a message in the class queue, still")
    cluster.start_worker()
    other = client.submit(touching(tmp_path, 3, "other"))
    assert other.wait(PATIENCE)
    until(lambda: not standing(cluster, client), "an empty class queue")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other-0", "other-1", "other-2"]
    assert canceled.state is JobState.canceled


def test_3_23_a_cancel_ends_what_runs_and_harms_nothing_else(cluster: LocalCluster, client: Client, tmp_path: Path) -> None:
    cluster.start_worker()
    done = client.submit(touching(tmp_path, 1, "done"))
    assert done.wait(PATIENCE)
    job = Job(name="long")
    job.program(["sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 1000"])
    job.program(["sleep", "1000"])
    running = client.submit(job)
    until((tmp_path / "pid").exists, "the first task")
    pid = int((tmp_path / "pid").read_text())
    assert done.cancel() == CancelResult(ended_already=1)
    assert done.state is JobState.succeeded
    assert alive(pid)
    until(lambda: running.info().counts.get("running"), "the news of its start")
    begun = time.monotonic()
    assert running.cancel("enough") == CancelResult(before_start=1, while_running=1)
    assert running.wait(PATIENCE) is False
    assert time.monotonic() - begun < 6.0, "grace + 1 s"
    assert running.state is JobState.canceled
    assert not alive(pid)
    assert client.submit(touching(tmp_path, 1, "next")).wait(PATIENCE)


def test_a_paused_job_goes_on_where_it_stood(cluster: LocalCluster, client: Client, tmp_path: Path) -> None:
    paused = client.submit(touching(tmp_path, 4, "paused"))
    until(lambda: standing(cluster, client), "a message in the class queue")
    assert paused.pause("a demo") == PauseResult(paused=4)
    assert (paused.state, paused.info().reason) == (JobState.paused, "a demo")
    assert "broker-jobs job resume" in " ".join(paused.info().notes)
    restart_coordinator(cluster)
    cluster.start_worker()
    assert client.submit(touching(tmp_path, 1, "other")).wait(PATIENCE)
    assert [path.name for path in tmp_path.iterdir()] == ["other-0"]
    assert paused.resume(tasks="1-2,9") == ResumeResult(resumed=2, unknown=1)
    until(lambda: paused.info().counts.get("succeeded") == 2, "the two that were resumed")
    assert paused.state is JobState.paused
    assert paused.resume() == ResumeResult(resumed=2, ended_already=2)
    assert paused.wait(PATIENCE)


def test_what_a_filter_chooses_is_paused_canceled_and_forgotten_together(client: Client, tmp_path: Path) -> None:
    for name, tag in (("train-1", "nightly"), ("train-2", "nightly"), ("plot", "nightly"), ("train-3", "daily")):
        client.submit(touching(tmp_path, 2, name, tag))
    chosen = client.jobs(tags=["nightly"], name="train*", limit=None)
    assert [job.name for job in chosen] == ["train-2", "train-1"]
    assert client.pause(chosen) == PauseResult(paused=4)
    assert client.resume(chosen) == ResumeResult(resumed=4)
    with pytest.raises(JobActive):
        client.forget(chosen)
    assert client.cancel(client.jobs(state=["waiting", "running", "paused"], limit=None), "the end") == CancelResult(before_start=8)
    # The last of them may have ended less than a millisecond ago.
    until(lambda: len(client.jobs(older_than=0.001, tags=["nightly"], limit=None)) == 3, "they have ended a while ago")
    assert client.forget(client.jobs(older_than=0.001, tags=["nightly"], limit=None)) == 3
    assert [job.name for job in client.jobs()] == ["train-3"]
    with pytest.raises(JobNotFound):
        client.job(chosen[0].id)


def test_what_did_not_succeed_runs_again(cluster: LocalCluster, client: Client, tmp_path: Path) -> None:
    cluster.start_worker()
    job = Job(name="again")
    given = job.function(len, args=("large" * 50_000,))
    fixed = job.program(["test", "-e", str(tmp_path / "repaired")])
    doubled = job.function(sum, args=([given.output, given.output],), deps=[fixed])
    first = client.submit(job)
    assert first.wait(PATIENCE) is False
    assert first.info().counts == {"succeeded": 1, "failed": 1, "aborted": 1}
    (tmp_path / "repaired").touch()
    second = first.resubmit()
    assert second.id != first.id
    first.forget()
    assert second.wait(PATIENCE)
    assert second.result(doubled) == 500_000
    assert [task.attempt for task in second.tasks()] == [1, 1, 1]
    third = second.resubmit(everything=True, tasks="2")
    assert third.wait(PATIENCE)
    assert third.results() == {0: 250_000, 1: 0, 2: 500_000}


@pytest.mark.long  # nine commands, each with an interpreter of its own
@pytest.mark.parametrize("url", ["embedded"], indirect=True)
def test_on_the_command_line(cluster: LocalCluster, client: Client, tmp_path: Path) -> None:
    def run(*words: str, code: int = 0) -> str:
        environment = {**os.environ, "BROKER_JOBS_SIGNING_KEY": cluster.key}
        command = [sys.executable, "-m", "broker_jobs", *words, "--url", cluster.url, "--namespace", cluster.namespace]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    first, second = (client.submit(touching(tmp_path, 4, name, "nightly")) for name in ("train-1", "train-2"))
    name = short(first.id)
    assert run("job", "pause", name, "--reason", "a demo") == f"{name}: 4 paused; 0 go on, 0 wait for others; 0 had ended\n"
    assert run("job", "resume", name, "--tasks", "0-1") == f"{name}: 2 resumed; 0 were not paused, 0 had ended\n"
    told = "canceled 2 before their start and 0 while running; 0 had ended"
    assert run("task", "cancel", name, "1-2") == f"{name}: {told}\n"
    assert run("job", "forget", "--tag", "nightly", "--older-than", "30d", "--dry-run") == "no jobs\n"
    assert first.state is JobState.paused
    assert len(run("job", "cancel", "--all").splitlines()) == 2
    assert second.state is JobState.canceled
    assert "4 tasks of" in run("job", "resubmit", short(second.id))
    assert len(run("job", "forget", "--all").splitlines()) == 2


@pytest.mark.parametrize("url", ["embedded"], indirect=True)
def test_too_many_failures_stop_the_rest_and_what_is_aborted_names_its_cause(cluster: LocalCluster, client: Client, tmp_path: Path) -> None:
    cluster.start_worker(cpus=4)
    job = Job(name="fragile", max_fails=1)
    first = job.program(["sh", "-c", f"until test -e {tmp_path}/go; do sleep 0.02; done; exit 3"])
    second = job.program(["true"], deps=[first])
    third = job.program(["true"], deps=[second])
    endless = job.program(["sh", "-c", f"touch {tmp_path}/go; exec sleep 1000"])
    waits = job.program(["true"], after=[endless])
    last = job.program(["false"], after=[third])
    submitted = client.submit(job)
    assert submitted.wait(PATIENCE) is False
    tasks = {task.number: (task.state.value, task.reason) for task in submitted.tasks()}
    assert tasks[first.number][0] == tasks[last.number][0] == "failed"
    assert tasks[second.number] == tasks[third.number] == ("aborted", f"task {first.number} failed")
    stopped = ("aborted", f"more than 1 tasks failed; the last one was task {last.number}")
    assert tasks[endless.number] == tasks[waits.number] == stopped
    with pytest.raises(TaskAborted, match=f"task {first.number} failed"):
        submitted.result(third)
