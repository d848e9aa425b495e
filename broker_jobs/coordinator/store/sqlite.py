"""The ledger as a file of this host: one coordinator, which holds a lock beside it."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from broker_jobs.config import private_file
from broker_jobs.coordinator.store.lock import LedgerLock
from broker_jobs.errors import LedgerLost, LedgerRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import URL, Connection, Dialect

    from broker_jobs.coordinator.store.statement import Cursor

BEGIN: Final = "BEGIN IMMEDIATE"

_WEATHER: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})


class SqliteDatabase:
    """See `Database`. The folder is made where it is missing.

    Args:
        address: of a file
        durable: survive a loss of power too (``synchronous=FULL``)
    """

    local: Final = True
    lost: Final = False

    def __init__(self, address: URL, *, durable: bool) -> None:
        self.path = Path(str(address.database))
        self.name = str(self.path)
        self._durable = durable
        self._lock: LedgerLock | None = None
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=address.database),
            isolation_level="AUTOCOMMIT",
            poolclass=StaticPool,
            connect_args={"check_same_thread": False},
        )
        self.dialect: Dialect = self._engine.dialect

    def hold(self, wait: Callable[[str], float] | None) -> None:
        """Take the lock. Nobody waits for a file: whoever would take it over is on this host, and can be started when it is free."""
        del wait
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = LedgerLock(self.path)
        private_file(self.path)  # before SQLite makes the files beside it, which get its mode

    @contextmanager
    def prepare(self) -> Iterator[Connection]:
        """A transaction for the tables."""
        try:
            with self._engine.connect() as connection:
                full = "FULL" if self._durable else "NORMAL"
                for pragma in ("journal_mode=WAL", f"synchronous={full}", "busy_timeout=10000", "cache_size=-65536"):
                    connection.exec_driver_sql(f"PRAGMA {pragma}")
                connection.exec_driver_sql(BEGIN)
                try:
                    yield connection
                except BaseException:
                    connection.exec_driver_sql("ROLLBACK")
                    raise
                connection.exec_driver_sql("COMMIT")
        except sa.exc.DBAPIError as error:
            kind = LedgerLost if isinstance(error.orig, Exception) and self.is_weather(error.orig) else LedgerRefused
            raise kind(f"the ledger {self.name} cannot be used: {error.orig}") from error
        self.path.chmod(0o600)

    def cursor(self) -> Cursor:
        """Of the one connection."""
        return cast("Cursor", self._engine.raw_connection().cursor())

    def look(self) -> Cursor:
        """A cursor inside a transaction that reads."""
        if not self.path.is_file():
            raise LedgerRefused(f"there is no ledger {self.name}")
        cursor = self.cursor()
        try:
            for statement in ("PRAGMA query_only = ON", "PRAGMA busy_timeout = 10000", "BEGIN", "SELECT count(*) FROM sqlite_master"):
                cursor.execute(statement)
            cursor.fetchall()
        except sqlite3.DatabaseError as error:
            raise LedgerRefused(f"the ledger {self.name} cannot be used: {error}") from error
        return cursor

    def facts(self, cursor: Cursor) -> dict[str, str] | None:
        """What the ledger says of itself."""
        cursor.execute("SELECT count(*) FROM sqlite_master WHERE name IN ('meta', 'epochs')")
        if cursor.fetchall() != [(2,)]:
            return None
        cursor.execute("SELECT name, value FROM meta")
        return dict(cursor.fetchall())

    def damage(self, cursor: Cursor) -> list[str]:
        """What the file finds wrong with itself, the first hundred of it."""
        try:
            cursor.execute("PRAGMA integrity_check(100)")
            return [str(text) for (text,) in cursor.fetchall() if text != "ok"]
        except sqlite3.DatabaseError as error:
            return [str(error)]

    def begin(self) -> str:
        """The statement that begins a transaction."""
        return BEGIN

    def is_weather(self, error: Exception) -> bool:
        """A disk that is full has room again one day, and one that cannot be read or written may come back."""
        return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _WEATHER

    def close(self) -> None:
        """Close the file and let the next coordinator in."""
        self._engine.dispose()
        if self._lock is not None:
            self._lock.close()
