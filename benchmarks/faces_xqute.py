"""How long 200 trivial programs take through the face of xqute, with 100 at once: from the first push to the end of the run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from broker_jobs.compat.xqute import Xqute

if TYPE_CHECKING:
    from collections.abc import Callable

XQUTE = 7.6
"""Seconds that xqute 2.2.0 takes for the same, each program as a job of its local scheduler."""
PROGRAMS, FORKS = 200, 100


async def _programs(number: int, workdir: str) -> float:
    begun = time.perf_counter()
    xqute = Xqute(forks=FORKS, workdir=workdir)
    for _ in range(number):
        await xqute.push(["true"])
    await xqute.run_until_complete()
    seconds = time.perf_counter() - begun
    assert {await job.rc for job in xqute.jobs} == {0}
    return seconds


def rows(report: Callable[[str, float, float], object], repetitions: int = 3) -> None:
    """Report what was measured: what, seconds (the best of some), and seconds of the original."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BROKER_JOBS_HOME"] = f"{folder}/home"
        try:
            asyncio.run(_programs(1, f"{folder}/first"))  # the node is up, as it is for whoever works with it
            taken = [asyncio.run(_programs(PROGRAMS, f"{folder}/{turn}")) for turn in range(repetitions)]
        finally:
            subprocess.run([sys.executable, "-P", "-m", "broker_jobs", "down"], check=True, stdout=subprocess.DEVNULL)
        report(f"xqute: {PROGRAMS} programs, forks={FORKS}", min(taken), XQUTE)


if __name__ == "__main__":
    rows(lambda what, took, original: print(f"{what}, embedded: {took:.2f} s (xqute itself: {original:g} s)"))
