"""The ledger's database: one connection, one transaction for a batch, statements that are compiled once.

Every transaction holds only while nobody else has taken the partition: it starts with a look at the epoch row.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.pool import StaticPool

from broker_jobs.coordinator.store import schema
from broker_jobs.coordinator.store.lock import LedgerLock
from broker_jobs.coordinator.store.parts import clean
from broker_jobs.coordinator.store.rows import (
    ClassRow,
    EarlyRow,
    JobFacts,
    JobRow,
    NewTaskRow,
    OptionsRow,
    OutboxRow,
    OutcomeRow,
    ProgressRow,
    TaskRow,
    TaskView,
    WorkerRow,
)
from broker_jobs.core.job import TaskRecord
from broker_jobs.core.spec import Request, TaskOptions
from broker_jobs.core.states import JOB_ENDED, JobState, TaskState
from broker_jobs.errors import LedgerRefused
from broker_jobs.wire.codec import decode_part, encode_part
from broker_jobs.wire.messages import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sqlalchemy.engine import Connection, Dialect, RowMapping
    from sqlalchemy.sql.base import Executable

_MOST_VARIABLES: Final = 900
"""Numbers in one IN (…): SQLite before 3.32 takes 999 variables."""


@dataclass(slots=True)
class Writes:
    """What one batch changes; each list is one statement."""

    new_jobs: list[JobRow] = field(default_factory=list)
    jobs: list[JobRow] = field(default_factory=list)
    jobs_done: list[int] = field(default_factory=list)
    new_tasks: list[tuple[NewTaskRow, TaskRow]] = field(default_factory=list)
    tasks: list[TaskRow] = field(default_factory=list)
    specs: list[tuple[int, int, bytes]] = field(default_factory=list)
    outcomes: list[OutcomeRow] = field(default_factory=list)
    progress: list[ProgressRow] = field(default_factory=list)
    options: list[OptionsRow] = field(default_factory=list)
    blobs: list[tuple[int, str, bytes]] = field(default_factory=list)
    chunks: list[tuple[int, str]] = field(default_factory=list)
    early: list[EarlyRow] = field(default_factory=list)
    early_done: list[int] = field(default_factory=list)
    outbox: list[OutboxRow] = field(default_factory=list)
    outbox_done: list[int] = field(default_factory=list)
    workers: list[WorkerRow] = field(default_factory=list)
    workers_done: list[str] = field(default_factory=list)
    classes: list[ClassRow] = field(default_factory=list)
    classes_done: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(getattr(self, entry.name) for entry in fields(self))


class _Statement:
    """A statement that is compiled once and run with tuples, in the order of its parameters."""

    def __init__(self, statement: Any, dialect: Dialect, names: Sequence[str]) -> None:
        compiled = statement.compile(dialect=dialect)
        if list(compiled.positiontup) != list(names):
            raise TypeError(f"parameters {compiled.positiontup} are not {list(names)}")
        self.sql = str(compiled)

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run it for each row."""
        if rows:
            connection.exec_driver_sql(self.sql, list(rows) if len(rows) > 1 else rows[0])


class _Statements:
    """All that writes."""

    def __init__(self, dialect: Dialect) -> None:
        def insert(table: sa.Table, names: Sequence[str]) -> _Statement:
            return _Statement(table.insert().values({name: sa.bindparam(name) for name in names}), dialect, names)

        def replace(table: sa.Table, names: Sequence[str]) -> _Statement:
            statement = upsert(table).values({name: sa.bindparam(name) for name in names})
            keys = [column.name for column in table.primary_key]
            new = {name: statement.excluded[name] for name in names if name not in keys}
            return _Statement(statement.on_conflict_do_update(index_elements=keys, set_=new), dialect, names)

        def update(table: sa.Table, names: Sequence[str], keys: Sequence[str]) -> _Statement:
            where = [table.c[key] == sa.bindparam(f"{key}_") for key in keys]
            values: dict[str, Any] = {name: sa.bindparam(name) for name in names}
            return _Statement(table.update().where(*where).values(values), dialect, [*names, *(f"{key}_" for key in keys)])

        def delete(table: sa.Table, key: str) -> _Statement:
            return _Statement(table.delete().where(table.c[key] == sa.bindparam(f"{key}_")), dialect, [f"{key}_"])

        self.new_jobs = insert(schema.jobs, JobRow._fields)
        self.jobs = update(schema.jobs, JobRow._fields[1:], ["key"])
        self.new_tasks = insert(schema.tasks, ["job", "number", *NewTaskRow._fields, *TaskRow._fields[:-3], "progress_text", "changed"])
        self.tasks = update(schema.tasks, TaskRow._fields[:-2], ["job", "number"])
        self.progress = update(schema.tasks, ProgressRow._fields[:2], ["job", "number"])
        self.specs = insert(schema.specs, ["job", "number", "spec"])
        self.outcomes = replace(schema.outcomes, OutcomeRow._fields)
        self.options = insert(schema.options, OptionsRow._fields)
        ignore = upsert(schema.blobs).values({name: sa.bindparam(name) for name in ("job", "key", "data")}).on_conflict_do_nothing()
        self.blobs = _Statement(ignore, dialect, ["job", "key", "data"])
        self.chunks = insert(schema.chunks, ["job", "chunk"])
        self.early = insert(schema.early, EarlyRow._fields)
        self.early_done = delete(schema.early, "id")
        self.outbox = insert(schema.outbox, OutboxRow._fields)
        self.outbox_done = delete(schema.outbox, "id")
        self.workers = replace(schema.workers, WorkerRow._fields)
        self.workers_done = delete(schema.workers, "name")
        self.classes = replace(schema.classes, ClassRow._fields)
        self.classes_done = delete(schema.classes, "name")
        of_a_job = (schema.tasks, schema.specs, schema.outcomes, schema.options, schema.blobs, schema.chunks)
        self.jobs_done = [*(delete(table, "job") for table in of_a_job), delete(schema.jobs, "key")]


class LedgerStore:
    """The database of one namespace's ledger. Used by one thread at a time.

    Args:
        url: ``sqlite:////folder/ledger.db``; the folder is made where it is missing
        durable: survive a loss of power too (SQLite: ``synchronous=FULL``)
        holder: who this is, for the next one who is refused

    Raises:
        LedgerRefused: another coordinator holds it, it is of another namespace or version, or it is no such database
    """

    def __init__(self, url: str, namespace: str, *, durable: bool = False, holder: str = "") -> None:
        address = sa.make_url(url)
        if address.get_backend_name() != "sqlite" or not address.database or address.database == ":memory:":
            raise LedgerRefused(f"the ledger's store must be a file, such as sqlite:////var/lib/jobs/ledger.db, not {address}")
        path = Path(address.database)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self._holder = holder
        self._epochs: dict[int, int] = {}
        self._lock = LedgerLock(path)
        self._engine = sa.create_engine(
            address.set(drivername="sqlite"), isolation_level="AUTOCOMMIT", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )
        try:
            self._connection = self._engine.connect()
            for pragma in ("journal_mode=WAL", f"synchronous={'FULL' if durable else 'NORMAL'}", "busy_timeout=10000", "cache_size=-65536"):
                self._connection.exec_driver_sql(f"PRAGMA {pragma}")
            self._prepare(namespace)
        except sa.exc.DBAPIError as error:
            self.close()
            raise LedgerRefused(f"the ledger {path} cannot be used: {error.orig}") from error
        except LedgerRefused:
            self.close()
            raise
        path.chmod(0o600)
        self._statements = _Statements(self._engine.dialect)

    def close(self) -> None:
        """Close the database and let the next coordinator in."""
        self._engine.dispose()
        self._lock.close()

    def _prepare(self, namespace: str) -> None:
        self._connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            schema.metadata.create_all(self._connection)
            known = {row.name: row.value for row in self._connection.execute(sa.select(schema.meta))}
            wanted = {"schema": str(schema.SCHEMA_VERSION), "namespace": namespace}
            if not known:
                self._connection.execute(schema.meta.insert(), [{"name": name, "value": value} for name, value in wanted.items()])
            elif known.get("schema") != wanted["schema"]:
                raise LedgerRefused(f"the ledger {self.path} has the format {known.get('schema')}, and this version reads {wanted['schema']}")
            elif known.get("namespace") != namespace:
                raise LedgerRefused(f"the ledger {self.path} belongs to the namespace {known.get('namespace')!r}, not to {namespace!r}")
        finally:
            self._connection.exec_driver_sql("COMMIT")

    # --- transactions ---

    def take_epoch(self, partition: int) -> bool:
        """Become the one who writes for this partition; False where somebody else was in between, so that what is in memory is stale."""
        table, connection = schema.epochs, self._connection
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        found = connection.execute(sa.select(table.c.epoch).where(table.c.partition == partition)).scalar()
        ours = found is None or found == self._epochs.get(partition)
        epoch = (found or 0) + 1
        statement = upsert(table).values(partition=partition, epoch=epoch, holder=self._holder)
        connection.execute(statement.on_conflict_do_update(index_elements=["partition"], set_={"epoch": epoch, "holder": self._holder}))
        connection.exec_driver_sql("COMMIT")
        self._epochs[partition] = epoch
        return ours

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what is written inside.

        Raises:
            LedgerRefused: another coordinator has taken a partition of ours
        """
        connection = self._connection
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            self._check_epochs()
            yield
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")

    def _check_epochs(self) -> None:
        found = {row.partition: row for row in self._connection.execute(sa.select(schema.epochs))}
        for partition, epoch in self._epochs.items():
            row = found.get(partition)
            if row is None or row.epoch != epoch:
                raise LedgerRefused(f"another coordinator has taken partition {partition}: {row.holder if row else 'its row is gone'}")

    def write_payloads(self, writes: Writes) -> None:
        """Write what queries of the same batch need to find, and take it out of `writes`."""
        connection, statements = self._connection, self._statements
        statements.specs.run(connection, writes.specs)
        statements.outcomes.run(connection, writes.outcomes)
        statements.blobs.run(connection, writes.blobs)
        writes.specs, writes.outcomes, writes.blobs = [], [], []

    def write(self, writes: Writes) -> None:
        """Write all of it."""
        connection, statements = self._connection, self._statements
        self.write_payloads(writes)
        # A job gives up its idempotency key before another takes it.
        statements.jobs.run(connection, [(*row[1:], row.key) for row in writes.jobs])
        statements.new_jobs.run(connection, writes.new_jobs)
        new_tasks = [(state.job, state.number, *new, *state[:-3], "", state.changed) for new, state in writes.new_tasks]
        statements.new_tasks.run(connection, new_tasks)
        statements.tasks.run(connection, writes.tasks)
        statements.progress.run(connection, writes.progress)
        statements.options.run(connection, [(*row[:2], encode_part(row.options), row.resource_class) for row in writes.options])
        statements.chunks.run(connection, writes.chunks)
        statements.early.run(connection, writes.early)
        statements.early_done.run(connection, [(number,) for number in writes.early_done])
        statements.outbox.run(connection, writes.outbox)
        statements.outbox_done.run(connection, [(number,) for number in writes.outbox_done])
        statements.workers.run(
            connection, [(*row[:6], encode_part(row.resources), encode_part(row.free), row.seen_ms) for row in writes.workers]
        )
        statements.workers_done.run(connection, [(name,) for name in writes.workers_done])
        statements.classes.run(connection, [(row.name, encode_part(row.needs), row.used_ms) for row in writes.classes])
        statements.classes_done.run(connection, [(name,) for name in writes.classes_done])
        for statement in statements.jobs_done:
            statement.run(connection, [(key,) for key in writes.jobs_done])

    # --- what a coordinator needs at its start ---

    def live_jobs(self) -> list[JobFacts]:
        """Jobs that have not ended, oldest first."""
        table = schema.jobs
        ended = [state.value for state in JOB_ENDED]
        return [_job(row) for row in self._rows(sa.select(table).where(table.c.state.not_in(ended)).order_by(table.c.key))]

    def next_job_key(self) -> int:
        """A key that no job has or had."""
        return int(self._connection.execute(sa.select(sa.func.coalesce(sa.func.max(schema.jobs.c.key), 0))).scalar_one()) + 1

    def options(self, job: int) -> list[OptionsRow]:
        """The options of a job, by number."""
        table = schema.options
        rows = self._rows(sa.select(table).where(table.c.job == job).order_by(table.c.number))
        return [OptionsRow(row.job, row.number, decode_part(TaskOptions, row.options), row.resource_class) for row in rows]

    def tasks(self, job: int, options: Sequence[OptionsRow]) -> Iterator[tuple[TaskRecord, NewTaskRow, TaskRow]]:
        """The tasks of a job, each with its record and its rows."""
        table = schema.tasks
        for row in self._rows(sa.select(table).where(table.c.job == job).order_by(table.c.number)):
            shared = options[row.options].options
            record = TaskRecord(
                row.number,
                _numbers(row.deps),
                _numbers(row.after),
                shared.retry,
                shared.crash_limit,
                TaskState(row.state),
                row.attempt,
                row.failures,
                row.crashes,
                row.execution,
                row.isolated,
                row.reason,
            )
            values = row._mapping  # noqa: SLF001 (its public name in SQLAlchemy)
            yield record, NewTaskRow(*(values[name] for name in NewTaskRow._fields)), TaskRow(*(values[name] for name in TaskRow._fields))

    def chunk_names(self, job: int) -> set[str]:
        """The submitter's chunks of a job that have come."""
        return set(self._connection.execute(sa.select(schema.chunks.c.chunk).where(schema.chunks.c.job == job)).scalars())

    def outbox(self) -> list[OutboxRow]:
        """What was not confirmed yet, oldest first."""
        return [OutboxRow._make(row) for row in self._rows(sa.select(schema.outbox).order_by(schema.outbox.c.id))]

    def early_jobs(self) -> tuple[set[str], int]:
        """Jobs with early replies, and an id that no early reply has."""
        table = schema.early
        last = self._connection.execute(sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0))).scalar_one()
        return set(self._connection.execute(sa.select(table.c.job_id).distinct()).scalars()), int(last) + 1

    def workers(self) -> list[WorkerRow]:
        """All workers."""
        return [
            WorkerRow._make(row)._replace(resources=decode_part(Request, row.resources), free=decode_part(Request, row.free))
            for row in self._rows(sa.select(schema.workers))
        ]

    def classes(self) -> list[ClassRow]:
        """All resource classes that have queues."""
        return [ClassRow(row.name, decode_part(Request, row.needs), row.used_ms) for row in self._rows(sa.select(schema.classes))]

    # --- lookups ---

    def job(self, job_id: str) -> JobFacts | None:
        """The row of a job."""
        row = self._connection.execute(sa.select(schema.jobs).where(schema.jobs.c.id == job_id)).mappings().first()
        return _job_of(row) if row else None

    def jobs(self, job_ids: Iterable[str]) -> list[JobFacts]:
        """The rows of these jobs, as far as they are known."""
        return [_job(row) for part in _parts(list(job_ids)) for row in self._rows(sa.select(schema.jobs).where(schema.jobs.c.id.in_(part)))]

    def last_job(self) -> str | None:
        """The id of the newest job that a person submitted."""
        table = schema.jobs
        statement = sa.select(table.c.id).where(table.c.ephemeral.is_(False)).order_by(table.c.submitted_ms.desc(), table.c.key.desc())
        return self._connection.execute(statement.limit(1)).scalar()

    def ending(self, digits: str, limit: int) -> list[str]:
        """Ids of jobs that end with these hexadecimal digits, newest first."""
        table = schema.jobs
        statement = sa.select(table.c.id).where(table.c.id.like(f"%{digits}")).order_by(table.c.key.desc()).limit(limit)
        return list(self._connection.execute(statement).scalars())

    def job_with_key(self, idempotency_key: str) -> str | None:
        """The id of the job with this idempotency key."""
        table = schema.jobs
        return self._connection.execute(sa.select(table.c.id).where(table.c.idempotency_key == idempotency_key)).scalar()

    def select_jobs(self, state: JobState | None, *, ephemeral: bool, fits: Callable[[JobFacts], bool], limit: int) -> list[JobFacts]:
        """Jobs that fit, newest first."""
        table = schema.jobs
        statement = sa.select(table).order_by(table.c.submitted_ms.desc(), table.c.key.desc())
        if state is not None:
            statement = statement.where(table.c.state == state.value)
        if not ephemeral:
            statement = statement.where(table.c.ephemeral.is_(False))
        found: list[JobFacts] = []
        with self._connection.execute(statement) as result:
            for row in result.mappings():
                job = _job_of(row)
                if fits(job):
                    found.append(job)
                    if len(found) == limit:
                        break
        return found

    def ended_before(self, ms: int, *, ephemeral: bool, limit: int) -> list[JobFacts]:
        """Jobs that ended before a time, oldest first."""
        table = schema.jobs
        statement = sa.select(table).where(table.c.ended_ms < ms)
        if ephemeral:
            statement = statement.where(table.c.ephemeral.is_(True))
        return [_job(row) for row in self._rows(statement.order_by(table.c.ended_ms).limit(limit))]

    def changes(self, job: int, since: int, limit: int, numbers: Sequence[int] | None) -> list[TaskView]:
        """Tasks that changed after a version of their job, oldest change first."""
        table = schema.tasks
        statement = sa.select(*(table.c[name] for name in TaskView._fields)).where(table.c.job == job, table.c.changed > since)
        statement = statement.order_by(table.c.changed).limit(limit)
        if numbers is None:
            return [TaskView._make(row) for row in self._rows(statement)]
        found = [TaskView._make(row) for part in _parts(list(numbers)) for row in self._rows(statement.where(table.c.number.in_(part)))]
        return sorted(found, key=lambda view: view.changed)[:limit]

    def task(self, job: int, number: int) -> TaskView | None:
        """One task."""
        table = schema.tasks
        statement = sa.select(*(table.c[name] for name in TaskView._fields)).where(table.c.job == job, table.c.number == number)
        row = self._connection.execute(statement).first()
        return TaskView._make(row) if row else None

    def specs(self, job: int, numbers: Sequence[int]) -> dict[int, bytes]:
        """Encoded tasks."""
        table = schema.specs
        statement = sa.select(table.c.number, table.c.spec).where(table.c.job == job)
        return {row.number: row.spec for part in _parts(numbers) for row in self._rows(statement.where(table.c.number.in_(part)))}

    def outcomes(self, job: int, numbers: Sequence[int]) -> dict[int, bytes]:
        """Encoded outcomes of tasks that have one."""
        table = schema.outcomes
        statement = sa.select(table.c.number, table.c.outcome).where(table.c.job == job)
        return {row.number: row.outcome for part in _parts(numbers) for row in self._rows(statement.where(table.c.number.in_(part)))}

    def output(self, job: int, number: int) -> OutcomeRow | None:
        """How a task ended and what it printed."""
        table = schema.outcomes
        row = self._connection.execute(sa.select(table).where(table.c.job == job, table.c.number == number)).first()
        return OutcomeRow._make(row) if row else None

    def blobs(self, job: int, keys: Sequence[str]) -> dict[str, bytes]:
        """Functions and values of a job."""
        table = schema.blobs
        statement = sa.select(table.c.key, table.c.data).where(table.c.job == job)
        return {row.key: row.data for part in _parts(keys) for row in self._rows(statement.where(table.c.key.in_(part)))}

    def early(self, job_id: str, numbers: Sequence[int]) -> list[EarlyRow]:
        """Early replies for these tasks, in the order in which they came."""
        table = schema.early
        statement = sa.select(table).where(table.c.job_id == job_id)
        found = [EarlyRow._make(row) for part in _parts(numbers) for row in self._rows(statement.where(table.c.task.in_(part)))]
        return sorted(found)

    # --- what ends ---

    def drop_early(self, before_ms: int) -> None:
        """Delete early replies whose job never came."""
        self._connection.execute(schema.early.delete().where(schema.early.c.heard_ms < before_ms))

    def _rows(self, statement: Executable) -> Sequence[sa.Row[Any]]:
        return self._connection.execute(statement).all()


def job_row(job: JobFacts) -> JobRow:
    """The row of a job as it is written."""
    return JobRow(
        job.key,
        job.id,
        clean(job.name),
        job.submitter,
        clean(job.user),
        json.dumps(job.tags),
        job.max_fails,
        None if job.idempotency_key is None else clean(job.idempotency_key),
        job.ephemeral,
        job.headed,
        encode_part(job.origin),
        None if job.store is None else clean(job.store),
        job.total,
        job.chunks,
        job.state.value,
        job.version,
        json.dumps({state.value: count for state, count in job.counts.items() if count}),
        None if job.cancel_reason is None else clean(job.cancel_reason),
        None if job.void_reason is None else clean(job.void_reason),
        job.released,
        job.submitted_ms,
        job.heard_ms,
        job.started_ms,
        job.ended_ms,
    )


def _job(row: sa.Row[Any]) -> JobFacts:
    return _job_of(row._mapping)  # noqa: SLF001 (its public name in SQLAlchemy)


def _job_of(row: RowMapping) -> JobFacts:
    values = dict(row)
    values["origin"] = decode_part(Origin, row["origin"])
    values["tags"] = tuple(json.loads(row["tags"]))
    values["counts"] = {TaskState(state): count for state, count in json.loads(row["counts"]).items()}
    values["state"] = JobState(row["state"])
    return JobFacts(**values)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(","))) if text else ()


def _parts(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Pieces that fit into one statement."""
    for start in range(0, len(items), _MOST_VARIABLES):
        yield items[start : start + _MOST_VARIABLES]
