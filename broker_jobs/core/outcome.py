"""Every way in which an attempt can end, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from broker_jobs.core.data import Artifact  # noqa: TC001 (the codec reads it)

if TYPE_CHECKING:
    from broker_jobs.core.value import Value


class Cause(StrEnum):
    """Why a task failed."""

    error = "error"
    """The function raised, the program could not be started, or a value could not be sent."""
    exit_code = "exit code"
    signal = "signal"
    time_limit = "time limit"
    memory_limit = "memory limit"
    output_limit = "output limit"
    crash_limit = "crash limit"
    rejected = "rejected"
    """A worker would not run it: security, version, or a resource that nobody has."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The function returned, or the program exited with 0 (a program's value is None here).

    Attributes:
        made: the data that it has made
    """

    tag: ClassVar[str] = "succeeded"
    value: Value | None = None
    made: tuple[Artifact, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed; the retry policy may grant another.

    Attributes:
        message: one paragraph for people, such as ``ZeroDivisionError: division by zero``
        traceback: the remote traceback, or empty
        exception: the exception itself where it could be pickled
        exception_types: qualified names of the exception's class and of its bases, for the retry filter
        exit_code: of a program or of ``sys.exit(n)``
        signal: number of the signal that ended the process
    """

    tag: ClassVar[str] = "failed"
    cause: Cause
    message: str
    traceback: str = ""
    exception: Value | None = None
    exception_types: tuple[str, ...] = ()
    exit_code: int | None = None
    signal: int | None = None


@dataclass(frozen=True, slots=True)
class Canceled:
    """Somebody asked for the end of the task, and it has stopped."""

    tag: ClassVar[str] = "canceled"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Crashed:
    """The process of a function vanished without an answer, by no doing of ours; not a failure of the task."""

    tag: ClassVar[str] = "crashed"
    message: str
    signal: int | None = None


Outcome = Succeeded | Failed | Canceled | Crashed
