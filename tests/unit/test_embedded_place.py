"""Addresses of files, and where a file may lie."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from broker_jobs.broker.embedded import place as place_module
from broker_jobs.broker.embedded.lock import LockFile
from broker_jobs.broker.embedded.place import Place, file_system
from broker_jobs.broker.embedded.schema import connect
from broker_jobs.errors import AddressError, BrokerError, BrokerUnavailable, TopologyMismatch

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:25 / /home rw,nosuid shared:5 - nfs4 server:/home rw
31 30 0:26 / /home/local\\040disk rw - xfs /dev/vdb rw
garbage
"""


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////var/lib/queue.db", Place(Path("/var/lib/queue.db"))),
        ("sqlite:////var/lib/my%20queue.db?durability=power", Place(Path("/var/lib/my queue.db"), power=True)),
        ("sqlite:////q.db?durability=process", Place(Path("/q.db"))),
        ("sqlite:///queue.db", Place(Path("queue.db").absolute())),
    ],
)
def test_addresses(url: str, expected: Place) -> None:
    assert Place.of(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "amqp://localhost", "sqlite://host/queue.db", "sqlite:///", "sqlite:///:memory:", "sqlite:////folder/",
        "sqlite:////q.db?durability=moon", "sqlite:////q.db?mode=ro", "sqlite:////q.db#here",
    ],
)  # fmt: skip
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(AddressError, match=r"sqlite:////path/queue\.db"):
        Place.of(url)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/", "ext4"), ("/var/lib", "ext4"), ("/home", "nfs4"), ("/home/ann", "nfs4"), ("/homeless", "ext4"), ("/home/local disk/q", "xfs")],
)
def test_the_innermost_mount_counts(folder: str, kind: str) -> None:
    assert file_system(Path(folder), MOUNTS) == kind


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path / "queue.db")
    place.check()
    here = file_system(tmp_path.resolve(), Path("/proc/self/mountinfo").read_text("utf-8"))
    monkeypatch.setattr(place_module, "NETWORK", frozenset({here}))
    with pytest.raises(BrokerError, match="network file system"):
        place.check()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailable, match="make it"):
        Place(tmp_path / "missing" / "queue.db").check()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="name a file in it"):
        Place(tmp_path).check()


def test_what_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    path.write_bytes(b"somebody's diary" * 100)
    with pytest.raises(BrokerError, match="move it away"):
        connect(Place(path))
    assert path.read_bytes() == b"somebody's diary" * 100


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE diary (day TEXT)")
    other.close()
    content = path.read_bytes()
    with pytest.raises(BrokerError, match="another program"):
        connect(Place(path))
    assert path.read_bytes() == content


def test_another_format_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path / "queue.db")
    database = connect(place)
    database.execute("UPDATE state SET format = 99")
    database.close()
    with pytest.raises(TopologyMismatch, match="format 99, here 2"):
        connect(place)


def test_the_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    place = Place(tmp_path / "queue.db")
    lock = LockFile(place.lock)
    connect(place).close()
    lock.close()
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {"queue.db": 0o600, "queue.db-lock": 0o600}
