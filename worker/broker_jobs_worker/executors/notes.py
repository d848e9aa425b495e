"""What a child notes of the tasks of a line that have only succeeded: read when there is a reason to, without being woken for each."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections import deque
from typing import Final

from broker_jobs.core.value import INLINE_LIMIT
from broker_jobs_worker.runners.protocol import NOTE, Note, note_of

ROOM: Final = 1024 * 1024
"""Bytes that a child may write before it has to be heard; where the system grants less, it waits more often."""
_READ: Final = 256 * 1024


class Notes:
    """The notes of one child.

    Attributes:
        unheeded: have been read, and nothing has been done about them
        broken: somebody else has written here, so what follows is not believed
    """

    def __init__(self) -> None:
        self.unheeded: deque[Note] = deque()
        self.broken = False
        self._reading = -1
        self._inbox = bytearray()

    def lend(self) -> int:
        """Open the pipe: the descriptor to which the child writes; it is closed here when it is sent."""
        self._reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, ROOM)
        return writing

    def read(self) -> None:
        """Add what has been written since the last time.

        Raises:
            DecodeError: that is no note
        """
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._reading, _READ):
                self._inbox += data
        place, data = 0, bytes(self._inbox)
        while len(data) - place >= NOTE.size:
            note, end = note_of(data, place, INLINE_LIMIT)
            if end > len(data):
                break
            self.unheeded.append(note)
            place = end
        del self._inbox[:place]

    def close(self) -> None:
        """Give the pipe up."""
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1
