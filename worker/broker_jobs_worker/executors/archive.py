"""The archive: output that is longer than its tail, kept in files until nobody can ask for it any more, or the room is needed.

All workers of a host that serve one cluster share it, so that what a worker has printed can be read when it has ended and another one
has come. One folder a job, so that a job is forgotten at once; and a bound for the whole, so that it never fills the disk.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SHARE: Final = 10
"""The room of an archive, unless said otherwise: this part of its file system, and `MOST_ROOM` at most."""
MOST_ROOM: Final = 16 * 2**30
MOST_JOBS: Final = 1000
"""Jobs that a worker names to the ledger, to hear which were forgotten."""

_BLOCK: Final = 512
_LOOKS: Final = 16
"""A sweep looks again when so small a part of the room was added."""
_JOB: Final = re.compile(r"[0-9a-f]{32}")


class Kept(NamedTuple):
    """A file of the archive: when it was written last, how much room it takes, and where it is."""

    at_ns: int
    room: int
    path: str


def surplus(files: Iterable[Kept], room: int) -> list[Kept]:
    """The oldest of these files, as many as have to go so that the others fit."""
    youngest_first = sorted(files, reverse=True)
    used = 0
    for index, file in enumerate(youngest_first):
        used += file.room
        if used > room:
            return youngest_first[index:]
    return []


class Archive:
    """Files of one cluster, on this host.

    Args:
        folder: made when it is needed
        room: bytes that all of it may take
    """

    def __init__(self, folder: Path, room: int) -> None:
        self._folder = folder
        self._room = room
        self._added = room  # the first file is followed by a look at what earlier workers have left

    def keep(self, file: Path, job: str, name: str) -> str:
        """Take in a file; where it is now."""
        folder = self._folder / job
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = folder / name
        self._added += file.stat().st_blocks * _BLOCK
        file.rename(kept)
        return str(kept)

    def crowded(self) -> bool:
        """Whether so much has come that a sweep is due; said once."""
        due = self._added * _LOOKS >= self._room
        if due:
            self._added = 0
        return due

    def sweep(self) -> None:
        """Remove the oldest files where all together take too much room."""
        for file in surplus(self._files(), self._room):
            with contextlib.suppress(OSError):
                os.unlink(file.path)  # noqa: PTH108 (a text)
                os.rmdir(os.path.dirname(file.path))  # noqa: PTH106, PTH120 (only where it is empty now)

    def jobs(self) -> tuple[str, ...]:
        """The jobs of which something is kept, the latest ones."""
        try:
            found = sorted((name for name in os.listdir(self._folder) if _JOB.fullmatch(name)), reverse=True)  # noqa: PTH208
        except OSError:
            return ()
        return tuple(found[:MOST_JOBS])

    def forget(self, jobs: Iterable[str]) -> None:
        """Remove what is kept of these jobs."""
        for job in jobs:
            if _JOB.fullmatch(job):
                shutil.rmtree(self._folder / job, ignore_errors=True)

    def _files(self) -> Iterator[Kept]:
        for folder, _, names in os.walk(self._folder):
            for name in names:
                path = os.path.join(folder, name)  # noqa: PTH118
                with contextlib.suppress(OSError):
                    status = os.stat(path)  # noqa: PTH116
                    yield Kept(status.st_mtime_ns, status.st_blocks * _BLOCK, path)


def usual_room(folder: Path) -> int:
    """What an archive may take where nothing else is said."""
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    return max(1, min(MOST_ROOM, status.f_blocks * status.f_frsize // SHARE))
