"""The value store: a place that keeps large values under their job and the digest of their bytes.

Whoever writes a value is the process that made it, and whoever reads it checks the digest. Several hosts need a shared folder, or a URL
that fsspec understands; data of users (`files`) lies beside the values.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from broker_jobs.core.value import Encoding, Inline, Pieces, Stored
from broker_jobs.data.digest import digests, fits
from broker_jobs.data.files import Files, is_url
from broker_jobs.errors import ValueStoreError
from broker_jobs.wire.codec import HEAD, is_one_bulk

if TYPE_CHECKING:
    from io import FileIO
    from typing import BinaryIO

_KEY: Final = re.compile(r"[0-9a-f]{32}/[0-9a-f]{64}")
_JOB: Final = re.compile(r"[0-9a-f]{32}")


class ValueStore:
    """Values in a folder, or below a URL.

    Args:
        place: an absolute path, which is made where it is missing, or a URL as fsspec takes it
    """

    def __init__(self, place: str | Path) -> None:
        self.place = str(place)
        self.folder = Path(place)

    def put(self, job: str, encoding: Encoding, *pieces: bytes) -> Stored:
        """Keep a value for a job, given in one piece or several; the same bytes twice are kept once.

        Raises:
            ValueStoreError: the folder cannot be written
        """
        sha256, blake3 = digests(pieces)
        key = f"{job}/{(blake3 or sha256).hex()}"
        stored = Stored(encoding, self.place, key, sha256, sum(map(len, pieces)), blake3)
        if is_url(self.place):
            with Files(self.place).write(key) as file:
                for piece in pieces:
                    file.write(piece)
            return stored
        path = self.folder / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
                try:
                    with os.fdopen(handle, "wb") as file:
                        file.writelines(pieces)
                    # Renamed when complete, so that nobody ever reads half a value.
                    Path(temporary).replace(path)
                except BaseException:
                    Path(temporary).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise ValueStoreError(f"the value store {self.folder} cannot be written: {error.strerror or error}") from error
        return stored

    def adopt(self, job: str, value: Stored) -> Stored:
        """Keep a value of another job for this one too, without another copy; the same value where that cannot be."""
        key = f"{job}/{value.key.rpartition('/')[2]}"
        if not (_KEY.fullmatch(value.key) and _KEY.fullmatch(key)):
            return value
        if is_url(self.place):
            try:
                Files(self.place).copy(value.key, key)
            except ValueStoreError:
                return value
            return replace(value, key=key)
        path = self.folder / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                path.hardlink_to(self.folder / value.key)
        except OSError:
            return value
        return replace(value, key=key)

    def forget(self, job: str) -> None:
        """Drop all values of a job, and what is left of data that it has begun and not made."""
        if not _JOB.fullmatch(job):
            return
        if is_url(self.place):
            with contextlib.suppress(ValueStoreError):
                for key in (job, f"data/jobs/{job}"):
                    Files(self.place).remove(key)
            return
        for path in (self.folder / job, self.folder / "data" / "jobs" / job):
            shutil.rmtree(path, ignore_errors=True)


def fetch(value: Stored) -> Inline | Pieces:
    """The bytes of a stored value; those of one large bytes object are a piece, so that it need not be copied out of them.

    Raises:
        ValueStoreError: the store cannot be reached from here, or has not these bytes
    """
    if not _KEY.fullmatch(value.key):
        raise ValueStoreError(f"{value.key[:100]!r} is not the name of a value")
    try:
        if is_url(value.store):
            with Files(value.store).read(value.key) as file:
                pieces = _read(file, value)
        else:
            with (Path(value.store) / value.key).open("rb", buffering=0) as file:
                pieces = _read(file, value)
    except OSError as error:
        raise ValueStoreError(
            f"the value store {value.store} cannot be read on this host: {error.strerror or error}; "
            "configure a folder that all hosts share, with value_store in broker-jobs.toml or BROKER_JOBS_VALUE_STORE"
        ) from error
    if not fits(pieces, value.sha256, value.blake3):
        raise ValueStoreError(f"the value {value.key} in {value.store} is not what was written there")
    return Inline(value.encoding, *pieces) if len(pieces) == 1 else Pieces(value.encoding, pieces)


def _read(file: BinaryIO | FileIO, value: Stored) -> tuple[bytes, ...]:
    if value.encoding is Encoding.msgpack:
        head = file.read(HEAD) or b""
        if is_one_bulk(head, value.size):
            return head, file.read() or b""
        file.seek(0)
    return (file.read() or b"",)
