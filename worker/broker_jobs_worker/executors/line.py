"""Executions that follow one another in a child without being asked for, as far as the parent knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker_jobs.wire.messages import Call, Program
from broker_jobs_worker.runners.protocol import Next

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

    def orders(self) -> tuple[Next, ...]:
        """What the child is told of those that follow."""
        if self.apart:
            return ()
        return tuple(
            Next(
                follower.execution,
                follower.task,
                follower.attempt,
                follower.task_name,
                follower.work.args if isinstance(follower.work, Call) else None,
                follower.work if isinstance(follower.work, Program) else None,
            )
            for follower in self.waiting
        )

    @property
    def goes_on(self) -> bool:
        """Whether the child may begin the next by itself."""
        return bool(self.waiting) and self.begun < self.given
