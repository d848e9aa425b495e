"""Notes of a child for its parent, which wake nobody: see `protocol`."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING

from broker_jobs.core.value import INLINE_LIMIT, Inline
from broker_jobs_worker.runners.protocol import NO_VALUE, NOTE

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker_jobs.core.value import Value


class Notes:
    """The pipe of a child's notes.

    Args:
        pipe: its descriptor, which does not block
        ring: has the parent read them
    """

    def __init__(self, pipe: int, ring: Callable[[], None]) -> None:
        self._pipe = pipe
        self._ring = ring

    def write(self, place: int, value: Value | None) -> bool:
        """Note a success; False where it has to be told by the stream, since its value is too large or elsewhere."""
        if value is None:
            data = NOTE.pack(0, place, time.time_ns() // 1_000_000, NO_VALUE)
        elif isinstance(value, Inline) and len(value.data) <= INLINE_LIMIT:
            data = NOTE.pack(len(value.data), place, time.time_ns() // 1_000_000, value.encoding.encode()) + value.data
        else:
            return False
        self._put(data)
        return True

    def _put(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._pipe, data) :]
            except BlockingIOError:
                self._ring()
                # Not `select`, whose descriptors end at 1,024: a function may have as many open.
                poll = select.poll()
                poll.register(self._pipe, select.POLLOUT)
                poll.poll()
