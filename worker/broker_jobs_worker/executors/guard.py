"""The parent's side of the guardian: it starts it, talks to it, and notices its death."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker_jobs import errors
from broker_jobs.wire.codec import encode_part
from broker_jobs_worker.executors.links import Packets
from broker_jobs_worker.guarding import StartServer, ToGuardian
from broker_jobs_worker.processes import send, start_server
from broker_jobs_worker.runners import launch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from broker_jobs_worker.guarding import Kill, Register, Signal, Sweep, Unwatch, Watch

SECRETS: Final = ("BROKER_JOBS_URL", "BROKER_JOBS_SIGNING_KEY")
"""Variables of the worker that no task gets."""
CLOSING_PATIENCE: Final = 20.0
"""Seconds in which the guardian ends everything when it is told to."""

_PACKAGES: Final = ("msgpack", "cloudpickle")


def roots() -> tuple[str, ...]:
    """The folders that hold what our processes import besides our own packages."""
    origins = (importlib.util.find_spec(name) for name in _PACKAGES)
    return tuple(dict.fromkeys(str(Path(spec.origin).parents[1]) for spec in origins if spec is not None and spec.origin is not None))


def command(python: str, module: str) -> tuple[str, ...]:
    """The command that runs a module of ours under an interpreter."""
    library = Path(errors.__file__).resolve().parent
    # Older ones than ours do not know -P, and would not come to say that they are too old.
    safely = ("-P",) if python == sys.executable else ()
    return (python, *safely, str(Path(launch.__file__).resolve()), module, str(library), *roots())


class Guard:
    """A guardian.

    Args:
        on_report: is called with the bytes of each of its packets
        on_lost: is called once if it dies without having been closed
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_report: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        env = {name: value for name, value in os.environb.items() if os.fsdecode(name) not in SECRETS}
        with theirs:
            self.pid = start_server(command(sys.executable, "broker_jobs_worker.guardian"), env, theirs.fileno(), 2)
        self.lost = False
        self._on_lost = on_lost
        self._ended: asyncio.Future[None] = loop.create_future()
        self._packets = Packets(loop, ours, on_report, self._on_closed)
        self._closing = False

    def send(self, request: Register | Signal | Kill | Sweep | Watch | Unwatch) -> None:
        """Send a request."""
        self._packets.send(encode_part(ToGuardian(request)))

    def start(self, key: int, argv: Sequence[str], control: int, errors: int) -> None:
        """Have a server started; takes over the two descriptors."""
        self._packets.send(encode_part(ToGuardian(StartServer(key, tuple(argv)))), (control, errors))

    async def close(self) -> None:
        """Have everything ended, and wait for it."""
        self._closing = True
        self._packets.finish()
        try:
            await asyncio.wait_for(asyncio.shield(self._ended), CLOSING_PATIENCE)
        except TimeoutError:
            send(self.pid, signal.SIGKILL)
            await self._ended

    def _on_closed(self) -> None:
        # Its socket closes when it ends, so this waits for no more than the rest of that.
        os.waitpid(self.pid, 0)
        self._ended.set_result(None)
        if not self._closing:
            self.lost = True
            self._on_lost()
