"""What running tasks print: read while they run, kept small in the spool, and held to its limit."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Final

from broker_jobs.data.excerpt import excerpt_of
from broker_jobs.wire.messages import Piece
from broker_jobs_worker.executors.spool import SPOOL_CAP
from broker_jobs_worker.executors.verdicts import OutputUp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker_jobs_worker.executors.running import Running

LOOK_INTERVAL: Final = 0.25
"""Seconds between two looks at the size of what running tasks have printed."""
LOOK_SOON: Final = 0.05
"""The same while one of them has a limit, or has printed `MUCH` since the last look (bytes)."""
MUCH: Final = 4 * 2**20


class Prints:
    """The output of all that runs.

    Args:
        running: by execution; not changed here
        condemn: ends an execution that prints too much
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, running: Mapping[str, Running], condemn: Callable[[Running, OutputUp], None]
    ) -> None:
        self._loop = loop
        self._running = running
        self._condemn = condemn
        self._next: asyncio.TimerHandle | None = None
        self._beside: set[asyncio.Task[None]] = set()

    def watch(self) -> None:
        """Look from now on, as long as something runs."""
        if self._next is None:
            self._next = self._loop.call_later(LOOK_INTERVAL, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._next is not None:
            self._next.cancel()
        for task in self._beside:
            task.cancel()

    async def read(self, execution: str, *, stderr: bool, path: str | None, start: int, most: int) -> Piece:
        """Part of what an execution has printed so far, or, once it has ended, of the file at this path."""
        running = self._running.get(execution)
        if running is not None:
            path = running.redirected.stderr if stderr else running.redirected.stdout
            if path is None:
                if running.child is None:
                    return Piece(execution)
                try:
                    found = running.child.capture.read(stderr=stderr, start=start, most=most)
                except OSError:  # a disk that fails must not end the worker
                    return Piece(execution, missing=True)
                return Piece(execution, found.start, found.data, found.size)
        if path is not None:
            # A user's file may lie on a file system that does not answer.
            part = await asyncio.to_thread(excerpt_of, path, start, most)
            if part is not None:
                return Piece(execution, part.start, part.data, part.size, ended=running is None)
        return Piece(execution, missing=True)

    def _look(self) -> None:
        self._next = None
        soon = False
        for running in list(self._running.values()):
            if running.child is None:
                continue
            sizes = running.child.capture.sizes()
            printed = sum(sizes)
            soon |= printed - running.printed > MUCH
            running.printed = printed
            if max(sizes) > SPOOL_CAP:
                running.child.capture.trim()
            limit = running.execution.options.output_limit
            if limit is None or running.verdict is not None:
                continue
            soon = True
            if printed > limit:
                self._condemn(running, OutputUp(limit, printed))
            elif running.redirected.stdout is not None or running.redirected.stderr is not None:
                task = self._loop.create_task(self._look_at_files(running, limit))
                self._beside.add(task)
                task.add_done_callback(self._beside.discard)
        if self._running:
            self._next = self._loop.call_later(LOOK_SOON if soon else LOOK_INTERVAL, self._look)

    async def _look_at_files(self, running: Running, limit: int) -> None:
        """The same for a task that writes to files of its own."""
        paths = {running.redirected.stdout, running.redirected.stderr}
        printed = running.printed + await asyncio.to_thread(_sizes, paths)
        if printed > limit and self._running.get(running.execution.execution) is running:
            self._condemn(running, OutputUp(limit, printed))


def _sizes(paths: set[str | None]) -> int:
    """Bytes in these files."""
    total = 0
    for path in paths:
        if path is not None:
            with contextlib.suppress(OSError):
                total += os.stat(path).st_size  # noqa: PTH116 (a text)
    return total
