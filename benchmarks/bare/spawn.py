"""The floor of programs: two processes that start `/bin/true` and wait for it, again and again."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING

from benchmarks import work
from benchmarks.measure import rate

if TYPE_CHECKING:
    from benchmarks.measure import Measure, Setting

PROCESSES = 2
PROGRAM = "/bin/true"


def programs(setting: Setting) -> Measure:
    """Programs a second."""
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        return rate(setting, lambda tasks: pool.map(_spawn, work.shares(tasks, PROCESSES), chunksize=1))


def _spawn(tasks: int) -> None:
    for _ in range(tasks):
        _, status = os.waitpid(os.posix_spawn(PROGRAM, [PROGRAM], {}), 0)
        assert status == 0
