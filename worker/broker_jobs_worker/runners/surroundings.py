"""What a task finds around itself in a child, and what is put back when it has ended."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import site
import stat
import sys
import sysconfig
from _signal import (  # type: ignore[import-not-found, unused-ignore]  # ten times as fast as those that make enumerations
    getsignal,
    pthread_sigmask,
    setitimer,
)
from functools import cache
from resource import getrlimit, setrlimit
from typing import TYPE_CHECKING, Any, Final

from broker_jobs.core.placeholders import CWD, SUBMIT_DIR, expand, of_attempt
from broker_jobs.core.spec import Keep
from broker_jobs.wire.messages import Output, Program
from broker_jobs_worker.runners import nodes
from broker_jobs_worker.runners.printing import StandardStreams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker_jobs_worker.runners.protocol import Run

TAIL_LIMIT: Final = 64 * 1024
"""Bytes of output that travel with a reply."""

JOB: Final = "BROKER_JOBS_JOB"
NAMES: Final = ("BROKER_JOBS_TASK", "BROKER_JOBS_ATTEMPT", "BROKER_JOBS_EXECUTION")
"""Variables in which the tasks of a line differ: number, attempt and execution."""

_SIGNALS: Final = tuple(sorted(int(number) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))
_TIMERS: Final = (int(signal.ITIMER_REAL), int(signal.ITIMER_VIRTUAL), int(signal.ITIMER_PROF))
_REAL, _VIRTUAL, _PROF = _TIMERS
_OFF: Final = (0.0, 0.0)
_SET_MASK: Final = int(signal.SIG_SETMASK)
_LIMITING: Final = frozenset({"resource.setrlimit", "resource.prlimit"})
_SETTING: Final = frozenset({"os.putenv", "os.unsetenv"})
_LIMITS: Final = tuple(sorted({number for name, number in vars(resource).items() if name.startswith("RLIMIT_")}))
_raw_environment: Final[dict[bytes, bytes]] = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001 (compared after each task: decoding takes longer than the task)
_flush_c: Final = ctypes.CDLL(None).fflush
_put_c: Final = ctypes.CDLL(None).putenv
_LONGEST_VARIABLE: Final = 512


def variables(run: Run) -> dict[str, str]:
    """What a task finds in its environment besides what the worker has."""
    home = run.options.home
    return {
        JOB: run.job,
        **names(run),
        **({} if home is None else {"BROKER_JOBS_SUBMIT_DIR": home}),
        **run.allocation,
        **nodes.variables(run),
        **dict(run.options.env),
    }


def _given(run: Run) -> tuple[object, ...]:
    """What decides all others of them."""
    return run.options.home, run.allocation, run.options.env, run.hosts


def names(run: Run) -> dict[str, str]:
    """Those of them in which the tasks of a line differ."""
    return dict(zip(NAMES, map(str, (run.task, run.attempt, run.execution)), strict=True))


class Names:
    """The variables in which the tasks of a line differ, in memory that is written again for each.

    `os.putenv` keeps what it was ever given, and takes longer than a small task.

    Attributes:
        replaced: something else may stand in the environment where this memory was; so it does after a task that sets all variables anew,
            to what they were
    """

    def __init__(self) -> None:
        self.replaced = True
        # Never given back: the C library may point to it for as long as this process lives.
        self._places = [(name, name.encode(), f"{name}=".encode(), ctypes.create_string_buffer(_LONGEST_VARIABLE)) for name in NAMES]

    def put(self, chosen: Mapping[str, str], values: tuple[int, int, str]) -> None:
        """Set them; those that the user has chosen stay."""
        anew, self.replaced = self.replaced, False
        for (name, key, begin, place), value in zip(self._places, values, strict=True):
            if name not in chosen:
                data = str(value).encode()
                place.value = begin + data
                if anew:
                    _put_c(place)
                _raw_environment[key] = data


def enter_folder(run: Run) -> str:
    """Go into the folder of a task: the one asked for, made where it is missing; else the submitter's; else one of its own.

    Raises:
        OSError: it cannot be made or entered
    """
    wanted, home = run.options.cwd, run.options.home
    if wanted is not None:
        base = home if home is not None and os.path.isdir(home) else run.folder  # noqa: PTH112
        folder = os.path.join(base, filled_in(wanted, run, {}))  # noqa: PTH118 (an absolute `wanted` replaces the rest)
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        os.chdir(folder)
        return folder
    if home is not None:
        try:
            os.chdir(home)
        except OSError:
            pass  # it is on the submitter's host, not here
        else:
            return home
    os.makedirs(run.folder, mode=0o700, exist_ok=True)  # noqa: PTH103
    os.chdir(run.folder)
    return run.folder


def remove_folder(run: Run) -> bool:
    """Remove the task's own folder, if nothing lies in it; whether there is none now."""
    try:
        os.rmdir(run.folder)  # noqa: PTH106
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def move(group: str) -> None:
    """Enter a control group: this process, and what it starts from now on."""
    fd = os.open(group, os.O_WRONLY)
    try:
        os.write(fd, b"%d" % os.getpid())
    finally:
        os.close(fd)


def filled_in(text: str, run: Run, more: Mapping[str, str]) -> str:
    """A path of the options with its placeholders put in."""
    if "%{" not in text:
        return text
    variables = dict(run.work.env) if isinstance(run.work, Program) else {}
    values = {**of_attempt(run.job, run.task, run.attempt, variables), **more}
    if run.options.home is not None:
        values[SUBMIT_DIR] = run.options.home
    return expand(text, values)


class UnwritableError(Exception):
    """A file for output cannot be written; the text says which and why."""


class Streams:
    """Where standard output and error go: files of the spool that serve many tasks, or files of the user."""

    def __init__(self) -> None:
        self._spool: tuple[int, int] = (-1, -1)
        self._own: dict[int, int] = {}
        self.paths: tuple[str | None, str | None] = (None, None)

    def use_spool(self, stdout: str, stderr: str) -> None:
        """Write to these files from now on."""
        for fd in self._spool:
            if fd >= 0:
                os.close(fd)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._spool = (os.open(stdout, flags, 0o600), os.open(stderr, flags, 0o600))

    def open(self, run: Run, folder: str) -> tuple[int, int]:
        """The descriptors for standard output and error of this task.

        Raises:
            UnwritableError: a file of the user cannot be written
        """
        options = run.options
        wanted = (options.stdout, options.stderr)
        kept = (options.keep_stdout, options.keep_stderr)
        self.paths = (None, None)
        if wanted == (None, None) and Keep.never not in kept:
            return self._spool
        places = {CWD: folder}
        paths = tuple(
            None if name is None else os.path.abspath(os.path.join(folder, filled_in(name, run, places)))  # noqa: PTH100, PTH118
            for name in wanted
        )
        fds = list(self._spool)
        for index, keep in enumerate(kept):
            if keep is Keep.never and paths[index] is None:
                fds[index] = self._own[index] = os.open(os.devnull, os.O_WRONLY)
        # Appending, so that both streams may go to one file.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        for index, path in enumerate(paths):
            if path is not None:
                try:
                    os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120
                    fds[index] = self._own[index] = os.open(path, flags, 0o666)
                except OSError as error:
                    where = f" ({error.filename})" if error.filename != path else ""
                    raise UnwritableError(f"the output cannot be written to {path}: {error.strerror}{where}") from error
        self.paths = (paths[0], paths[1])
        return fds[0], fds[1]

    def close(self) -> tuple[Output | None, Output | None]:
        """Close the user's files; what is in them."""
        if not self._own:
            return None, None
        for fd in self._own.values():
            os.close(fd)
        self._own.clear()
        stdout, stderr = (None if path is None else written(path) for path in self.paths)
        return stdout, stderr

    def printed(self) -> bool:
        """Whether something lies in the files of the spool."""
        # They are written at their end wherever this points; it is asked after each task, and a third of the price of `fstat`.
        stdout, stderr = self._spool
        return bool(os.lseek(stdout, 0, os.SEEK_END) or os.lseek(stderr, 0, os.SEEK_END))

    @property
    def spool(self) -> tuple[int, int]:
        """The descriptors of the spool."""
        return self._spool


def written(path: str) -> Output:
    """What lies in a file to which a task has written."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return Output(path=path)
            file.seek(max(0, status.st_size - TAIL_LIMIT))
            return Output(file.read(TAIL_LIMIT), status.st_size, path)
    except OSError:
        return Output(path=path)  # the task removed it, or made it unreadable


class Surroundings:
    """State of this process that a function may change: it is noted once, and put back after each task.

    What the operating system knows of the process is put back, and so are ``sys.argv``, ``sys.path`` and the standard streams.
    All other state of Python modules stays: it is what warm children are for. Where a task has changed nothing (`kept`), the next one goes
    on with its surroundings, if they `suit` it, which costs a fifth of putting everything back.
    """

    def __init__(self) -> None:
        self._idle = (os.dup(1), os.dup(2))
        self._streams = StandardStreams()
        self._argv, self._path = sys.argv, sys.path
        self._names = Names()
        sys.addaudithook(self._hear)
        self.note()

        self._before: dict[bytes, bytes] = {}
        self._applied: dict[bytes, bytes] | None = None
        self._job = ""
        self._given: tuple[object, ...] = ()

    def _hear(self, event: str, _arguments: tuple[object, ...]) -> None:
        if event in _LIMITING:
            self._limited = True
        elif event in _SETTING:
            self._names.replaced = True

    def note(self) -> None:
        """Take the state of this moment for the ordinary one."""
        self._environment = dict(_raw_environment)
        self._arguments, self._folders = list(self._argv), list(self._path)
        self._umask = os.umask(0o022)
        os.umask(self._umask)
        self._handlers = _handlers()
        self._limits = _limits()
        # To look at them after each task costs as much as all else that is looked at, so code in Python is heard; see `_hear`.
        self._limited = False
        self._rights = _rights()
        self._nice = os.getpriority(os.PRIO_PROCESS, 0)
        self._affinity = os.sched_getaffinity(0)

    def apply(self, run: Run, stdout: int, stderr: int) -> None:
        """Let a task begin with its variables and streams."""
        if self._applied is not None:
            self.turn_to(run, (run.task, run.attempt, run.execution), stdout, stderr)
            return
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.environ.update(variables(run))
        self._applied = self._before = dict(_raw_environment)
        self._job, self._given = run.job, _given(run)

    def suit(self, run: Run) -> bool:
        """Whether a task may go on with what is applied: besides its names, it would set the same variables as the last one."""
        return not run.hosts and self._given == _given(run)

    def turn_to(self, run: Run, own: tuple[int, int, str], stdout: int, stderr: int) -> None:
        """Go on with what the last task has `kept`: only what differs between the two is put into place.

        Args:
            own: number, attempt and execution of the task
        """
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        self._streams.hush_threads()
        self._streams.put()
        chosen = dict(run.options.env)
        self._names.put(chosen, own)
        if run.job != self._job:
            self._job = run.job
            if JOB not in chosen:
                os.environ[JOB] = run.job
        self._applied = self._before = dict(_raw_environment)

    @property
    def applied(self) -> bool:
        """Whether a task has begun, and not everything is put back."""
        return self._applied is not None

    def kept(self) -> bool:
        """Whether a task has left everything as it found it, so that another one of its line may go on with that."""
        return (
            self._applied == _raw_environment
            and getattr(sys, "argv", None) is self._argv
            and getattr(sys, "path", None) is self._path
            and self._argv == self._arguments
            and self._path == self._folders
            and _handlers() == self._handlers
            and self._keeps_process()
        )

    def _keeps_process(self) -> bool:
        """The same, of what the operating system knows; what costs as much to ask for as to put back is put back."""
        return (
            os.umask(self._umask) == self._umask
            and not pthread_sigmask(_SET_MASK, ())
            and setitimer(_REAL, 0) == setitimer(_VIRTUAL, 0) == setitimer(_PROF, 0) == _OFF
            and not (self._limited and _limits() != self._limits)
            and os.getpriority(os.PRIO_PROCESS, 0) == self._nice
            and os.sched_getaffinity(0) == self._affinity
            and _rights() == self._rights
        )

    def adopt(self) -> None:
        """Take what has changed since `apply` for the ordinary state, but for folder and streams, and the variables of the task."""
        environment = dict(self._environment)
        for name in self._before.keys() | _raw_environment.keys():
            value = _raw_environment.get(name)
            if value == self._before.get(name):
                continue
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value
        self.note()
        self._environment = environment
        self._streams.adopt_threads()

    def flush(self) -> None:
        """Write out what was printed, from C as well."""
        for name in ("stdout", "stderr"):
            try:
                getattr(sys, name).flush()
            except Exception:  # noqa: BLE001, S112 (the user's own stream may do anything, and may be closed or gone)
                continue
        _flush_c(None)

    def restore(self) -> bool:
        """Put everything back; False where that is impossible, so that this process can take no further task.

        What threads that were left behind write from now on goes nowhere.
        """
        self._applied = None
        if _raw_environment != self._environment:
            for name in _raw_environment.keys() - self._environment.keys():
                del os.environb[name]
            for name, value in self._environment.items():
                if _raw_environment.get(name) != value:
                    os.environb[name] = value
        sys.argv, sys.path = self._argv, self._path
        if self._argv != self._arguments:
            self._argv[:] = self._arguments
        if self._path != self._folders:
            self._path[:] = self._folders
        os.umask(self._umask)
        for number, handler in zip(_SIGNALS, self._handlers, strict=True):
            if getsignal(number) is not handler and handler is not None:
                signal.signal(number, handler)
        pthread_sigmask(signal.SIG_SETMASK, ())
        for timer in _TIMERS:
            setitimer(timer, 0)
        self.hush()
        return self._restore_rights()

    def hush(self) -> None:
        """Take nothing more that is printed."""
        self._streams.hush_threads()
        os.dup2(self._idle[0], 1)
        os.dup2(self._idle[1], 2)
        self._streams.put()

    def _restore_rights(self) -> bool:
        """Put back what this process may do; a right that was given up may be gone for good."""
        try:
            for kind, noted in zip(_LIMITS, self._limits, strict=True):
                if getrlimit(kind) != noted:
                    setrlimit(kind, noted)
            self._limited = False
            if os.getpriority(os.PRIO_PROCESS, 0) != self._nice:
                os.setpriority(os.PRIO_PROCESS, 0, self._nice)
            if os.sched_getaffinity(0) != self._affinity:
                os.sched_setaffinity(0, self._affinity)
        except (OSError, ValueError):
            return False
        return _rights() == self._rights


def _handlers() -> tuple[Any, ...]:
    return tuple(map(getsignal, _SIGNALS))


def _limits() -> tuple[tuple[int, int], ...]:
    return tuple(map(getrlimit, _LIMITS))


def _rights() -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    return os.getresuid(), os.getresgid()


@cache
def _installed() -> tuple[str, ...]:
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")} | {*site.getsitepackages()}
    # In a checkout our own packages lie elsewhere, and are no more the user's for that.
    places |= {folder for package in ("broker_jobs", "broker_jobs_worker") for folder in sys.modules[package].__path__}
    return tuple(place + os.sep for place in places)


def source_files(known: set[str]) -> dict[str, str]:
    """Files of the user's own modules among those imported since `known`, by module: neither installed nor of the interpreter."""
    installed = _installed()
    found = {}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if name not in known and isinstance(path, str) and not path.startswith(installed):
            found[name] = path
    return found


def signature(path: str) -> tuple[int, int] | None:
    """Time and size of a file; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 (done for each file of the user's before each job)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
