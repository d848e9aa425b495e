"""Whatever is killed: nothing of a worker outlives it, and what need not end goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs.core.outcome import Canceled, Crashed, Succeeded
from broker_jobs_worker.processes import processes
from tests.support.executions import DEADLINE, Bench, appears, bench, call, program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
MARK = "BROKER_JOBS_TEST_DRIVER"


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def carrying(mark: str) -> list[int]:
    """Living processes with this in their environment."""
    found = []
    for process in processes():
        try:
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        except OSError:
            continue
        if process.alive and mark.encode() in environment:
            found.append(process.pid)
    return found


def parent_of(pid: int) -> int:
    return next(process.parent for process in processes() if process.pid == pid)


def living(pids: list[int]) -> list[int]:
    wanted = set(pids)
    return [process.pid for process in processes() if process.alive and process.pid in wanted]


@contextmanager
def driver(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A worker process with stubborn tasks, and the processes of its executor."""
    left = tmp_path / "left"
    left.mkdir()
    command = [sys.executable, "-m", "tests.support.driver", str(tmp_path / "spool"), str(left)]
    env = {**os.environ, MARK: str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT / 'worker'}"}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            word, *pids = process.stdout.readline().split()
            assert word == "ready"
            yield process, [int(pid) for pid in pids]
        finally:
            process.kill()


def left_by(tmp_path: Path) -> list[int]:
    """Pids that the stubborn processes wrote down (daemons drop their environment)."""
    return [int(path.name) for path in tmp_path.glob("left/*/*") if path.name.isdigit()]


def test_nothing_outlives_a_worker_that_is_killed(tmp_path: Path) -> None:
    with driver(tmp_path) as (process, pids):
        daemons = left_by(tmp_path)
        assert len(living(daemons)) == 4
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: not carrying(f"{MARK}={tmp_path}"), "processes with the mark are left")
        until(lambda: not living([*pids, *daemons]), "the guardian, children or daemons are left")


def test_nothing_outlives_a_worker_and_its_guardian_that_are_killed_at_once(tmp_path: Path) -> None:
    with driver(tmp_path) as (process, pids):
        daemons = left_by(tmp_path)
        guardian = pids[0]
        # While it is stopped, the worker cannot end what the guardian guarded.
        process.send_signal(signal.SIGSTOP)
        os.kill(guardian, signal.SIGKILL)
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: not carrying(f"{MARK}={tmp_path}"), "processes with the mark are left")
        until(lambda: not living([*pids, *daemons]), "children or daemons are left")


def test_nothing_outlives_an_executor_that_is_closed(tmp_path: Path) -> None:
    async def story() -> list[int]:
        async with bench(tmp_path) as b:
            running = [program("sleep", "100"), call(time.sleep, 100), call(time.sleep, 100)]
            for each in running:
                b.executor.start(each)
            while len(b.executor.processes) < 4:
                await asyncio.sleep(0.01)
            pids = list(b.executor.processes)
        assert {type(b.ended[each.execution].outcome) for each in running} == {Canceled}
        return pids

    pids = asyncio.run(story())
    assert living(pids) == []
    assert not tmp_path.exists(), "the spool is empty, and goes too"


def test_the_guardian_dies_and_is_replaced(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as b:
            await b.run_one(call(os.getpid))
            running = [program("sh", "-c", "setsid sleep 100 & sleep 100"), call(time.sleep, 100)]
            for each in running:
                b.executor.start(each)
            await b.run_one(program("true"))
            pids = list(b.executor.processes)
            os.kill(pids[0], signal.SIGKILL)
            for ended in await b.finish(*running):
                assert isinstance(ended.outcome, Crashed)
            assert living(pids) == []
            for each in running:
                assert carrying(f"BROKER_JOBS_EXECUTION={each.execution}") == []
            assert isinstance((await b.run_one(call(os.getpid))).outcome, Succeeded)
            assert isinstance((await b.run_one(program("true"))).outcome, Succeeded)
            assert b.executor.processes[0] != pids[0]

    asyncio.run(story())


def test_a_forkserver_dies_and_its_children_go_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as b:
            (first,) = await b.run(call(os.getppid))
            started = tmp_path / "started"
            long = call(until_told, str(started), str(tmp_path / "go"))
            b.executor.start(long)
            await appears(started)
            assert isinstance(first.outcome, Succeeded)
            server = parent_of(b.executor.processes[1])
            os.kill(server, signal.SIGKILL)
            (other,) = await b.run(call(os.getppid))
            assert isinstance(other.outcome, Succeeded)
            assert other.outcome.value != first.outcome.value
            (tmp_path / "go").touch()
            (ended,) = await b.finish(long)
            assert isinstance(ended.outcome, Succeeded), ended

    asyncio.run(story())


def until_told(started: str, go: str) -> None:
    Path(started).write_text("yes")
    while not Path(go).exists():
        time.sleep(0.01)


def test_an_idle_child_that_is_killed_is_replaced(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as b:
            for _ in range(5):
                await b.run_one(call(os.getpid))
                os.kill(b.executor.processes[1], signal.SIGKILL)
                (ended,) = await b.run(call(os.getpid))
                # It may have been given out before its death was known.
                assert isinstance(ended.outcome, Succeeded | Crashed)

    asyncio.run(story())


def control_groups() -> set[Path]:
    """Those that this process has made."""
    return set(Path("/sys/fs/cgroup").glob(f"**/broker-jobs-{os.getpid()}-*"))


def test_a_guardian_that_cannot_start_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")

    async def story() -> None:
        b = Bench(tmp_path)
        with pytest.raises(ChildProcessError, match="guardian"):
            await b.executor.open()

    before = control_groups()
    asyncio.run(story())
    assert control_groups() == before, "what it had made goes with it"
