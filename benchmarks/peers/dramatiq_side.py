"""Dramatiq with its defaults, which confirm nothing: 2 processes of 8 threads.

Prefetch as its changelog has it (``dramatiq_queue_prefetch``), large because the tasks are short.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from benchmarks.measure import rate
from benchmarks.peers.programs import running
from benchmarks.peers.ticks import Ticks

if TYPE_CHECKING:
    from benchmarks.measure import Measure, Setting

APP = "benchmarks.peers.dramatiq_app"


def counted(setting: Setting) -> Measure:
    """`send` call by call, until the last has run."""
    ticks = Ticks(setting.folder)
    os.environ |= {"BENCH_URL": setting.url, "BENCH_TICKS": str(ticks.path), "dramatiq_queue_prefetch": "1000"}
    ticking = importlib.import_module(APP).ticking

    def run(tasks: int) -> None:
        for number in range(tasks):
            ticking.send(number)
        ticks.wait(tasks)

    with running("dramatiq", APP, "--processes", "2", "--threads", "8"):
        return rate(setting, run)
