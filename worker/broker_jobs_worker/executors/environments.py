"""Where an execution runs: under which interpreter, with which import path, after which prologue."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import sys
from typing import TYPE_CHECKING, Final

from broker_jobs.host import host_identity
from broker_jobs.wire.messages import Program, StepCall
from broker_jobs_worker.executors.guard import command
from broker_jobs_worker.executors.server import Environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.wire.messages import Origin
    from broker_jobs_worker.executors.port import Execution

_PROGRAMS: Final = Environment(programs=True)
_OF_AN_INTERPRETER: Final = re.compile(r"(?:^|/)(?:site-packages|dist-packages|lib-dynload|python\d+\.\d+|python\d+\.zip)$")
_FORKSERVER: Final = "broker_jobs_worker.runners.environment"


class UnavailableError(Exception):
    """An environment that this host does not have; the text says which, and what to do."""


class Environments:
    """Finds the environment of an execution.

    Args:
        path: folders with modules of users, in front of the import path, for steps, and for functions that come from other hosts
    """

    def __init__(self, path: Sequence[str]) -> None:
        self._front = tuple(path)
        self._own = Environment(front=self._front)

    def of(self, execution: Execution) -> Environment:
        """The environment of an execution: functions of this host run under the submitter's interpreter and import path, steps under ours.

        Raises:
            UnavailableError: the interpreter that it asks for is not here
        """
        if isinstance(execution.work, Program):
            return _PROGRAMS
        if isinstance(execution.work, StepCall):
            return self._own
        options, origin = execution.options, execution.origin
        local = origin.host == host_identity() and os.access(origin.python, os.X_OK)
        if options.python is None and options.prologue is None:
            return Environment(origin.python, origin.path) if local else self._own
        # The interpreter's own import path holds, and that of the submitter for what is no part of an interpreter.
        front = (*self._front, *own_folders(origin)) if local else self._front
        python = _found(options.python, options.prologue) if options.python else origin.python if local else sys.executable
        return Environment(python, None, front, prologue=options.prologue)


def own_folders(origin: Origin) -> tuple[str, ...]:
    """The folders of the submitter's import path that belong to no interpreter, such as that of its script."""
    return tuple(entry for entry in origin.path if not _OF_AN_INTERPRETER.search(entry.rstrip("/")))


def starting(environment: Environment) -> tuple[str, ...]:
    """The command that starts the forkserver of an environment."""
    line = command(environment.python, _FORKSERVER)
    if environment.prologue is None:
        return line
    shell = shutil.which("bash") or "/bin/sh"
    checked = 'case $? in 0) ;; *) echo "the prologue ended with exit code $?" >&2; exit 1 ;; esac'
    return shell, "-c", f"{environment.prologue}\n{checked}\nexec {shlex.join(line)}"


def _found(python: str, prologue: str | None) -> str:
    """The interpreter that a task asks for: of a folder, the virtual environment's; a name is looked up, by the shell if there is one."""
    if os.sep not in python:
        found = python if prologue is not None else shutil.which(python)
    else:
        found = os.path.join(python, "bin", "python") if os.path.isdir(python) else python  # noqa: PTH112, PTH118 (texts)
        if not os.access(found, os.X_OK):
            found = None
    if found is None:
        raise UnavailableError(
            f"the Python interpreter {python!r} does not exist on worker host {socket.gethostname()}, or cannot be executed there. "
            "Give python= the path of an interpreter or of a virtual environment, or a name that is in the PATH of the worker"
        )
    return found
