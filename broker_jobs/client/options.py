"""What may be said of a task besides what it does, as the user writes it, and its frozen form."""

from __future__ import annotations

import datetime
import inspect
import os
import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypedDict, cast

from broker_jobs.config import resource_class
from broker_jobs.core import batch_options, placeholders
from broker_jobs.core.quantities import milliseconds, size_bytes
from broker_jobs.core.request import canonical, executor_feature
from broker_jobs.core.spec import DEFAULT_CRASH_LIMIT, NEVER_START_TWICE, Isolation, Keep, Lane, Pin, Retry, TaskOptions
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from broker_jobs.core.quantities import Duration, Size
    from broker_jobs.core.request import Request, ResourceRequest

StrPath = str | os.PathLike[str]
"""A path in a text or a path object."""

Argument = str | bytes | int | float | os.PathLike[str] | os.PathLike[bytes]
"""One argument of a program."""

_MOST_PRIORITY = 2**31
_EXECUTOR = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")
_LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Stdio:
    """Where a standard stream of a task goes, and whether it stays there.

    Args:
        path: file, relative to the task's folder, with placeholders; None is the worker's spool, of which the end goes into the ledger
        keep: ``"always"``; ``"on_failure"``: removed when the task has succeeded; ``"never"``: it goes nowhere, so there is no path

    Raises:
        ValidationError: the path is none, `keep` is another word, or both exclude each other
    """

    path: StrPath | None = None
    keep: Literal["always", "on_failure", "never"] = "always"

    def __post_init__(self) -> None:
        path(self.path, "the path of a Stdio")
        if self.keep not in set(Keep):
            raise ValidationError(f"keep must be one of {', '.join(Keep)}, not {self.keep!r}")
        if self.keep == Keep.never and self.path is not None:
            raise ValidationError(f"a stream that goes nowhere has no file: leave out the path {self.path!r} or keep='never'")

    @classmethod
    def parse(cls, text: str) -> Stdio:
        """As on the command line: a path, ``path:rm-if-finished``, ``:rm-if-finished`` (the spool), or ``none``."""
        if text == "none":
            return cls(keep="never")
        name, colon, mode = text.rpartition(":")
        return cls(name or None, "on_failure") if colon and mode == "rm-if-finished" else cls(text)


class RunOptions(TypedDict, total=False):
    """How a task runs.

    Attributes:
        env: further environment variables
        cwd: folder to run in, made where it is missing (default: the submitter's where it exists, else a folder for the task);
            it and the files below may hold placeholders, such as ``%{TASK_ID}``
        stdout: file for standard output, relative to the folder, or a `Stdio` (default: the worker's spool)
        stderr: the same for standard error
        priority: of two ready tasks of a job, the one with the higher number starts first (default 0)
        resources: what it needs of a worker (default: one cpu); a list is variants in order of preference
        resource_class: the same by the name of a class of ``broker-jobs.toml``, instead of `resources`
        retry: when and how often it is tried again after a failure (default: not)
        time_limit: wall-clock time of its whole process tree: seconds, a timedelta, or a text such as ``"1h30m"``; then it is asked to end
        grace: time between asking it to end, because of a limit or a cancel, and killing it; 0 kills at once (default: 2 seconds)
        memory_limit: memory of its whole process tree: bytes or a text such as ``"4 GiB"``
        output_limit: what it may print to standard output and error together: bytes or a text such as ``"10 MiB"``; of one that prints more
            the end is kept, and it fails (default: it goes on, and of more than 64 MiB a stream the end is kept)
        pin: ``"taskset"`` holds it to the processors that it was given, ``"omp"`` tells OpenMP to do so (default: it may use any)
        crash_limit: it fails when it has crashed this often: a number, ``"never"`` (start twice) or ``"unlimited"`` (default 5)
        executor: ``"sge"``, ``"htcondor"`` or another: workers that hand programs over to this batch system (default: all others)
        executor_options: for a worker that runs programs in a batch system, in place of that worker's own of the same name: a value, a
            list, or True for a flag, such as ``{"q": "1-day", "l": ["h_vmem=2G", "gpu=1"]}``; other workers pay no heed to them
    """

    env: Mapping[str, str | float | StrPath] | None
    cwd: StrPath | None
    stdout: StrPath | Stdio | None
    stderr: StrPath | Stdio | None
    priority: int
    resources: ResourceRequest | Sequence[ResourceRequest] | None
    resource_class: str | None
    retry: Retry | None
    time_limit: Duration | None
    grace: Duration | None
    memory_limit: Size | None
    output_limit: Size | None
    pin: Literal["taskset", "omp"] | None
    crash_limit: int | Literal["never", "unlimited"]
    executor: str | None
    executor_options: Mapping[str, str | float | Sequence[str | float]] | None


class FunctionOptions(RunOptions, total=False):
    """How a function runs.

    Attributes:
        setup: a function without parameters that runs once in each process, before the first call there; what it returns is
            `current.setup` for each call
        isolation: ``"warm"``: in a process that ran others before (default); ``"fresh"``: in one of its own
        python: interpreter to run under: a path, a name, or the folder of a virtual environment (default: the submitter's where it exists)
        prologue: shell text that is run before the interpreter, once for each set of processes
    """

    setup: Callable[[], object] | None
    isolation: Literal["warm", "fresh"]
    python: StrPath | None
    prologue: str | None


def task_options(given: FunctionOptions, lane: Lane = Lane.normal) -> TaskOptions:
    """The frozen form; `ValidationError`, which names the option, where one is wrong."""
    retry = given.get("retry")
    if retry is not None and not isinstance(retry, Retry):
        raise ValidationError(f"retry must be a Retry, such as Retry(max_attempts=3), not {retry!r}")
    time_limit, memory_limit, output_limit = given.get("time_limit"), given.get("memory_limit"), given.get("output_limit")
    stdout, stderr = _stream(given.get("stdout"), "stdout"), _stream(given.get("stderr"), "stderr")
    return TaskOptions(
        resources=_resources(given),
        lane=lane,
        priority=_priority(given.get("priority", 0)),
        retry=retry,
        time_limit=None if time_limit is None else milliseconds(time_limit, "time_limit"),
        memory_limit=None if memory_limit is None else size_bytes(memory_limit, "memory_limit"),
        crash_limit=_crash_limit(given.get("crash_limit", DEFAULT_CRASH_LIMIT)),
        env=environment(given.get("env")),
        cwd=folder(given.get("cwd")),
        stdout=_path_with_placeholders(stdout.path, "stdout"),
        stderr=_path_with_placeholders(stderr.path, "stderr"),
        grace=_grace(given.get("grace")),
        keep_stdout=Keep(stdout.keep),
        keep_stderr=Keep(stderr.keep),
        output_limit=None if output_limit is None else size_bytes(output_limit, "output_limit"),
        isolation=_isolation(given.get("isolation", "warm")),
        python=_interpreter(given.get("python")),
        prologue=_prologue(given.get("prologue")),
        pin=_pin(given.get("pin")),
        executor_options=batch_options.frozen(given.get("executor_options")),
    )


def setup_function(given: object) -> Callable[[], object] | None:
    """What runs once in each process; `ValidationError` where that is impossible."""
    if given is None:
        return None
    if not callable(given):
        raise ValidationError(f"setup must be a function without parameters, not {given!r}")
    if inspect.iscoroutinefunction(given):
        raise ValidationError(
            "setup cannot be a coroutine function: each task has an event loop of its own, so that of a setup would be gone"
        )
    return given


def _resources(given: RunOptions) -> Request:
    wanted, name, executor = given.get("resources"), given.get("resource_class"), given.get("executor")
    if name is not None and wanted is not None:
        raise ValidationError(f"give resources= or resource_class={name!r}, not both")
    request = canonical(wanted if name is None else resource_class(name))
    if executor in {None, _LOCAL}:
        if given.get("executor_options"):
            raise ValidationError("executor_options= are for a batch system: say which, with executor='sge' or another")
        return request
    if not isinstance(executor, str) or not _EXECUTOR.fullmatch(executor):
        raise ValidationError(f"executor must be the name of one, such as 'sge' or 'htcondor', not {executor!r}")
    return request.offering(executor_feature(executor))


def check_executor(executor: object) -> None:
    """`ValidationError` where a function or a step is to go to a batch system."""
    if executor not in {None, _LOCAL}:
        raise ValidationError(f"functions and steps run in processes of a worker: executor={executor!r} is for programs")


def _pin(given: str | None) -> Pin | None:
    try:
        return None if given is None else Pin(given)
    except ValueError:
        raise ValidationError(f"pin must be {' or '.join(map(repr, map(str, Pin)))}, not {given!r}") from None


@dataclass(frozen=True, slots=True)
class CallDefaults:
    """Options of `Client.call`, `map` and `executor`.

    Attributes:
        timeout: seconds to wait for a call
    """

    run: FunctionOptions = field(default_factory=FunctionOptions)
    lane: Lane = Lane.normal
    timeout: float | None = None

    def with_options(self, timeout: Duration | None, lane: str | None, run: FunctionOptions) -> CallDefaults:
        """The same with some others; `ValidationError` where one is wrong."""
        other = CallDefaults(
            {**self.run, **run},
            self.lane if lane is None else lane_named(lane),
            self.timeout if timeout is None else milliseconds(timeout, "timeout") / 1000,
        )
        other.task_options()
        check_executor(run.get("executor"))
        setup_function(run.get("setup"))
        return other

    @property
    def setup(self) -> Callable[[], object] | None:
        """What runs before the calls, once in each process."""
        return setup_function(self.run.get("setup"))

    def task_options(self) -> TaskOptions:
        """The frozen form."""
        return task_options(self.run, self.lane)

    def step_options(self) -> RunOptions:
        """What steps can be given; `ValidationError` where there is something for functions alone."""
        wrong = sorted(self.run.keys() - RunOptions.__annotations__.keys())
        if wrong:
            raise ValidationError(f"a step runs under the interpreter of its worker, in a warm process, so {wrong[0]}= says nothing to it")
        return cast("RunOptions", self.run)


def _isolation(name: object) -> Isolation:
    if not isinstance(name, str) or name not in set(Isolation):
        raise ValidationError(f"isolation must be one of {', '.join(Isolation)}, not {name!r}")
    return Isolation(name)


def _interpreter(given: StrPath | None) -> str | None:
    """A path as seen from here; a name as it is."""
    text = path(given, "python")
    return os.path.abspath(os.path.expanduser(text)) if text is not None and os.sep in text else text  # noqa: PTH100, PTH111


def _prologue(given: object) -> str | None:
    if given is not None and (not isinstance(given, str) or "\0" in given):
        raise ValidationError(f"prologue must be a text for a shell, such as 'module load cuda', not {given!r}")
    return given or None


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
    text = _path_with_placeholders(given, "cwd")
    if text is not None and placeholders.CWD in placeholders.names(text):
        raise ValidationError(f"cwd={given!r} cannot name itself: %{{CWD}} may stand in stdout and stderr")
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


def _path_with_placeholders(given: StrPath | None, what: str) -> str | None:
    """A path with the submitter's folder put in; a warning names the placeholders that no worker will know."""
    text = path(given, what)
    if text is None or "%{" not in text:
        return text
    for name in placeholders.names(text):
        if name not in placeholders.KNOWN:
            known = ", ".join(f"%{{{each}}}" for each in placeholders.KNOWN)
            _warn(f"%{{{name}}} in {what}={text!r} is no placeholder and stays as it is; there are {known}")
    return placeholders.expand(text, {placeholders.SUBMIT_DIR: os.getcwd()})  # noqa: PTH109 (a text is needed)


def _warn(text: str) -> None:
    """Warn whoever called us, of the line where they did."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "broker_jobs":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def warn_of_shared_files(options: TaskOptions) -> None:
    """Warn where the tasks of an array write their output to one file, each over that of the others."""
    for what, name in (("stdout", options.stdout), ("stderr", options.stderr)):
        if name is None or placeholders.TASK_ID in placeholders.names(name):
            continue
        apart = options.cwd is not None and placeholders.TASK_ID in placeholders.names(options.cwd)
        if not apart or os.path.isabs(name):  # noqa: PTH117 (it is a text)
            _warn(f"all tasks of this array write to one file, {what}={name!r}; use %{{TASK_ID}} in its name")


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


def _stream(given: StrPath | Stdio | None, what: str) -> Stdio:
    return given if isinstance(given, Stdio) else Stdio(path(given, what))


def _grace(value: Duration | None) -> int | None:
    if value is None:
        return None
    nothing = not isinstance(value, bool) and value in (0, "0", datetime.timedelta())
    return 0 if nothing else milliseconds(value, "grace")


def _crash_limit(value: object) -> int | None:
    if value == "never":
        return NEVER_START_TWICE
    if value == "unlimited":
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValidationError(f"crash_limit must be a positive integer, 'never' or 'unlimited', not {value!r}")
    return value
