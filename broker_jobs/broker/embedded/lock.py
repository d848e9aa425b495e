"""The lock file beside the store: who may write, and who lives."""

from __future__ import annotations

import fcntl
import os
import struct
import time
import weakref
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE: Final = 0.005
"""Seconds for which waiting for a writer may block the loop; a transaction takes a fiftieth of that, if its process is not suspended."""

_PAUSE: Final = 0.00005

_FLOCK: Final = struct.Struct("@hhqqi0q")
"""``struct flock``: type, whence, start, length, pid."""

_all: weakref.WeakSet[LockFile] = weakref.WeakSet()


class LockFile:
    """Two kinds of locks on one file, which the kernel drops when the process ends: one to write, and one for each connection.

    Both belong to the open file description, so that several connections of one process are strangers to each other.

    Raises:
        OSError: the file cannot be opened
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _all.add(self)

    def close(self) -> None:
        """Drop all locks; again does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def identity(self) -> tuple[int, int]:
        """Device and inode of the file."""
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino

    def acquire(self) -> bool:
        """Take the lock for writing; False where another keeps it for longer than a transaction takes."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(_PAUSE)
            else:
                return True

    def release(self) -> None:
        """Let others write."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def live(self, connection: int) -> None:
        """Show that this connection lives, from now on; its number was never used before, so nobody has this lock."""
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, connection, 1, 0))

    def lives(self, connection: int) -> bool:
        """Whether another connection lives."""
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, connection, 1, 0)
        kind: int = _FLOCK.unpack(fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, asked))[0]
        return kind != fcntl.F_UNLCK


def _close_in_child() -> None:
    for lock in list(_all):
        lock.close()


os.register_at_fork(after_in_child=_close_in_child)
