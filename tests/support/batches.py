"""An executor that runs programs in a batch system, for tests, and what it reports."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from broker_jobs_worker.executors.archive import Archive
from broker_jobs_worker.executors.batch.executor import BatchExecutor, Pace
from tests.support.executions import DEADLINE, Bench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from broker_jobs_worker.executors.batch.port import Scheduler

QUICK = Pace(look=0.02, poll=0.5, soon=0.1, patience=2.0, reason=10.0)


class BatchBench(Bench):
    """An executor over a batch system."""

    executor: BatchExecutor  # type: ignore[assignment]

    def __init__(self, scheduler: Scheduler, folder: Path, options: Mapping[str, tuple[str, ...]] | None = None, **more: Any) -> None:
        super().__init__(folder)
        self.folder = folder / "worker" / "batch"
        more = {"owner": "this host", "pace": QUICK, "system": "batch", **more}
        archive = Archive(folder / ".kept", 2**30)
        system = more.pop("system")
        self.executor = BatchExecutor(self._report, scheduler, system, folder=self.folder, archive=archive, options=options or {}, **more)

    @property
    def told(self) -> list[str]:
        """What was said of executions while they had not ended."""
        return [news.text for news in self.progress]

    async def until_idle(self) -> None:
        """Wait until no job is left in the batch system, be it told of or not."""
        async with asyncio.timeout(DEADLINE):
            while self.executor.jobs:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def batch_bench(
    scheduler: Scheduler, folder: Path, options: Mapping[str, tuple[str, ...]] | None = None, *, resumed: Sequence[str] = (), **more: Any
) -> AsyncIterator[BatchBench]:
    """An open executor."""
    made = BatchBench(scheduler, folder, options, **more)
    await made.executor.open(resumed)
    try:
        yield made
    finally:
        await made.executor.close()
