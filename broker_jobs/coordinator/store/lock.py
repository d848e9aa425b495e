"""One coordinator for one SQLite ledger: a lock on a file beside it, which ends with the process that holds it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
from typing import TYPE_CHECKING, Self

from broker_jobs.errors import LedgerRefused

if TYPE_CHECKING:
    from pathlib import Path


class LedgerLock:
    """The lock of a ledger file, held until `close`.

    Raises:
        LedgerRefused: another coordinator holds it; the text names its process and host
    """

    def __init__(self, ledger: Path) -> None:
        path = ledger.with_name(ledger.name + ".lock")
        # Not inherited by children (PEP 446), else the lock would outlive this process.
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _holder(self._handle)
            os.close(self._handle)
            raise LedgerRefused(f"the ledger {ledger} is in use by another coordinator: {holder}") from None
        note = json.dumps({"pid": os.getpid(), "host": platform.node()}).encode()
        with contextlib.suppress(OSError):  # the disk is full: it is held, and does not say by whom
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, note, 0)

    def close(self) -> None:
        """Let the next one in."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _holder(handle: int) -> str:
    """Who wrote its name into the lock file."""
    try:
        note = json.loads(os.pread(handle, 4096, 0))
        return f"process {int(note['pid'])} on {str(note['host'])[:200]}"
    except (ValueError, KeyError, TypeError):
        return "it has not said which"
