"""How a connection is told to look: a datagram of one byte."""

from __future__ import annotations

import contextlib
import secrets
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Doorbell:
    """A datagram socket with an abstract address, which ends with the process and leaves nothing behind."""

    def __init__(self) -> None:
        self.address = f"broker-jobs/{secrets.token_hex(8)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.bind(f"\0{self.address}")

    def fileno(self) -> int:
        """Descriptor to wait on."""
        return self._socket.fileno()

    def answer(self) -> None:
        """Take all rings that have come."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(1)

    def ring(self, addresses: Iterable[str]) -> None:
        """Tell others to look."""
        for address in addresses:
            # Full: they will look anyway. Gone: their end is noticed elsewhere. Anything else: they look at their next tick.
            with contextlib.suppress(OSError):
                self._socket.sendto(b"!", f"\0{address}")

    def close(self) -> None:
        """Give the address up."""
        self._socket.close()
