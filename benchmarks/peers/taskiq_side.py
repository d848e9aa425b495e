"""taskiq over RabbitMQ (taskiq-aio-pika) with its defaults, which are safe: 2 worker processes, uvloop.

Its guide runs coroutines in the worker's loop and functions in threads, so the task is a coroutine. `kiq` waits for the confirm; 100 of
them are under way at once.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from typing import TYPE_CHECKING, Any

from benchmarks.measure import rate
from benchmarks.peers.programs import running
from benchmarks.peers.ticks import Ticks

if TYPE_CHECKING:
    from benchmarks.measure import Measure, Setting

APP = "benchmarks.peers.taskiq_app"
UNDER_WAY = 100


def counted(setting: Setting) -> Measure:
    """`kiq` call by call, until the last has run."""
    ticks = Ticks(setting.folder)
    os.environ |= {"BENCH_URL": setting.url, "BENCH_TICKS": str(ticks.path)}
    module = importlib.import_module(APP)
    with running("taskiq", "worker", f"{APP}:broker", "--workers", "2", "--log-level", "WARNING"), asyncio.Runner() as runner:
        runner.run(module.broker.startup())
        try:
            return rate(setting, lambda tasks: _run(runner, module.ticking, ticks, tasks))
        finally:
            runner.run(module.broker.shutdown())


def _run(runner: asyncio.Runner, task: Any, ticks: Ticks, tasks: int) -> None:
    numbers = iter(range(tasks))

    async def send() -> None:
        for number in numbers:
            await task.kiq(number)

    async def send_all() -> None:
        await asyncio.gather(*(send() for _ in range(UNDER_WAY)))
        await asyncio.to_thread(ticks.wait, tasks)  # the connection stays alive meanwhile

    runner.run(send_all())
