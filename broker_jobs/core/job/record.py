"""The row of one task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from broker_jobs.core.spec import NEVER_START_TWICE
from broker_jobs.core.states import ENDED, TaskState

if TYPE_CHECKING:
    from collections.abc import Collection

    from broker_jobs.core.spec import Retry

OUT: Final = frozenset({TaskState.queued, TaskState.running, TaskState.canceling})
"""States in which an attempt is with the workers, so that there may be news of it."""


@dataclass(slots=True)
class TaskRecord:
    """What is known of one task; all of it but `missing` is kept by the coordinator.

    Attributes:
        attempt: 0 until it is released
        failures: attempts that failed; what the retry policy counts
        crashes: attempts that vanished with their process or worker
        execution: the last one heard of in the current attempt
        isolated: it travels alone, and its start is confirmed before it starts
        reason: why it is in its state, for people
        outside: what it waits for in other jobs, by name; kept in rows of its own
        missing: how many ends it waits for, those in other jobs included; derived
    """

    number: int
    deps: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    retry: Retry | None = None
    crash_limit: int | None = None
    state: TaskState = TaskState.waiting
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    execution: str = ""
    isolated: bool = False
    reason: str = ""
    outside: frozenset[str] = field(default=frozenset(), compare=False)
    missing: int = field(default=0, compare=False)

    @property
    def ended(self) -> bool:
        """Whether its state is final."""
        return self.state in ENDED

    def expects(self, attempt: int) -> bool:
        """Whether there may be news of this attempt: it is with the workers, or was called back and not heard of."""
        if self.attempt != attempt:
            return attempt == 1 and self.ahead
        return self.state in OUT or self.called_back

    @property
    def ahead(self) -> bool:
        """Whether it is paused, was never released, and may have run all the same: in the chain of the one for which it waited."""
        return self.state is TaskState.paused and self.attempt == 0 and not self.missing

    @property
    def called_back(self) -> bool:
        """Whether it is paused and its attempt may be out all the same: nothing was heard of that."""
        return self.state is TaskState.paused and self.attempt > 0 and not self.execution

    def committed(self, out: Collection[int]) -> bool:
        """Whether it is not called back: it must never start twice, and with its message among those that are out it may have begun."""
        return self.state is TaskState.queued and self.crash_limit == NEVER_START_TWICE and self.number in out
