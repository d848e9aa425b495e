"""The guardian: it starts the forkservers, kills what must end, and outlives the worker by as long as something of it lives.

It is single-threaded, has a session of its own and is a child subreaper. Whatever the worker started descends from it, and:

- the tree of a task is what descends from its runner, which is a subreaper too;
- what hangs directly on the guardian and is neither a server that it started nor a registered runner has lost its runner: a stray,
  killed whenever something is killed;
- when the worker's socket closes, in order or by SIGKILL, everything is killed, again and again until nothing is left.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker_jobs.wire.codec import decode_part, encode_part
from broker_jobs_worker.guarding import (
    FromServer,
    Gone,
    Kill,
    Over,
    Reaped,
    Register,
    ServerFailed,
    ServerStarted,
    Signal,
    StartServer,
    Sweep,
    ToGuardian,
    Unwatch,
    Up,
    Watch,
)
from broker_jobs_worker.processes import (
    CONTROL_FD,
    KILL_INTERVAL,
    MANY_BLOWS,
    PACKET,
    STUBBORN_INTERVAL,
    become_subreaper,
    end_everything,
    family,
    look,
    processes,
    proportional,
    send,
    start_server,
    strike,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

WATCH_INTERVAL: Final = 0.2
"""Seconds between two looks at memory."""
CLEAN_LOOKS: Final = 2
"""A tree is gone when so many looks in a row find nothing: one look can miss a process that forks and ends all the time."""

_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(slots=True)
class _Doomed:
    """A tree that is being killed.

    Attributes:
        itself: the runner goes, too
        clean: looks in a row that found nothing
        blows: how often it was hit
    """

    itself: bool
    clean: int = 0
    blows: int = 0


@dataclass(slots=True)
class _Watched:
    """A tree whose memory is limited.

    Attributes:
        baseline: bytes that the runner had before the task; None: the runner does not count
    """

    limit: int
    baseline: int | None
    reported: bool = False


class Guardian:
    """The loop of the guardian.

    Args:
        link: packets from and to the worker
        wakeup: becomes readable when a child ends
    """

    def __init__(self, link: socket.socket, wakeup: socket.socket) -> None:
        self._link = link
        self._wakeup = wakeup
        self._servers: set[int] = set()
        self._runners: set[int] = set()
        self._doomed: dict[int, _Doomed] = {}
        self._watched: dict[int, _Watched] = {}
        self._look_at = 0.0

    def run(self) -> None:
        """Serve until the worker is gone, then end everything."""
        poll = select.poll()
        poll.register(self._link, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        self._report(Up(os.getpid()))
        while True:
            events = {fd for fd, _ in poll.poll(self._timeout())}
            if self._wakeup.fileno() in events:
                self._wakeup.recv(4096)
            if self._link.fileno() in events and not self._serve():
                break
            self._reap()
            if self._doomed:
                self._kill()
            if self._watched and time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + WATCH_INTERVAL
                self._look()
        end_everything()

    def _timeout(self) -> float | None:
        """Milliseconds until something must be looked at."""
        if self._doomed:
            stubborn = all(doomed.blows > MANY_BLOWS for doomed in self._doomed.values())
            return (STUBBORN_INTERVAL if stubborn else KILL_INTERVAL) * 1000
        if self._watched:
            return max(0.0, self._look_at - time.monotonic()) * 1000
        return None

    def _report(self, report: Up | ServerStarted | ServerFailed | Reaped | Gone | Over) -> None:
        try:
            self._link.send(encode_part(FromServer(report)))
        except OSError:
            # The worker is gone. The end of its socket, which is read next, ends everything else.
            return

    def _serve(self) -> bool:
        """Take one request; False when the worker is gone."""
        try:
            data, fds, _, _ = socket.recv_fds(self._link, PACKET, 2)
        except ConnectionError:
            return False
        if not data:
            return False
        for fd in fds:
            os.set_inheritable(fd, False)
        match decode_part(ToGuardian, data).request:
            case StartServer(key, argv):
                self._start(key, argv, fds)
            case Register(pid):
                self._runners.add(pid)
            case Signal(pid, number, below):
                self._signal(pid, number, below=below)
            case Kill(pid):
                self._doomed[pid] = _Doomed(itself=True)
            case Sweep(pid):
                self._doomed.setdefault(pid, _Doomed(itself=False))
            case Watch(pid, limit, whole):
                runner = look(pid)
                self._watched[pid] = _Watched(limit, runner.resident if whole and runner is not None else None)
            case Unwatch(pid):
                self._watched.pop(pid, None)
        return True

    def _start(self, key: int, argv: Sequence[str], fds: list[int]) -> None:
        control, errors = fds
        try:
            pid = start_server(argv, os.environb, control, errors)
        except OSError as error:
            self._report(ServerFailed(key, f"{argv[0]}: {error.strerror}"))
        else:
            self._servers.add(pid)
            self._report(ServerStarted(key, pid))
        finally:
            for fd in fds:
                os.close(fd)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._servers.discard(pid)
            self._report(Reaped(pid, status))

    def _is_there(self, pid: int) -> bool:
        """Whether a runner lives: the process is where a runner can be, so its pid is not somebody else's by now."""
        process = look(pid)
        return process is not None and process.alive and (process.parent == os.getpid() or process.parent in self._servers)

    def _signal(self, pid: int, number: int, *, below: bool) -> None:
        if not self._is_there(pid):
            return
        if not below:
            send(pid, number)
            return
        for process in family(processes(), [pid]):
            if process.alive:
                send(process.pid, number)

    def _kill(self) -> None:
        """One blow at every tree that is to go, and at the strays."""
        me = os.getpid()
        there = {pid for pid in self._doomed if self._is_there(pid)}
        # What a dead runner has left has come to us, and that is seen without a look at every process of this host.
        quiet = not there and self._alone()
        found = Counter[int]() if quiet else strike({me, *there}, self._servers | self._runners)
        for pid, doomed in list(self._doomed.items()):
            doomed.blows += 1
            living = found[me] + found[pid]
            if doomed.itself and pid in there:
                # After what is below it, which it holds together.
                living += 1
                send(pid, signal.SIGKILL)
            doomed.clean = 0 if living else doomed.clean + 1
            if doomed.clean >= CLEAN_LOOKS:
                self._gone(pid, doomed)

    def _alone(self) -> bool:
        """Whether nothing hangs on this process but what belongs there; False where the kernel does not say."""
        try:
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii")
        except OSError:
            return False
        return not {int(pid) for pid in children.split()} - self._servers - self._runners

    def _gone(self, pid: int, doomed: _Doomed) -> None:
        del self._doomed[pid]
        if doomed.itself:
            self._runners.discard(pid)
            self._watched.pop(pid, None)
        # Statuses first: the parent wants to know how a runner ended before it hears that it is gone.
        self._reap()
        self._report(Gone(pid, doomed.itself))

    def _look(self) -> None:
        table = list(processes())
        resident = {process.pid: process.resident for process in table}
        for pid, watched in self._watched.items():
            below = family(table, [pid])
            used = sum(process.resident for process in below)
            if watched.baseline is not None:
                used += max(0, resident.get(pid, 0) - watched.baseline)
            if used > watched.limit and len(below) > 1:
                # What forked processes share counts once; that is dear to find out, so only where it matters.
                used -= sum(process.resident for process in below) - proportional(process.pid for process in below)
            if used > watched.limit and not watched.reported:
                watched.reported = True
                self._report(Over(pid, used))


def close_inherited() -> None:
    """Close what whoever started the worker left open, so that no task gets it."""
    for fd in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if fd > CONTROL_FD:
            with contextlib.suppress(OSError):
                os.close(fd)


def main() -> None:
    """Run the guardian; its socket is descriptor 3."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    close_inherited()
    become_subreaper()
    link = socket.socket(fileno=CONTROL_FD)
    link.set_inheritable(False)
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    reading.setblocking(False)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    Guardian(link, reading).run()


if __name__ == "__main__":
    main()
