"""Executions that follow one another in a child without being asked for, as far as the parent knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker_jobs.core.value import Inline
from broker_jobs.wire.messages import Call, Program
from broker_jobs_worker.runners.protocol import Followers

if TYPE_CHECKING:
    from collections import deque

    from broker_jobs_worker.executors.port import Execution
    from broker_jobs_worker.executors.running import Running


@dataclass(slots=True, eq=False)
class Line:
    """What follows an execution.

    Attributes:
        waiting: has not begun
        running: is being run, or waits for a child
        apart: each is given to a child by itself, since that did not go on with the next the last time
        given: tickets that the child may have: of those that were given to it, the ones that were not taken back
        begun: followers that have begun, from what the child says
    """

    waiting: deque[Execution]
    running: Running | None = None
    apart: bool = False
    given: int = 0
    begun: int = 0

    def orders(self) -> Followers | None:
        """What the child is told of those that follow."""
        if self.apart or not self.waiting:
            return None
        names = tuple(each.task_name for each in self.waiting)
        args = [each.work.args for each in self.waiting if isinstance(each.work, Call)]
        return Followers(
            tuple(each.execution for each in self.waiting),
            tuple(each.task for each in self.waiting),
            tuple(each.attempt for each in self.waiting),
            names if any(names) else (),
            "".join(each.encoding for each in args),
            tuple(each.data for each in args if isinstance(each, Inline)),
            tuple(each.work for each in self.waiting if isinstance(each.work, Program)),
        )

    @property
    def goes_on(self) -> bool:
        """Whether the child may begin the next by itself."""
        return bool(self.waiting) and self.begun < self.given
