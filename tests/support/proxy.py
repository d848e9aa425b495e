"""A TCP connection to a broker that tests can cut, and one that goes silent."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Forwards to the broker at `target`; connect to `url` instead.

    Attributes:
        url: address of this proxy, once it is entered
        tasks: one for each connection
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._port = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self._answers = asyncio.Event()
        self._answers.set()
        self.url = ""

    async def __aenter__(self) -> Self:
        await self.mend()
        parts = urlsplit(self._target)
        login = parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self._port}"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def cut(self) -> None:
        """Abort all connections and take no new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def mend(self) -> None:
        """Take connections again, and let answers through."""
        self._answers.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def silence(self) -> None:
        """Hold back what the broker says; what it is told still arrives."""
        self._answers.clear()

    def speak(self) -> None:
        """Let through what was held back."""
        self._answers.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            parts = urlsplit(self._target)
            far_reader, far = await asyncio.open_connection(parts.hostname, parts.port)
            directions = [asyncio.ensure_future(self._ask(reader, far)), asyncio.ensure_future(self._answer(far_reader, writer))]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
        except OSError:
            pass  # nothing listens there: the connection to us ends, as it would there
        except asyncio.CancelledError:
            pass  # cut
        finally:
            self.tasks.discard(task)
            for each in (writer, far):
                if each is not None:
                    each.transport.abort()

    async def _ask(self, client: asyncio.StreamReader, broker: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await client.read(65536):
                broker.write(data)
                await broker.drain()

    async def _answer(self, broker: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await broker.read(65536):
                await self._answers.wait()
                client.write(data)
                await client.drain()
