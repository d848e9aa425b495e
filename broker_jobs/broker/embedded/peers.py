"""The processes of other connections, and word of their end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping


class Peers:
    """Watches processes through pidfds, and calls `ended` when one ends.

    A hint only: a process id may be reused, or belong to another namespace. Without pidfds the ticks remain.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ended: Callable[[], None]) -> None:
        self._loop = loop
        self._ended = ended
        self._watched: dict[int, int | None] = {}

    def watch(self, processes: Mapping[int, int]) -> None:
        """Watch the processes of these connections, and no others."""
        if processes.keys() == self._watched.keys():
            return
        for connection in self._watched.keys() - processes.keys():
            self._forget(connection)
            del self._watched[connection]
        for connection in processes.keys() - self._watched.keys():
            self._watched[connection] = self._open(connection, processes[connection])

    def close(self) -> None:
        """Watch nobody."""
        self.watch({})

    def _open(self, connection: int, process: int) -> int | None:
        if process == os.getpid():
            return None
        try:
            fd = os.pidfd_open(process)
        except ProcessLookupError:
            self._loop.call_soon(self._ended)
            return None
        except OSError:
            return None
        self._loop.add_reader(fd, self._end, connection)
        return fd

    def _end(self, connection: int) -> None:
        self._forget(connection)
        self._ended()

    def _forget(self, connection: int) -> None:
        fd, self._watched[connection] = self._watched[connection], None
        if fd is not None:
            self._loop.remove_reader(fd)
            os.close(fd)
