"""The socket of a connection by asyncio's own transports, in place of pika's.

Pika waits until a socket is writable before it sends, sends each frame of a message alone, and reads 4 KiB at a time. Asyncio sends at once
what the socket takes, so a publish costs one system call instead of six, and one turn of the event loop less.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from pika.adapters.asyncio_connection import AsyncioConnection, _AsyncioIOServicesAdapter

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Sequence
    from typing import Self

_READ_BYTES: Final = 64 * 1024
_JOINED_BYTES: Final = 64 * 1024


class Connection(AsyncioConnection):  # type: ignore[misc] # pika has no types
    """Pika's connection on such a transport."""

    @classmethod
    def create_connection(cls, connection_configs: Sequence[Any], on_done: Callable[[Self | Exception], None]) -> Any:
        """Connect; what pika's own does, but for the transport."""
        services = _Services()
        return cls._start_connection_workflow(
            connection_configs,
            connection_factory=lambda parameters: cls(parameters, custom_ioloop=services, internal_connection_workflow=False),
            nbio=services,
            workflow=None,
            on_done=on_done,
        )

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        """Frames of one message go out together, where that copies little."""
        joined = len(marshaled_frames) > 1 and sum(map(len, marshaled_frames)) <= _JOINED_BYTES
        super()._output_marshaled_frames([b"".join(marshaled_frames)] if joined else marshaled_frames)


class _Services(_AsyncioIOServicesAdapter):  # type: ignore[misc] # as above
    """What pika needs of an event loop."""

    def create_streaming_connection(
        self,
        protocol_factory: Callable[[], Any],
        sock: socket.socket,
        on_done: Callable[[tuple[asyncio.Transport, Any] | BaseException], None],
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> Any:
        """Begin to speak over a socket, which is ours from now on."""

        async def link() -> None:
            try:
                await self._loop.create_connection(
                    lambda: _Stream(protocol_factory(), on_done), sock=sock, ssl=ssl_context, server_hostname=server_hostname
                )
            except Exception as error:  # noqa: BLE001 (whatever it is, whoever connects is told)
                on_done(error)

        return self._schedule_and_wrap_in_io_ref(link(), lambda _: None)


class _Stream(asyncio.BufferedProtocol):
    """Hands on to a protocol of pika's what comes of a socket.

    Args:
        protocol: pika's
        on_linked: is told once that the two are linked
    """

    def __init__(self, protocol: Any, on_linked: Callable[[tuple[asyncio.Transport, Any]], None]) -> None:
        self._protocol = protocol
        self._on_linked = on_linked
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # It has all methods that pika asks of one.
        self._transport = cast("asyncio.Transport", transport)
        self._protocol.connection_made(transport)
        # At once: before anything is read, and before the connection can be lost.
        self._on_linked((self._transport, self._protocol))

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (of the interface)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._protocol.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> None:
        self._protocol.eof_received()
        # Asyncio would wait until the peer has taken what is unsent, which it may never do.
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
