"""An executor that runs programs in a batch system, for tests, and what it reports."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import sys
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs_worker.executors.archive import Archive
from broker_jobs_worker.executors.batch.executor import BatchExecutor, Pace
from tests.support import fake_batch
from tests.support.executions import DEADLINE, Bench

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
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


class FakeBatch:
    """Commands of Grid Engine and HTCondor that are fakes; see `tests.support.fake_batch`.

    Attributes:
        sge: options by which an executor finds them
        htcondor: the same
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "faults").mkdir(parents=True)
        (folder / "bin").mkdir()
        self.sge: dict[str, tuple[str, ...]] = {}
        self.htcondor: dict[str, tuple[str, ...]] = {}
        for command in fake_batch.COMMANDS:
            path = folder / "bin" / command.__name__
            words = shlex.join([sys.executable, "-I", "-S", fake_batch.__file__, str(folder), command.__name__])
            path.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
            path.chmod(0o755)
            options = self.sge if command.__name__.startswith("q") else self.htcondor
            options[command.__name__] = (str(path),)

    def fault(self, command: str, *lines: str) -> None:
        """What the next calls of a command do instead."""
        (self.folder / "faults" / command).write_text("".join(f"{line}\n" for line in lines))

    def fate(self, *lines: str) -> None:
        """What becomes of the next jobs."""
        (self.folder / "fates").write_text("".join(f"{line}\n" for line in lines))

    def asked(self, command: str) -> list[str]:
        """The calls of a command."""
        path = self.folder / "asked"
        return [line for line in path.read_text().splitlines() if line.startswith(f"{command} ")] if path.exists() else []

    def submitted(self) -> int:
        """How many jobs there were."""
        return len(fake_batch.Folder(self.folder).numbers())

    def facts(self, number: int) -> dict[str, Any]:
        """What was said of a job."""
        facts: dict[str, Any] = fake_batch.Folder(self.folder).get(number, "facts")
        return facts

    def remove(self, number: int) -> None:
        """End a job by hand."""
        fake_batch.Folder(self.folder).remove(number, "somebody")

    def alive(self) -> list[int]:
        """Jobs that have not ended."""
        folder = fake_batch.Folder(self.folder)
        return [number for number in folder.numbers() if folder.get(number, "ended") is None]


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeBatch]:
    """Fake commands; what still runs at the end is ended."""
    made = FakeBatch(tmp_path / "fake")
    yield made
    for number in made.alive():
        made.remove(number)
