"""How long a library takes to import, in a fresh interpreter of the environment that this runs in."""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.measure import Measure

if TYPE_CHECKING:
    from benchmarks.measure import Setting

CODE = "import time; begun = time.perf_counter(); import {}; print(time.perf_counter() - begun)"


def _measure(setting: Setting, module: str) -> Measure:
    command = [sys.executable, "-c", CODE.format(module)]
    times = [float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(setting.tasks + 1)]
    return Measure(setting.tasks, {"time": statistics.median(times[1:]) * 1000})


def broker_jobs(setting: Setting) -> Measure:
    """Ours."""
    return _measure(setting, "broker_jobs")


def celery(setting: Setting) -> Measure:
    """Celery loads the rest when it is used."""
    return _measure(setting, "celery")


def dramatiq(setting: Setting) -> Measure:
    """Dramatiq."""
    return _measure(setting, "dramatiq")


def taskiq(setting: Setting) -> Measure:
    """Taskiq."""
    return _measure(setting, "taskiq")


def dask(setting: Setting) -> Measure:
    """dask.distributed."""
    return _measure(setting, "distributed")


def hyperqueue(setting: Setting) -> Measure:
    """HyperQueue."""
    return _measure(setting, "hyperqueue")
