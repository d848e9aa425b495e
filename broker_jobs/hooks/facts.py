"""What hooks are handed: facts, as they were at their moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from broker_jobs.core.states import JobState, TaskState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class TaskNow:
    """A task at a moment.

    Attributes:
        job: id of its job
        number: its number in the job
        attempt: from 1; 0 where none has begun
        worker: where its attempt runs or ran, if that is known
        reason: why it failed, is tried again, or was stopped
        progress: 0 to 1, where the task says so
    """

    job: str
    number: int
    name: str = ""
    state: TaskState = TaskState.waiting
    attempt: int = 0
    worker: str = ""
    reason: str = ""
    progress: float | None = None
    progress_text: str = ""


@dataclass(frozen=True, slots=True)
class JobNow:
    """A job that has ended.

    Attributes:
        counts: tasks by state
        reason: why it was stopped, if it was
    """

    id: str
    name: str
    state: JobState
    counts: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Keeper:
    """The coordinator in whose process a hook runs."""

    name: str
    namespace: str


@dataclass(frozen=True, slots=True)
class Moment:
    """A hook that is to be called, and of what."""

    hook: str
    of: TaskNow | JobNow


class Told(Protocol):
    """Plugins, for whoever tells them something; only `close` waits, and nothing raises."""

    def wants(self, *hooks: str) -> bool:
        """Whether a plugin has one of these."""

    def begin(self) -> None:
        """Tell that it has begun."""

    def tell(self, moments: Sequence[Moment]) -> None:
        """These have come, in this order."""

    def close(self, within: float) -> object:
        """Tell what is left, and the end, within so many seconds."""

    def failures(self) -> Mapping[str, int]:
        """How often hooks have failed, by plugin and hook."""

    def dropped(self) -> Mapping[str, int]:
        """How many moments plugins were too slow for."""
