"""What workers say of attempts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Started:
    """An execution has begun.

    Attributes:
        after: the execution in whose chain it is, and whose value it was given; empty where that came with a message
    """

    tag: ClassVar[str] = "started"
    task: int
    attempt: int
    execution: str
    at_ms: int
    after: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """What the task says of its progress.

    Attributes:
        fraction: 0 to 1
    """

    tag: ClassVar[str] = "progress"
    task: int
    attempt: int
    fraction: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """One standard stream of an execution.

    Attributes:
        tail: its last bytes, 64 KiB at most
        size: bytes in all
        path: file with the whole on the worker's host, where it is longer than the tail or was asked for
    """

    tag: ClassVar[str] = "output"
    tail: bytes = b""
    size: int = 0
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """An execution has ended.

    Attributes:
        after: as in `Started`
    """

    tag: ClassVar[str] = "ended"
    task: int
    attempt: int
    execution: str
    outcome: Outcome
    started_ms: int
    ended_ms: int
    stdout: Output = Output()
    stderr: Output = Output()
    after: str = ""


@dataclass(frozen=True, slots=True)
class Returned:
    """An attempt goes back without an outcome.

    Attributes:
        reason: for people, where `why` alone does not say it
    """

    tag: ClassVar[str] = "returned"
    task: int
    attempt: int
    why: Return
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """The worker keeps this attempt although its message will be acknowledged now."""

    tag: ClassVar[str] = "taken"
    task: int
    attempt: int
    execution: str


ReplyItem = Started | Progress | Ended | Returned | Taken


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker says of attempts of one job, in the order in which it happened."""

    tag: ClassVar[str] = "reply"
    job: str
    worker: str
    boot: str
    items: tuple[ReplyItem, ...]
    resource_class: str = ""
