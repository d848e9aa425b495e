"""Where the ledger of a deployment lies, and what can happen to it: files on a small disk, or a PostgreSQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol, Self

from broker_jobs.config import ledger_file, sqlite_url
from broker_jobs.coordinator.store.database import ledger_name
from broker_jobs.wire.topology import Topology
from tests.system.chaos.disk import Disk
from tests.system.chaos.faults import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres import Postgres


class Ground(Protocol):
    """A store for a ledger and all its partitions.

    Attributes:
        coordinators: how many share a partition
    """

    coordinators: int

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def url(self, partition: int) -> str:
        """Address of the store of a partition."""

    def possible(self) -> set[Kind]:
        """What can happen to it here."""

    def begin(self, kind: Kind) -> None:
        """Let that happen."""

    def end(self, kind: Kind) -> None:
        """Let it be over."""

    def rows(self, partition: int, query: str) -> list[Any]:
        """What the database of a partition says."""


class FileGround:
    """An SQLite file for each partition, which has one coordinator; all on one disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "ledger"
        self._disk = Disk(self._folder)
        self.coordinators = 1

    def __enter__(self) -> Self:
        self._disk.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._disk.__exit__(*details)

    def url(self, partition: int) -> str:
        return sqlite_url(ledger_file(self._folder, partition))

    def possible(self) -> set[Kind]:
        return {Kind.full} if self._disk.limited else set()

    def begin(self, kind: Kind) -> None:
        assert kind is Kind.full
        self._disk.fill()

    def end(self, kind: Kind) -> None:
        assert kind is Kind.full
        self._disk.empty()

    def rows(self, partition: int, query: str) -> list[Any]:
        with closing(sqlite3.connect(ledger_file(self._folder, partition))) as connection:
            return connection.execute(query).fetchall()


class ServerGround:
    """A PostgreSQL with a schema for each partition, which two coordinators share."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._url = server.fresh_database()
        self.coordinators = 2

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._server.running:
            self._server.start()

    def url(self, partition: int) -> str:
        return self._url

    def possible(self) -> set[Kind]:
        return {Kind.stopped, Kind.killed}

    def begin(self, kind: Kind) -> None:
        if kind is Kind.killed:
            self._server.kill()
        else:
            self._server.stop()

    def end(self, kind: Kind) -> None:
        self._server.start()

    def rows(self, partition: int, query: str) -> list[Any]:
        import psycopg  # heavy, and few tests need it

        schema = f"broker_jobs_{ledger_name(Topology().namespace, partition)}"
        with psycopg.connect(self._url, options=f'-c search_path="{schema}"') as connection:
            return connection.execute(query.encode()).fetchall()
