"""The ways from a process to the nodes of a broker, which can be cut, slow and silent: a TCP proxy in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from types import UnionType

_Result = TypeVar("_Result")

_PIECE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Whole:
    """Everything passes."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Connections are reset, and so are new ones."""


@dataclass(frozen=True, slots=True)
class Delayed:
    """What is sent comes so many seconds later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Throttled:
    """So many bytes pass in a second, on each connection in each direction."""

    rate: int


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing passes, not even the end of a connection, and nothing is lost: it comes later."""


@dataclass(frozen=True, slots=True)
class Deaf:
    """What the broker says does not arrive, until later; what it is told does."""


Mode: TypeAlias = Whole | Cut | Delayed | Throttled | Silent | Deaf


class Link:
    """The ways of one process to all nodes; made by `Links`.

    Attributes:
        ports: where they begin, on the loopback interface, in the order of the nodes
    """

    def __init__(self, targets: Sequence[int]) -> None:
        self._targets = targets
        self._mode: Mode = Whole()
        self._changed = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self.ports: list[int] = []

    async def open(self) -> None:
        """Take connections."""
        for target in self._targets:
            server = await asyncio.start_server(lambda reader, writer, target=target: self._serve(reader, writer, target), "127.0.0.1", 0)
            self._servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])

    async def become(self, mode: Mode) -> None:
        """Be like this from now on."""
        self._mode = mode
        self._changed.set()
        self._changed = asyncio.Event()
        if isinstance(mode, Cut):
            await self._reset()

    async def close(self) -> None:
        """End everything."""
        for server in self._servers:
            server.close()
        await self._reset()

    async def _reset(self) -> None:
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            if isinstance(self._mode, Cut):
                return
            far_reader, far = await asyncio.open_connection("127.0.0.1", target)
            directions = [
                asyncio.ensure_future(self._pump(reader, far, Silent)),
                asyncio.ensure_future(self._pump(far_reader, writer, Silent | Deaf)),
            ]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # nothing listens there, or the link is cut: the connection ends here, too
        finally:
            self._connections.discard(task)
            for each in (writer, far):
                if each is not None:
                    each.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, held: type | UnionType) -> None:
        """Forward, but not while the link is in one of these modes."""
        with contextlib.suppress(ConnectionError):
            while True:
                data = await source.read(self._mode.rate // 10 if isinstance(self._mode, Throttled) else _PIECE)
                match self._mode:
                    case Delayed(seconds):
                        await asyncio.sleep(seconds)
                    case Throttled(rate):
                        await asyncio.sleep(len(data) / rate)
                    case Whole() | Cut() | Silent() | Deaf():
                        pass
                while isinstance(self._mode, held):
                    await self._changed.wait()
                if not data:
                    return
                sink.write(data)
                await sink.drain()


class Links:
    """The links of a deployment, and the thread that they live in; all methods are for other threads.

    Args:
        targets: ports of the nodes
    """

    def __init__(self, targets: Sequence[int]) -> None:
        self._targets = tuple(targets)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._links: list[Link] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for link in self._links:
            self._run(link.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def make(self, first: int) -> Link:
        """A link whose first way is that to the node with this number."""
        turn = first % len(self._targets)
        link = Link(self._targets[turn:] + self._targets[:turn])
        self._run(link.open())
        self._links.append(link)
        return link

    def become(self, link: Link, mode: Mode) -> None:
        """Change what a link is like."""
        self._run(link.become(mode))

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)
