"""The ledger in a PostgreSQL, which several coordinators share: one writes, the others wait until it is gone.

Whoever writes holds an advisory lock of the same session in which it writes. When its process or its host ends, the server ends the
session, and the lock goes to the next one. One that is frozen, or has lost the broker, keeps its session, which the next one then ends
(`_oust`): what wakes up later finds that it has no connection any more. The row of the epoch, which every transaction locks and reads,
is the second line: it holds even where a pooler stands in between and sessions are not what they seem.

The tables of a ledger lie in a schema of their own, so that a database can be shared with others, and by the partitions of a namespace.
"""

from __future__ import annotations

import os
import platform
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from broker_jobs.errors import LedgerLost, LedgerRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import URL, Connection, Dialect

    from broker_jobs.coordinator.store.statement import Cursor

_LOCK: Final = 0x626A6C65  # "bjle": of all advisory locks of a database, those of coordinators

_MOST_NAME: Final = 63
"""Characters that PostgreSQL keeps of the name of an application."""

FROZEN: Final = 5.0
"""Seconds for which a process neither works nor says anything in its session: then it is frozen."""

CUT_OFF: Final = 30.0
"""Seconds for which a process does not work although its session lives: then it has lost the broker, and others have not."""

_SILENCE: Final = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
"""A server that is gone without a word is known to be gone after about ten seconds (the last one is in milliseconds)."""

_SETTINGS: Final = {
    # The same on the side of the server: the lock of a host that has lost its power is free then.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "statement_timeout": "0",
    "default_transaction_isolation": r"read\ committed",
    "synchronous_commit": "on",
}

_TRY: Final = "SELECT pg_try_advisory_lock(%s, %s)"
_OTHERS: Final = """
    SELECT a.pid, a.application_name, coalesce(a.state, ''), extract(epoch FROM clock_timestamp() - a.state_change)::float8
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %s::oid AND l.objid = %s::oid
      AND a.datname = current_database() AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.pid <> pg_backend_pid()
"""


class PostgresDatabase:
    """See `Database`.

    Args:
        address: ``postgresql://user:password@host:port/database``; further parameters are those of libpq
        ledger: whose tables these are, by its name: of 51 letters at most, so that PostgreSQL cuts nothing off
        holder: who this is, for those who wait
    """

    local: Final = False

    def __init__(self, address: URL, ledger: str, *, holder: str) -> None:
        self._schema = f"broker_jobs_{ledger}"
        self._key = zlib.crc32(ledger.encode()) & 0x7FFFFFFF
        settings = " ".join(f"-c {name}={value}" for name, value in {**_SETTINGS, "search_path": f'"{self._schema}"'}.items())
        who = f"{(holder or 'coordinator')[:40]}, process {os.getpid()} on {platform.node()}"
        # Types of extensions are not looked up: that would be a question for each connection.
        self._engine = sa.create_engine(
            address.set(drivername="postgresql+psycopg"),
            isolation_level="AUTOCOMMIT",
            poolclass=StaticPool,
            paramstyle="format",
            hide_parameters=True,
            use_native_hstore=False,
            connect_args={"options": settings, "application_name": who[:_MOST_NAME], "connect_timeout": 10, **_SILENCE},
        )
        self.name = self._engine.url.set(drivername="postgresql").render_as_string(hide_password=True)
        self.dialect: Dialect = self._engine.dialect
        self._driver: Any = self._engine.dialect.loaded_dbapi
        try:
            self._connection: Any = self._engine.raw_connection().driver_connection
        except self._driver.Error as error:
            raise LedgerLost(f"the ledger {self.name} cannot be reached: {_reason(error)}") from error

    @property
    def lost(self) -> bool:
        """Whether the session is over."""
        return bool(self._connection.closed)

    def hold(self, wait: Callable[[str], float] | None) -> None:
        """Take the lock, or wait for it."""
        with self._answering():
            while not self._ask(_TRY, _LOCK, self._key)[0][0]:
                holders = self._ask(_OTHERS, _LOCK, self._key)
                name = holders[0][1] if holders else "it has not said which"
                if wait is None:
                    raise LedgerRefused(f"the ledger {self.name} is in use by another coordinator: {name}")
                self._oust(holders, wait(name))

    def _oust(self, holders: list[tuple[Any, ...]], unattended: float) -> None:
        """End the sessions of those who do not work, for so many seconds now. One that makes tables is busy in its session."""
        for pid, _, state, silence in holders:
            frozen = unattended > FROZEN and state.startswith("idle") and silence > FROZEN
            if frozen or (unattended > CUT_OFF and state == "idle"):
                self._ask("SELECT pg_terminate_backend(%s)", pid)

    @contextmanager
    def prepare(self) -> Iterator[Connection]:
        """A transaction for the tables."""
        try:
            with self._answering(), self._engine.connect() as connection:
                connection.exec_driver_sql("BEGIN")
                try:
                    # Whoever may not make schemas can be given one.
                    if not connection.scalar(sa.text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": self._schema}):
                        connection.execute(sa.schema.CreateSchema(self._schema))
                    yield connection
                except BaseException:
                    if not self.lost:
                        connection.exec_driver_sql("ROLLBACK")
                    raise
                connection.exec_driver_sql("COMMIT")
        except sa.exc.DBAPIError as error:
            raise LedgerRefused(f"the ledger {self.name} cannot be used: {_reason(error.orig)}") from error

    def cursor(self) -> Cursor:
        """Of the one connection."""
        return cast("Cursor", self._connection.cursor())

    def look(self) -> Cursor:
        """A cursor inside a transaction that reads."""
        cursor = self.cursor()
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return cursor

    def facts(self, cursor: Cursor) -> dict[str, str] | None:
        """What the ledger says of itself."""
        cursor.execute("SELECT to_regclass('meta') IS NOT NULL AND to_regclass('epochs') IS NOT NULL")
        if cursor.fetchall() != [(True,)]:
            return None
        cursor.execute("SELECT name, value FROM meta")
        return dict(cursor.fetchall())

    def damage(self, cursor: Cursor) -> list[str]:
        """A server looks after its own files."""
        del cursor
        return []

    def begin(self) -> str:
        """The statement that begins a transaction."""
        return "BEGIN"

    def is_weather(self, error: Exception) -> bool:
        """Whether the server has gone, is going, or has no room."""
        return self.lost or isinstance(error, self._driver.OperationalError)

    def close(self) -> None:
        """End the session, and with it the lock."""
        self._connection.close()
        self._engine.dispose()

    def _ask(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return list(self._connection.execute(sql, parameters).fetchall())

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reason = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            if isinstance(reason, Exception) and self.is_weather(reason):
                raise LedgerLost(f"the ledger {self.name} does not answer any more: {_reason(reason)}") from error
            raise


def _reason(error: BaseException | None) -> str:
    """What the driver says, in one line."""
    return " ".join(str(error).split())
