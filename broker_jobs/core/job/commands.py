"""What the job machine asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.core.outcome import Outcome
    from broker_jobs.core.states import JobState, TaskState


@dataclass(frozen=True, slots=True)
class Queue:
    """Put this attempt into its class queue, as soon as the job's window has room."""

    task: int
    attempt: int
    isolated: bool = False


@dataclass(frozen=True, slots=True)
class QueueAll:
    """Put the first attempts of these tasks into their class queues: what `Queue` says of each."""

    tasks: Sequence[int]


@dataclass(frozen=True, slots=True)
class Delay:
    """Hand in `RetryDue` after so many seconds."""

    task: int
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Revoke:
    """Tell the workers to stop this attempt, or to drop it."""

    task: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Changed:
    """The state or the counters of this task are new: write its row."""

    task: int


@dataclass(frozen=True, slots=True)
class Together:
    """These tasks have moved to a state together: as `Changed` says of each, and where they have succeeded, `Recorded`.

    Attributes:
        came: they are in it since they came
    """

    tasks: Sequence[int]
    after: TaskState
    came: bool = False


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Tell the workers not to start this attempt; one that runs goes on."""

    task: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class Swept:
    """All of the job was asked for, and these tasks have moved at once: write their rows with one statement.

    What `Queue`, `Revoke`, `Withdraw` and `Changed` say of one task, it says of all of them. A `Changed` that follows is an exception.

    Attributes:
        tasks: their numbers
        before: every task in one of these states was moved, but for the exceptions
    """

    tasks: tuple[int, ...]
    before: frozenset[TaskState]
    after: TaskState
    reason: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """The outcome in this event is the one of the task (for a retried failure: of the attempt)."""

    task: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The task has another outcome already, or the attempt is an old one: count it, and keep nothing."""

    task: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Finished:
    """All tasks have ended; nothing follows."""

    state: JobState


JobCommand = Queue | QueueAll | Delay | Revoke | Withdraw | Swept | Changed | Together | Recorded | Duplicate | Finished
