"""What follows from a look at a job; pure.

A batch system may forget a job before the file with its exit code can be seen here, and may not know one that was submitted a moment ago.
So a job is lost when it was not known in `LOST_AFTER` polls in a row, and there is no exit code after the last of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, assert_never

from broker_jobs_worker.executors.batch.port import Ended, JobState, Running, Stuck, Waiting

LOST_AFTER: Final = 2
"""Polls."""


@dataclass(frozen=True, slots=True)
class GoesOn:
    """Nothing has to be done.

    Attributes:
        missing: polls in a row that did not know the job
        runs: it has begun, as far as the batch system knows
        note: for people; empty where there is nothing new to say
    """

    missing: int = 0
    runs: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Exited:
    """The program has ended with this code."""

    code: int


@dataclass(frozen=True, slots=True)
class Hopeless:
    """It will not run: it has to be canceled."""

    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """It is to end, and is still there: the batch system has to be told, again."""


@dataclass(frozen=True, slots=True)
class Over:
    """It is to end, and nothing of it is left."""


@dataclass(frozen=True, slots=True)
class Lost:
    """It is gone without an exit code; `reason` where the batch system says one."""

    reason: str


Finding = GoesOn | Exited | Hopeless | Cancel | Over | Lost


def judge(state: JobState | None, code: int | None, missing: int, *, condemned: bool) -> Finding:
    """What follows from a poll.

    Args:
        state: as the batch system says; None where it does not know the job
        code: what the program has left, as seen after the poll
        missing: polls in a row before this one that did not know the job
        condemned: it is to end
    """
    if code is not None:
        return Exited(code)
    match state:
        case None | Ended():
            if condemned:
                return Over()
            reason = "" if state is None else state.reason
            return Lost(reason) if missing + 1 >= LOST_AFTER else GoesOn(missing + 1)
        case _ if condemned:
            return Cancel()
        case Stuck(reason):
            return Hopeless(reason)
        case Waiting(reason):
            return GoesOn(note=reason or "waiting")
        case Running():
            return GoesOn(runs=True, note="running")
        case _:
            assert_never(state)
