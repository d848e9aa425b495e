"""Limits hold, and nothing survives what has ended: on both brokers, with real workers (checks 3.28 and 3.1 of other queues' pains)."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, LocalCluster, Stdio, TaskCanceled, TimeLimitReached
from broker_jobs.wire.signing import new_key
from broker_jobs_worker.processes import processes
from tests.support import stubborn
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs import Task

LIMIT, GRACE = 3.0, 0.5
SOON = 1.0
"""Seconds after limit and grace in which everything of a task is gone: a promise."""


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


@pytest.mark.alone
def test_check_3_28_time_limits_that_limit(cluster: LocalCluster, tmp_path: Path) -> None:
    job, tasks = stubborn_job(tmp_path, time_limit=LIMIT, grace=GRACE)
    with cluster.client() as client:
        submitted = client.submit(job)
        client.wait_for_jobs([submitted], raise_on_error=False)
        assert {number: error.cause for number, error in submitted.errors().items()} == {task.number: "time limit" for task in tasks}
        assert len(list(tmp_path.iterdir())) == 2, "both daemons were there"
        assert living(tmp_path) == []
        for info in submitted.tasks():
            assert LIMIT * 1000 <= info.ended_ms - info.started_ms <= (LIMIT + GRACE + SOON) * 1000, info
        # The slots are as good as before.
        assert list(client.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        assert client.call(os.getpid) > 0


@pytest.mark.alone
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
        assert GRACE <= took <= GRACE + SOON + 1.0  # and the news of it
        assert client.call(os.getpid) > 0


def hoard(megabytes: int) -> int:
    held = b"x" * (megabytes << 20)
    time.sleep(0.5)
    return len(held)


def test_a_memory_limit_is_a_failure_and_no_crash(cluster: LocalCluster) -> None:
    limit = {"memory_limit": "100 MiB", "crash_limit": "never"}
    code = "x = b'x' * (200 << 20); import time; time.sleep(60)"
    job = Job(name="hungry")
    fits = job.function(hoard, args=(20,), **limit)  # type: ignore[arg-type]
    function = job.function(hoard, args=(200,), **limit)  # type: ignore[arg-type]
    program = job.program(["sh", "-c", f'setsid {sys.executable} -c "{code}" & wait'], **limit)  # type: ignore[arg-type]
    with cluster.client() as client:
        submitted = client.submit(job)
        client.wait_for_jobs([submitted], raise_on_error=False)
        assert submitted.result(fits) == 20 << 20
        assert {number: error.cause for number, error in submitted.errors().items()} == {
            function.number: "memory limit",
            program.number: "memory limit",
        }


def test_programs_and_their_files(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text('#!/bin/sh\nprintf "%s|" "$@"; cat; echo "$BROKER_JOBS_SUBMIT_DIR" >&2\n', encoding="utf-8")
    odd = [b"\xff\xfe", "a b", "$HOME", "*", "", "\n"]
    job = Job(name="programs", cwd=tmp_path / "made" / "%{TASK_ID}")
    plain = job.program([tmp_path / "tool", *odd], stdin=b"in\xffput", stderr=Stdio("logs/%{JOB_ID}", keep="on_failure"))
    own_words = job.program(["sh", "-c", 'echo "no mesh" > "$BROKER_JOBS_ERROR_FILE"; pwd; exit 1'], stdout=Stdio("out", keep="on_failure"))
    scratch = job.program(["sh", "-c", 'cd "$BROKER_JOBS_TASK_DIR"; pwd; exit 1'], task_dir=True)
    near = job.program(["tool"], cwd=tmp_path, stdout=Stdio(keep="never"))
    with cluster.client() as client:
        submitted = client.submit(job)
        client.wait_for_jobs([submitted], raise_on_error=False)
        assert submitted.stdout(plain) == b"\xff\xfe|a b|$HOME|*||\n|in\xffput"
        assert submitted.stderr(plain) == b""
        assert list((tmp_path / "made/0/logs").iterdir()) == []
        assert (tmp_path / "made/1/out").read_text(encoding="utf-8") == f"{tmp_path}/made/1\n"
        assert submitted.errors()[own_words.number].message == "no mesh"
        assert not Path(submitted.stdout(scratch).decode().strip()).exists()
        assert "to run that one, write ./tool" in submitted.errors()[near.number].message


def test_the_command_line_says_it_too(tmp_path: Path) -> None:
    with Daemons(tmp_path, {}) as daemons:
        (tmp_path / "job.toml").write_text(
            'name = "streams"\n[[task]]\ncommand = ["sh", "-c", "echo 1; echo 2 >&2"]\n'
            'stdout = { path = "removed.out", on_close = "rm-if-finished" }\nstderr = "none"\ngrace = "1s"\n'
            '[[task]]\ncommand = ["sh", "-c", "trap : TERM; sleep 60; sleep 60"]\nstdout = { path = "kept.out" }\n'
            "time_limit = 0.2\ngrace = 0\n",
            encoding="utf-8",
        )
        limits = ["--time-limit", "0.3", "--grace", "0", "--memory-limit", "1 GiB"]
        files = ["--task-dir", "--stdout", "a/%{TASK_ID}:rm-if-finished", "--stderr", "none"]
        failed = daemons.run("submit", "--wait", *limits, *files, "--", "sh", "-c", "echo here; sleep 60")
        assert failed.returncode == 1, failed
        assert "(time limit): the time limit of 0.3 s was reached" in failed.stderr
        assert daemons.run("submit", "--wait", "--stdout", "b:rm-if-finished", "--", "echo", "x").returncode == 0
        warned = daemons.run("submit", "--stdout", "%{NO_SUCH}", "--stderr", "none", "--", "true").stderr
        assert warned.startswith("warning: %{NO_SUCH} in stdout='%{NO_SUCH}' is no placeholder")
        assert daemons.run("submit-file", "--wait", "job.toml").returncode == 1
        assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".out") == ["kept.out"]
        assert (tmp_path / "a/0").read_text(encoding="utf-8") == "here\n"
        assert not (tmp_path / "b").exists()
        assert daemons.run("down").returncode == 0
        assert re.search(
            "memory limits of tasks are held by (control groups of version|watching)", daemons.run("worker", "hwdetect").stdout
        )


@pytest.mark.long
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_check_3_1_no_stray_of_a_worker(url: str | None, tmp_path: Path, how: str) -> None:
    left = tmp_path / "left"
    left.mkdir()
    address = url or f"sqlite:///{tmp_path}/queue.db"
    key = new_key()
    space = f"stray-{how}"  # a namespace has one ledger, and each of these has its own
    env = {"BROKER_JOBS_URL": address, "BROKER_JOBS_SIGNING_KEY": key, "BROKER_JOBS_NAMESPACE": space}
    with Daemons(tmp_path, env) as daemons:
        daemons.start("coordinator", "start", "--store", f"sqlite:///{tmp_path}/ledger.db")
        worker = daemons.start("worker", "start", "--cpus", "4")
        with Client(address, namespace=space, signing_key=key) as client:
            client.submit(stubborn_job(left, grace=GRACE)[0])
            until(lambda: len(list(left.iterdir())) == 2, "both daemons are there")
            worker.send_signal(signal.SIGKILL if how == "killed" else signal.SIGTERM)
            if how == "stopped":
                worker.send_signal(signal.SIGINT)  # the second one stops at once; two of one kind could be taken for one
            worker.wait(30)
            until(lambda: not living(left), "nothing of its tasks is left", GRACE + SOON + 5)
            until(lambda: len(daemons.alive()) == 1, lambda: f"the coordinator alone is left\n{daemons.logs()}", 10)
