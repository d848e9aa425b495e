"""The disk of a ledger, small enough to be filled: a file system in memory, where this process may mount one."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from pathlib import Path

SIZE: Final = 192 * 1024 * 1024
_PIECE: Final = 1024 * 1024


class Disk:
    """A folder, as long as it is entered.

    Attributes:
        limited: whether it has an end that is not everybody's
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._balloon = folder / "balloon"
        self.limited = False

    def __enter__(self) -> Self:
        self._folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "broker-jobs-chaos", str(self._folder)]
        self.limited = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
        return self

    def __exit__(self, *_: object) -> None:
        if self.limited:
            subprocess.run(["umount", "--lazy", str(self._folder)], check=True)
            self.limited = False

    def fill(self) -> None:
        """Leave no room."""
        assert self.limited
        piece = bytes(_PIECE)
        with self._balloon.open("ab", buffering=0) as file:
            try:
                while file.write(piece):
                    pass
            except OSError:
                pass  # it is full

    def empty(self) -> None:
        """Give the room back."""
        self._balloon.unlink(missing_ok=True)
