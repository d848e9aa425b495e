"""Notes of a child for its parent, which wake nobody: see `protocol`."""

from __future__ import annotations

import os
import select
import time
from typing import TYPE_CHECKING, Final

from broker_jobs.core.value import INLINE_LIMIT, Inline
from broker_jobs_worker.runners.protocol import NO_VALUE, NOTE

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker_jobs.core.value import Value

_UNHEARD: Final = 0.02
"""Seconds after which notes should be read."""


class Notes:
    """The pipe of a child's notes.

    Args:
        pipe: its descriptor, which does not block
        ring: has the parent read them
    """

    def __init__(self, pipe: int, ring: Callable[[], None]) -> None:
        self._pipe = pipe
        self._ring = ring
        self._rung_at = 0.0

    def begin(self) -> None:
        """A line begins: its parent has just been heard."""
        self._rung_at = time.monotonic()

    def write(self, place: int, value: Value | None) -> bool:
        """Note a success; False where it has to be told by the stream, since its value is too large or elsewhere."""
        if value is None:
            data = NOTE.pack(0, place, time.time_ns() // 1_000_000, NO_VALUE)
        elif isinstance(value, Inline) and len(value.data) <= INLINE_LIMIT:
            data = NOTE.pack(len(value.data), place, time.time_ns() // 1_000_000, value.encoding.value.encode()) + value.data
        else:
            return False
        self._put(data)
        now = time.monotonic()
        if now - self._rung_at > _UNHEARD:
            self._rung_at = now
            self._ring()
        return True

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._pipe, view) :]
            except BlockingIOError:
                self._ring()
                # Not `select`, whose descriptors end at 1,024: a function may have as many open.
                poll = select.poll()
                poll.register(self._pipe, select.POLLOUT)
                poll.poll()
