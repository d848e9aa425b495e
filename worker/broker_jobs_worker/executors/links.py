"""The parent's ends of the sockets to its processes, on the event loop; nothing here ever blocks."""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Final

from broker_jobs_worker.processes import PACKET
from broker_jobs_worker.runners.protocol import HEADER, LARGEST_ANSWER, framed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

_READ: Final = 256 * 1024


class Stream:
    """The stream to one child.

    Args:
        on_message: is called with the bytes of each message
        on_closed: is called once when the other end closes, or sends what is no message; never after `close`
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, link: socket.socket, on_message: Callable[[bytes], None], on_closed: Callable[[], None]
    ) -> None:
        link.setblocking(False)
        self._loop = loop
        self._link = link
        self._on_message = on_message
        self._on_closed = on_closed
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._open = True
        loop.add_reader(link, self.read)

    def send(self, part: object) -> None:
        """Send a message; to a child that is gone it is lost, and `on_closed` tells."""
        if not self._open:
            return
        data = framed(part)
        if self._outbox:
            self._outbox += data
            return
        sent = self._try(data)
        if sent < len(data):
            self._outbox += memoryview(data)[sent:]
            self._loop.add_writer(self._link, self._write)

    def _try(self, data: bytes | bytearray) -> int:
        try:
            return self._link.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            return len(data)  # nobody will read it; the reader finds out

    def _write(self) -> None:
        del self._outbox[: self._try(self._outbox)]
        if not self._outbox:
            self._loop.remove_writer(self._link)

    def read(self) -> None:
        """Take in what there is now."""
        while self._open:
            try:
                data = self._link.recv(_READ)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self._closed()
                return
            self._inbox += data
            self._take()
            if len(data) < _READ:
                return

    def _take(self) -> None:
        while self._open and len(self._inbox) >= HEADER.size:
            size = HEADER.unpack_from(self._inbox)[0]
            if size > LARGEST_ANSWER:
                self._closed()
                return
            end = HEADER.size + size
            if len(self._inbox) < end:
                return
            message = bytes(memoryview(self._inbox)[HEADER.size : end])
            del self._inbox[:end]
            self._on_message(message)

    def ended(self) -> bool:
        """Whether the other end is closed, which the loop may not have noticed yet."""
        try:
            return not self._link.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True

    def _closed(self) -> None:
        self.close()
        self._on_closed()

    def close(self) -> None:
        """Close this end."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._link)
            self._loop.remove_writer(self._link)
            self._link.close()


class Packets:
    """The packets to and from the guardian or a forkserver.

    Args:
        on_packet: is called with the bytes of each packet
        on_closed: is called once when the other end closes; never after `close`
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, link: socket.socket, on_packet: Callable[[bytes], None], on_closed: Callable[[], None]
    ) -> None:
        link.setblocking(False)
        self._loop = loop
        self._link = link
        self._on_packet = on_packet
        self._on_closed = on_closed
        self._outbox: deque[tuple[bytes, Sequence[int]]] = deque()
        self._open = True
        loop.add_reader(link, self._read)

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send a packet with descriptors, which this closes once they are sent."""
        if not self._open:
            _close(fds)
            return
        self._outbox.append((data, fds))
        if len(self._outbox) == 1:
            self._write()
            if self._outbox:
                self._loop.add_writer(self._link, self._write)

    def _write(self) -> None:
        while self._outbox:
            data, fds = self._outbox[0]
            try:
                socket.send_fds(self._link, [data], list(fds))
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                pass  # nobody will read it; the reader finds out
            self._outbox.popleft()
            _close(fds)
        self._loop.remove_writer(self._link)

    def _read(self) -> None:
        while self._open:
            try:
                data = self._link.recv(PACKET)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                self._on_closed()
                return
            self._on_packet(data)

    def finish(self) -> None:
        """Send nothing any more; the other end sees it, and may still send."""
        if self._open:
            self._link.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close this end."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._link)
            self._loop.remove_writer(self._link)
            self._link.close()
            for _, fds in self._outbox:
                _close(fds)
            self._outbox.clear()


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
