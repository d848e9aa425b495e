"""The forkservers of a worker, one for each environment: started when they are wanted, few at a time, given up when nobody uses them."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from broker_jobs_worker.executors.environments import starting
from broker_jobs_worker.executors.guard import roots
from broker_jobs_worker.executors.links import Packets
from broker_jobs_worker.executors.server import Server
from broker_jobs_worker.executors.spool import name_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from broker_jobs_worker.executors.guard import Guard
    from broker_jobs_worker.executors.server import Environment
    from broker_jobs_worker.runners.environment import Setup

MOST_ENVIRONMENTS: Final = 8
"""Of more environments the one that was used longest ago is given up, if it is idle."""
MOST_IDLE: Final = 600.0
"""Seconds after which an environment that nobody uses is given up."""


class Servers:
    """All forkservers that live, and those of them from which children are made.

    Args:
        loop: on which everything happens
        spool: existing folder for what they print
        on_packet: is called with what a forkserver says
        on_lost: is called when one has ended
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        spool: Path,
        on_packet: Callable[[Server, bytes], None],
        on_lost: Callable[[Server], None],
    ) -> None:
        self._loop = loop
        self._spool = spool
        self._on_packet = on_packet
        self._on_lost = on_lost
        self._current: OrderedDict[Environment, Server] = OrderedDict()
        self._all: dict[int, Server] = {}
        self._made = 0

    def __iter__(self) -> Iterator[Server]:
        """Those that live."""
        return iter(tuple(self._all.values()))

    def __bool__(self) -> bool:
        return bool(self._all)

    def by_key(self, key: int) -> Server | None:
        """The one of this key, if it lives."""
        return self._all.get(key)

    def current(self, environment: Environment) -> Server | None:
        """The one from which children of an environment are made; it is used now."""
        server = self._current.get(environment)
        if server is not None:
            self._current.move_to_end(environment)
            server.used = self._loop.time()
        return server

    def excess(self) -> Server | None:
        """The one that has to make room for another environment."""
        if len(self._current) < MOST_ENVIRONMENTS:
            return None
        return next((server for server in self._current.values() if server.unused), None)

    def start(self, environment: Environment, guard: Guard) -> Server:
        """Start the one of an environment."""
        self._made += 1
        report = self._spool / f"{name_of('forkserver', self._made)}.log"
        handle = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        server = Server(self._made, environment, report, used=self._loop.time())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server.packets = Packets(self._loop, ours, lambda data: self._on_packet(server, data), lambda: self._on_lost(server))
        setup: Setup = {
            "path": None if environment.path is None else list(environment.path),
            "roots": list(roots()),
            "front": list(environment.front),
            "python": sys.executable,
        }
        server.packets.send(json.dumps(setup).encode())
        self._all[server.key] = self._current[environment] = server
        guard.start(server.key, starting(environment), theirs.detach(), handle)
        return server

    def unused(self) -> tuple[Server, ...]:
        """Those that nobody has used for long."""
        since = self._loop.time() - MOST_IDLE
        return tuple(server for server in self._current.values() if server.unused and server.used <= since)

    def retire(self, server: Server) -> None:
        """Make no further children from it."""
        server.dead = True
        server.packets.close()
        if self._current.get(server.environment) is server:
            del self._current[server.environment]

    def forget(self, server: Server) -> None:
        """It is gone, and nothing of it is left."""
        self.retire(server)
        server.report.unlink(missing_ok=True)
        self._all.pop(server.key, None)
