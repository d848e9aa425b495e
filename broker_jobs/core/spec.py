"""What a user may ask of a task, in the form in which it is kept and sent: frozen, validated, in integers."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final

from broker_jobs.core.outcome import Cause
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable

UNIT: Final = 10_000
"""Resource amounts are integers in 1/10,000; memory is an amount of bytes and is not scaled."""

DEFAULT_CRASH_LIMIT: Final = 5
NEVER_START_TWICE: Final = 1
"""The crash limit written ``"never"``."""

Duration = float | int | str | datetime.timedelta
"""Seconds, a timedelta, or a text such as ``"1h30m"``."""

Size = int | str
"""Bytes, or a text such as ``"4 GiB"``."""


class Lane(StrEnum):
    """A queue of its own inside a resource class; workers prefer the higher."""

    high = "high"
    normal = "normal"
    low = "low"


MOST: Final = 2**63 - 1
"""No quantity is larger: on the wire it has 64 bits."""

_NUMBER: Final = r"(\d+(?:\.\d*)?|\.\d+)"
_DURATION: Final = re.compile("".join(rf"(?:{_NUMBER}\s*{unit}\s*)?" for unit in ("d", "h", "m", "s", "ms")), re.IGNORECASE)
_DURATION_MS: Final = (86_400_000, 3_600_000, 60_000, 1000, 1)
_SIZE: Final = re.compile(rf"{_NUMBER}\s*(?:([KMGTPE])(i?))?B?", re.IGNORECASE)
_SIZE_POWER: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def milliseconds(value: Duration, what: str) -> int:
    """A duration in whole milliseconds; `ValidationError`, which names `what`, where it is none or shorter than one."""
    wrong = ValidationError(f"{what} must be seconds, a timedelta or a text such as '1h30m', not {value!r}")
    match value:
        case bool():
            raise wrong
        case datetime.timedelta():
            exact = Decimal(value // datetime.timedelta(microseconds=1)) / 1000
        case int() | float():
            exact = Decimal(str(value)) * 1000
        case str():
            text = value.strip()
            parts = _DURATION.fullmatch(text)
            if re.fullmatch(_NUMBER, text):
                exact = Decimal(text) * 1000
            elif text and parts:
                exact = sum((Decimal(part) * ms for part, ms in zip(parts.groups(), _DURATION_MS, strict=True) if part), Decimal(0))
            else:
                raise wrong
        case _:
            raise wrong
    return _whole(exact, f"{what} must be a millisecond or more", value)


def size_bytes(value: Size, what: str) -> int:
    """A size in bytes; `ValidationError`, which names `what`, where it is none or not positive."""
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip())
        if not found:
            raise ValidationError(f"{what} must be bytes or a text such as '4 GiB', not {value!r}")
        number, prefix, binary = found.groups(default="")
        exact = Decimal(number) * (1024 if binary else 1000) ** _SIZE_POWER[prefix.upper()]
    elif isinstance(value, int) and not isinstance(value, bool):
        exact = Decimal(value)
    else:
        raise ValidationError(f"{what} must be bytes or a text such as '4 GiB', not {value!r}")
    return _whole(exact, f"{what} must be a byte or more", value)


def _whole(exact: Decimal, rule: str, value: object) -> int:
    """The nearest whole number from 1 to `MOST`; `ValidationError` with this rule where there is none."""
    if not exact.is_finite() or not Decimal("0.5") < exact <= MOST:
        raise ValidationError(f"{rule}, and less than 2**63, not {value!r}")
    return int(exact.to_integral_value())


def amount(value: float | str, what: str) -> int:
    """A resource amount in 1/10,000; `ValidationError` where it is negative or has more than four decimals."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValidationError(f"{what} must be a number, not {value!r}")
    try:
        exact = Decimal(str(value))
    except InvalidOperation:
        raise ValidationError(f"{what} must be a number, not {value!r}") from None
    if not exact.is_finite() or not 0 <= exact <= MOST // UNIT:
        raise ValidationError(f"{what} must be a number, not negative, and less than 2**63, not {value!r}")
    scaled = exact * UNIT
    if scaled != scaled.to_integral_value():
        raise ValidationError(f"{what} may have four decimals at most, not {value!r}")
    return int(scaled)


_RESOURCE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_/-]{0,63}")


@dataclass(frozen=True, slots=True)
class Request:
    """A resource request in its canonical form.

    Attributes:
        amounts: pairs of name and amount, sorted by name, none of them zero; ``cpus`` and other resources in 1/10,000, ``memory`` in bytes

    Raises:
        ValidationError: the pairs are not in this form
    """

    tag: ClassVar[str] = "request"
    amounts: tuple[tuple[str, int], ...] = (("cpus", UNIT),)

    def __post_init__(self) -> None:
        before = ""
        for name, value in self.amounts:
            if not _RESOURCE_NAME.fullmatch(name) or name <= before or value <= 0:
                raise ValidationError(f"amounts must be positive, each resource once, in the order of their names: {self.amounts!r}")
            before = name


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """What a task needs of a worker.

    Args:
        cpus: processors, in steps of 0.0001 (default 1)
        memory: bytes or a text such as ``"4 GiB"``; reserved, not enforced (see ``memory_limit``)
        gpus: graphics processors, in steps of 0.0001
        resources: further named resources and how much of each

    Raises:
        ValidationError: an amount is negative, too fine, or not a number, or nothing at all is asked for
    """

    cpus: float | str = 1
    memory: Size | None = None
    gpus: float | str = 0
    resources: Mapping[str, float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.canonical()

    def canonical(self) -> Request:
        """The same request as sorted integer amounts."""
        amounts = {"cpus": amount(self.cpus, "cpus"), "gpus": amount(self.gpus, "gpus")}
        if self.memory is not None:
            amounts["memory"] = size_bytes(self.memory, "memory")
        if not isinstance(self.resources, Mapping):
            raise ValidationError(f"resources must be a mapping of names to amounts, such as {{'fpga': 1}}, not {self.resources!r}")
        for name, value in self.resources.items():
            if not isinstance(name, str) or not _RESOURCE_NAME.fullmatch(name) or name in {"cpus", "gpus", "memory"}:
                raise ValidationError(f"{name!r} cannot be the name of a further resource: use letters, digits, '_', '-' and '/'")
            amounts[name] = amount(value, f"resource {name!r}")
        wanted = tuple(sorted((name, value) for name, value in amounts.items() if value))
        if not wanted:
            raise ValidationError("a task must ask for some resource: cpus=0 needs another one")
        return Request(wanted)


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
        cwd: folder to run in; it is made where it is missing
        home: the submitter's folder, used where it exists and `cwd` is not given
        stdout: file for standard output instead of the spool
    """

    tag: ClassVar[str] = "options"
    resources: Request = Request()
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
