"""How fast programs of other systems run over their faces: from the first line to the last result.

pinexQ: jobs of one step, each made by `create_and_configure_rapidly`, and fetched by `wait_for_completion` and `get_result`. Its service
cannot be run here, so nothing stands beside it. xqute: programs with 100 at once, beside xqute itself.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.case import EMBEDDED, RABBITMQ, RATE, SAFE, SAFE_EMBEDDED, Bound, Case, Side, Target
from benchmarks.measure import Measure, rate, timed
from benchmarks.ours import CPUS
from benchmarks.peers import settings
from broker_jobs import LocalCluster
from broker_jobs.compat.pinexq import Job, ProcessingStep
from broker_jobs.compat.xqute import Xqute
from tests.support import served_pinexq

if TYPE_CHECKING:
    from benchmarks.measure import Setting
    from broker_jobs import Client

FORKS: Final = 100


def pinexq(setting: Setting) -> Measure:
    """Jobs of a step."""
    with LocalCluster(workers=1, cpus=CPUS, url=setting.url or None, steps=[served_pinexq]) as cluster, cluster.client() as client:
        step = ProcessingStep.from_name(client, "my_function")
        return rate(setting, lambda jobs: _pinexq(client, step, jobs))


def _pinexq(client: Client, step: ProcessingStep, jobs: int) -> None:
    made = [
        Job(client).create_and_configure_rapidly(name=f"job {x}", processing_step_instance=step, tags=["many"], parameters=f'{{"x": {x}}}')
        for x in range(jobs)
    ]
    assert [job.wait_for_completion(300).get_result() for job in made] == [{"square": x * x} for x in range(jobs)]


def xqute(setting: Setting) -> Measure:
    """Programs, on this user's embedded node, as whoever changes the import gets it."""
    os.environ["BROKER_JOBS_HOME"] = str(Path(setting.folder, "home"))
    try:
        asyncio.run(_xqute(1, Path(setting.folder, "first")))  # the node is up, as it is for whoever works with it
        seconds = timed(lambda: asyncio.run(_xqute(setting.tasks, Path(setting.folder, "jobs"))))
    finally:
        subprocess.run([sys.executable, "-P", "-m", "broker_jobs", "down"], check=True)
    return Measure(setting.tasks, {"rate": setting.tasks / seconds})


async def _xqute(number: int, workdir: Path) -> None:
    xqute = Xqute(forks=FORKS, workdir=str(workdir))
    for _ in range(number):
        await xqute.push(["true"])
    await xqute.run_until_complete()
    assert {await job.rc for job in xqute.jobs} == {0}


PINEXQ: Final = Case(
    name="faces",
    title="1,000 jobs of one step over the face of pinexQ",
    counted="jobs a second from the first line to the last result",
    tasks=1000,
    sides=(Side(RABBITMQ, pinexq, SAFE, rabbitmq=True), Side(EMBEDDED, pinexq, SAFE_EMBEDDED)),
    figures=(RATE,),
    targets=(Target(EMBEDDED, "rate", Bound.least, 200),),
    once=True,
)
XQUTE: Final = Case(
    name="faces_xqute",
    title="200 programs over the face of xqute, with 100 at once",
    counted="programs a second from the first line to the end of the run",
    tasks=200,
    sides=(Side(EMBEDDED, xqute, SAFE_EMBEDDED), settings.xqute("programs")),
    figures=(RATE,),
    targets=(Target(EMBEDDED, "rate", Bound.least, 100),),
    once=True,
)
