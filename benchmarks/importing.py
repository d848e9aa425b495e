"""How long a library takes to import, in a fresh interpreter of the environment that this runs in."""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.measure import Measure

if TYPE_CHECKING:
    from benchmarks.measure import Setting

TIMES = 5
CODE = "import time; begun = time.perf_counter(); import {}; print(time.perf_counter() - begun)"


def _measure(module: str) -> Measure:
    command = [sys.executable, "-c", CODE.format(module)]
    times = [float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(TIMES + 1)]
    return Measure(1, {"time": statistics.median(times[1:]) * 1000})


def broker_jobs(_: Setting) -> Measure:
    """Ours."""
    return _measure("broker_jobs")


def celery(_: Setting) -> Measure:
    """Celery loads the rest when it is used."""
    return _measure("celery")


def dramatiq(_: Setting) -> Measure:
    """Dramatiq."""
    return _measure("dramatiq")


def taskiq(_: Setting) -> Measure:
    """Taskiq."""
    return _measure("taskiq")


def dask(_: Setting) -> Measure:
    """dask.distributed."""
    return _measure("distributed")


def hyperqueue(_: Setting) -> Measure:
    """HyperQueue."""
    return _measure("hyperqueue")
