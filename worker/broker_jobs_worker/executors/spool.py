"""The spool: what tasks print, in files that a child uses again and again, so that a tiny task makes no file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from broker_jobs.wire.messages import Output
from broker_jobs_worker.runners.surroundings import TAIL_LIMIT

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIXES: Final = (".out", ".err")


class Capture:
    """The two files of one child.

    Args:
        folder: the spool
        name: of the child
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._paths = [folder / f"{name}{suffix}" for suffix in _SUFFIXES]
        self._fds = [_opened(path) for path in self._paths]
        self._written: list[int] = []
        self._fresh = True

    def begin(self) -> tuple[str, str] | None:
        """Empty the files for a task; their paths if the child has to open them."""
        for fd in self._written:
            os.ftruncate(fd, 0)
        self._written.clear()
        if not self._fresh:
            return None
        self._fresh = False
        return str(self._paths[0]), str(self._paths[1])

    def end(self, execution: str) -> tuple[Output, Output]:
        """What the task has written. A file that is longer than its tail stays in the spool under the name of the execution."""
        return self._end(0, execution), self._end(1, execution)

    def _end(self, index: int, execution: str) -> Output:
        fd = self._fds[index]
        size = os.fstat(fd).st_size
        if size == 0:
            return Output()
        tail = os.pread(fd, TAIL_LIMIT, max(0, size - TAIL_LIMIT))
        if size <= TAIL_LIMIT:
            self._written.append(fd)
            return Output(tail, size)
        kept = self._folder / f"{file_name(execution)}{_SUFFIXES[index]}"
        self._paths[index].rename(kept)
        os.close(fd)
        self._fds[index] = _opened(self._paths[index])
        self._fresh = True
        return Output(tail, size, str(kept))

    def close(self) -> None:
        """Remove the files."""
        for fd, path in zip(self._fds, self._paths, strict=True):
            os.close(fd)
            path.unlink(missing_ok=True)


def file_name(execution: str) -> str:
    """The name of an execution as a part of a path."""
    return execution.replace("/", "-")


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
