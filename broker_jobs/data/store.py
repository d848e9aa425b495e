"""The value store: a folder that keeps large values under their job and the digest of their bytes.

Whoever writes a value is the process that made it, and whoever reads it checks the digest. Several hosts need a shared folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker_jobs.core.value import Stored
from broker_jobs.errors import ValueStoreError

if TYPE_CHECKING:
    from broker_jobs.core.value import Encoding

_KEY: Final = re.compile(r"[0-9a-f]{32}/[0-9a-f]{64}")
_JOB: Final = re.compile(r"[0-9a-f]{32}")


class ValueStore:
    """Values in a folder.

    Args:
        folder: absolute path; it is made where it is missing
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def put(self, job: str, encoding: Encoding, data: bytes) -> Stored:
        """Keep a value for a job; the same bytes twice are kept once.

        Raises:
            ValueStoreError: the folder cannot be written
        """
        digest = hashlib.sha256(data)
        key = f"{job}/{digest.hexdigest()}"
        path = self.folder / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                # Renamed when complete, so that nobody ever reads half a value.
                Path(temporary).replace(path)
        except OSError as error:
            raise ValueStoreError(f"the value store {self.folder} cannot be written: {error.strerror or error}") from error
        return Stored(encoding, str(self.folder), key, digest.digest(), len(data))

    def adopt(self, job: str, value: Stored) -> Stored:
        """Keep a value of another job for this one too, without another copy; the same value where that cannot be."""
        key = f"{job}/{value.key.rpartition('/')[2]}"
        if not (_KEY.fullmatch(value.key) and _KEY.fullmatch(key)):
            return value
        path = self.folder / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                path.hardlink_to(self.folder / value.key)
        except OSError:
            return value
        return replace(value, key=key)

    def forget(self, job: str) -> None:
        """Drop all values of a job."""
        if _JOB.fullmatch(job):
            shutil.rmtree(self.folder / job, ignore_errors=True)


def fetch(value: Stored) -> bytes:
    """The bytes of a stored value.

    Raises:
        ValueStoreError: the store cannot be reached from here, or has not these bytes
    """
    if not _KEY.fullmatch(value.key):
        raise ValueStoreError(f"{value.key[:100]!r} is not the name of a value")
    try:
        data = (Path(value.store) / value.key).read_bytes()
    except OSError as error:
        raise ValueStoreError(
            f"the value store {value.store} cannot be read on this host: {error.strerror or error}; "
            "configure a folder that all hosts share, with value_store in broker-jobs.toml or BROKER_JOBS_VALUE_STORE"
        ) from error
    if hashlib.sha256(data).digest() != value.sha256:
        raise ValueStoreError(f"the value {value.key} in {value.store} is not what was written there")
    return data
