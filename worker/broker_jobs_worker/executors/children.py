"""The children that run tasks: made on demand, kept warm, replaced when they end.

Nothing here knows what a task is. Whoever wants a child makes a *wish* with a ticket, and the listener gets the child as soon as one is
free: an idle one of the same environment that fits, else a new one. There are never more children of an environment than were wanted at the
same time, a few spare ones apart. One that was used up (see `Recycling`) ends between two tasks, and its successor is made before.

A child is *dying* from the moment at which the guardian is told to kill it, or at which it turns out to have ended by itself: the guardian
then sees to it that nothing of its tree is left. It has *ended* when that is so and its exit status is known.
"""

from __future__ import annotations

import logging
import socket
from signal import SIGKILL
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.errors import DecodeError
from broker_jobs.wire.codec import decode_part
from broker_jobs_worker.executors.guard import Guard
from broker_jobs_worker.executors.links import Stream
from broker_jobs_worker.executors.recycling import KEEP
from broker_jobs_worker.executors.server import Child, Server
from broker_jobs_worker.executors.servers import Servers
from broker_jobs_worker.executors.spool import Capture, name_of
from broker_jobs_worker.guarding import (
    Forked,
    FromServer,
    Gone,
    Kill,
    Over,
    Reaped,
    Register,
    ServerFailed,
    ServerStarted,
    Signal,
    Sweep,
    Unwatch,
    Up,
    Watch,
)
from broker_jobs_worker.processes import exterminate
from broker_jobs_worker.runners.protocol import FromChild, Ready

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection
    from pathlib import Path

    from broker_jobs_worker.executors.archive import Archive
    from broker_jobs_worker.executors.recycling import Recycling
    from broker_jobs_worker.executors.server import Environment, Listener, Wish

_log = logging.getLogger(__name__)

MOST_SPARE: Final = 4
"""So many idle children of an environment are kept although those who wait cannot use them, having another setup; then the oldest ends."""
LOOK_INTERVAL: Final = 30.0
"""Seconds between two looks for what is too old."""
MOST_BAD_STARTS: Final = 3
"""An environment whose children end so many times in a row before they are ready is given up."""
_REPORT_TAIL: Final = 4000


class Children:
    """All children of a worker.

    Args:
        loop: on which everything happens
        listener: who uses them
        spool: existing folder for what they print
        archive: takes of that what is kept
        recycling: when they are replaced
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listener: Listener, spool: Path, archive: Archive, recycling: Recycling = KEEP
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._spool = spool
        self._archive = archive
        self._recycling = recycling
        self._looking: asyncio.TimerHandle | None = None
        self._servers = Servers(loop, spool, self._on_server, self._on_server_lost)
        self._by_pid: dict[int, Child] = {}
        self._made = 0
        self._guard_up: asyncio.Future[None] = loop.create_future()
        self._guard = self._new_guard()

    # --- for the listener ----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Wait until the guardian is up.

        Raises:
            ChildProcessError: it ends at once; its standard error, which is the worker's, says why
        """
        await self._guard_up

    def want(self, environment: Environment, wish: Wish) -> None:
        """Ask for a child."""
        if self._guard.lost:
            self._guard_up = self._loop.create_future()
            self._guard = self._new_guard()
        server = self._servers.current(environment) or self._new_server(environment)
        server.waiting.append(wish)
        self._serve(server)

    def withdraw(self, ticket: str) -> None:
        """Forget a ticket that has no child yet."""
        for server in self._servers:
            for wish in server.waiting:
                if wish.ticket == ticket:
                    server.waiting.remove(wish)
                    return

    def release(self, child: Child, *, spent: bool = False) -> None:
        """Take back a child that has done its work.

        Args:
            spent: it is of no use any more
        """
        child.given = False
        server = child.server
        server.used = self._loop.time()
        if child.dying:
            return
        if server.dead or child.last:
            self._retire(child)
        elif spent or self._recycling.worn(child, server.used):
            self._retire(child)
            if not server.idle and not server.starting:
                self._fork(server)
        else:
            server.idle.append(child)
            self._serve(server)

    def kill(self, child: Child) -> None:
        """End a child and its tree; `on_ended` follows if it was given out."""
        if not child.dying:
            child.dying = True
            if child in child.server.idle:
                child.server.idle.remove(child)
            if child.pid is not None:
                self._guard.send(Kill(child.pid))

    def _retire(self, child: Child) -> None:
        """End a child that has nothing below it."""
        child.dying = child.retired = True
        if child in child.server.idle:
            child.server.idle.remove(child)
        if child.pid is not None:
            self._guard.send(Signal(child.pid, int(SIGKILL), below=False))

    def give_up(self, child: Child) -> None:
        """Take back a child that is of no use any more, and end it."""
        child.given = False
        self.kill(child)

    def sweep(self, child: Child) -> None:
        """End what is left below a child; `on_swept` follows, or `on_ended`."""
        if child.pid is not None:
            self._guard.send(Sweep(child.pid))

    def signal(self, child: Child, number: int, *, below: bool) -> None:
        """Send a signal to a child, or to all below it."""
        if child.pid is not None:
            self._guard.send(Signal(child.pid, number, below))

    def watch(self, child: Child, limit: int, *, whole: bool) -> None:
        """Limit the memory of a child's tree to so many bytes, with what the child itself grows by if `whole`."""
        if child.pid is not None:
            self._guard.send(Watch(child.pid, limit, whole))

    def unwatch(self, child: Child) -> None:
        """End the limit."""
        if child.pid is not None:
            self._guard.send(Unwatch(child.pid))

    def pids(self) -> Collection[int]:
        """The processes of the children that live."""
        return self._by_pid.keys()

    @property
    def guardian(self) -> int:
        """Pid of the guardian."""
        return self._guard.pid

    async def close(self) -> None:
        """End all processes, the guardian last; the listener hears nothing any more."""
        if self._looking is not None:
            self._looking.cancel()
        for server in self._servers:
            self._discard(server)
        await self._guard.close()

    # --- children and their servers ------------------------------------------------------------------------------

    def _new_guard(self) -> Guard:
        return Guard(self._loop, self._on_guardian, self._on_guardian_lost)

    def _new_server(self, environment: Environment) -> Server:
        excess = self._servers.excess()
        if excess is not None:
            self._discard(excess)
        if self._looking is None:
            self._looking = self._loop.call_later(LOOK_INTERVAL, self._look)
        return self._servers.start(environment, self._guard)

    def _look(self) -> None:
        """End what is too old, or was not used for long."""
        for server in self._servers.unused():
            self._discard(server)
        now = self._loop.time()
        for server in self._servers:
            for child in [child for child in server.idle if self._recycling.aged(child, now)]:
                self._retire(child)
        self._looking = self._loop.call_later(LOOK_INTERVAL, self._look) if self._servers else None

    def _discard(self, server: Server) -> None:
        """Forget a server: its socket closes, so it kills its children and ends."""
        self._servers.forget(server)
        for child in server.children:
            child.ended = True
            child.stream.close()
            child.capture.close()
            child.tickets.close()
            child.notes.close()
            if child.pid is not None:
                self._by_pid.pop(child.pid, None)
        server.children.clear()
        server.idle.clear()

    def _serve(self, server: Server) -> None:
        """Give out idle children, and make as many as are missing."""
        while server.waiting and server.idle and (found := server.match()) is not None:
            child, wish = found
            if child.stream.ended():
                # It died idle, and nobody's task shall be charged with that.
                self.kill(child)
                server.waiting.appendleft(wish)
            else:
                self._give(child, wish)
        for _ in range(server.missing):
            if len(server.idle) >= MOST_SPARE:
                self._retire(server.idle[0])
            self._fork(server)

    def _give(self, child: Child, wish: Wish) -> None:
        child.given = True
        child.ticket = wish.ticket
        child.setup = wish.setup
        child.tasks += 1
        child.last = wish.fresh or self._recycling.last(child)
        if child.last and child.server.lacks_successor:
            self._fork(child.server)
        self._listener.on_child(child, wish.ticket)

    def _fork(self, server: Server) -> None:
        self._made += 1
        child = Child(server, Capture(self._spool, name_of("child", self._made), self._archive))
        ours, theirs = socket.socketpair()
        child.stream = Stream(self._loop, ours, lambda data: self._on_message(child, data), lambda: self._on_end(child))
        server.children.add(child)
        server.forking.append(child)
        server.packets.send(b"fork", (theirs.detach(), child.tickets.lend(), child.notes.lend()))

    # --- what they say ---------------------------------------------------------------------------------------------

    def _on_message(self, child: Child, data: bytes) -> None:
        try:
            news = decode_part(FromChild, data).news
        except DecodeError as error:
            _log.warning("child %s sent what is no message, and is killed: %s", child.pid, error)
            self.kill(child)
            return
        if isinstance(news, Ready):
            if not child.ready:
                child.ready = True
                self._usable(child)
        elif child.given and not child.ended:
            self._listener.on_news(child, news)

    def _usable(self, child: Child) -> None:
        """A child has said that it is ready, or its pid has become known: with both it can work."""
        if child.ready and child.pid is not None and not child.dying:
            child.server.bad_starts = 0
            child.born = self._loop.time()
            child.server.idle.append(child)
            self._serve(child.server)

    def _on_end(self, child: Child) -> None:
        """The stream is closed: mostly the child is dead; if not, it is of no use any more."""
        if child.pid is not None:
            self.kill(child)

    def _on_server(self, server: Server, data: bytes) -> None:
        report = decode_part(FromServer, data).report
        match report:
            case Up():
                server.up = True
            case Forked(pid):
                child = server.forking.popleft()
                child.pid = pid
                self._by_pid[pid] = child
                self._guard.send(Register(pid))
                if child.dying:
                    self._guard.send(Kill(pid))
                self._usable(child)
            case Reaped(pid, status):
                self._on_reaped(pid, status)
            case ServerStarted() | ServerFailed() | Gone() | Over():
                raise DecodeError(f"a forkserver does not say {report!r}")
            case _:
                assert_never(report)

    def _on_server_lost(self, server: Server) -> None:
        """A forkserver has ended. Its children live on; new ones come from a new server, unless this one never worked."""
        self._lose(server, None if server.up else f"the Python interpreter {server.environment.python} cannot run tasks on this host")

    def _lose(self, server: Server, reason: str | None) -> None:
        """Use a server no more; those who wait are denied for this reason, or wait for its successor."""
        self._servers.retire(server)
        waiting = list(server.waiting)
        server.waiting.clear()
        if reason is not None:
            text = server.report.read_text(errors="replace").strip()[-_REPORT_TAIL:]
            reason = f"{reason}:\n{text}" if text else reason
        for child in list(server.children):
            if child.pid is None:
                self._finish(child)
            elif child.gone:
                self._end_if_over(child)
            elif not child.given:
                self.kill(child)
        if not server.children:
            self._discard(server)
        for wish in waiting:
            if reason is None:
                self.want(server.environment, wish)
            else:
                self._listener.on_denied(wish.ticket, reason)

    def _on_reaped(self, pid: int, status: int) -> None:
        child = self._by_pid.get(pid)
        if child is None:
            return
        child.status = status
        # What it said before its end lies in its socket.
        child.stream.read()
        child.stream.close()
        if child.retired:
            self._guard.send(Kill(pid))
        self.kill(child)
        self._end_if_over(child)

    def _end_if_over(self, child: Child) -> None:
        if child.gone and (child.status is not None or child.server.dead):
            self._finish(child)

    def _finish(self, child: Child) -> None:
        """A child has ended, and nothing of it is left."""
        if child.ended:
            return
        child.ended = True
        server = child.server
        server.children.discard(child)
        child.stream.close()
        if child.pid is not None:
            del self._by_pid[child.pid]
        if child.given:
            self._listener.on_ended(child, child.status)
        child.capture.close()
        child.tickets.close()
        child.notes.close()
        if not child.ready:
            server.bad_starts += 1
            if server.bad_starts >= MOST_BAD_STARTS and not server.dead:
                self._lose(server, f"processes of {server.environment.python} end before they can run anything")
        if server.dead and not server.children:
            self._discard(server)
        elif not server.dead:
            self._serve(server)

    # --- the guardian ------------------------------------------------------------------------------------------------

    def _on_guardian(self, data: bytes) -> None:
        report = decode_part(FromServer, data).report
        match report:
            case Up():
                if not self._guard_up.done():
                    self._guard_up.set_result(None)
            case ServerStarted(key, pid):
                server = self._servers.by_key(key)
                if server is not None:
                    server.pid = pid
            case ServerFailed(key, error):
                # Its socket closes as well, and that is where the report is read.
                server = self._servers.by_key(key)
                if server is not None:
                    server.report.write_text(error)
            case Reaped(pid, status):
                self._on_reaped(pid, status)
            case Gone(pid, itself):
                self._on_gone(pid, itself=itself)
            case Over(pid, used):
                child = self._by_pid.get(pid)
                if child is not None and child.given:
                    self._listener.on_over(child, used)
            case Forked():
                raise DecodeError(f"the guardian does not say {report!r}")
            case _:
                assert_never(report)

    def _on_gone(self, pid: int, *, itself: bool) -> None:
        child = self._by_pid.get(pid)
        if child is None:
            return
        if itself:
            child.gone = True
            self._end_if_over(child)
        elif child.given and not child.dying:
            self._listener.on_swept(child)

    def _on_guardian_lost(self) -> None:
        """The guardian is dead: end what it guarded, and begin anew."""
        _log.error("the guardian of this worker is dead: what it guarded is killed")
        worked = self._guard_up.done()
        if not worked:
            self._guard_up.set_exception(ChildProcessError("the guardian of this worker ends at once; its standard error says why"))
            self._guard_up.exception()  # noted: nobody has to wait for it
        servers = tuple(self._servers)
        given = [child for server in servers for child in server.children if child.given]
        waiting = [(server.environment, wish) for server in servers for wish in server.waiting]
        exterminate({*self._by_pid, *(server.pid for server in servers if server.pid is not None)}, {child.ticket for child in given})
        for server in servers:
            self._servers.retire(server)
            server.waiting.clear()
        for child in given:
            child.stream.read()
            child.dying = child.ended = True
            self._listener.on_ended(child, child.status)
        for server in servers:
            self._discard(server)
        for environment, wish in waiting:
            if worked:
                self.want(environment, wish)
            else:
                self._listener.on_denied(wish.ticket, "the guardian of this worker cannot be started")
