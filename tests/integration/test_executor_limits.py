"""Limits and stops hold for the whole tree of processes."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs import TimeLimitReached, current
from broker_jobs.core.outcome import Canceled, Cause, Failed, Succeeded
from tests.support import stubborn
from tests.support.executions import appears, bench, call, program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from broker_jobs_worker.executors.port import Execution, ExecutionEnded
    from tests.support.executions import Bench

GRACE = 0.3


def told(spool: Path, story: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with bench(spool, grace=GRACE) as b:
            await story(b)
            assert isinstance((await b.run_one(call(os.getpid))).outcome, Succeeded)
            assert isinstance((await b.run_one(program("true"))).outcome, Succeeded)

    asyncio.run(run())


def failure_of(ended: ExecutionEnded) -> Failed:
    assert isinstance(ended.outcome, Failed), ended.outcome
    return ended.outcome


def alive(folder: Path) -> list[str]:
    """The processes that left their pid there and still live."""
    return [path.name for path in folder.iterdir() if Path("/proc", path.name).exists()]


def spin() -> None:
    while True:
        pass


def stuck_in_c() -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")


def swallow() -> None:
    while True:
        try:
            time.sleep(60)
        except Exception:  # noqa: BLE001
            continue


def leave_daemons(folder: str, mode: str) -> None:
    subprocess.run([sys.executable, stubborn.__file__, folder, mode], check=True)
    while not list(Path(folder).iterdir()):
        time.sleep(0.01)
    if os.environ.get("STAY"):
        time.sleep(60)


@pytest.mark.parametrize("function", [spin, stuck_in_c, swallow])
def test_a_function_that_does_not_listen_is_killed(tmp_path: Path, function: Callable[[], None]) -> None:
    async def story(b: Bench) -> None:
        ended = await b.run_one(call(function, time_limit=200))
        failed = failure_of(ended)
        assert failed.cause is Cause.time_limit
        assert "the time limit of 0.2 s was reached" in failed.message
        assert "broker_jobs.errors.TimeLimitReached" in failed.exception_types

    told(tmp_path, story)


def test_a_program_may_end_in_order(tmp_path: Path) -> None:
    script = "trap 'echo cleaned; exit 0' TERM; echo started; while :; do sleep 0.05; done"

    async def story(b: Bench) -> None:
        ended = await b.run_one(program("bash", "-c", script, time_limit=500))
        assert failure_of(ended).cause is Cause.time_limit
        assert ended.stdout.tail == b"started\ncleaned\n"

    told(tmp_path, story)


@pytest.mark.parametrize("kind", ["program", "function"])
def test_the_grace_of_a_task(tmp_path: Path, kind: str) -> None:
    def one(**options: Any) -> Execution:
        script = "trap 'echo asked' TERM; while :; do sleep 0.01; done"
        return program("bash", "-c", script, **options) if kind == "program" else call(say_and_swallow, **options)

    async def story(b: Bench) -> None:
        ends = await b.run(one(time_limit=500, grace=0), one(time_limit=500, grace=600), one(time_limit=500))
        assert [ended.stdout.tail for ended in ends] == [b"", b"asked\n", b"asked\n"]
        assert {failure_of(ended).cause for ended in ends} == {Cause.time_limit}
        lasted = [ended.ended_ms - ended.started_ms for ended in ends]
        assert lasted[0] < lasted[1]
        assert lasted[1] >= 1100

    told(tmp_path, story)


def say_and_swallow() -> None:
    while True:
        try:
            time.sleep(60)
        except TimeLimitReached:
            print("asked")


def tidy_up(folder: str) -> str:
    try:
        time.sleep(60)
    except TimeLimitReached as reached:
        Path(folder, "tidy").write_text(str(current.stop_requested))
        raise ValueError("gave up") from reached
    return "never"


def test_a_function_may_catch_the_limit(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        failed = failure_of(await b.run_one(call(tidy_up, str(tmp_path), time_limit=200)))
        assert failed.cause is Cause.time_limit
        assert "gave up" in failed.traceback
        assert (tmp_path / "tidy").read_text() == "True"

    told(tmp_path / "spool", story)


async def wait_for(how: str, file: str) -> None:
    """A coroutine that writes down what reaches it, and what of it needs the event loop to clean up."""
    try:
        match how:
            case "sleep":
                await asyncio.sleep(60)
            case "children":
                await asyncio.gather(asyncio.create_task(asyncio.sleep(60)), asyncio.sleep(60))
            case "code":
                end = time.monotonic() + 60
                while time.monotonic() < end:
                    pass
    except TimeLimitReached:
        await asyncio.sleep(0.01)
        others = len(asyncio.all_tasks()) - 1
        Path(file).write_text(f"reached, {others} others run")
        raise


async def items(file: str) -> AsyncIterator[int]:
    yield 1
    await wait_for("sleep", file)


def test_a_coroutine_may_catch_the_limit(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        files = [str(tmp_path / str(number)) for number in range(4)]
        tasks = [call(wait_for, how, file, time_limit=300) for how, file in zip(("sleep", "children", "code"), files, strict=False)]
        for ended in await b.run(*tasks, call(items, files[3], time_limit=300)):
            failed = failure_of(ended)
            assert failed.cause is Cause.time_limit
            assert "in wait_for" in failed.traceback
        assert {Path(file).read_text() for file in files} == {"reached, 0 others run"}

    told(tmp_path / "spool", story)


@pytest.mark.alone
@pytest.mark.parametrize("kind", ["program", "function"])
@pytest.mark.parametrize("mode", ["daemon", "hop"])
def test_a_limit_holds_for_the_whole_tree(tmp_path: Path, kind: str, mode: str) -> None:
    left = tmp_path / "left"
    left.mkdir()
    script = f"trap '' TERM; {sys.executable} {stubborn.__file__} {left} {mode}; while :; do sleep 1; done"
    options: dict[str, Any] = {"time_limit": 1500, "env": (("STAY", "1"),)}
    one = program("bash", "-c", script, **options) if kind == "program" else call(leave_daemons, str(left), mode, **options)

    async def story(b: Bench) -> None:
        ended = await b.run_one(one)
        assert failure_of(ended).cause is Cause.time_limit
        assert list(left.iterdir()), "it was there"
        assert alive(left) == []

    told(tmp_path / "spool", story)
    assert marked(one.execution) == []


def marked(execution: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"BROKER_JOBS_EXECUTION={execution}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("mode", ["daemon", "hop"])
def test_nothing_survives_a_function(tmp_path: Path, mode: str) -> None:
    left = tmp_path / "left"
    left.mkdir()

    async def story(b: Bench) -> None:
        one = call(leave_daemons, str(left), mode)
        assert isinstance((await b.run_one(one)).outcome, Succeeded)
        assert list(left.iterdir())
        assert alive(left) == []
        assert marked(one.execution) == []

    told(tmp_path / "spool", story)


@pytest.mark.parametrize("kind", ["program", "function"])
def test_stop_of_what_does_not_listen(tmp_path: Path, kind: str) -> None:
    ready = tmp_path / "ready"
    one = program("bash", "-c", f"trap '' TERM; echo 1 > {ready}; while :; do sleep 1; done") if kind == "program" else call(spin)

    async def story(b: Bench) -> None:
        b.executor.start(one)
        if kind == "program":
            await appears(ready)
        b.executor.stop(one.execution, "wrong input")
        b.executor.stop(one.execution, "a second time")
        (ended,) = await b.finish(one)
        assert ended.outcome == Canceled("wrong input")
        b.executor.stop(one.execution, "too late")
        b.executor.stop("never heard of", "")

    told(tmp_path / "spool", story)


def test_stop_before_the_start(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        one = call(os.getpid)
        b.executor.start(one)
        b.executor.stop(one.execution, "early")
        assert (await b.finish(one))[0].outcome == Canceled("early")

    told(tmp_path, story)
