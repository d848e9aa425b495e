"""This user's embedded node: found, started and ended.

The node holds a lock on ``node.lock`` of the state folder as long as it lives, and writes its process id into ``node.ready`` when it
works. It has a session of its own, so neither Ctrl-C nor the end of the terminal reaches it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from typing import IO, TYPE_CHECKING, Final

from broker_jobs.cmdline import command, python_environment
from broker_jobs.config import home_key, make_private, private_file, sqlite_url, state_folder
from broker_jobs.errors import CoordinatorUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

LOCK_FILE: Final = "node.lock"
READY_FILE: Final = "node.ready"
CLIENTS_FILE: Final = "clients.lock"
LOG_FILE: Final = "node.log"
_START_FILE: Final = "node.start"
_PAUSE: Final = 0.02
_LAST_PATIENCE: Final = 10.0
_TAIL: Final = 2000

_LAUNCHER: Final = """\
import os, sys
log, *command = sys.argv[1:]
print(os.posix_spawn(command[0], command, os.environ, setsid=True, file_actions=[
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
    (os.POSIX_SPAWN_DUP2, 1, 2),
]))
"""
"""A process between the client and the node: the node is nobody's child, so nobody has to wait for it."""


def ensure_node(home: Path, namespace: str, timeout: float = 30.0) -> bool:
    """Start this user's node where none runs, and wait until it works; whether it was started.

    Raises:
        CoordinatorUnavailable: it did not come up in time; the text has the end of its log
    """
    make_private(home)
    home_key(home)
    deadline = time.monotonic() + timeout
    with _starting(home, deadline):
        if _alive(home):
            return False
        pid = _start(home, namespace)
        _wait(lambda: _ready_pid(home) == pid or not _running(pid), deadline)
        if _ready_pid(home) != pid and not _alive(home):
            problem = "has ended" if not _running(pid) else f"was not ready within {timeout:g} s"
            raise CoordinatorUnavailable(f"the node of {home} {problem}. The end of {home / LOG_FILE}:\n{_log_tail(home)}")
        return True


class OwnNode:
    """This user's node, as one client needs it: it stays as long as the client is attached.

    Args:
        home: the state folder
        namespace: prefix of every name at the broker
        timeout: seconds in which a node must come up, or one that is ending must have ended
    """

    def __init__(self, home: Path, namespace: str, timeout: float) -> None:
        self._home = home
        self._namespace = namespace
        self._timeout = timeout
        self._attachment: IO[str] | None = None

    def attach(self) -> None:
        """Be one of the clients for whom the node stays, until `detach`.

        A node that is just ending is waited for: it has made sure before that nobody was attached.

        Raises:
            CoordinatorUnavailable: it does not end
        """
        make_private(self._home)
        file = private_file(self._home / CLIENTS_FILE).open("a", encoding="utf-8")
        if not _wait(lambda: _locked(file.fileno(), fcntl.LOCK_SH), time.monotonic() + self._timeout):
            file.close()
            raise CoordinatorUnavailable(f"the node of {self._home} is ending and does not come to an end")
        self._attachment = file

    def ensure(self) -> None:
        """See that it runs; see `ensure_node`."""
        ensure_node(self._home, self._namespace, self._timeout)

    def detach(self) -> None:
        """Need it no longer."""
        if self._attachment:
            self._attachment.close()


def stop_node(home: Path | None = None, timeout: float = 30.0) -> bool:
    """End this user's node; whether one was running.

    It drains first: running tasks finish, within `timeout` seconds; then what runs is given back.
    """
    home = home or state_folder()
    if not home.is_dir():
        return False
    deadline = time.monotonic() + timeout
    with _starting(home, deadline):
        pid = _ready_pid(home)
        if not _alive(home) or pid is None:
            return False
        for sent, until in ((signal.SIGTERM, deadline), (signal.SIGTERM, deadline + _LAST_PATIENCE), (signal.SIGKILL, float("inf"))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)
            if _wait(lambda: not _alive(home), until):
                break
        return True


@contextlib.contextmanager
def _starting(home: Path, deadline: float) -> Iterator[None]:
    """One at a time: of several clients one starts the node. To look at its lock is to take it for a moment, so that happens here, too."""
    with private_file(home / _START_FILE).open("a") as file:
        if not _wait(lambda: _locked(file.fileno(), fcntl.LOCK_EX), deadline):
            raise CoordinatorUnavailable(f"another process is starting or ending the node of {home} and does not come to an end")
        yield


def _alive(home: Path) -> bool:
    with private_file(home / LOCK_FILE).open("a") as file:
        return not _locked(file.fileno(), fcntl.LOCK_SH)


def _locked(descriptor: int, kind: int) -> bool:
    """Whether the lock could be taken; it ends with the file."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(home: Path, namespace: str) -> int:
    (home / READY_FILE).unlink(missing_ok=True)
    environ: Mapping[str, str] = {**python_environment(), "BROKER_JOBS_HOME": str(home), "BROKER_JOBS_NAMESPACE": namespace}
    node = command("broker_jobs_worker.node", "--home", str(home), "--url", sqlite_url(home / "queue.db"))
    launched = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(home / LOG_FILE), *node],
        cwd=home,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(launched.stdout)


def _ready_pid(home: Path) -> int | None:
    try:
        return int((home / READY_FILE).read_text())
    except (OSError, ValueError):
        return None


def _running(pid: int) -> bool:
    """Whether the process lives; one that nobody has waited for does not."""
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _log_tail(home: Path) -> str:
    try:
        return (home / LOG_FILE).read_text(errors="replace")[-_TAIL:].strip() or "(it is empty)"
    except OSError:
        return "(there is none)"


def _wait(condition: Callable[[], bool], deadline: float) -> bool:
    """Wait for something in another process; whether it came."""
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True
