"""What the ledger needs of a database: one connection, held by one coordinator at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import sqlalchemy as sa

from broker_jobs import config
from broker_jobs.errors import LedgerRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from sqlalchemy.engine import Connection, Dialect

    from broker_jobs.coordinator.store.statement import Cursor

_USE: Final = "use sqlite:////var/lib/broker-jobs/ledger.db or postgresql://user:password@host/database"


class Database(Protocol):
    """A database with the tables of one ledger. Used by one thread at a time.

    Attributes:
        name: for people
        dialect: of its statements
    """

    name: str
    dialect: Dialect

    @property
    def local(self) -> bool:
        """Whether it is a file of this host, which answers within a millisecond or two."""

    @property
    def lost(self) -> bool:
        """Whether the connection is gone, so that nothing more can be written."""

    def hold(self, wait: Callable[[str], float] | None) -> None:
        """Become the one who may write, until `close` or the end of this process.

        Args:
            wait: called with the name of who holds it, again and again, until it is free: waits a moment, and says for how many seconds
                the holder has not been seen at work, after some of which it loses the ledger. Without it, one that is held is refused

        Raises:
            LedgerRefused: another coordinator holds it
            LedgerLost: the database does not answer
        """

    def prepare(self) -> AbstractContextManager[Connection]:
        """A transaction for the tables themselves."""

    def cursor(self) -> Cursor:
        """Of the one connection."""

    def look(self) -> Cursor:
        """A cursor inside a transaction that reads, of a database that nobody need hold.

        Raises:
            LedgerRefused: there is none
        """

    def facts(self, cursor: Cursor) -> dict[str, str] | None:
        """What the ledger says of itself; None where there is no ledger."""

    def damage(self, cursor: Cursor) -> list[str]:
        """What the database finds wrong with itself."""

    def begin(self) -> str:
        """The statement that begins a transaction."""

    def is_weather(self, error: Exception) -> bool:
        """Whether an error comes from outside, and a new connection may do."""

    def close(self) -> None:
        """Let the next one in."""


def ledger_name(namespace: str, partition: int) -> str:
    """How the ledger of a partition is called in its database: no other namespace has a name with a dot."""
    return f"{namespace}.{partition}" if partition else namespace


def shown_name(ledger: str) -> str:
    """The name of a ledger, for people."""
    namespace, dot, partition = ledger.partition(".")
    return f"{namespace!r}, partition {partition}" if dot else repr(namespace)


def open_database(url: str, ledger: str, *, durable: bool, holder: str) -> Database:
    """The database at an address. Nothing is held yet.

    Args:
        ledger: its name

    Raises:
        LedgerRefused: the address is none of a ledger
        LedgerLost: the database does not answer
    """
    try:
        address = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise LedgerRefused(f"{config.shown(url)!r} is no address of a ledger: {_USE}") from None
    match address.get_backend_name():
        case "sqlite" if address.database and address.database != ":memory:":
            from broker_jobs.coordinator.store.sqlite import SqliteDatabase

            return SqliteDatabase(address, durable=durable)
        case "postgresql" | "postgres":
            from broker_jobs.coordinator.store.postgres import PostgresDatabase

            try:
                return PostgresDatabase(address, ledger, holder=holder)
            except ModuleNotFoundError as error:
                raise LedgerRefused("a ledger in a PostgreSQL needs a driver: pip install 'broker-jobs[postgres]'") from error
        case _:
            raise LedgerRefused(f"the ledger's store must be a file or a PostgreSQL, not {config.shown(url)}: {_USE}")
