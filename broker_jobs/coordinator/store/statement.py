"""Statements of SQLAlchemy Core, compiled once and run on the driver's cursor.

Building and caching an expression costs SQLAlchemy some 30 µs for each call, the driver 2: a batch runs a dozen statements, and a
person waits for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from broker_jobs.coordinator.store.parts import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Dialect


class Cursor(Protocol):
    """The part of a DB-API cursor that is used."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> object:
        """Run a statement."""

    def executemany(self, sql: str, parameters: Sequence[Sequence[Any]], /) -> object:
        """Run a statement for each row."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows of a result."""

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row of a result."""


class Query:
    """A select; parameters are given by name."""

    def __init__(self, statement: sa.Select[Any], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        self._sql = str(compiled)
        self._order = tuple(compiled.positiontup or ())
        # Literals of the expression are parameters of the compiler's own.
        self._own = {name: value for name, value in compiled.params.items() if value is not None}
        self.names = tuple(column.name for column in statement.selected_columns)

    def all(self, cursor: Cursor, **parameters: object) -> list[tuple[Any, ...]]:
        """All rows."""
        self.run(cursor, **parameters)
        return cursor.fetchall()

    def first(self, cursor: Cursor, **parameters: object) -> tuple[Any, ...] | None:
        """The first row, or None."""
        self.run(cursor, **parameters)
        row = cursor.fetchone()
        if row is not None:
            # Else the statement stays open, and SQLite keeps what it has read.
            cursor.fetchall()
        return row

    def run(self, cursor: Cursor, **parameters: object) -> None:
        """Leave the rows to the cursor."""
        given = {**self._own, **parameters}
        cursor.execute(self._sql, tuple([_fit(given[name]) for name in self._order]))


class Change:
    """An insert, update or delete; parameters are tuples in the order of `names`."""

    def __init__(self, statement: sa.Insert | sa.Update | sa.Delete, dialect: Dialect, names: Sequence[str]) -> None:
        compiled = statement.compile(dialect=dialect)
        if list(compiled.positiontup or ()) != list(names):
            raise TypeError(f"the parameters of {compiled} are {compiled.positiontup}, not {list(names)}")
        self._sql = str(compiled)

    def run(self, cursor: Cursor, rows: Sequence[Sequence[Any]]) -> None:
        """Run it for each row."""
        if len(rows) == 1:
            cursor.execute(self._sql, rows[0])
        elif rows:
            cursor.executemany(self._sql, rows)


class NamedChange:
    """An update with parameters by name."""

    def __init__(self, statement: sa.Update, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        self._sql = str(compiled)
        self._order = tuple(compiled.positiontup or ())
        # Literals of the expression are parameters of the compiler's own.
        self._own = dict(compiled.params)

    def run(self, cursor: Cursor, given: Mapping[str, Any]) -> None:
        """Run it once; the statement calls its parameters ``given_…``."""
        values = {**self._own, **{f"given_{name}": value for name, value in given.items()}}
        cursor.execute(self._sql, [values[name] for name in self._order])


class Changes:
    """Makes changes of tables.

    Args:
        dialect: of the database
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._upsert: Any = _inserting(dialect)

    def insert(self, table: sa.Table, names: Sequence[str]) -> Change:
        """A new row."""
        return Change(table.insert().inline().values(_parameters(names)), self._dialect, names)

    def insert_or_keep(self, table: sa.Table, names: Sequence[str]) -> Change:
        """A new row, unless there is one with its key."""
        return Change(self._upsert(table).values(_parameters(names)).on_conflict_do_nothing(), self._dialect, names)

    def replace(self, table: sa.Table, names: Sequence[str]) -> Change:
        """A new row, or new values for the one with its key."""
        statement = self._upsert(table).values(_parameters(names))
        keys = [column.name for column in table.primary_key]
        new = {name: statement.excluded[name] for name in names if name not in keys}
        return Change(statement.on_conflict_do_update(index_elements=keys, set_=new), self._dialect, names)

    def update(self, table: sa.Table, names: Sequence[str], keys: Sequence[str]) -> Change:
        """New values for the row with these keys, which stand last among the parameters."""
        where = [table.c[key] == sa.bindparam(f"{key}_") for key in keys]
        statement = table.update().where(*where).values(_parameters(names))
        return Change(statement, self._dialect, [*names, *(f"{key}_" for key in keys)])

    def delete(self, table: sa.Table, *keys: str) -> Change:
        """No row with these keys."""
        where = [table.c[key] == sa.bindparam(f"{key}_") for key in keys]
        return Change(table.delete().where(*where), self._dialect, [f"{key}_" for key in keys])

    def several(self, statement: sa.Update) -> NamedChange:
        """New values for many rows."""
        return NamedChange(statement, self._dialect)


def _fit(parameter: Any) -> Any:
    """What is asked for, as it would have been written: people ask for any text, and a database takes not all."""
    return clean(parameter) if isinstance(parameter, str) else parameter


def _parameters(names: Sequence[str]) -> dict[str, Any]:
    return {name: sa.bindparam(name) for name in names}


def _inserting(dialect: Dialect) -> Any:
    """The insert that knows conflicts; the other database's is not loaded, which takes two megabytes."""
    if dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as inserting
    else:
        from sqlalchemy.dialects.sqlite import insert as inserting  # type: ignore[assignment]
    return inserting
