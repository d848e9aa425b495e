"""What is read from the ledger."""

from __future__ import annotations

import heapq
import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from broker_jobs.coordinator.store import schema
from broker_jobs.coordinator.store.datalookups import DataLookups
from broker_jobs.coordinator.store.packs import Packs
from broker_jobs.coordinator.store.rows import (
    ClassRow,
    EarlyRow,
    JobFacts,
    LinkRow,
    NewTaskRow,
    OptionsRow,
    OutboxRow,
    OutcomeRow,
    ReservationRow,
    RevocationRow,
    StepRow,
    TaskRow,
    TaskView,
    WorkerRow,
)
from broker_jobs.coordinator.store.statement import Query
from broker_jobs.core.job import TaskRecord
from broker_jobs.core.request import Request
from broker_jobs.core.resources import Resources
from broker_jobs.core.spec import TaskOptions
from broker_jobs.core.states import JOB_ENDED, JobState, TaskState
from broker_jobs.core.step import StepSpec
from broker_jobs.wire.codec import decode_part
from broker_jobs.wire.messages import DrainAsked, Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy.engine import Dialect

    from broker_jobs.coordinator.store.statement import Cursor

_SCAN: int = 200
"""Rows of jobs that a search reads at once."""


class Lookups:
    """Reads rows.

    Args:
        cursor: of the ledger's one connection

    Attributes:
        data: reads those of data
        packs: reads those of tasks that share one
    """

    def __init__(self, cursor: Cursor, dialect: Dialect) -> None:
        self._cursor = cursor
        self.data = DataLookups(cursor, dialect)
        self.packs = Packs(cursor, dialect)
        jobs, tasks, early = schema.jobs, schema.tasks, schema.early
        views = [tasks.c[name] for name in TaskView._fields]
        job_id, job, number, key, limit = map(_parameter, ("job_id", "job", "number", "key", "limit"))

        def query(statement: sa.Select[Any]) -> Query:
            return Query(statement, dialect)

        self._live = query(sa.select(jobs).where(jobs.c.state.not_in([state.value for state in JOB_ENDED])).order_by(jobs.c.key))
        self._last_key = query(sa.select(sa.func.max(jobs.c.key)))
        self._job = query(sa.select(jobs).where(jobs.c.id == job_id))
        self._last_job = query(
            sa.select(jobs.c.id).where(jobs.c.ephemeral.is_(False)).order_by(jobs.c.submitted_ms.desc(), jobs.c.key.desc()).limit(1)
        )
        ending = jobs.c.id.like(sa.bindparam("pattern"))
        self._ending = query(sa.select(jobs.c.id).where(ending).order_by(jobs.c.key.desc()).limit(limit))
        self._with_key = query(sa.select(jobs.c.id).where(jobs.c.idempotency_key == key))
        state, ephemeral = sa.bindparam("state", type_=sa.Text()), sa.bindparam("ephemeral", type_=sa.Boolean())
        self._select = query(
            sa.select(jobs)
            .where(sa.or_(state.is_(None), jobs.c.state == state), sa.or_(jobs.c.ephemeral == ephemeral, jobs.c.ephemeral.is_(False)))
            .order_by(jobs.c.submitted_ms.desc(), jobs.c.key.desc())
            .limit(limit)
            .offset(sa.bindparam("offset"))
        )
        self._below = query(
            sa.select(jobs).where(jobs.c.parent == sa.bindparam("parent")).order_by(jobs.c.submitted_ms.desc(), jobs.c.key.desc())
        )
        data, below = schema.data, jobs.alias("below")
        self._ended = query(
            sa.select(jobs)
            .where(
                jobs.c.ended_ms < sa.bindparam("ms"),
                sa.or_(jobs.c.ephemeral == ephemeral, jobs.c.ephemeral.is_(True)),
                sa.not_(sa.exists().where(data.c.job == jobs.c.id)),
                sa.not_(sa.exists().where(below.c.parent == jobs.c.id)),
            )
            .order_by(jobs.c.ended_ms)
            .limit(limit)
        )
        self._options = query(sa.select(schema.options).where(schema.options.c.job == job).order_by(schema.options.c.number))
        self._tasks = query(sa.select(tasks).where(tasks.c.job == job).order_by(tasks.c.number))
        self._chunks = query(sa.select(schema.chunks.c.chunk).where(schema.chunks.c.job == job))
        self._reservations = query(sa.select(schema.reservations).where(schema.reservations.c.job == job))
        self._links = query(sa.select(schema.links).where(schema.links.c.job == job))
        self._task = query(sa.select(*views).where(tasks.c.job == job, tasks.c.number == number))
        newer = sa.select(*views).where(tasks.c.job == job, tasks.c.changed > sa.bindparam("since"))
        self._changes = query(newer.order_by(tasks.c.changed).limit(limit))
        self._spec = query(sa.select(schema.specs.c.spec).where(schema.specs.c.job == job, schema.specs.c.number == number))
        self._name = query(sa.select(tasks.c.name).where(tasks.c.job == job, tasks.c.number == number))
        outcomes = schema.outcomes
        self._outcome = query(sa.select(outcomes.c.outcome).where(outcomes.c.job == job, outcomes.c.number == number))
        self._output = query(sa.select(outcomes).where(outcomes.c.job == job, outcomes.c.number == number))
        self._blob = query(sa.select(schema.blobs.c.data).where(schema.blobs.c.job == job, schema.blobs.c.key == key))
        self._blobs = query(sa.select(schema.blobs.c.key, schema.blobs.c.data).where(schema.blobs.c.job == job))
        self._outbox = query(sa.select(schema.outbox).order_by(schema.outbox.c.id))
        self._early = query(sa.select(early).where(early.c.job_id == job_id, early.c.task == number).order_by(early.c.id))
        self._early_jobs = query(sa.select(early.c.job_id).distinct())
        self._last_early = query(sa.select(sa.func.max(early.c.id)))
        self._old_early = query(sa.select(early.c.id).where(early.c.heard_ms < sa.bindparam("ms")))
        self._workers = query(sa.select(schema.workers))
        self._classes = query(sa.select(schema.classes))
        self._revocations = query(sa.select(schema.revocations))
        self._steps = query(sa.select(schema.steps))

    # --- at the start ---

    def live_jobs(self) -> list[JobFacts]:
        """Jobs that have not ended, oldest first."""
        return [self._facts(row) for row in self._live.all(self._cursor)]

    def next_job_key(self) -> int:
        """A key that no job has."""
        return self._most(self._last_key) + 1

    def options(self, job: int) -> list[OptionsRow]:
        """The options of a job, by number."""
        rows = map(OptionsRow._make, self._options.all(self._cursor, job=job))
        return [
            row._replace(
                options=decode_part(TaskOptions, row.options), origin=None if row.origin is None else decode_part(Origin, row.origin)
            )
            for row in rows
        ]

    def tasks(self, job: int, options: Sequence[OptionsRow]) -> Iterator[tuple[TaskRecord, NewTaskRow, TaskRow]]:
        """The tasks of a job by number, each with its record and its rows; the sizes of those in packs are averages."""
        names = self._tasks.names
        new_at = [names.index(name) for name in NewTaskRow._fields]
        row_at = [names.index(name) for name in TaskRow._fields]
        rows = (
            (NewTaskRow._make([values[at] for at in new_at]), TaskRow._make([values[at] for at in row_at]))
            for values in self._tasks.all(self._cursor, job=job)
        )
        for new, row in heapq.merge(rows, self.packs.rows(job), key=_number):
            yield _record(new, row, options[new.options].options), new, row

    def chunk_names(self, job: int) -> set[str]:
        """The submitter's chunks of a job that have come."""
        return {chunk for (chunk,) in self._chunks.all(self._cursor, job=job)}

    def reservations(self, job: int) -> list[ReservationRow]:
        """Numbers that submissions to an open job got."""
        return [ReservationRow._make(row) for row in self._reservations.all(self._cursor, job=job)]

    def links(self, job: int) -> list[LinkRow]:
        """What tasks of a job still wait for in other jobs."""
        rows = map(LinkRow._make, self._links.all(self._cursor, job=job))
        return [row._replace(after=bool(row.after), value=bool(row.value)) for row in rows]

    def outbox(self) -> list[OutboxRow]:
        """What was not confirmed yet, oldest first."""
        rows = map(OutboxRow._make, self._outbox.all(self._cursor))
        return [row._replace(mandatory=bool(row.mandatory)) for row in rows]

    def early_jobs(self) -> tuple[set[str], int]:
        """Jobs with early replies, and an id that no early reply has."""
        return {job_id for (job_id,) in self._early_jobs.all(self._cursor)}, self._most(self._last_early) + 1

    def workers(self) -> list[WorkerRow]:
        """All workers."""
        rows = map(WorkerRow._make, self._workers.all(self._cursor))
        return [
            row._replace(
                resources=decode_part(Resources, row.resources),
                free=decode_part(Resources, row.free),
                asked=None if row.asked is None else decode_part(DrainAsked, row.asked),
            )
            for row in rows
        ]

    def classes(self) -> list[ClassRow]:
        """All resource classes that have queues."""
        return [row._replace(needs=decode_part(Request, row.needs)) for row in map(ClassRow._make, self._classes.all(self._cursor))]

    def revocations(self) -> list[RevocationRow]:
        """What must not start although a message of it may stand in a class queue."""
        rows = map(RevocationRow._make, self._revocations.all(self._cursor))
        return [row._replace(unstarted_only=bool(row.unstarted_only)) for row in rows]

    def steps(self) -> list[StepRow]:
        """All steps that workers have announced."""
        return [row._replace(spec=decode_part(StepSpec, row.spec)) for row in map(StepRow._make, self._steps.all(self._cursor))]

    # --- jobs ---

    def job(self, job_id: str) -> JobFacts | None:
        """The row of a job."""
        row = self._job.first(self._cursor, job_id=job_id)
        return self._facts(row) if row else None

    def last_job(self) -> str | None:
        """The id of the newest job that a person submitted."""
        return _one(self._last_job.first(self._cursor))

    def ending(self, digits: str, limit: int) -> list[str]:
        """Ids of jobs that end with these hexadecimal digits, newest first."""
        return [job_id for (job_id,) in self._ending.all(self._cursor, pattern=f"%{digits}", limit=limit)]

    def job_with_key(self, idempotency_key: str) -> str | None:
        """The id of the job with this idempotency key."""
        return _one(self._with_key.first(self._cursor, key=idempotency_key))

    def select_jobs(self, state: JobState | None, *, ephemeral: bool, fits: Callable[[JobFacts], bool], limit: int) -> list[JobFacts]:
        """Jobs that fit, newest first; ephemeral ones only if they are asked for."""
        found: list[JobFacts] = []
        offset = 0
        while len(found) < limit:
            wanted = None if state is None else state.value
            rows = self._select.all(self._cursor, state=wanted, ephemeral=ephemeral, limit=_SCAN, offset=offset)
            found += [facts for facts in map(self._facts, rows) if fits(facts)]
            if len(rows) < _SCAN:
                break
            offset += _SCAN
        return found[:limit]

    def sub_jobs(self, parent: str) -> list[JobFacts]:
        """Jobs that were submitted inside a task of this one, newest first."""
        return [self._facts(row) for row in self._below.all(self._cursor, parent=parent)]

    def ended_before(self, ms: int, *, ephemeral: bool, limit: int) -> list[JobFacts]:
        """Jobs that ended before a time and on which nothing depends, oldest first; all of them, or ephemeral ones alone."""
        return [self._facts(row) for row in self._ended.all(self._cursor, ms=ms, ephemeral=ephemeral, limit=limit)]

    # --- tasks ---

    def changes(self, job: int, since: int, limit: int, numbers: Sequence[int] | None) -> list[TaskView]:
        """Tasks that changed after a version of their job, oldest change first."""
        if numbers is None:
            views = [TaskView._make(row) for row in self._changes.all(self._cursor, job=job, since=since, limit=limit)]
            views += self.packs.changes(job, since, limit)
        else:
            views = [view for view in self.views(job, numbers).values() if view.changed > since]
        return sorted(views, key=lambda view: view.changed)[:limit]

    def task(self, job: int, number: int) -> TaskView | None:
        """One task."""
        return self.views(job, (number,)).get(number)

    def views(self, job: int, numbers: Iterable[int]) -> dict[int, TaskView]:
        """Those of these tasks that there are."""
        wanted = set(numbers)
        found = {number: TaskView._make(row) for number, row in self._by_number(self._task, job, wanted)}
        return found | self.packs.views(job, wanted - found.keys())

    def names(self, job: int, numbers: Iterable[int]) -> dict[int, str]:
        """Names of those of these tasks that there are."""
        wanted = set(numbers)
        found = {number: str(row[0]) for number, row in self._by_number(self._name, job, wanted)}
        return found | self.packs.names(job, wanted - found.keys())

    def specs(self, job: int, numbers: Iterable[int]) -> dict[int, bytes]:
        """Encoded tasks."""
        wanted = set(numbers)
        found = {number: row[0] for number, row in self._by_number(self._spec, job, wanted)}
        return found | self.packs.specs(job, wanted - found.keys())

    def outcomes(self, job: int, numbers: Iterable[int]) -> dict[int, bytes]:
        """Encoded outcomes of tasks that have one."""
        wanted = set(numbers)
        found = {number: row[0] for number, row in self._by_number(self._outcome, job, wanted)}
        return found | {number: row.outcome for number, row in self.packs.outcomes(job, wanted - found.keys()).items()}

    def outputs(self, job: int, numbers: Iterable[int]) -> dict[int, OutcomeRow]:
        """How tasks ended that have an outcome, and what they printed."""
        wanted = set(numbers)
        found = {number: OutcomeRow._make(row) for number, row in self._by_number(self._output, job, wanted)}
        return found | self.packs.outcomes(job, wanted - found.keys())

    def blobs(self, job: int, keys: Iterable[str]) -> dict[str, bytes]:
        """Functions and values of a job."""
        found = ((key, self._blob.first(self._cursor, job=job, key=key)) for key in keys)
        return {key: row[0] for key, row in found if row is not None}

    def all_blobs(self, job: int) -> list[tuple[str, bytes]]:
        """All functions and values of a job, by key."""
        return [(key, data) for key, data in self._blobs.all(self._cursor, job=job)]

    def early(self, job_id: str, numbers: Iterable[int]) -> list[EarlyRow]:
        """Early replies for these tasks, in the order in which they came."""
        rows = (row for number in numbers for row in self._early.all(self._cursor, job_id=job_id, number=number))
        return sorted(map(EarlyRow._make, rows))

    def old_early(self, before_ms: int) -> list[int]:
        """Ids of early replies that came before a time."""
        return [number for (number,) in self._old_early.all(self._cursor, ms=before_ms)]

    def _by_number(self, query: Query, job: int, numbers: Iterable[int]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        found = ((number, query.first(self._cursor, job=job, number=number)) for number in numbers)
        return ((number, row) for number, row in found if row is not None)

    def _most(self, query: Query) -> int:
        row = query.first(self._cursor)
        return int(row[0] or 0) if row else 0

    def _facts(self, row: tuple[Any, ...]) -> JobFacts:
        values = dict(zip(self._job.names, row, strict=True))
        values["origin"] = decode_part(Origin, values["origin"])
        values["tags"] = tuple(json.loads(values["tags"]))
        values["counts"] = {TaskState(state): count for state, count in json.loads(values["counts"]).items()}
        values["state"] = JobState(values["state"])
        values["ephemeral"], values["headed"] = bool(values["ephemeral"]), bool(values["headed"])
        return JobFacts(**values)


def _number(rows: tuple[NewTaskRow, TaskRow]) -> int:
    return rows[1].number


def _record(new: NewTaskRow, row: TaskRow, shared: TaskOptions) -> TaskRecord:
    return TaskRecord(
        row.number,
        _numbers(new.deps),
        _numbers(new.after),
        shared.retry,
        shared.crash_limit,
        TaskState(row.state),
        row.attempt,
        row.failures,
        row.crashes,
        row.execution,
        bool(row.isolated),
        row.reason,
    )


def _parameter(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(","))) if text else ()


def _one(row: tuple[Any, ...] | None) -> str | None:
    return None if row is None else str(row[0])
