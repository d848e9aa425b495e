"""Executions for tests, and an executor that runs them in real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import sys
from itertools import count
from typing import TYPE_CHECKING, Any

from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.spec import TaskOptions
from broker_jobs.host import host_identity
from broker_jobs.wire import payload
from broker_jobs.wire.messages import Call, Origin, Output, Program
from broker_jobs_worker.executors.local import LocalExecutor
from broker_jobs_worker.executors.port import Execution, ExecutionEnded, ExecutionProgressed, ExecutionsRecalled, ExecutionsSucceeded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

    from broker_jobs.core.value import Value
    from broker_jobs.wire.messages import Function, Work
    from broker_jobs_worker.executors.port import ExecutionNews

DEADLINE = 30.0
JOB = "0198" + "0" * 28
_numbers = count(1)


def execution(
    work: Work,
    *,
    function: Function | None = None,
    setup: Function | None = None,
    values: Mapping[str, Value] | None = None,
    store: str | None = None,
    allocation: Mapping[str, str] | None = None,
    origin: Origin | None = None,
    job: str = JOB,
    name: str = "",
    **options: Any,
) -> Execution:
    """An execution with a name of its own."""
    number = next(_numbers)
    return Execution(
        execution=f"boot-{os.getpid()}-{number}",
        job=job,
        task=number,
        attempt=1,
        work=work,
        options=TaskOptions(**options),
        origin=origin or Origin("another host", "/nowhere/python", platform.python_version()),
        task_name=name,
        function=function,
        setup=setup,
        values=values or {},
        store=store,
        env=allocation or {},
    )


def call(function: Callable[..., object], *args: object, **more: Any) -> Execution:
    """An execution of a function."""
    digest, packed = payload.dump_function(function, [sys.modules[function.__module__]] if function.__module__ in sys.modules else [])
    return execution(Call(digest, payload.dump_call(args, more.pop("kwargs", {}), lambda _: None)), function=packed, **more)


def program(*argv: str | bytes, stdin: bytes | None = None, task_dir: bool = False, **more: Any) -> Execution:
    """An execution of a program."""
    return execution(Program(tuple(os.fsencode(part) for part in argv), stdin, task_dir), **more)


def here() -> Origin:
    """This process as the submitter."""
    return Origin(host_identity(), sys.executable, sys.version.split()[0], tuple(sys.path))


def told_apart(news: ExecutionsSucceeded) -> Iterator[ExecutionEnded]:
    """The same, as the end of each."""
    started_ms = news.started_ms
    for name, ended_ms, result in zip(news.executions, news.ended_ms, news.values, strict=True):
        yield ExecutionEnded(name, Succeeded(result), started_ms, ended_ms, Output(), Output())
        started_ms = ended_ms


class Bench:
    """An executor, and what it reports."""

    def __init__(self, spool: Path, **options: Any) -> None:
        self.executor = LocalExecutor(self._report, spool=spool, **options)
        self.ended: dict[str, ExecutionEnded] = {}
        self.progress: list[ExecutionProgressed] = []
        self.recalled: list[tuple[str, ...]] = []
        self._changed = asyncio.Event()

    def _report(self, news: ExecutionNews) -> None:
        match news:
            case ExecutionEnded() | ExecutionsSucceeded():
                for each in (news,) if isinstance(news, ExecutionEnded) else told_apart(news):
                    assert each.execution not in self.ended, "an execution ends once"
                    self.ended[each.execution] = each
            case ExecutionProgressed():
                self.progress.append(news)
            case ExecutionsRecalled(executions):
                assert not self.ended.keys() & set(executions), "what has ended is not recalled"
                self.recalled.append(executions)
        self._changed.set()

    async def until(self, condition: Callable[[], object], *, deadline: float = DEADLINE) -> None:
        """Wait for news that make this true."""
        async with asyncio.timeout(deadline):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def finish(self, *executions: Execution) -> list[ExecutionEnded]:
        """Wait for the ends of what was started."""
        await self.until(lambda: all(each.execution in self.ended for each in executions))
        return [self.ended[each.execution] for each in executions]

    async def until_processes(self, count: int) -> None:
        """Wait until so many children live."""
        async with asyncio.timeout(DEADLINE):
            while len(self.executor.processes) - 1 != count:
                await asyncio.sleep(0.005)

    async def run(self, *executions: Execution) -> list[ExecutionEnded]:
        """Start executions and wait for their ends."""
        for each in executions:
            self.executor.start(each)
        return await self.finish(*executions)

    async def run_one(self, one: Execution) -> ExecutionEnded:
        """Run one execution."""
        return (await self.run(one))[0]


async def appears(path: Path) -> str:
    """Wait until another process has written a file; what is in it."""
    async with asyncio.timeout(DEADLINE):
        while not path.exists() or not path.read_text():
            await asyncio.sleep(0.01)
    return path.read_text()


@contextlib.asynccontextmanager
async def bench(spool: Path, **options: Any) -> AsyncIterator[Bench]:
    """An open executor."""
    made = Bench(spool, **options)
    await made.executor.open()
    try:
        yield made
    finally:
        await made.executor.close()
