"""Where the ledger of a deployment lies, and what can happen to it: a file on a small disk, or a PostgreSQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol, Self

from tests.system.chaos.disk import Disk
from tests.system.chaos.faults import Kind

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres import Postgres


class Ground(Protocol):
    """A store for a ledger.

    Attributes:
        url: its address
        coordinators: how many share it
    """

    url: str
    coordinators: int

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def possible(self) -> set[Kind]:
        """What can happen to it here."""

    def begin(self, kind: Kind) -> None:
        """Let that happen."""

    def end(self, kind: Kind) -> None:
        """Let it be over."""

    def rows(self, query: str) -> list[Any]:
        """What the database says."""


class FileGround:
    """An SQLite file for one coordinator."""

    def __init__(self, folder: Path) -> None:
        self._disk = Disk(folder / "ledger")
        self._path = folder / "ledger" / "ledger.db"
        self.url = f"sqlite:///{self._path}"
        self.coordinators = 1

    def __enter__(self) -> Self:
        self._disk.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self._disk.__exit__(*details)

    def possible(self) -> set[Kind]:
        return {Kind.full} if self._disk.limited else set()

    def begin(self, kind: Kind) -> None:
        assert kind is Kind.full
        self._disk.fill()

    def end(self, kind: Kind) -> None:
        assert kind is Kind.full
        self._disk.empty()

    def rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self._path)) as connection:
            return connection.execute(query).fetchall()


class ServerGround:
    """A PostgreSQL that two coordinators share."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self.url = server.fresh_database()
        self.coordinators = 2

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._server.running:
            self._server.start()

    def possible(self) -> set[Kind]:
        return {Kind.stopped, Kind.killed}

    def begin(self, kind: Kind) -> None:
        if kind is Kind.killed:
            self._server.kill()
        else:
            self._server.stop()

    def end(self, kind: Kind) -> None:
        self._server.start()

    def rows(self, query: str) -> list[Any]:
        import psycopg  # heavy, and few tests need it

        with psycopg.connect(self.url, options="-c search_path=broker_jobs_bj") as connection:
            return connection.execute(query.encode()).fetchall()
