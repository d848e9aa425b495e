"""Which plugins are installed: entry points, looked for once in a process, without loading anything of them.

`importlib.metadata` takes some fifty milliseconds to import and to read everything that is installed, and most people have no plugin.
So the lists of entry points are first searched for the name of the group, which takes one or two.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import EntryPoint

CLIENTS: Final = "broker_jobs"
COORDINATORS: Final = "broker_jobs.coordinator"

OFF: Final = "no:"
"""Before the name of an entry point that a client does without."""

_LIST: Final = "entry_points.txt"


@cache
def installed(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, by name."""
    if not _may_be_there(group):
        return ()
    from importlib.metadata import entry_points

    return tuple(sorted(entry_points(group=group), key=lambda entry: entry.name))


def _may_be_there(group: str) -> bool:
    """Whether a list mentions the group, or there are packages in places that only `importlib.metadata` can look into."""
    if any(hasattr(finder, "find_distributions") for finder in sys.meta_path if finder is not PathFinder):
        return True
    section = f"[{group}]".encode()
    return any(section in text for entry in sys.path for text in _lists(entry or ".", section))


def _lists(folder: str, section: bytes) -> Iterator[bytes]:
    """The lists of the packages that are installed in an entry of the import path."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 (one call for folders with a thousand names)
    except NotADirectoryError:
        yield section  # an archive
        return
    except OSError:
        return
    for name in names:
        if name.endswith((".dist-info", ".egg-info")):
            try:
                yield Path(folder, name, _LIST).read_bytes()
            except OSError:
                continue
        elif name.endswith(".egg"):
            yield section
