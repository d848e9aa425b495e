"""Files of a store: in a folder, or wherever fsspec finds a URL. This is the one module that knows fsspec."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from broker_jobs.errors import ValueStoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs.core.data import DataRef

BLOCK: Final = 1024 * 1024


def is_url(place: str) -> bool:
    """Whether a store is no folder of this host."""
    return "://" in place


class Files:
    """The files of a store.

    Args:
        place: an absolute folder, which is made where it is missing, or a URL that fsspec understands, such as ``s3://bucket/folder``

    Raises:
        ValueStoreError: fsspec does not know such URLs, or lacks what it needs for them
    """

    def __init__(self, place: str) -> None:
        import fsspec

        self.place = place
        try:
            self._system, self._root = fsspec.core.url_to_fs(place, **({} if is_url(place) else {"auto_mkdir": True}))
        except (ImportError, ValueError) as error:
            raise ValueStoreError(f"the store {place} cannot be used: {error}") from error

    def read(self, key: str) -> BinaryIO:
        """A file to be read, from its beginning; it can be searched."""
        with self._said("read"):
            return cast("BinaryIO", self._system.open(self._path(key), "rb"))

    def write(self, key: str) -> BinaryIO:
        """A file to be written; in a folder, others can read what was written so far."""
        with self._said("written"):
            self._make_folder(key)
            return cast("BinaryIO", self._system.open(self._path(key), "wb"))

    def local(self, key: str) -> Path | None:
        """Where a file lies on this host; None where the store is no folder."""
        return None if is_url(self.place) else Path(self._path(key))

    def names(self, folder: str) -> list[str]:
        """What there is in a folder, sorted; nothing where it is missing."""
        with self._said("listed"):
            try:
                found = self._system.ls(self._path(folder), detail=False, refresh=True)
            except FileNotFoundError:
                return []
            return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

    def remove(self, key: str) -> None:
        """Remove a file, or a folder with all that is in it; one that is missing is fine."""
        with self._said("removed from"), contextlib.suppress(FileNotFoundError):
            self._system.rm(self._path(key), recursive=True)

    def copy(self, key: str, other: str) -> None:
        """The same bytes under another key too."""
        with self._said("written"):
            self._make_folder(other)
            self._system.cp_file(self._path(key), self._path(other))

    def digest(self, key: str) -> tuple[int, bytes]:
        """Size and SHA-256 of a file."""
        digest, size = hashlib.sha256(), 0
        with self.read(key) as file, self._said("read"):
            while block := file.read(BLOCK):
                digest.update(block)
                size += len(block)
        return size, digest.digest()

    def _make_folder(self, key: str) -> None:
        """The folder of a file; on this host private to its user."""
        folder = self.local(key)
        if folder is None:
            self._system.makedirs(self._path(key).rpartition("/")[0], exist_ok=True)
            return
        missing = [parent for parent in folder.parents if not parent.exists()]
        for parent in reversed(missing):
            parent.mkdir(mode=0o700, exist_ok=True)

    def _path(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{key}"

    @contextlib.contextmanager
    def _said(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ValueStoreError(
                f"the store {self.place} cannot be {what} on this host: {error.strerror or error}; "
                "configure one that all hosts share, with value_store in broker-jobs.toml or BROKER_JOBS_VALUE_STORE"
            ) from error


def checked(data: DataRef) -> BinaryIO:
    """Data to be read, from its beginning, once all of it was found to be what it was.

    Raises:
        ValueStoreError: it cannot be read here, or is not what was written
    """
    files = Files(data.store)
    if files.digest(data.key) != (data.size, data.sha256):
        raise ValueStoreError(f"the data {data.name!r} ({data.id[-8:]}) in {data.store} is not what was written there")
    return files.read(data.key)


def copy_to(data: DataRef, path: Path) -> None:
    """Write data into a file of this host; it is complete, and what it was, or not there."""
    temporary = path.with_name(f".{path.name[:200]}.{data.id[-8:]}")
    try:
        with checked(data) as source, temporary.open("wb") as target:
            shutil.copyfileobj(source, target, BLOCK)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
