"""What a user may ask of a task, in the form in which it is kept and sent: frozen, validated, in integers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final

from broker_jobs.core.outcome import Cause
from broker_jobs.core.quantities import MOST
from broker_jobs.core.request import Request
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_CRASH_LIMIT: Final = 5
NEVER_START_TWICE: Final = 1
"""The crash limit written ``"never"``."""


class Lane(StrEnum):
    """A queue of its own inside a resource class; workers prefer the higher."""

    high = "high"
    normal = "normal"
    low = "low"


class Isolation(StrEnum):
    """What a function may find of those that ran before it."""

    warm = "warm"
    """It runs in a process that ran others: modules are imported, and keep their state."""
    fresh = "fresh"
    """It runs in a process of its own, in which nothing ran before and nothing will run after it."""


class Keep(StrEnum):
    """Whether what a task has written to a standard stream is kept."""

    always = "always"
    on_failure = "on_failure"
    """It is removed when the task has succeeded."""
    never = "never"
    """It goes nowhere."""


class Pin(StrEnum):
    """How a task is held to the processors that it was given."""

    taskset = "taskset"
    """By the affinity of its processes."""

    omp = "omp"
    """By telling OpenMP (``OMP_PLACES``, ``OMP_PROC_BIND``)."""


@dataclass(frozen=True, slots=True)
class Retry:
    """When and how often a failed task is tried again.

    Args:
        max_attempts: attempts in all; the first one counts
        backoff: seconds before the second attempt
        factor: what each further delay is multiplied with
        max_backoff: seconds that no delay exceeds
        jitter: share of the delay that is random, 0 to 1: the delay is drawn from ``delay × (1 ± jitter)``
        on: which failures are tried again (default: every one): exception types or their qualified names, exit codes, causes

    Raises:
        ValidationError: a number is out of its range
    """

    tag: ClassVar[str] = "retry"
    max_attempts: int = 3
    backoff: float = 1.0
    factor: float = 2.0
    max_backoff: float = 600.0
    jitter: float = 0.1
    on: tuple[str | int, ...] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise ValidationError(f"max_attempts must be a positive integer, not {self.max_attempts!r}")
        for name in ("backoff", "factor", "max_backoff", "jitter"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
                raise ValidationError(f"{name} must be a number, not negative, and less than 2**63, not {value!r}")
            object.__setattr__(self, name, float(value))
        if self.jitter > 1:
            raise ValidationError(f"jitter is a share from 0 to 1, not {self.jitter!r}")
        if self.on is not None:
            object.__setattr__(self, "on", _filters(self.on))


def qualified(kind: type) -> str:
    """Module and qualified name of a class, such as ``builtins.ValueError``."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _filters(on: object) -> tuple[str | int, ...]:
    """The retry filter as names and exit codes."""
    items: Iterable[object] = on if isinstance(on, list | tuple | set | frozenset) else (on,)
    filters: list[str | int] = []
    for item in items:
        if isinstance(item, type) and issubclass(item, BaseException):
            filters.append(qualified(item))
        elif isinstance(item, Cause):
            filters.append(item.value)
        elif isinstance(item, str | int) and not isinstance(item, bool):
            filters.append(item)
        else:
            raise ValidationError(f"on= takes exception types, exit codes and causes, not {item!r}")
    return tuple(filters)


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What is known of a task besides what it does; tasks of one chunk share it.

    Attributes:
        retry: None means one attempt
        time_limit: milliseconds of wall-clock time, for the whole process tree
        memory_limit: bytes, for the whole process tree
        crash_limit: the task fails at this many crashes; None is unlimited; 1 is ``"never"``: it is never started twice
        env: further environment variables
        cwd: folder to run in; it is made where it is missing; may hold placeholders
        home: the submitter's folder, used where it exists and `cwd` is not given
        stdout: file for standard output instead of the spool; may hold placeholders
        grace: milliseconds between asking it to end and killing it; None is the worker's
        keep_stdout: whether standard output is kept
        pin: whether it is held to the processors that it was given
        output_limit: bytes, for standard output and error together, in the spool or in files
        isolation: of a function
        python: interpreter of a function: a path of it or of a virtual environment, or a name that is looked up on the worker's host;
            None is the submitter's
        prologue: shell text that is run before that interpreter
        executor_options: for a worker that runs programs in a batch system; see `core.batch_options`
    """

    tag: ClassVar[str] = "options"
    resources: Request = Request()  # noqa: RUF009 (frozen)
    lane: Lane = Lane.normal
    priority: int = 0
    retry: Retry | None = None
    time_limit: int | None = None
    memory_limit: int | None = None
    crash_limit: int | None = DEFAULT_CRASH_LIMIT
    env: tuple[tuple[str, str], ...] = ()
    cwd: str | None = None
    home: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    grace: int | None = None
    keep_stdout: Keep = Keep.always
    keep_stderr: Keep = Keep.always
    output_limit: int | None = None
    isolation: Isolation = Isolation.warm
    python: str | None = None
    prologue: str | None = None
    pin: Pin | None = None
    executor_options: tuple[tuple[str, tuple[str, ...]], ...] = ()
