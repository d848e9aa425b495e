"""Limits on the memory of what runs: a control group for each task where there are some, else the guardian watches."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from broker_jobs.wire.messages import Program
from broker_jobs_worker.executors import groups
from broker_jobs_worker.executors.verdicts import MemoryUp

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    from broker_jobs_worker.executors.children import Children
    from broker_jobs_worker.executors.running import Running
    from broker_jobs_worker.executors.server import Child

INTERVAL: Final = 0.2
"""Seconds between two looks at whether the kernel has killed a part of a task."""

_log = logging.getLogger(__name__)


class Memory:
    """The memory limits of a worker.

    Args:
        loop: on which everything happens
        children: of the worker
        condemn: ends what takes too much
        root: of the file system in which control groups are looked for
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, children: Children, condemn: Callable[[Running, MemoryUp], None], root: Path
    ) -> None:
        self._loop = loop
        self._children = children
        self._condemn = condemn
        self._groups, held_by = groups.find(root)
        _log.info("memory limits are held by %s", held_by)

    def begin(self, running: Running, child: Child) -> None:
        """Put the limit, if there is one, on what this child is about to run."""
        limit = running.execution.options.memory_limit
        if limit is None:
            return
        if self._groups is not None and running.group is None:
            try:
                running.group = self._groups.make(limit)
            except OSError as error:
                _log.warning("no control group for %s, whose memory is watched instead: %s", running.execution.execution, error)
        if running.group is None:
            self._children.watch(child, limit, whole=not isinstance(running.execution.work, Program))
        else:
            self._look_again(running)

    def end(self, running: Running, child: Child) -> None:
        """Take the limit from the child; the group of the task is for others to remove."""
        if running.execution.options.memory_limit is not None and running.group is None:
            self._children.unwatch(child)

    def is_over(self, running: Running) -> bool:
        """Whether the kernel has killed something of it for its memory; it is condemned then."""
        if running.group is None or not running.group.exceeded():
            return False
        self._condemn(running, MemoryUp(running.execution.options.memory_limit or 0))
        return True

    def close(self) -> None:
        """Remove the groups."""
        if self._groups is not None:
            self._groups.close()

    def _look(self, running: Running) -> None:
        if not self.is_over(running):
            self._look_again(running)

    def _look_again(self, running: Running) -> None:
        running.looking = self._loop.call_later(INTERVAL, self._look, running)
