"""Trees of processes, as Linux shows them under ``/proc``.

A *runner* (a child of ours that runs tasks) is a child subreaper: whatever is started below it stays below it, also when it calls
setsid and its parent ends. So the tree of a task is exactly what descends from its runner.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

CONTROL_FD: Final = 3
"""Where the guardian and a forkserver find their socket."""
PACKET: Final = 256 * 1024
"""Room for the largest packet on it."""

_LARGEST_KEPT: Final = 32 * 2**20 - 64 * 1024
"""Bytes of a block that glibc still learns from."""
_SET_CHILD_SUBREAPER: Final = 36
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_MARK: Final = b"BROKER_JOBS_EXECUTION="
_PATIENCE: Final = 5.0

KILL_INTERVAL: Final = 0.002
"""Seconds between two looks at a tree that is to be gone."""
MANY_BLOWS: Final = 500
"""A tree that was hit so often and lives is stubborn: it waits for a disk, or became another user's."""
STUBBORN_INTERVAL: Final = 0.2
"""Seconds between two looks at a stubborn tree."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process.

    Attributes:
        alive: it is no zombie
        resident: bytes of its resident set
    """

    pid: int
    parent: int
    alive: bool
    resident: int


def keep_freed_memory() -> None:
    """Let malloc keep up to 64 MiB of freed memory for what comes next.

    glibc keeps twice the largest block that it has got from the system and given back. By itself it does not come to enough for a task with
    values of some megabytes, and new pages for each of them take longer than to write, read and check their bytes.
    """
    bytes(_LARGEST_KEPT)  # is never touched


def become_subreaper() -> None:
    """Let orphaned descendants become children of this process."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot become a child subreaper: {os.strerror(number)}")


def start_server(argv: Sequence[str], env: Mapping[bytes, bytes], control: int, errors: int) -> int:
    """Start a process of ours in a session of its own, with its socket as descriptor 3; its pid.

    Raises:
        OSError: it cannot be started
    """
    null = os.open(os.devnull, os.O_RDWR)
    actions = [
        (os.POSIX_SPAWN_DUP2, null, 0),
        (os.POSIX_SPAWN_DUP2, null, 1),
        (os.POSIX_SPAWN_DUP2, errors, 2),
        (os.POSIX_SPAWN_DUP2, control, CONTROL_FD),
    ]
    defaults = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    try:
        return os.posix_spawn(argv[0], tuple(argv), env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=defaults)
    finally:
        os.close(null)


def look(pid: int) -> Process | None:
    """One process; None where there is none of this pid."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 (read thousands of times)
            line = file.read(4096)
    except OSError:
        return None
    # The name is in parentheses and may hold anything, parentheses too.
    fields = line[line.rindex(b")") + 2 :].split()
    # A leader that has ended while other threads of it run is a zombie with several threads.
    alive = fields[0] not in {b"Z", b"X"} or int(fields[17]) > 1
    return Process(pid, int(fields[1]), alive, int(fields[21]) * _PAGE)


def processes() -> Iterator[Process]:
    """Every process that this host shows, lowest pid first; each is read when it is asked for."""
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):  # noqa: PTH208 (as above)
        process = look(pid)
        if process is not None:
            yield process


def family(table: Iterable[Process], roots: Collection[int]) -> list[Process]:
    """What descends from `roots`, without themselves."""
    children: dict[int, list[Process]] = {}
    for process in table:
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    open_ends = list(roots)
    while open_ends:
        for process in children.get(open_ends.pop(), ()):
            if process.pid not in roots:
                found.append(process)
                open_ends.append(process.pid)
    return found


def strike(roots: Collection[int], spared: Collection[int] = ()) -> Counter[int]:
    """Kill all that descends from `roots`, but not `roots`, nor `spared` and what is below them.

    Each process is hit at the moment at which it is found, so that one which forks and ends all the time is hit as well.
    A child with a lower pid than its parent may be missed: strike until nothing is found.

    Returns:
        how many living processes were found below each root
    """
    root_of = {root: root for root in roots}
    found: Counter[int] = Counter()
    for process in processes():
        root = root_of.get(process.parent)
        if root is None or process.pid in roots or process.pid in spared:
            continue
        root_of[process.pid] = root
        if process.alive:
            found[root] += 1
            send(process.pid, signal.SIGKILL)
    return found


def end_everything() -> None:
    """Kill every descendant until none is left."""
    for interval in itertools.chain(itertools.repeat(KILL_INTERVAL, MANY_BLOWS), itertools.repeat(STUBBORN_INTERVAL)):
        strike([os.getpid()])
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
        time.sleep(interval)


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended meanwhile, or have become another user's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def proportional(pids: Iterable[int]) -> int:
    """Bytes of memory of these processes; what several of them share counts once."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123 (as above)
                total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:"))
        except OSError:
            continue
    return total


def marked(executions: Collection[str]) -> list[int]:
    """Processes that were started with ``BROKER_JOBS_EXECUTION`` naming one of these."""
    marks = {_MARK + name.encode() for name in executions}
    found = []
    for process in processes():
        try:
            with open(f"/proc/{process.pid}/environ", "rb") as file:  # noqa: PTH123 (as above)
                environment = file.read().split(b"\0")
        except OSError:
            continue
        if process.alive and not marks.isdisjoint(environment):
            found.append(process.pid)
    return found


def exterminate(roots: Collection[int], executions: Collection[str]) -> None:
    """Kill `roots` and all below them, when nobody else can: the last resort after the guardian's death.

    Descendants go first, while their ancestors still hold them together; the marks find those who lost theirs.
    """
    deadline = time.monotonic() + _PATIENCE
    for pid in roots:
        send(pid, signal.SIGSTOP)
    while strike(roots) and time.monotonic() < deadline:
        time.sleep(KILL_INTERVAL)
    left: Collection[int] = roots
    while left and time.monotonic() < deadline:
        for pid in left:
            send(pid, signal.SIGKILL)
        time.sleep(KILL_INTERVAL)
        left = [process.pid for process in processes() if process.alive and process.pid in roots] + marked(executions)
