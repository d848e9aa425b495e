"""Memory limits, held by control groups where they may be made, else by watching; both ways are run, and the ids of the tests say which."""

from __future__ import annotations

import asyncio
import logging
import mmap
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.core.outcome import Cause, Crashed, Failed, Succeeded
from broker_jobs_worker.executors import groups
from tests.support.executions import bench, call, program

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from broker_jobs_worker.executors.port import ExecutionEnded
    from tests.support.executions import Bench

MIB = 1 << 20


@pytest.fixture(params=["control group", "watched"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The root of a file system with control groups that this user may make, or with none."""
    if request.param == "watched":
        return tmp_path / "no control groups here"
    found, held_by = groups.find()
    if found is None:
        pytest.skip(f"on this machine memory limits are held by {held_by}")
    found.close()
    return groups.ROOT


def told(spool: Path, root: Path, story: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with bench(spool, grace=0.3, root=root) as b:
            await story(b)
            assert isinstance((await b.run_one(call(os.getpid))).outcome, Succeeded)
            assert isinstance((await b.run_one(program("true", memory_limit=100 * MIB))).outcome, Succeeded)

    asyncio.run(run())
    assert made() == []


def made() -> list[Path]:
    """The control groups of this process."""
    return list(Path("/sys/fs/cgroup").glob(f"**/broker-jobs-{os.getpid()}-*"))


def is_over(ended: ExecutionEnded) -> bool:
    assert isinstance(ended.outcome, Failed), ended.outcome
    assert ended.outcome.cause is Cause.memory_limit
    return "the memory limit of 100 MiB was exceeded" in ended.outcome.message


def hoard(megabytes: int, children: int = 0, seconds: float = 0.5) -> int:
    held = b"x" * (megabytes << 20)
    kids = []
    for _ in range(children):
        pid = os.fork()
        if pid == 0:
            time.sleep(60)
            os._exit(len(held) & 0)
        kids.append(pid)
    time.sleep(seconds)
    for pid in kids:
        os.kill(pid, signal.SIGKILL)
    return len(held)


def load(megabytes: int) -> None:
    sys.modules["a model"] = mmap.mmap(-1, megabytes << 20)  # type: ignore[assignment]
    sys.modules["a model"].write(b"x" * (megabytes << 20))  # type: ignore[attr-defined]


def child_process(megabytes: int) -> int:
    """A process of its own takes it; the function does not care that it dies."""
    pid = os.fork()
    if pid == 0:
        hoard(megabytes, seconds=60)
    return os.waitpid(pid, 0)[1]


HUNGRY = "x = b'x' * (200 << 20); import time; time.sleep(60)"


def shoot() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_memory_of_the_tree_is_limited(tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(b: Bench) -> None:
        limit = {"memory_limit": 100 * MIB}
        small, function, forked, main, tree, shot = await b.run(
            call(hoard, 10, **limit),
            call(hoard, 200, **limit),
            call(child_process, 200, **limit),
            program(sys.executable, "-c", HUNGRY, **limit),
            program("bash", "-c", f'setsid {sys.executable} -c "{HUNGRY}" & wait; exit 0', **limit),
            call(shoot, **limit),
        )
        assert isinstance(small.outcome, Succeeded), small.outcome
        assert all(is_over(ended) for ended in (function, forked, main, tree))
        assert isinstance(shot.outcome, Crashed), "a death for another reason"

    with caplog.at_level(logging.INFO):
        told(tmp_path, root, story)
    wanted = "control groups of version" if root == groups.ROOT else "watching the resident memory of each task's processes"
    assert f"memory limits are held by {wanted}" in caplog.text


def test_memory_that_processes_share_counts_once(tmp_path: Path, root: Path) -> None:
    async def story(b: Bench) -> None:
        # 60 MiB, shared by four processes
        ended = await b.run_one(call(hoard, 60, 3, memory_limit=150 * MIB))
        assert isinstance(ended.outcome, Succeeded), ended.outcome

    told(tmp_path, root, story)


def test_what_a_warm_child_had_before_does_not_count(tmp_path: Path, root: Path) -> None:
    async def story(b: Bench) -> None:
        for task in (call(load, 150), call(hoard, 60, memory_limit=100 * MIB)):
            ended = await b.run_one(task)
            assert isinstance(ended.outcome, Succeeded), ended.outcome
        assert is_over(await b.run_one(call(hoard, 130, memory_limit=100 * MIB)))

    told(tmp_path, root, story)
