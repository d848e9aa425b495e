"""``job cat`` on real daemons: from wherever tasks ran, while they run, and when their worker is gone."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from broker_jobs import Client, Job
from broker_jobs.cli.app import app
from broker_jobs.wire.messages import Cluster, GetWorkers
from broker_jobs.wire.signing import new_key
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINES = 30_000
LONG = b"".join(b"%d\n" % number for number in range(1, LINES + 1))


class Place:
    """A coordinator and a worker in processes of their own."""

    def __init__(self, daemons: Daemons, client: Client) -> None:
        self.daemons = daemons
        self.client = client
        self.worker = daemons.start("worker", "start", "--cpus", "3")

    def cat(self, *arguments: str) -> bytes:
        """What ``job cat`` writes."""
        done = CliRunner().invoke(app, ["job", "cat", *arguments], env=self.daemons.env)
        assert done.exit_code == 0, done.stderr
        return done.stdout_bytes

    def kill_worker(self) -> None:
        """End the worker, and wait until the ledger knows."""
        self.daemons.kill(self.worker)
        until(lambda: "active" not in self._states(), "the ledger misses the worker")

    def _states(self) -> set[str]:
        found = self.client.runtime.run(lambda core: core.ask(GetWorkers(), Cluster))
        return {worker.state for worker in found.workers}

    def files(self) -> list[Path]:
        """What workers keep of long output."""
        return [path for path in self.daemons.folder.glob("**/.kept/*/*/*") if path.is_file()]


@contextlib.contextmanager
def deployed(folder: Path, url: str) -> Iterator[Place]:
    """Daemons and a client in this folder."""
    key = new_key()
    with Daemons(folder, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": key}) as daemons:
        daemons.start("coordinator", "start")
        with Client(url, signing_key=key) as client:
            yield Place(daemons, client)


@pytest.fixture(params=["embedded", pytest.param("amqp", marks=pytest.mark.long)], scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The same on both brokers, for tests that disturb nobody."""
    folder = tmp_path_factory.mktemp("place")
    url = f"sqlite:///{folder}/queue.db" if request.param == "embedded" else request.getfixturevalue("rabbitmq").fresh_vhost()
    with deployed(folder, url) as found:
        yield found


@pytest.fixture(params=["embedded", pytest.param("amqp", marks=pytest.mark.long)])
def mortal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """The same for tests that kill workers."""
    url = f"sqlite:///{tmp_path}/queue.db" if request.param == "embedded" else request.getfixturevalue("rabbitmq").fresh_vhost()
    with deployed(tmp_path, url) as found:
        yield found


def test_long_output_outlives_its_worker_on_the_host_and_goes_with_its_job(mortal: Place) -> None:
    job = Job()
    task = job.program(["seq", str(LINES)])
    submitted = mortal.client.submit(job)
    assert submitted.stdout(task) == LONG
    [kept] = mortal.files()
    # Nobody but a worker reads the file: where the client looks for it, it is not.
    mortal.kill_worker()
    away = kept.rename(kept.parent / "away")
    with pytest.warns(UserWarning, match=f"the first {len(LONG) - 2**16} bytes"):
        assert submitted.stdout(task) == LONG[-(2**16) :]
    away.rename(kept)
    mortal.worker = mortal.daemons.start("worker", "start", "--cpus", "1")
    assert mortal.cat(submitted.id) == LONG
    submitted.forget()
    until(lambda: not mortal.files(), "the file of the job is removed")


@pytest.mark.long
def test_a_worker_hears_of_forgotten_jobs_when_it_comes_back(mortal: Place) -> None:
    job = Job()
    task = job.program(["seq", str(LINES)])
    submitted = mortal.client.submit(job)
    assert submitted.stdout(task) == LONG
    mortal.kill_worker()
    submitted.forget()
    assert mortal.files()
    mortal.worker = mortal.daemons.start("worker", "start", "--cpus", "1")
    until(lambda: not mortal.files(), "the file of the forgotten job is removed")


def test_a_whole_job_is_followed_line_by_line(place: Place, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = Job()
    for number in range(3):
        job.program(["sh", "-c", f"echo {number} begins; until [ -e {gate} ]; do sleep 0.05; done; printf '%s ends' {number}"])
    for number in range(3, 40):
        job.program(["sh", "-c", f"echo {number} is short"])
    submitted = place.client.submit(job)
    command = [sys.executable, "-P", "-m", "broker_jobs", "job", "cat", "--follow", submitted.id]
    with subprocess.Popen(command, env=place.daemons.env, stdout=subprocess.PIPE) as following:
        assert following.stdout is not None
        lines = {following.stdout.readline() for _ in range(3)}
        assert lines == {b"   %d | %d begins\n" % (number, number) for number in range(3)}, "they come before anything has ended"
        gate.touch()
        lines |= set(following.stdout.read().splitlines(keepends=True))
    ends = {b"   %d | %d ends\n" % (number, number) for number in range(3)}
    assert lines == {b"   %d | %d begins\n" % (number, number) for number in range(3)} | ends | {
        b"%4d | %d is short\n" % (number, number) for number in range(3, 40)
    }
    assert following.returncode == 0


def test_which_tasks_and_how(place: Place) -> None:
    job = Job()
    job.program(["sh", "-c", r"printf 'a\377\000b'; echo trouble >&2; exit 1"], name="bad")
    for number in range(1, 6):
        job.program(["echo", str(number)])
    submitted = place.client.submit(job)
    place.client.wait_for_jobs([submitted], raise_on_error=False, progress=False)
    name = submitted.id[-8:]
    assert place.cat(name) == b"a\xff\x00b1\n2\n3\n4\n5\n"
    assert place.cat(name, "stderr") == b"trouble\n"
    assert place.cat("--tasks", "1-3,5", name, "stdout") == b"1\n2\n3\n5\n"
    assert place.cat(name, name, "--state", "failed", "stderr") == b"trouble\n" * 2
    headed = place.cat(name, "--tasks", "2,bad", "--header", "stderr").decode()
    assert headed.splitlines() == [f"==> {name} task 0 bad (failed) <==", "trouble", f"==> {name} task 2 echo (succeeded) <=="]
    found = json.loads(place.cat(name, "--tasks", "0-1", "--output", "json"))
    assert base64.b64decode(found[0]["base64"]) == b"a\xff\x00b"
    assert (found[1]["task"], found[1]["state"], found[1]["text"], found[1]["lost"]) == (1, "succeeded", "1\n", 0)


def speak(number: int) -> None:
    """Print a little."""
    print(f"task {number} " + "x" * 500)


def test_many_tasks_make_few_files(place: Place) -> None:
    job = Job()
    job.map(speak, range(500))
    submitted = place.client.submit(job)
    place.client.wait_for_jobs([submitted], progress=False)
    assert place.cat(submitted.id).splitlines() == [b"task %d " % number + b"x" * 500 for number in range(500)]
    output = [path for folder in place.daemons.folder.glob("**/output") for path in folder.rglob("*") if path.is_file()]
    assert len(output) < 20, output
