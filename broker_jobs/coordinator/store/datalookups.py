"""What is read from the ledger about data."""

from __future__ import annotations

import fnmatch
import json
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from broker_jobs.coordinator.store import schema
from broker_jobs.coordinator.store.rows import DataRow, UseRow
from broker_jobs.coordinator.store.statement import Query
from broker_jobs.core.data import DataRef
from broker_jobs.wire.codec import decode_part

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from broker_jobs.coordinator.store.statement import Cursor
    from broker_jobs.wire.messages import ListData

_SCAN: Final = 200
"""Rows that a search reads at once."""


class DataLookups:
    """Reads rows of data, of their uses, and of the log.

    Args:
        cursor: of the ledger's one connection
    """

    def __init__(self, cursor: Cursor, dialect: Dialect) -> None:
        self._cursor = cursor
        data, uses, log = schema.data, schema.uses, schema.log
        job, job_id, limit = _parameter("job"), _parameter("job_id"), _parameter("limit")

        def query(statement: sa.Select[Any]) -> Query:
            return Query(statement, dialect)

        self._data_ending = query(sa.select(data).where(data.c.id.like(_parameter("pattern"))).order_by(data.c.id).limit(limit))
        self._data_of = query(sa.select(data.c.id).where(data.c.job == job_id).order_by(data.c.id))
        made_by, used_by = sa.bindparam("made_by", type_=sa.Text()), sa.bindparam("used_by", type_=sa.Text())
        taken = sa.exists().where(uses.c.data == data.c.id)
        self._select_data = query(
            sa.select(data, taken.label("taken"))
            .where(
                sa.or_(made_by.is_(None), data.c.job == made_by),
                sa.or_(used_by.is_(None), sa.exists().where(uses.c.data == data.c.id, uses.c.job_id == used_by)),
            )
            .order_by(data.c.created_ms.desc(), data.c.id)
            .limit(limit)
            .offset(_parameter("offset"))
        )
        self._uses_of = query(
            sa.select(uses.c.job_id, uses.c.number, uses.c.slot).where(uses.c.data == _parameter("data")).order_by(uses.c.job).limit(limit)
        )
        self._use_count = query(sa.select(sa.func.count(sa.distinct(uses.c.job))).where(uses.c.data == _parameter("data")))
        self._uses = query(sa.select(uses).where(uses.c.job == job))
        subject, before = sa.bindparam("subject", type_=sa.Text()), sa.bindparam("before", type_=sa.BigInteger())
        self._log = query(
            sa.select(log)
            .where(
                sa.or_(subject.is_(None), log.c.subject == subject, log.c.job == subject),
                sa.or_(before.is_(None), log.c.number < before),
            )
            .order_by(log.c.number.desc())
            .limit(limit)
        )

    def ending(self, digits: str, limit: int) -> list[DataRow]:
        """Data whose id ends with these hexadecimal digits."""
        return [_data(row) for row in self._data_ending.all(self._cursor, pattern=f"%{digits}", limit=limit)]

    def made_by(self, job_id: str) -> list[str]:
        """Ids of the data that a job has made."""
        return [one for (one,) in self._data_of.all(self._cursor, job_id=job_id)]

    def select(self, wanted: ListData, limit: int) -> list[DataRow]:
        """Data that fits, the newest first; so many after those that are to be skipped."""
        found: list[DataRow] = []
        offset, skip, tags = 0, max(0, wanted.skip), set(wanted.tags)
        while len(found) < skip + limit:
            rows = self._select_data.all(self._cursor, made_by=wanted.made_by, used_by=wanted.used_by, limit=_SCAN, offset=offset)
            for *row, taken in rows:
                one = _data(tuple(row))
                labels = set(json.loads(one.tags))
                fits = wanted.used in {None, bool(taken)} and tags <= labels and wanted.choice.takes(labels, one.created_ms)
                fits = fits and (wanted.name is None or fnmatch.fnmatchcase(one.name, wanted.name))
                if fits and (wanted.step is None or fnmatch.fnmatchcase(one.step, wanted.step)):
                    found.append(one)
            if len(rows) < _SCAN:
                break
            offset += _SCAN
        return found[skip : skip + limit]

    def uses_of(self, data: str, limit: int) -> list[tuple[str, int, str]]:
        """Job, task and slot of tasks that take data."""
        return [(job, number, slot) for job, number, slot in self._uses_of.all(self._cursor, data=data, limit=limit)]

    def use_count(self, data: str) -> int:
        """How many jobs take data."""
        row = self._use_count.first(self._cursor, data=data)
        return 0 if row is None else int(row[0])

    def taken_by(self, job: int) -> list[UseRow]:
        """What the tasks of a job take."""
        return [UseRow._make(row) for row in self._uses.all(self._cursor, job=job)]

    def log(self, subject: str | None, before: int | None, limit: int) -> list[tuple[Any, ...]]:
        """Entries of the log, the latest first."""
        return list(self._log.all(self._cursor, subject=subject, before=before, limit=limit))


def _data(row: tuple[Any, ...]) -> DataRow:
    found = DataRow._make(row)
    return found._replace(ref=decode_part(DataRef, found.ref))


def _parameter(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name)
