"""Ctrl-C ends a wait, and not the work; what a script leaves behind is found again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from broker_jobs.wire.signing import new_key
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCRIPT = """\
import sys, time
from broker_jobs import Client, Job

def work(gate):
    import os, time
    while not os.path.exists(gate):
        time.sleep(0.01)
    return 42

client = Client()
job = Job(name="long")
task = job.function(work, args=(sys.argv[1],))
submitted = client.submit(job)
print(submitted.id, flush=True)
if sys.argv[2] == "wait":
    try:
        client.wait_for_jobs([submitted])
    except KeyboardInterrupt:
        print("interrupted", time.time(), flush=True)
        raise
"""


@pytest.fixture(scope="module", params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.long)])
def daemons(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemons]:
    """A user's own node, or a deployment on RabbitMQ."""
    folder = tmp_path_factory.mktemp("interrupt")
    if request.param == "embedded":
        with Daemons(folder, {}) as found:
            yield found
            assert found.run("down").returncode == 0
    else:
        url: str = request.getfixturevalue("rabbitmq").fresh_vhost()
        with Daemons(folder, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": new_key()}) as found:
            found.start("coordinator", "start")
            found.start("worker", "start", "--cpus", "2")
            yield found
    until(lambda: not found.alive(), "no process of the test is left")


def _script(daemons: Daemons, tmp_path: Path, what: str) -> subprocess.Popen[str]:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, str(path), str(tmp_path / "gate"), what],
        env=daemons.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _found_again(daemons: Daemons, job: str) -> str:
    """State, name and result, as another process sees them."""
    code = "import sys; from broker_jobs import Client; job = Client().job(sys.argv[1]); print(job.state, job.name, job.result(0))"
    done = subprocess.run([sys.executable, "-c", code, job], env=daemons.env, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_ctrl_c_ends_the_wait_at_once_and_the_job_goes_on(daemons: Daemons, tmp_path: Path) -> None:
    script = _script(daemons, tmp_path, "wait")
    assert script.stdout is not None
    job = script.stdout.readline().strip()
    until(lambda: '"running"' in daemons.run("task", "list", job, "--output", "json").stdout, "the task runs", timeout=60)
    begun = time.time()
    os.killpg(script.pid, signal.SIGINT)  # as the terminal does: the node must not hear it
    out, err = script.communicate(timeout=30)
    assert script.returncode in {-signal.SIGINT, 130}
    assert "KeyboardInterrupt" in err
    word, moment = out.split()
    assert word == "interrupted"
    assert float(moment) - begun < 5.0
    [line] = [line for line in err.splitlines() if line.startswith("broker-jobs:")]
    assert line == f"broker-jobs: 1 submitted job is not finished and will go on; follow with: broker-jobs job wait {job[-8:]}"
    assert '"running"' in daemons.run("task", "list", job, "--output", "json").stdout
    (tmp_path / "gate").touch()
    assert _found_again(daemons, job[-8:]).split()[1:] == ["long", "42"]


def test_a_script_that_leaves_work_behind_says_one_line(daemons: Daemons, tmp_path: Path) -> None:
    script = _script(daemons, tmp_path, "leave")
    out, err = script.communicate(timeout=60)
    job = out.strip()
    assert script.returncode == 0
    assert err == f"broker-jobs: 1 submitted job is not finished and will go on; follow with: broker-jobs job wait {job[-8:]}\n"
    (tmp_path / "gate").touch()
    assert daemons.run("job", "wait", job[-8:]).returncode == 0
    assert _found_again(daemons, job).split() == ["succeeded", "long", "42"]


def test_ctrl_c_ends_the_command_line_in_order(daemons: Daemons) -> None:
    waiting = daemons.start("submit", "--wait", "--", "sleep", "30")
    until(lambda: '"running"' in daemons.run("task", "list", "last", "--output", "json").stdout, "the task runs", timeout=60)
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(30) == 130
    assert "interrupted; submitted jobs go on" in daemons.logs()
    assert '"running"' in daemons.run("task", "list", "last", "--output", "json").stdout
    assert daemons.run("job", "cancel", "last").returncode == 0
