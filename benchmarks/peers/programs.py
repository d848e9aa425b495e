"""Daemons of peers, ended with the side that started them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent
PATIENCE = 10.0


@contextlib.contextmanager
def running(name: str, *arguments: str) -> Iterator[None]:
    """A program of this environment, as long as it is needed; what it says goes to standard error."""
    process = subprocess.Popen([BIN / name, *arguments], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()  # its own children are in the group of this side, which is ended as a whole
            process.wait()
