"""What the tasks of a whole job print, while they do."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from broker_jobs.client.output import RUNS, Printed, parts, printed
from broker_jobs.core.states import ENDED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from broker_jobs.client.core import Core
    from broker_jobs.client.followed import Followed
    from broker_jobs.wire.messages import Changes

AT_ONCE: Final = 100
"""Tasks of a job that are followed at the same time; further ones when those have ended."""
SPACING: Final = 0.01
"""All together they ask the coordinator every so many seconds, at most."""


class _Follower:
    """Follows tasks of a job, and tells what comes by a queue."""

    def __init__(self, core: Core, job: Followed, tasks: frozenset[int] | None, *, stderr: bool) -> None:
        self.queue: asyncio.Queue[Printed | BaseException | None] = asyncio.Queue(AT_ONCE)
        self._core = core
        self._job = job
        self._tasks = tasks
        self._stderr = stderr
        self._places = asyncio.Semaphore(AT_ONCE)
        self._known: set[int] = set()
        self._present: set[int] = set()

    async def run(self) -> None:
        """Follow until all have ended; None is the last in the queue, or an exception."""
        try:
            async with asyncio.TaskGroup() as group:
                async for changes in self._core.changes(self._job):
                    await self._take(changes, group)
                    if self._tasks is not None and self._tasks <= self._known:
                        break
        except BaseExceptionGroup as several:
            await self.queue.put(several.exceptions[0])
        except Exception as error:  # noqa: BLE001 (raised where it is read)
            await self.queue.put(error)
        else:
            await self.queue.put(None)

    async def _take(self, changes: Changes, group: asyncio.TaskGroup) -> None:
        """Follow what runs, and tell what has ended unseen."""
        ended = []
        for info in changes.tasks:
            number = info.number
            if number in self._known or (self._tasks is not None and number not in self._tasks):
                continue
            if info.state in ENDED:
                self._known.add(number)
                ended.append(number)
            elif info.state in RUNS:
                self._known.add(number)
                await self._places.acquire()
                self._present.add(number)
                group.create_task(self._follow(number))
        async with aclosing(printed(self._core, self._job, ended, stderr=self._stderr)) as texts:
            async for text in texts:
                await self.queue.put(text)

    async def _follow(self, task: int) -> None:
        try:
            found = parts(self._core, self._job, task, stderr=self._stderr, follow=True, pause=lambda: len(self._present) * SPACING)
            async with aclosing(found):
                async for part in found:
                    await self.queue.put(Printed(task, part))
            await self.queue.put(Printed(task, None))
        finally:
            self._present.discard(task)
            self._places.release()


async def followed(core: Core, job: Followed, tasks: frozenset[int] | None, *, stderr: bool) -> AsyncGenerator[Printed, None]:
    """What these tasks of a job print (None: all of them), as they do, until the job or all of them have ended."""
    follower = _Follower(core, job, tasks, stderr=stderr)
    running = asyncio.create_task(follower.run())
    try:
        while (item := await follower.queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
