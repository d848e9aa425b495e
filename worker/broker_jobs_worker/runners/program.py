"""Run an external program, exactly as asked: no shell, any bytes that execve takes."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs_worker.runners import files
from broker_jobs_worker.runners.surroundings import NAMES, variables
from broker_jobs_worker.runners.wording import exit_words, signal_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from broker_jobs.core.outcome import Outcome
    from broker_jobs.wire.messages import Program
    from broker_jobs_worker.runners.protocol import Run

TERMINATE_SIGNAL: Final = int(signal.SIGTERM)
"""Asks a program to end."""

ERROR_LIMIT: Final = 16 * 1024
"""Bytes of an error file that become the message; of more, the end."""

_SIGNALS: Final = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
_NOT_FOUND: Final = frozenset({errno.ENOENT, errno.ENOTDIR})


@dataclass(frozen=True, slots=True)
class Ending:
    """How a program ended.

    Attributes:
        explained: the message is the program's own
    """

    outcome: Outcome
    explained: bool = False


def execute(run: Run, program: Program, stdout: int, stderr: int) -> Ending:
    """Start a program in the current folder, and wait for its end; what it leaves behind is the caller's."""
    own = {"BROKER_JOBS_ERROR_FILE": error_file(run.folder)}
    if program.task_dir:
        own["BROKER_JOBS_TASK_DIR"] = run.folder
        try:
            os.makedirs(run.folder, mode=0o700, exist_ok=True)  # noqa: PTH103
            if run.options.cwd is None:
                os.chdir(run.folder)
        except OSError as error:
            return Ending(Failed(Cause.error, f"the task folder {run.folder} cannot be made: {error.strerror}"))
    env = {**os.environb, **_encoded({**own, **variables(run), **dict(program.env)})}
    outcome: Outcome = files.put(program) or _execute(program, env, stdout, stderr)
    if isinstance(outcome, Succeeded):
        outcome = files.collect(run, program, outcome)
    return in_own_words(outcome, error_file(run.folder))


class Series:
    """Programs that follow another one in its line and in its folder, without files of their own: what is the same for all is done once.

    Args:
        run: the first of the line
        stdout: where all of them write
        stderr: the same
    """

    def __init__(self, run: Run, stdout: int, stderr: int) -> None:
        self._error_file = error_file(run.folder)
        chosen = dict(run.options.env)
        self._own = tuple(None if name in chosen else name.encode() for name in NAMES)
        self._env = {**os.environb, **_encoded({"BROKER_JOBS_ERROR_FILE": self._error_file, **variables(run)})}
        self._stdout, self._stderr = stdout, stderr

    def execute(self, program: Program, own: tuple[int, int, str]) -> Ending:
        """`execute`, for the next of them.

        Args:
            own: number, attempt and execution of the task
        """
        env = self._env.copy()
        for name, value in zip(self._own, own, strict=True):
            if name is not None:
                env[name] = str(value).encode()
        if program.env:
            env.update(_encoded(dict(program.env)))
        return in_own_words(_execute(program, env, self._stdout, self._stderr), self._error_file)


def _encoded(variables: Mapping[str, str]) -> dict[bytes, bytes]:
    return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}


def in_own_words(outcome: Outcome, path: str) -> Ending:
    """The outcome of a program with what it has written into its error file, which is removed."""
    text = _own_words(path)
    if text is None or not isinstance(outcome, Failed) or outcome.cause not in {Cause.exit_code, Cause.signal}:
        return Ending(outcome)
    return Ending(replace(outcome, message=text or f"{outcome.message}, and wrote an empty error file"), explained=bool(text))


def error_file(folder: str) -> str:
    """Where a program may write why it failed, from the name of its task folder."""
    return f"{folder}.error"


def _own_words(path: str) -> str | None:
    """What a program has written into its error file, which is removed; None where it has not."""
    if not os.access(path, os.F_OK):
        return None  # mostly, and without an exception, which costs as much as all else that is done for a program of a line
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - ERROR_LIMIT))
            text = file.read(ERROR_LIMIT).decode(errors="replace").strip()
        os.unlink(path)  # noqa: PTH108 (as above)
    except OSError:
        return None
    return f"… {size - ERROR_LIMIT} bytes left out …\n{text}" if size > ERROR_LIMIT else text


def _execute(program: Program, env: Mapping[bytes, bytes], stdout: int, stderr: int) -> Outcome:
    if not program.argv or not program.argv[0]:
        return Failed(Cause.error, "the program has no name: argv is empty")
    path = _find(program.argv[0], env)
    if path is None:
        return Failed(Cause.error, _missing(program.argv[0], env), exception_types=("builtins.FileNotFoundError",))
    actions = [(os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, stderr, 2)]
    source = None
    try:
        if program.stdin is not None:
            source = _memory_file(program.stdin)
            actions.append((os.POSIX_SPAWN_DUP2, source, 0))
        main = _spawn(path, program.argv, env, actions)
    except (OSError, ValueError) as error:
        return Failed(Cause.error, _unstartable(path, error), exception_types=(f"builtins.{type(error).__name__}",))
    finally:
        if source is not None:
            os.close(source)
    return _ended(program, _wait(main))


def _spawn(path: bytes, argv: tuple[bytes, ...], env: Mapping[bytes, bytes], actions: Sequence[tuple[int, int, int]]) -> int:
    """Start it; a script that may be read but not executed is given to what its first line names.

    Raises:
        OSError, ValueError: it cannot be started
    """

    def start(file: bytes, arguments: tuple[bytes, ...]) -> int:
        # Python ignores SIGPIPE, and whatever started the worker may have ignored others: the program gets them as they should be.
        return os.posix_spawn(file, arguments, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_SIGNALS)

    try:
        return start(path, argv)
    except PermissionError:
        interpreter = _first_line(path) if os.path.isfile(path) else ()  # noqa: PTH113 (bytes)
        if not interpreter:
            raise
        return start(interpreter[0], (*interpreter, path, *argv[1:]))


def _wait(main: int) -> int:
    """The wait status of the program; orphans of it that end meanwhile are reaped too."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == main:
            return status


def _memory_file(data: bytes) -> int:
    """A file in memory, to read from: unlike a pipe it takes any amount at once."""
    fd = os.memfd_create("stdin")
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _find(name: bytes, env: Mapping[bytes, bytes]) -> bytes | None:
    """The path of a program: a name without a slash is looked up in the PATH of the task."""
    if b"/" in name:
        return name
    candidates = [os.path.join(folder or b".", name) for folder in _path(env).split(b":")]  # noqa: PTH118 (bytes)
    files = [candidate for candidate in candidates if os.path.isfile(candidate)]  # noqa: PTH113 (bytes)
    return next((file for file in files if os.access(file, os.X_OK)), files[0] if files else None)


def _path(env: Mapping[bytes, bytes]) -> bytes:
    return env.get(b"PATH", os.fsencode(os.defpath))


def shown(argument: bytes) -> str:
    """An argument as a person would type it."""
    return shlex.quote(argument.decode(errors="backslashreplace"))


def _missing(name: bytes, env: Mapping[bytes, bytes]) -> str:
    here = f"(looked up on worker host {socket.gethostname()} in PATH={os.fsdecode(_path(env))})"
    if os.path.isfile(name):  # noqa: PTH113 (bytes)
        local = f"There is a file of this name in {Path.cwd()}: to run that one, write {shown(b'./' + name)}"
        return f"program not found: {shown(name)} {here}. {local}"
    return f"program not found: {shown(name)} {here}. Install it on that host, give its absolute path, or set PATH with env="


def _unstartable(path: bytes, error: OSError | ValueError) -> str:
    """Why a program did not start, and what to do."""
    name, host = shown(path), socket.gethostname()
    if isinstance(error, ValueError):
        return f"the program {name} cannot be started: {error} in its arguments or its environment"
    here = f"on worker host {host}"
    if error.errno in _NOT_FOUND and not os.path.exists(path):  # noqa: PTH110 (bytes)
        return f"program not found: {name} {here}, in the folder {Path.cwd()}. Check the path, or copy the program there"
    if error.errno in _NOT_FOUND:
        return f"the program {name} {here} cannot be started: {_interpreter(path)} does not exist there"
    if os.path.isdir(path):  # noqa: PTH112 (bytes)
        return f"the program {name} {here} cannot be started: it is a folder"
    if error.errno == errno.EACCES:
        remedy = f"allow it with chmod +x, or start its interpreter, as in ['python3', {name!r}]"
        return f"the program {name} {here} is not executable, and no script with a first line such as #!/bin/sh: {remedy}"
    if error.errno == errno.ENOEXEC:
        return f"the program {name} {here} is no binary of this machine, and has no first line such as #!/bin/sh that says what runs it"
    if error.errno == errno.E2BIG:
        return f"the program {name} cannot be started: its arguments and environment are too long; pass data by stdin= or by a file"
    return f"the program {name} {here} cannot be started: {error.strerror}"


def _first_line(path: bytes) -> tuple[bytes, ...]:
    """The interpreter that a script names, and the one argument that may follow it, as the kernel reads them; empty where there is none."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (bytes)
            line = file.readline(256)
    except OSError:
        return ()
    return tuple(line[2:].strip().split(maxsplit=1)) if line.startswith(b"#!") else ()


def _interpreter(path: bytes) -> str:
    """What the first line of a script names, else the loader of the binary."""
    named = _first_line(path)
    return f"{os.fsdecode(named[0])!r}, the interpreter of its first line," if named else "the loader that it needs"


def _ended(program: Program, status: int) -> Outcome:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return exited(program, code)
    return Failed(Cause.signal, f"the program {shown(program.argv[0])} was {signal_words(-code)}", signal=-code)


def exited(program: Program, code: int) -> Outcome:
    """The outcome of a program that ended by itself with this exit code."""
    if code == 0:
        return Succeeded()
    return Failed(Cause.exit_code, f"the program {shown(program.argv[0])} ended with {exit_words(code)}", exit_code=code)
