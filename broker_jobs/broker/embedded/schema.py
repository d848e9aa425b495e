"""The tables of the store, and how a file is opened as one."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Final

from broker_jobs.errors import BrokerError, TopologyMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.broker.embedded.place import Place

FORMAT: Final = 2
"""Version of the tables, in the row `state`."""

_APPLICATION: Final = int.from_bytes(b"bjqu", "big")
_LONGEST_LOG: Final = 64 * 1024 * 1024

_LOG_PAGES: Final = 4000
"""Pages of the log (16 MB) from which a commit carries them over into the file: that costs milliseconds, so not at each 4 MB."""

_TABLES: Final = (
    # format: `FORMAT`; topology and presence: their versions
    "CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER, topology INTEGER, presence INTEGER)",
    "INSERT INTO state VALUES (1, 2, 1, 1)",
    "CREATE TABLE exchanges (name TEXT PRIMARY KEY) WITHOUT ROWID",
    # owner: the connection of a private queue
    """CREATE TABLE queues (id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT UNIQUE, kind TEXT, dead_letter_exchange TEXT, dead_letter_key TEXT, owner INTEGER)""",
    "CREATE TABLE bindings (exchange TEXT, pattern TEXT, queue INTEGER, PRIMARY KEY (exchange, pattern, queue)) WITHOUT ROWID",
    "CREATE TABLE connections (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, pid INTEGER, address TEXT)",
    "CREATE TABLE consumers (id INTEGER PRIMARY KEY AUTOINCREMENT, queue INTEGER, connection INTEGER)",
    "CREATE TABLE bodies (id INTEGER PRIMARY KEY AUTOINCREMENT, exchange TEXT, key TEXT, headers TEXT, body BLOB)",
    # holder: the connection that has received and not settled it
    "CREATE TABLE messages (id INTEGER, queue INTEGER, holder INTEGER, redelivered INTEGER, PRIMARY KEY (id, queue)) WITHOUT ROWID",
    "CREATE INDEX ready ON messages (queue, id) WHERE holder IS NULL",
    "CREATE INDEX held ON messages (holder) WHERE holder IS NOT NULL",
)
_FROM_1: Final = (
    "ALTER TABLE queues ADD COLUMN dead_letter_key TEXT",
    # The name of the keeper of a partition has no version.
    """UPDATE queues SET name = replace(substr(name, 1, instr(name, '.')), '.', '.v2.') || substr(name, instr(name, '.') + 1)
        WHERE name NOT LIKE '%.keeper'""",
    "UPDATE state SET format = 2, topology = topology + 1",
)
"""From version 1, of broker-jobs 0.1.0, to 2."""


def connect(place: Place) -> sqlite3.Connection:
    """Open the file, and make the tables where it is new. The caller holds the lock for writing.

    Raises:
        BrokerError: the file is something else
        TopologyMismatch: another version of broker-jobs made it
        OSError: it cannot be made
        sqlite3.Error: it cannot be opened
    """
    # The messages are for the owner's eyes. Only a new file is opened here: to close one that SQLite has open would drop its locks.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(place.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(place.path, timeout=0, isolation_level=None, cached_statements=256)
    try:
        _prepare(database, place)
    except BaseException:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection, place: Place) -> None:
    try:
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise BrokerError(f"{place.path} is no SQLite database: move it away, or name another file for the embedded broker") from error
        raise
    if application != _APPLICATION and tables:
        raise BrokerError(f"{place.path} is the database of another program: name another file for the embedded broker")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute(f"PRAGMA synchronous = {'FULL' if place.power else 'NORMAL'}")
    database.execute(f"PRAGMA journal_size_limit = {_LONGEST_LOG}")
    database.execute("PRAGMA temp_store = MEMORY")
    database.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
    if not tables:
        _change(database, (*_TABLES, f"PRAGMA application_id = {_APPLICATION}"))
    (version,) = database.execute("SELECT format FROM state").fetchone()
    if version == 1:
        _change(database, _FROM_1)
        version = FORMAT
    if version != FORMAT:
        raise TopologyMismatch(
            f"{place.path} was made by another version of broker-jobs (format {version}, here {FORMAT}): "
            "finish its jobs with that version, or name another file"
        )


def _change(database: sqlite3.Connection, statements: Iterable[str]) -> None:
    database.execute("BEGIN IMMEDIATE")
    for statement in statements:
        database.execute(statement)
    database.execute("COMMIT")
