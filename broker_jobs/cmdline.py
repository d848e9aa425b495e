"""Command lines: of processes of ours that are started, and of this one, as other users of the host see it in ``ps``."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import site
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PASSWORD: Final = re.compile(rb"://[^:/@\0]*:([^\0]*)@")
_START, _END = 45, 46
"""Fields of /proc/self/stat behind the name: where the arguments lie in memory."""


def command(*arguments: str) -> list[str]:
    """The command line of a program of ours, without the current folder on its import path."""
    return [sys.executable, "-P", "-m", *arguments]


def python_environment() -> dict[str, str]:
    """The environment for a process of ours: it finds the packages where this one has found them."""
    environ = dict(os.environ)
    installed = [Path(folder).resolve() for folder in (*site.getsitepackages(), site.getusersitepackages())]
    extra = [folder for folder in _package_folders() if Path(folder).resolve() not in installed]
    given = environ.get("PYTHONPATH", "")
    missing = [folder for folder in extra if folder not in given.split(os.pathsep)]
    if missing:
        environ["PYTHONPATH"] = os.pathsep.join([*missing, *([given] if given else [])])
    return environ


def _package_folders() -> Iterator[str]:
    """The folders that hold our packages; the worker's lies beside this one in a checkout."""
    here = Path(__file__).resolve().parents[1]
    yield str(here)
    found = importlib.util.find_spec("broker_jobs_worker")
    if found and found.origin:
        yield str(Path(found.origin).parents[1])
    elif (here / "worker" / "broker_jobs_worker").is_dir():
        yield str(here / "worker")


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
