"""What may be said of a task besides what it does, as the user writes it, and its frozen form."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypedDict

from broker_jobs.core.quantities import milliseconds, size_bytes
from broker_jobs.core.request import ResourceRequest
from broker_jobs.core.spec import DEFAULT_CRASH_LIMIT, NEVER_START_TWICE, Lane, Retry, TaskOptions
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from broker_jobs.core.quantities import Duration, Size

StrPath = str | os.PathLike[str]
"""A path in a text or a path object."""

Argument = str | bytes | int | float | os.PathLike[str] | os.PathLike[bytes]
"""One argument of a program."""

_MOST_PRIORITY = 2**31


class RunOptions(TypedDict, total=False):
    """How a task runs.

    Attributes:
        env: further environment variables
        cwd: folder to run in, made where it is missing (default: the submitter's where it exists, else a folder for the task)
        stdout: file for standard output, relative to the folder (default: the worker's spool)
        stderr: the same for standard error
        priority: of two ready tasks of a job, the one with the higher number starts first (default 0)
        resources: what it needs of a worker (default: one cpu)
        retry: when and how often it is tried again after a failure (default: not)
        time_limit: wall-clock time of its whole process tree: seconds, a timedelta, or a text such as ``"1h30m"``
        memory_limit: memory of its whole process tree: bytes or a text such as ``"4 GiB"``
        crash_limit: it fails when it has crashed this often: a number, ``"never"`` (start twice) or ``"unlimited"`` (default 5)
    """

    env: Mapping[str, str | float | StrPath] | None
    cwd: StrPath | None
    stdout: StrPath | None
    stderr: StrPath | None
    priority: int
    resources: ResourceRequest | None
    retry: Retry | None
    time_limit: Duration | None
    memory_limit: Size | None
    crash_limit: int | Literal["never", "unlimited"]


def task_options(given: RunOptions, lane: Lane = Lane.normal) -> TaskOptions:
    """The frozen form; `ValidationError`, which names the option, where one is wrong."""
    resources, retry = given.get("resources"), given.get("retry")
    if resources is not None and not isinstance(resources, ResourceRequest):
        raise ValidationError(f"resources must be a ResourceRequest, not {resources!r}")
    if retry is not None and not isinstance(retry, Retry):
        raise ValidationError(f"retry must be a Retry, such as Retry(max_attempts=3), not {retry!r}")
    time_limit, memory_limit = given.get("time_limit"), given.get("memory_limit")
    return TaskOptions(
        resources=(resources or ResourceRequest()).canonical(),
        lane=lane,
        priority=_priority(given.get("priority", 0)),
        retry=retry,
        time_limit=None if time_limit is None else milliseconds(time_limit, "time_limit"),
        memory_limit=None if memory_limit is None else size_bytes(memory_limit, "memory_limit"),
        crash_limit=_crash_limit(given.get("crash_limit", DEFAULT_CRASH_LIMIT)),
        env=environment(given.get("env")),
        cwd=folder(given.get("cwd")),
        stdout=path(given.get("stdout"), "stdout"),
        stderr=path(given.get("stderr"), "stderr"),
    )


@dataclass(frozen=True, slots=True)
class CallDefaults:
    """Options of `Client.call`, `map` and `executor`.

    Attributes:
        timeout: seconds to wait for a call
    """

    run: RunOptions = field(default_factory=RunOptions)
    lane: Lane = Lane.normal
    timeout: float | None = None

    def with_options(self, timeout: Duration | None, lane: str | None, run: RunOptions) -> CallDefaults:
        """The same with some others; `ValidationError` where one is wrong."""
        other = CallDefaults(
            {**self.run, **run},
            self.lane if lane is None else lane_named(lane),
            self.timeout if timeout is None else milliseconds(timeout, "timeout") / 1000,
        )
        other.task_options()
        return other

    def task_options(self) -> TaskOptions:
        """The frozen form."""
        return task_options(self.run, self.lane)


def lane_named(name: str) -> Lane:
    """The lane of this name."""
    try:
        return Lane(name)
    except ValueError:
        raise ValidationError(f"lane must be one of {', '.join(Lane)}, not {name!r}") from None


def environment(env: Mapping[str, str | float | StrPath] | None) -> tuple[tuple[str, str], ...]:
    """Environment variables as pairs of texts; `ValidationError`, which names the variable, where execve would refuse one."""
    pairs = []
    for name, value in (env or {}).items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise ValidationError(f"{name!r} cannot be the name of an environment variable")
        if isinstance(value, bool) or not isinstance(value, str | int | float | os.PathLike):
            raise ValidationError(f"the environment variable {name} must be a text, not {value!r}")
        text = os.fspath(value) if isinstance(value, str | os.PathLike) else str(value)
        if not isinstance(text, str) or "\0" in text:
            raise ValidationError(f"the environment variable {name} cannot be {value!r}")
        pairs.append((name, text))
    return tuple(pairs)


def folder(given: StrPath | None) -> str | None:
    """A folder as an absolute path, seen from the current one."""
    text = path(given, "cwd")
    return None if text is None else os.path.abspath(text)  # noqa: PTH100 (`Path.absolute` keeps the dots)


def path(given: StrPath | None, what: str) -> str | None:
    """A path as a text; `ValidationError`, which names `what`, where it is none."""
    if given is None:
        return None
    if not isinstance(given, str | os.PathLike):
        raise ValidationError(f"{what} must be a path, not {given!r}")
    text = os.fspath(given)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValidationError(f"{what} cannot be {given!r}")
    return text


def arguments(argv: Iterable[Argument]) -> tuple[bytes, ...]:
    """The arguments of a program as execve takes them; `ValidationError`, which names the argument, where it would refuse one."""
    if isinstance(argv, str | bytes | os.PathLike):
        raise ValidationError(f"argv must be a list such as ['ls', '-l'], not {argv!r}; for a shell use ['sh', '-c', {argv!r}]")
    encoded = []
    for number, item in enumerate(argv):
        if isinstance(item, bool) or not isinstance(item, str | bytes | int | float | os.PathLike):
            raise ValidationError(f"argv[{number}] must be a text, bytes, a number or a path, not {item!r}")
        data = os.fsencode(str(item) if isinstance(item, int | float) else item)
        if b"\0" in data:
            raise ValidationError(f"argv[{number}] holds a NUL character: {item!r}")
        encoded.append(data)
    if not encoded or not encoded[0]:
        raise ValidationError("argv is empty: it starts with the name of the program")
    return tuple(encoded)


def _priority(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -_MOST_PRIORITY <= value < _MOST_PRIORITY:
        raise ValidationError(f"priority must be an integer of 32 bits, not {value!r}")
    return value


def _crash_limit(value: object) -> int | None:
    if value == "never":
        return NEVER_START_TWICE
    if value == "unlimited":
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValidationError(f"crash_limit must be a positive integer, 'never' or 'unlimited', not {value!r}")
    return value
