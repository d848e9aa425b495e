"""Values and data in a folder, and below a URL that fsspec understands; the same promises for both."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from broker_jobs.core.data import DataRef
from broker_jobs.core.value import Encoding, Inline, Pieces, Stored
from broker_jobs.data.files import Files, checked, copy_to
from broker_jobs.data.store import ValueStore, fetch
from broker_jobs.errors import ValueStoreError
from broker_jobs.wire import payload

if TYPE_CHECKING:
    from pathlib import Path

JOB = "0198" + "0" * 28
OTHER = "0199" + "0" * 28


@pytest.fixture(params=["folder", "url"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    folder = tmp_path / "store"
    return str(folder) if request.param == "folder" else f"file://{folder}"


def test_values_are_kept_adopted_checked_and_dropped(place: str, tmp_path: Path) -> None:
    store = ValueStore(place)
    value = store.put(JOB, Encoding.pickle, b"large")
    digest = blake3(b"large")
    assert value == Stored(Encoding.pickle, place, f"{JOB}/{digest.hexdigest()}", b"", 5, digest.digest())
    assert value.digest == digest.digest()
    assert store.put(JOB, Encoding.pickle, b"large") == value
    assert fetch(value).joined().data == b"large"
    other = store.adopt(OTHER, value)
    store.forget(JOB)
    assert fetch(other).joined().data == b"large"
    with pytest.raises(ValueStoreError, match="cannot be read on this host"):
        fetch(value)
    (tmp_path / "store" / other.key).write_bytes(b"wrong")
    with pytest.raises(ValueStoreError, match="is not what was written there"):
        fetch(other)
    store.forget(JOB)  # again does nothing


def test_values_of_0_1_0_are_read_and_checked(place: str) -> None:
    digest = hashlib.sha256(b"large")
    value = Stored(Encoding.pickle, place, f"{JOB}/{digest.hexdigest()}", digest.digest(), 5)
    with Files(place).write(value.key) as file:
        file.write(b"large")
    assert fetch(value).joined().data == b"large"
    assert value.digest == digest.digest()
    assert fetch(ValueStore(place).adopt(OTHER, value)).joined().data == b"large"
    with Files(place).write(value.key) as file:
        file.write(b"wrong")
    with pytest.raises(ValueStoreError, match="is not what was written there"):
        fetch(value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"blake3": b"", "sha256": b""},
        {"blake3": hashlib.sha256(b"large").digest(), "sha256": hashlib.sha256(b"large").digest()},
        {"blake3": blake3(b"large").digest()[:31]},
        {"blake3": b"", "sha256": blake3(b"large").digest()},
    ],
)
def test_without_the_right_digest_nothing_is_handed_out(tmp_path: Path, wrong: dict[str, bytes]) -> None:
    value = replace(ValueStore(tmp_path).put(JOB, Encoding.pickle, b"large"), **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueStoreError, match="is not what was written there"):
        fetch(value)


def test_a_value_in_pieces_is_that_in_one(place: str) -> None:
    store = ValueStore(place)
    value = store.put(JOB, Encoding.pickle, b"", b"la", bytes(100_000), b"rge")
    assert fetch(value).joined().data == b"la" + bytes(100_000) + b"rge"
    assert value == store.put(JOB, Encoding.pickle, *fetch(value).pieces)


def test_one_large_bytes_object_is_not_copied_out_of_its_file(place: str) -> None:
    store, large = ValueStore(place), bytes(100_000)
    one, two = (fetch(store.put(JOB, Encoding.msgpack, *payload.dump_pieces(value).pieces)) for value in (large, [large]))
    wrong = store.put(OTHER, Encoding.msgpack, *payload.dump_pieces(large).pieces)
    assert isinstance(one, Pieces)
    assert payload.load(one) is one.pieces[1]
    assert payload.load(one) == large
    assert isinstance(two, Inline)
    assert payload.load(two) == [large]
    with Files(place).write(wrong.key) as file:
        file.write(one.pieces[0] + b"!" * len(large))
    with pytest.raises(ValueStoreError, match="is not what was written there"):
        fetch(wrong)
    # What begins as one does, and is none, is read as it is.
    odd = one.joined().data + b"!"
    assert fetch(store.put(JOB, Encoding.msgpack, odd)) == Inline(Encoding.msgpack, odd)
    assert fetch(store.put(JOB, Encoding.pickle, *one.pieces)) == Inline(Encoding.pickle, one.joined().data)


def test_a_value_is_private_and_written_once(tmp_path: Path) -> None:
    store = ValueStore(tmp_path / "store")
    value = store.put(JOB, Encoding.pickle, b"large")
    (path,) = (tmp_path / "store" / JOB).iterdir()
    assert [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent)] == [0o600, 0o700]
    before = path.stat()
    assert store.put(JOB, Encoding.pickle, b"lar", b"ge") == value
    assert [(each.name, each.stat().st_ino) for each in path.parent.iterdir()] == [(path.name, before.st_ino)]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path, __: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (names of links that end meanwhile)
    with pytest.raises(ValueStoreError, match="cannot be written: No space left"):
        ValueStore(tmp_path).put(JOB, Encoding.pickle, b"large")
    assert not list((tmp_path / JOB).iterdir())
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208


def test_files_are_written_read_listed_and_removed(place: str) -> None:
    files = Files(place)
    assert files.names("data/jobs") == []
    for number in range(3):
        with files.write(f"data/jobs/x/{number}") as file:
            file.write(b"x" * number)
    assert files.names("data/jobs/x") == ["0", "1", "2"]
    assert files.digest("data/jobs/x/2") == (2, hashlib.sha256(b"xx").digest())
    files.copy("data/jobs/x/2", "data/jobs/y/2")
    files.remove("data/jobs/x")
    files.remove("data/jobs/x")
    assert files.names("data/jobs") == ["y"]
    with files.read("data/jobs/y/2") as file:
        assert (file.read(1), file.seek(0), file.read()) == (b"x", 0, b"xx")
    with pytest.raises(ValueStoreError, match="cannot be read on this host"):
        files.read("data/jobs/x/0")


def test_what_is_copied_is_complete_or_not_there(place: str, tmp_path: Path) -> None:
    with Files(place).write("data/x") as file:
        file.write(b"right")
    right = DataRef("a" * 32, "x", "text/plain", 5, hashlib.sha256(b"right").digest(), place, "data/x")
    copy_to(right, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"right"
    with checked(right) as stream:
        assert stream.read() == b"right"
    wrong = DataRef("a" * 32, "x", "text/plain", 5, hashlib.sha256(b"wrong").digest(), place, "data/x")
    with pytest.raises(ValueStoreError, match="is not what was written there"):
        copy_to(wrong, tmp_path / "copy")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        copy_to(right, tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["copy"]
    assert (tmp_path / "copy").read_bytes() == b"right"


@pytest.mark.parametrize("url", ["nonsense://x/y", "s3://bucket/folder"])
def test_a_store_that_cannot_be_used_says_why(url: str) -> None:
    with pytest.raises(ValueStoreError, match=f"the store {url} cannot be used"):
        Files(url)


def test_data_in_a_folder_is_private_to_its_user(tmp_path: Path) -> None:
    with Files(str(tmp_path / "shared" / "store")).write("data/jobs/x") as file:
        file.write(b"x")
    made = [tmp_path / "shared", tmp_path / "shared" / "store", tmp_path / "shared" / "store" / "data" / "jobs"]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in made] == [0o700] * 3
