"""The standard streams of a child, as Python sees them: the same objects for all tasks, so that what holds on to one goes on working.

A thread that a function leaves behind goes on running, and its ``print`` would come out in the middle of a later task's output.
So the streams take nothing from such threads. That costs a look at each write, and is only done once there are some.
"""

from __future__ import annotations

import _thread
import sys
import threading
from typing import TYPE_CHECKING, Final, TextIO
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable

_MAIN: Final = threading.main_thread()


class StandardStreams:
    """``sys.stdin``, ``sys.stdout`` and ``sys.stderr`` of this process."""

    def __init__(self) -> None:
        self._stdin = _reader()
        self._stdout = _writer(1, "strict")
        self._stderr = _writer(2, "backslashreplace")
        self._left: WeakSet[threading.Thread] = WeakSet()
        self._own: WeakSet[threading.Thread] = WeakSet()
        self._hushing = False
        self.put()

    def put(self) -> None:
        """Make them the standard streams; one that was closed is made anew."""
        if self._stdin.closed:
            self._stdin = _reader()
        if self._stdout.closed:
            self._stdout = self._replaced(1, "strict")
        if self._stderr.closed:
            self._stderr = self._replaced(2, "backslashreplace")
        sys.stdin, sys.stdout, sys.stderr = self._stdin, self._stdout, self._stderr

    def adopt_threads(self) -> None:
        """The threads of this moment belong to all tasks to come."""
        self._own.update(threading.enumerate())

    def hush_threads(self) -> None:
        """Take nothing any more from the threads that a task leaves behind."""
        if not _thread._count():  # noqa: SLF001 (asked for after each task; `threading` takes a lock for it)
            return
        self._left.update(thread for thread in threading.enumerate() if thread is not _MAIN and thread not in self._own)
        if self._left and not self._hushing:
            self._hushing = True
            for stream in (self._stdout, self._stderr):
                self._hush(stream)

    def _replaced(self, fd: int, errors: str) -> TextIO:
        stream = _writer(fd, errors)
        if self._hushing:
            self._hush(stream)
        return stream

    def _hush(self, stream: TextIO) -> None:
        stream.write = _unless_left(stream.write, self._left)  # type: ignore[method-assign]  # `print` asks the object, not its class


def _unless_left(write: Callable[[str], int], left: WeakSet[threading.Thread]) -> Callable[[str], int]:
    def guarded(text: str, /) -> int:
        return len(text) if threading.current_thread() in left else write(text)

    return guarded


def _reader() -> TextIO:
    return open(0, encoding="utf-8", closefd=False)  # (it stays open as long as the process)


def _writer(fd: int, errors: str) -> TextIO:
    # Written line by line: what a task printed before it was killed is what its user wants to see.
    return open(fd, "w", buffering=1, encoding="utf-8", errors=errors, closefd=False)
