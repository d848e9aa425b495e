"""xqute with its local scheduler, 100 jobs at once: it asks for their states in rounds, so that more at once is faster."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from xqute import Xqute

from benchmarks.measure import Measure, timed

if TYPE_CHECKING:
    from benchmarks.measure import Setting

FORKS = 100


def programs(setting: Setting) -> Measure:
    """Jobs of one program each."""
    seconds = timed(lambda: asyncio.run(_run(setting)))
    return Measure(setting.tasks, {"rate": setting.tasks / seconds})


async def _run(setting: Setting) -> None:
    xqute = Xqute(forks=FORKS, workdir=str(Path(setting.folder, "jobs")))
    for _ in range(setting.tasks):
        await xqute.feed(["/bin/true"])
    await xqute.run_until_complete()
    assert {await job.get_rc() for job in xqute.jobs} == {0}
