"""The tables of managed jobs: SQLite in a file, or PostgreSQL. The one module of the manager that knows SQLAlchemy.

Every operation is a short transaction on a connection of its own, so that threads and forked processes need not know of each other.
A row is changed only while it is what it was when the change was decided (`JobStore.change`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from broker_jobs import config
from broker_jobs.errors import JobNotFound, ManagerStoreError, ValidationError
from broker_jobs.manager.record import JobRecord
from broker_jobs.manager.statuses import Code, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SCHEMA_VERSION: Final = 1

_TIMEOUT: Final = 30.0
"""Seconds for which others that write to the file are waited for."""

_LOOK_INTERVAL: Final = 0.02

_LOCK: Final = 0x626A6D67  # "bjmg": of all advisory locks of a PostgreSQL, that of whoever makes these tables

_metadata: Final = sa.MetaData()

# A database may be shared with others: the names say whose the tables are.
_meta: Final = sa.Table(
    "bj_manager_meta", _metadata, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)
_jobs: Final = sa.Table(
    "bj_manager_jobs",
    _metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("app", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("user", sa.Text, nullable=False),
    sa.Column("template", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("workspace", sa.Text, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("parameters", sa.Text, nullable=False),  # this and the next three: JSON
    sa.Column("extended_properties", sa.Text, nullable=False),
    sa.Column("callbacks", sa.Text, nullable=False),
    sa.Column("nodes", sa.Text, nullable=False),
    sa.Column("process_results", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("status_text", sa.Text, nullable=False),
    sa.Column("ended", sa.Boolean, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("work", sa.Text, nullable=False),
    sa.Column("run", sa.Integer, nullable=False),
    sa.Column("processings", sa.Integer, nullable=False),
    sa.Column("executed_ms", sa.BigInteger),
    sa.Column("started_ms", sa.BigInteger),
    sa.Column("completed_ms", sa.BigInteger),
    sa.Column("version", sa.Integer, nullable=False),
)
sa.Index("bj_manager_jobs_by_user", _jobs.c.app, _jobs.c.user, _jobs.c.id)
_groups: Final = sa.Table(
    "bj_manager_groups",
    _metadata,
    sa.Column("job", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
)
sa.Index("bj_manager_groups_by_name", _groups.c.name, _groups.c.job)

_JSON: Final = ("parameters", "extended_properties", "callbacks", "nodes")


class JobStore:
    """The rows of managed jobs.

    Args:
        place: a file, or an address: ``sqlite:////folder/manager.db``, ``postgresql://user:password@host/database``

    Raises:
        ValidationError: the address cannot be understood
        ManagerStoreError: the database cannot be used, or is of another version
    """

    def __init__(self, place: str | Path) -> None:
        self.place = config.shown(str(place))
        self._engine = _engine(place)
        if self._engine.dialect.name == "sqlite":
            with contextlib.suppress(OSError):  # the database says what is wrong
                config.private_file(Path(str(self._engine.url.database)))  # before SQLite makes the files beside it, which get its mode
        with self._transaction() as connection:
            self._prepare(connection)
        if self._engine.dialect.name == "sqlite":
            Path(str(self._engine.url.database)).chmod(0o600)

    def add(self, record: JobRecord) -> None:
        """A new row."""
        with self._transaction() as connection:
            connection.execute(_jobs.insert().values(_row(record)))
            if record.groups:
                connection.execute(_groups.insert(), [{"job": record.id, "name": name} for name in record.groups])

    def get(self, job_id: str) -> JobRecord:
        """The job of this id; `JobNotFound` where there is none."""
        record = self.find(job_id)
        if record is None:
            raise JobNotFound(f"the job manager has no job {job_id!r}: it may have been deleted")
        return record

    def find(self, job_id: str) -> JobRecord | None:
        """The job of this id, or None."""
        found = self._select(_jobs.c.id == job_id)
        return found[0] if found else None

    def jobs(self, app: str, *, user: str | None = None, groups: Sequence[str] | None = None) -> list[JobRecord]:
        """The jobs of an application, the oldest first.

        Args:
            user: only those of this user
            groups: only those of one of these groups
        """
        wanted = [_jobs.c.app == app]
        if user is not None:
            wanted.append(_jobs.c.user == user)
        if groups is not None:
            wanted.append(_jobs.c.id.in_(sa.select(_groups.c.job).where(_groups.c.name.in_(groups))))
        return self._select(*wanted)

    def change(self, job_id: str, decide: Callable[[JobRecord], JobRecord]) -> tuple[JobRecord, JobRecord]:
        """Change a job: as it was, and as it is now; the same object where nothing was to change.

        Args:
            decide: from the present record the next one; asked again where somebody else was quicker, so it does nothing else

        Raises:
            JobNotFound: it was deleted
        """
        while True:
            before = self.get(job_id)
            after = decide(before)
            if after == before:
                return before, before
            after = dataclasses.replace(after, version=before.version + 1)
            values = {name: value for name, value in _row(after).items() if name != "id"}
            with self._transaction() as connection:
                if connection.execute(_jobs.update().where(*_exactly(before)).values(values)).rowcount:
                    return before, after

    def delete(self, job_id: str, check: Callable[[JobRecord], None]) -> None:
        """Delete a job, in a state in which `check` raises nothing.

        Raises:
            JobNotFound: it is gone already
        """
        while True:
            before = self.get(job_id)
            check(before)
            with self._transaction() as connection:
                if connection.execute(_jobs.delete().where(*_exactly(before))).rowcount:
                    connection.execute(_groups.delete().where(_groups.c.job == job_id))
                    return

    def _select(self, *wanted: sa.ColumnElement[bool]) -> list[JobRecord]:
        with self._transaction() as connection:
            rows = connection.execute(sa.select(_jobs).where(*wanted).order_by(_jobs.c.id)).mappings().all()
            of_these = sa.select(_jobs.c.id).where(*wanted)
            groups: dict[str, list[str]] = {}
            for job, name in connection.execute(sa.select(_groups).where(_groups.c.job.in_(of_these)).order_by(_groups.c.name)):
                groups.setdefault(job, []).append(name)
        return [_record(dict(row), groups.get(row["id"], ())) for row in rows]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise ManagerStoreError(f"the database {self.place} cannot be used: {error.orig}") from error

    def _prepare(self, connection: sa.Connection) -> None:
        """Make the tables, or see whether they are of our version; one process at a time."""
        if connection.dialect.name == "sqlite":
            _let_readers_go_on(connection)
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        if not sa.inspect(connection).has_table(_meta.name):
            _metadata.create_all(connection)
            connection.execute(_meta.insert().values(name="schema", value=str(SCHEMA_VERSION)))
        found = connection.execute(sa.select(_meta.c.value).where(_meta.c.name == "schema")).scalar()
        if found != str(SCHEMA_VERSION):
            raise ManagerStoreError(
                f"the jobs in {self.place} have the format {found}, and this version of broker-jobs reads {SCHEMA_VERSION}:"
                " use the version that wrote them, or a newer one"
            )


def _let_readers_go_on(connection: sa.Connection) -> None:
    """Switch to SQLite's log, which the file then keeps. While somebody writes, SQLite may refuse that at once, whatever its timeout."""
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        except sa.exc.OperationalError as error:
            busy = isinstance(error.orig, sqlite3.Error) and error.orig.sqlite_errorcode == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_INTERVAL)
        else:
            return


def _engine(place: str | Path) -> sa.Engine:
    """The database at this place; nothing is opened yet."""
    text = str(place)
    if text.startswith(("postgresql:", "postgres:")):
        try:
            # libpq's own spelling, as people have it in their settings; psycopg 3 is the driver that we test. Types of extensions
            # are not looked up: that would be a question for each connection.
            url = sa.make_url(text).set(drivername="postgresql+psycopg")
            return sa.create_engine(url, poolclass=NullPool, hide_parameters=True, use_native_hstore=False)
        except ModuleNotFoundError as error:
            raise ManagerStoreError("PostgreSQL needs a driver: pip install 'broker-jobs[postgres]'") from error
        except (sa.exc.ArgumentError, ValueError) as error:
            raise ValidationError(f"{config.shown(text)!r} is no address of a database: {error}") from None
    if isinstance(place, str) and "://" in text and not text.startswith("sqlite:"):
        raise ValidationError(
            f"{config.shown(text)!r} is no place for jobs: use a file, sqlite:////path or postgresql://user@host/database"
        )
    file = config.sqlite_path(text) if text.startswith("sqlite:") else Path(text).absolute()
    config.make_private(file.parent)
    return sa.create_engine(
        sa.URL.create("sqlite", database=str(file)), poolclass=NullPool, connect_args={"timeout": _TIMEOUT}, hide_parameters=True
    )


def _exactly(record: JobRecord) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return _jobs.c.id == record.id, _jobs.c.version == record.version


def _row(record: JobRecord) -> dict[str, Any]:
    """A record as columns."""
    row = {field.name: getattr(record, field.name) for field in dataclasses.fields(record) if field.name != "groups"}
    return {
        **row,
        **{name: json.dumps(row[name]) for name in _JSON},
        "status": record.status.code.value,
        "status_text": record.status.text,
    }


def _record(row: dict[str, Any], groups: Sequence[str]) -> JobRecord:
    """Columns as a record."""
    status = Status(Code(row.pop("status")), row.pop("status_text"))
    given = {**row, **{name: json.loads(row[name]) for name in _JSON}}
    return JobRecord(**{**given, "nodes": tuple(given["nodes"]), "groups": tuple(groups), "status": status})
