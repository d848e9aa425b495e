"""What the job machine is told: news of workers, of the submitter and of the clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.core.outcome import Outcome
    from broker_jobs.core.spec import Retry


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task as the machine sees it.

    Attributes:
        deps: tasks whose success it waits for
        after: tasks whose end it waits for
        direct: its chunk stands in a class queue already, put there by the submitter
        outside: what it waits for besides, in other jobs: each has a name, and ends by `OutsideEnded`
    """

    number: int
    deps: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    retry: Retry | None = None
    crash_limit: int | None = None
    direct: bool = False
    outside: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class OutsideEnded:
    """Something in another job, for which a task waits, has ended.

    Attributes:
        need: its name, of `NewTask.outside`
        problem: why the task cannot start any more; empty where it need not wait for this longer
    """

    task: int
    need: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class TasksAdded:
    """A chunk of the job has come."""

    tasks: tuple[NewTask, ...]


@dataclass(frozen=True, slots=True)
class DirectAdded:
    """Tasks have come that are all alike, wait for nothing, and stand in a class queue already: what `TasksAdded` says of each.

    Attributes:
        tasks: their numbers
    """

    tasks: range
    retry: Retry | None = None
    crash_limit: int | None = None


@dataclass(frozen=True, slots=True)
class WaitingAdded:
    """Tasks have come to the ledger alone that are alike but for what they wait for: what `TasksAdded` says of each.

    Attributes:
        tasks: their numbers
        deps: of each, in their order; `after` too
    """

    tasks: range
    deps: Sequence[tuple[int, ...]]
    after: Sequence[tuple[int, ...]]
    retry: Retry | None = None
    crash_limit: int | None = None


@dataclass(frozen=True, slots=True)
class JobSealed:
    """The number of tasks of the job is known: no others will come."""

    tasks: int


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """A worker says that it has begun."""

    task: int
    attempt: int
    execution: str


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """A worker says how an execution ended."""

    task: int
    attempt: int
    execution: str
    outcome: Outcome
    noise: float = 0.5


@dataclass(frozen=True, slots=True)
class AttemptsSucceeded:
    """A worker says that executions have succeeded: what `AttemptEnded` says of each.

    Attributes:
        ended: task, attempt and execution; no task twice
    """

    ended: Sequence[tuple[int, int, str]]


class Return(StrEnum):
    """Why an attempt comes back without an outcome."""

    unstarted = "unstarted"
    """The worker did not start it: it drains, or the chunk turned out slow."""
    redelivered = "redelivered"
    """The broker delivered its chunk for the second time: it may have run somewhere."""
    lost = "lost"
    """It ran on a worker that is gone."""
    unrouted = "unrouted"
    """The class queue gave the message up."""


@dataclass(frozen=True, slots=True)
class AttemptReturned:
    """An attempt comes back without an outcome.

    Attributes:
        reason: for people, where `why` alone does not say it
    """

    task: int
    attempt: int
    why: Return
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The delay before an attempt is over."""

    task: int
    attempt: int


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants the end of some tasks, or of all.

    Attributes:
        tasks: their numbers; None means all, and those that are still to come
        unstarted_only: leave alone what runs
    """

    tasks: tuple[int, ...] | None = None
    reason: str = ""
    unstarted_only: bool = False


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """Somebody wants some tasks, or all, held back; what runs goes on.

    Attributes:
        tasks: their numbers; None means all, and those that are still to come
        out: those whose message stands in a class queue
    """

    tasks: tuple[int, ...] | None = None
    reason: str = ""
    out: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """Tasks are held back no longer.

    Attributes:
        tasks: their numbers; None means all, and those that are still to come
    """

    tasks: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class JobVoided:
    """The job was given up: its submitter vanished before it was whole, or too many tasks failed."""

    reason: str


JobEvent = (
    TasksAdded
    | DirectAdded
    | WaitingAdded
    | OutsideEnded
    | JobSealed
    | AttemptStarted
    | AttemptEnded
    | AttemptsSucceeded
    | AttemptReturned
    | RetryDue
    | CancelRequested
    | PauseRequested
    | ResumeRequested
    | JobVoided
)
