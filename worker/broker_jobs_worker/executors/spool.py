"""The spool: what tasks print, in files that a child uses again and again, so that a tiny task makes no file."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import shutil
from typing import TYPE_CHECKING, Final

from broker_jobs.data.excerpt import excerpt
from broker_jobs.wire.messages import Output
from broker_jobs_worker.runners.surroundings import TAIL_LIMIT

if TYPE_CHECKING:
    from pathlib import Path

    from broker_jobs.data.excerpt import Excerpt
    from broker_jobs_worker.executors.archive import Archive

SPOOL_CAP: Final = 64 * 1024 * 1024
"""Bytes that one stream of a task may occupy in the spool; of more, the end is kept."""

_BLOCK: Final = 512
_PUNCH_HOLE: Final = 0x01 | 0x02
"""FALLOC_FL_KEEP_SIZE and FALLOC_FL_PUNCH_HOLE."""
_fallocate: Final = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_LEFTOVER: Final = re.compile(r"(?:child|forkserver)-\d+-\d+\.(?:out|err|log)")
_SUFFIXES: Final = (".out", ".err")


class Capture:
    """The two files of one child.

    Args:
        folder: the spool
        name: of the child
        archive: takes what is too long for a reply
    """

    def __init__(self, folder: Path, name: str, archive: Archive) -> None:
        self._archive = archive
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

    def end(self, job: str, execution: str) -> tuple[Output, Output]:
        """What the task has written. A file that is longer than its tail goes to the archive."""
        return self._end(0, job, execution), self._end(1, job, execution)

    def _end(self, index: int, job: str, execution: str) -> Output:
        fd = self._fds[index]
        size = os.fstat(fd).st_size
        if size == 0:
            return Output()
        tail = os.pread(fd, TAIL_LIMIT, max(0, size - TAIL_LIMIT))
        if size <= TAIL_LIMIT:
            self._written.append(fd)
            return Output(tail, size)
        self._trim(fd)
        try:
            kept = self._archive.keep(self._paths[index], job, f"{file_name(execution)}{_SUFFIXES[index]}")
        except OSError:
            self._written.append(fd)  # there is no room for it: the tail has to do
            return Output(tail, size)
        os.close(fd)
        self._fds[index] = _opened(self._paths[index])
        self._fresh = True
        return Output(tail, size, kept)

    def read(self, *, stderr: bool, start: int, most: int) -> Excerpt:
        """What the task has written so far, from an offset on."""
        return excerpt(self._fds[stderr], start, most)

    def sizes(self) -> tuple[int, int]:
        """Bytes that the task has written so far to each stream."""
        return os.fstat(self._fds[0]).st_size, os.fstat(self._fds[1]).st_size

    def trim(self) -> None:
        """Give back the room of all but the end of a file that has become too large; it keeps its length."""
        for fd in self._fds:
            self._trim(fd)

    @staticmethod
    def _trim(fd: int) -> None:
        status = os.fstat(fd)
        if status.st_blocks * _BLOCK > SPOOL_CAP:
            _punch(fd, status.st_size - SPOOL_CAP // 2)

    def close(self) -> None:
        """Remove the files."""
        for fd, path in zip(self._fds, self._paths, strict=True):
            os.close(fd)
            path.unlink(missing_ok=True)


def file_name(execution: str) -> str:
    """The name of an execution as a part of a path."""
    return execution.replace("/", "-")


def name_of(kind: str, number: int) -> str:
    """A name in the spool that no other process uses at the same time."""
    return f"{kind}-{os.getpid()}-{number}"


def claim(folder: Path) -> int | None:
    """Mark a worker's folder as in use for as long as the descriptor is open; None where somebody uses it, or that cannot be known."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def clear_leftovers(spool: Path) -> None:
    """Remove what workers that were killed have left in their folders of a spool, folders of tasks as well."""
    for folder in spool.iterdir():
        fd = None if folder.name.startswith(".") else claim(folder)
        if fd is None:
            continue
        with contextlib.suppress(OSError):
            for path in folder.iterdir():
                if _LEFTOVER.fullmatch(path.name):
                    path.unlink()
            shutil.rmtree(folder / "tasks", ignore_errors=True)
            folder.rmdir()
        os.close(fd)


def _punch(fd: int, size: int) -> None:
    """Free the first `size` bytes of a file, as whole pages; where the file system cannot do that, nothing happens."""
    _fallocate(fd, _PUNCH_HOLE, 0, size)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
