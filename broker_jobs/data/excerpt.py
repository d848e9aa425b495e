"""Parts of files whose front may have been given back to the file system, as that of very long output is."""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple


class Excerpt(NamedTuple):
    """Bytes of a file, where they begin, and how long the file is; what lies between where they should begin and do is lost."""

    start: int
    data: bytes
    size: int


def excerpt(fd: int, start: int, most: int) -> Excerpt:
    """At most `most` bytes of an open file, from an offset on, or from where there are some again."""
    size = os.fstat(fd).st_size
    if start >= size:
        return Excerpt(size, b"", size)
    try:
        start = os.lseek(fd, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # there is none behind it, or the file was emptied meanwhile
            return Excerpt(size, b"", size)
    return Excerpt(start, os.pread(fd, min(most, size - start), start), size)


def excerpt_of(path: str, start: int, most: int) -> Excerpt | None:
    """The same of the file at a path; None where there is no ordinary file that may be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return excerpt(fd, start, most) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    except OSError:
        return None
    finally:
        os.close(fd)
