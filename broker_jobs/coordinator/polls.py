"""Questions that wait for a change: long polls; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.wire.messages import GetChanges, Request

LONGEST_MS: Final = 60_000
"""No question waits longer, whatever it asks for."""


@dataclass(frozen=True, slots=True)
class Poll:
    """A question about a job, which is answered when the job changes or when it is due (in seconds)."""

    request: Request
    question: GetChanges
    job: str
    due: float


class Polls:
    """All questions that wait."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Poll]] = {}

    def __len__(self) -> int:
        """Jobs that somebody waits for."""
        return len(self._waiting)

    def add(self, poll: Poll) -> None:
        """A question that has no news yet."""
        self._waiting.setdefault(poll.job, []).append(poll)

    def ripe(self, changed: Iterable[str], now: float) -> list[Poll]:
        """Questions that are to be answered now; they do not wait any more."""
        ripe = [poll for job in changed for poll in self._waiting.pop(job, ())]
        for job, polls in list(self._waiting.items()):
            late = [poll for poll in polls if poll.due <= now]
            if late:
                ripe += late
                self._waiting[job] = [poll for poll in polls if poll.due > now]
                if not self._waiting[job]:
                    del self._waiting[job]
        return ripe

    def due(self) -> float | None:
        """When the next question is due, in seconds."""
        return min((poll.due for polls in self._waiting.values() for poll in polls), default=None)
