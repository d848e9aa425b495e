"""The client as a guest in other people's processes: scripts, forks, Ctrl-C, and a node of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, LocalCluster
from broker_jobs.client.node import stop_node
from broker_jobs.errors import BrokerUnavailable, ClientClosed, CoordinatorUnavailable, ValidationError
from broker_jobs.wire.messages import FindJob, JobInfo
from tests.support.daemons import until

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0


def add(left: int, right: int = 0) -> int:
    return left + right


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder of its own; its node has ended at the end."""
    folder = tmp_path / "home"
    monkeypatch.setenv("BROKER_JOBS_HOME", str(folder))
    for name in ("BROKER_JOBS_URL", "BROKER_JOBS_CONFIG", "BROKER_JOBS_SIGNING_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    yield folder
    stop_node(folder, timeout=5)


def _script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text))
    return path


def _run(script: Path, *, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, str(script)], capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=script.parent
    )


def _alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_script_without_a_guard_leaves_its_work_to_the_node(home: Path, tmp_path: Path) -> None:
    script = _script(
        tmp_path,
        f"""
        import time
        from broker_jobs import Client, Job

        def wait_for(path):
            import pathlib
            while not pathlib.Path(path).exists():
                time.sleep(0.01)
            return "went"

        client = Client()
        print(client.call(lambda left, right: left + right, 1, 2))
        job = Job(name="left")
        job.function(wait_for, args=({str(tmp_path / "go")!r},))
        print(client.submit(job).id)
        """,
    )
    done = _run(script, flags=("-W", "error"))
    assert done.returncode == 0, done.stderr
    value, job = done.stdout.split()
    assert value == "3"
    assert done.stderr.count("\n") == 1, done.stderr
    line = done.stderr.strip()
    assert line == f"broker-jobs: 1 submitted job is not finished and will go on; follow with: broker-jobs job wait {job[-8:]}"
    (tmp_path / "go").touch()
    with Client() as client:
        found = client.job(job)
        assert client.wait_for_jobs([found], timeout=PATIENCE)
        assert found.result(0) == "went"
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_script_that_has_waited_says_nothing(home: Path, tmp_path: Path) -> None:
    script = _script(
        tmp_path,
        """
        from broker_jobs import Client, Job
        job = Job()
        job.program(["true"])
        client = Client()
        client.wait_for_jobs([client.submit(job)])
        """,
    )
    done = _run(script, flags=("-W", "error"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ctrl_c_ends_the_wait_and_not_the_job(home: Path, tmp_path: Path) -> None:
    script = _script(
        tmp_path,
        f"""
        import pathlib, time
        from broker_jobs import Client, Job

        def wait_for(path):
            while not pathlib.Path(path).exists():
                time.sleep(0.01)
            return "went"

        client = Client()
        job = Job()
        job.function(wait_for, args=({str(tmp_path / "go")!r},))
        submitted = client.submit(job)
        for event in submitted.events():
            if getattr(event, "task", None) == 0 and event.state == "running":
                break
        print(submitted.id, flush=True)
        try:
            client.wait_for_jobs([submitted], progress=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """,
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        job = process.stdout.readline().strip()
        assert job, process.stderr and process.stderr.read()
        # The node must not hear it either, so the whole process group gets it, as from a terminal.
        time.sleep(0.2)  # until it waits; earlier would be right, too
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.readline().strip() == "interrupted"
        assert process.wait(PATIENCE) == 0
    with Client() as client:
        found = client.job(job)
        assert found.state == "running"
        (tmp_path / "go").touch()
        assert found.result(0, timeout=PATIENCE) == "went"


def test_work_goes_on_with_the_next_node(home: Path, tmp_path: Path) -> None:
    with Client() as client:
        job = Job()
        first = job.program(["sh", "-c", f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"], crash_limit="unlimited")
        second = job.function(add, args=(1, 2), deps=[first])
        submitted = client.submit(job)
        client.runtime.reports_left_work = False
        pid = int((home / "node.ready").read_text())
        os.kill(pid, signal.SIGKILL)
        until(lambda: not _alive(pid), "the node is gone")
        (tmp_path / "go").touch()
        # This client sees that nobody answers, and starts another node.
        assert submitted.result(second, timeout=PATIENCE) == 3
        assert int((home / "node.ready").read_text()) != pid


def test_the_node_is_one_for_all_clients(home: Path) -> None:
    with Client() as first, Client() as second:
        assert first.call(os.getppid) > 1
        assert len(second.cluster().workers) == 1
    assert stop_node(home, timeout=10)
    assert not stop_node(home, timeout=10)


def test_a_node_that_cannot_start_says_why(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text("raise SystemExit('no node today')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    with pytest.raises(CoordinatorUnavailable, match=r"(?s)has ended.*no node today"):
        Client()


def test_a_child_that_was_forked_makes_a_connection_of_its_own(cluster: LocalCluster) -> None:
    with cluster.client() as client:
        assert client.call(add, 1) == 1
        job = Job()
        task = job.function(add, args=(5, 6))
        submitted = client.submit(job)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                text = f"{client.call(add, 20, 3)} {submitted.result(task, timeout=PATIENCE)} {submitted.state}"
                os.write(writer, text.encode())
                client.close()
                status = 0
            finally:
                os._exit(status)
        os.close(writer)
        with os.fdopen(reader) as answer:
            assert answer.read() == "23 11 succeeded"
        assert os.waitpid(child, 0)[1] == 0
        assert client.call(add, 2, 2) == 4
        assert submitted.result(task) == 11


def test_a_cluster_ends_with_the_process_that_made_it(tmp_path: Path) -> None:
    script = _script(
        tmp_path,
        """
        import os, signal
        from broker_jobs import LocalCluster
        cluster = LocalCluster(cpus=1)
        print(cluster.folder, *cluster.processes, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    done = _run(script)
    assert done.returncode == -signal.SIGKILL
    folder, *pids = done.stdout.split()
    assert len(pids) == 2
    until(lambda: not any(_alive(int(pid)) for pid in pids), "no process of the cluster is left", timeout=30)
    subprocess.run(["rm", "-rf", folder], check=True)


def test_a_cluster_of_several_workers_is_gone_when_it_is_closed() -> None:
    with LocalCluster(workers=2, cpus=1) as cluster:
        with cluster.client() as client:
            assert len([worker for worker in client.cluster().workers if worker.state == "active"]) == 2
            assert {client.call(add, number) for number in range(4)} == {0, 1, 2, 3}
        folder, pids = cluster.folder, list(cluster.processes)
        assert len(pids) == 3
    assert not folder.exists()
    assert not any(map(_alive, pids))
    cluster.close()
    with pytest.raises(ValidationError):
        LocalCluster(workers=-1)


def test_nobody_answers_at_this_address() -> None:
    with pytest.raises(BrokerUnavailable):
        Client("amqp://127.0.0.1:9/", timeout=2)


def test_without_a_coordinator_the_ledger_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker_jobs.client.core.PATIENCE", 1.0)
    with Client(f"sqlite:///{tmp_path}/queue.db") as client:
        client.runtime.reports_left_work = False
        with pytest.raises(CoordinatorUnavailable, match="broker-jobs coordinator start"):
            client.runtime.run(lambda core: core.ask(FindJob("last"), JobInfo, 0.5))
        job = Job()
        job.program(["true"])
        submitted = client.submit(job)
        with pytest.raises(CoordinatorUnavailable):
            client.wait_for_jobs([submitted])
    with pytest.raises(ClientClosed):
        client.submit(job)
