"""Interpreters, import paths, and the spool."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from broker_jobs.core.outcome import Succeeded
from broker_jobs.host import host_identity
from broker_jobs.wire import payload
from broker_jobs.wire.messages import Call, Function, Origin
from broker_jobs_worker.executors import prints, servers, spool
from tests.support.executions import bench, call, execution, here

if TYPE_CHECKING:
    import pytest

    from broker_jobs_worker.executors.port import ExecutionEnded


def value_of(ended: ExecutionEnded) -> object:
    assert isinstance(ended.outcome, Succeeded), ended.outcome
    return payload.load(ended.outcome.value)  # type: ignore[arg-type]


def about() -> tuple[str, bool, list[str]]:
    return sys.executable, "pytest" in sys.modules, sys.path


def test_an_interpreter_without_our_packages_runs_functions(tmp_path: Path) -> None:
    python = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    path = [entry for entry in sys.path if entry.startswith(sys.base_prefix) and "site-packages" not in entry]
    bare = Origin(host_identity(), python, "3.11.7", tuple(path))

    async def story() -> None:
        async with bench(tmp_path) as b:
            executable, polluted, found = value_of(await b.run_one(call(about, origin=bare)))  # type: ignore[misc]
            assert Path(executable).samefile(python)
            assert not polluted
            assert found[: len(path)] == path

    asyncio.run(story())


def test_files_of_the_user_do_not_stand_in_for_the_standard_library(tmp_path: Path) -> None:
    for name in ("asyncio", "traceback", "struct", "multiprocessing"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is not the module')\n")
    origin = here()
    shadowed = Origin(origin.host, origin.python, origin.version, (str(tmp_path), *origin.path))

    async def story() -> None:
        async with bench(tmp_path / "spool") as b:
            assert value_of(await b.run_one(call(pow, 2, 3, origin=shadowed))) == 8

    asyncio.run(story())


def test_environments_that_nobody_uses_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "MOST_ENVIRONMENTS", 2)
    origin = here()
    environments = [Origin(origin.host, origin.python, origin.version, (*origin.path, f"/{number}")) for number in range(4)]

    async def story() -> None:
        async with bench(tmp_path) as b:
            pids = [value_of(await b.run_one(call(os.getpid, origin=each))) for each in environments]
            assert set(b.executor.processes[1:]) == set(pids[-2:])
            assert value_of(await b.run_one(call(os.getpid, origin=environments[3]))) == pids[3]
            assert value_of(await b.run_one(call(os.getpid, origin=environments[0]))) not in pids

    asyncio.run(story())


def test_a_function_of_an_installed_module_travels_as_a_name(tmp_path: Path) -> None:
    work = Call("f", payload.dump_call(("a b",), {}, lambda _: None))

    async def story() -> None:
        async with bench(tmp_path) as b:
            ended = await b.run_one(execution(work, function=Function("split", "shlex", b"cshlex\nsplit\n.")))
            assert value_of(ended) == ["a", "b"]

    asyncio.run(story())


def chatter(path: str) -> None:
    while not Path(path).exists():
        os.write(1, b"x" * 65536)
        time.sleep(0.001)
    os.write(1, b"the end")


def test_endless_output_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SPOOL_CAP", 1 << 20)
    monkeypatch.setattr(prints, "SPOOL_CAP", 1 << 20)
    monkeypatch.setattr(prints, "LOOK_INTERVAL", 0.05)
    stop = tmp_path / "stop"

    def used() -> int:
        return sum(path.stat().st_blocks * 512 for path in (tmp_path / "spool").glob("child-*.out"))

    async def story() -> None:
        async with bench(tmp_path / "spool") as b:
            one = call(chatter, str(stop))
            b.executor.start(one)
            seen: list[int] = [0]
            async with asyncio.timeout(30):
                while not (max(seen) > 1 << 20 and seen[-1] < 1 << 20):
                    seen.append(used())
                    await asyncio.sleep(0.005)
            stop.touch()
            (ended,) = await b.finish(one)
            assert ended.stdout.size > 1 << 20
            assert ended.stdout.tail.endswith(b"xxthe end")

    asyncio.run(story())
