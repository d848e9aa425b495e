"""The command line of this process, as other users of the host see it in ``ps``."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Final

_PASSWORD: Final = re.compile(rb"://[^:/@\0]*:([^\0]*)@")
_START, _END = 45, 46
"""Fields of /proc/self/stat behind the name: where the arguments lie in memory."""


def conceal(url: str | None) -> str | None:
    """Overwrite passwords of addresses in the command line of this process (on Linux); returns `url`, as Typer's callbacks do."""
    if url and "@" in url:
        with contextlib.suppress(OSError):
            fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            _overwrite(int(fields[_START]), int(fields[_END]))
    return url


def _overwrite(start: int, end: int) -> None:
    import ctypes

    for found in _PASSWORD.finditer(ctypes.string_at(start, end - start)):
        ctypes.memset(start + found.start(1), ord("*"), found.end(1) - found.start(1))
