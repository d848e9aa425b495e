"""Why an execution was ended from outside, and the outcome that follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.core.outcome import Canceled, Cause, Crashed, Failed
from broker_jobs.core.spec import qualified
from broker_jobs.errors import TimeLimitReached
from broker_jobs.wire.messages import Program, StepCall
from broker_jobs_worker.runners.wording import bytes_words, seconds_words, vanished_words

if TYPE_CHECKING:
    from broker_jobs.core.outcome import Outcome
    from broker_jobs.wire.messages import Work

_LAST_LINE: Final = 500


@dataclass(frozen=True, slots=True)
class TimeUp:
    """The time limit has passed.

    Attributes:
        limit: milliseconds
    """

    limit: int


@dataclass(frozen=True, slots=True)
class MemoryUp:
    """The tree takes more memory than allowed.

    Attributes:
        limit: bytes
        used: bytes that were seen; None where the kernel let it have no more
    """

    limit: int
    used: int | None = None


@dataclass(frozen=True, slots=True)
class OutputUp:
    """It has printed more than allowed (bytes)."""

    limit: int
    printed: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """Somebody asked for the end."""

    reason: str


Verdict = TimeUp | MemoryUp | OutputUp | Stopped


def condemned(verdict: Verdict, answer: Outcome | None) -> Outcome:
    """The outcome of an execution that was ended for this reason, whatever it still answered."""
    traceback = answer.traceback if isinstance(answer, Failed) else ""
    match verdict:
        case TimeUp(limit):
            message = f"the time limit of {seconds_words(limit)} was reached, and the task was ended"
            types = tuple(qualified(kind) for kind in TimeLimitReached.__mro__ if kind is not object)
            return Failed(Cause.time_limit, message, traceback, exception_types=types)
        case MemoryUp(limit, used):
            seen = "" if used is None else f" ({bytes_words(used)})"
            message = f"the memory limit of {bytes_words(limit)} was exceeded{seen}, and the task was killed"
            return Failed(Cause.memory_limit, message, traceback)
        case OutputUp(limit, printed):
            message = f"the output limit of {bytes_words(limit)} was exceeded ({bytes_words(printed)} printed), and the task was killed"
            return Failed(Cause.output_limit, message, traceback)
        case Stopped(reason):
            return Canceled(reason)
        case _:
            assert_never(verdict)


def vanished(work: Work, status: int | None) -> Crashed:
    """The outcome of an execution whose child is gone, by no doing of ours."""
    what = (
        "runner of the program" if isinstance(work, Program) else f"process of the {'step' if isinstance(work, StepCall) else 'function'}"
    )
    number = status & 0x7F if status is not None and status & 0x7F else None
    return Crashed(vanished_words(what, status), number)


def with_last_line(outcome: Outcome, stderr: bytes) -> Outcome:
    """A program's failure with the last line of its standard error, which mostly says why."""
    if not isinstance(outcome, Failed) or outcome.cause not in {Cause.exit_code, Cause.signal}:
        return outcome
    lines = stderr.decode(errors="replace").strip().splitlines()
    return replace(outcome, message=f"{outcome.message}: {lines[-1][-_LAST_LINE:]}") if lines else outcome
