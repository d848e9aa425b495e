"""What one batch changes, and the statements that write it: one for each kind of row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker_jobs.coordinator.store import schema
from broker_jobs.coordinator.store.rows import (
    ClassRow,
    DataRow,
    EarlyRow,
    JobRow,
    LinkRow,
    LogRow,
    MoveRow,
    NewTaskRow,
    OptionsRow,
    OutboxRow,
    OutcomeRow,
    PackRow,
    ProgressRow,
    ReservationRow,
    RevocationRow,
    StepRow,
    SuccessesRow,
    SweepRow,
    TaskRow,
    UseRow,
    WorkerRow,
)
from broker_jobs.coordinator.store.statement import Changes
from broker_jobs.coordinator.store.sweeps import sweeps
from broker_jobs.wire.codec import encode_part

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Dialect

    from broker_jobs.coordinator.store.packs import Apart
    from broker_jobs.coordinator.store.statement import Cursor


@dataclass(slots=True)
class Writes:
    """New and changed rows, and keys of those that are not needed any more (``…_done``)."""

    new_jobs: list[JobRow] = field(default_factory=list)
    jobs: list[JobRow] = field(default_factory=list)
    jobs_done: list[int] = field(default_factory=list)
    new_tasks: list[tuple[NewTaskRow, TaskRow]] = field(default_factory=list)
    sweeps: list[SweepRow] = field(default_factory=list)
    tasks: list[TaskRow] = field(default_factory=list)
    specs: list[tuple[int, int, bytes]] = field(default_factory=list)
    outcomes: list[OutcomeRow] = field(default_factory=list)
    packs: list[PackRow] = field(default_factory=list)
    moves: list[MoveRow] = field(default_factory=list)
    successes: list[SuccessesRow] = field(default_factory=list)
    progress: list[ProgressRow] = field(default_factory=list)
    options: list[OptionsRow] = field(default_factory=list)
    blobs: list[tuple[int, str, bytes]] = field(default_factory=list)
    chunks: list[tuple[int, str]] = field(default_factory=list)
    reservations: list[ReservationRow] = field(default_factory=list)
    links: list[LinkRow] = field(default_factory=list)
    links_done: list[LinkRow] = field(default_factory=list)
    early: list[EarlyRow] = field(default_factory=list)
    early_done: list[int] = field(default_factory=list)
    outbox: list[OutboxRow] = field(default_factory=list)
    outbox_done: list[int] = field(default_factory=list)
    workers: list[WorkerRow] = field(default_factory=list)
    workers_done: list[str] = field(default_factory=list)
    classes: list[ClassRow] = field(default_factory=list)
    classes_done: list[str] = field(default_factory=list)
    revocations: list[RevocationRow] = field(default_factory=list)
    revocations_done: list[tuple[str, int, str]] = field(default_factory=list)
    steps: list[StepRow] = field(default_factory=list)
    data: list[DataRow] = field(default_factory=list)
    data_done: list[str] = field(default_factory=list)
    uses: list[UseRow] = field(default_factory=list)
    log: list[LogRow] = field(default_factory=list)


class Writer:
    """Writes batches."""

    def __init__(self, dialect: Dialect) -> None:
        make = Changes(dialect)
        self._new_jobs = make.insert(schema.jobs, JobRow._fields)
        self._jobs = make.update(schema.jobs, JobRow._fields[1:], ["key"])
        dynamic = TaskRow._fields[:-3]
        self._new_tasks = make.insert(schema.tasks, ["job", "number", *NewTaskRow._fields, *dynamic, "progress_text", "changed"])
        self._tasks = make.update(schema.tasks, TaskRow._fields[:-2], ["job", "number"])
        self._sweeps = {state.value: make.several(statement) for state, statement in sweeps().items()}
        self._revocations = make.replace(schema.revocations, RevocationRow._fields)
        self._revocations_done = make.delete(schema.revocations, *RevocationRow._fields[:3])
        self._progress = make.update(schema.tasks, ProgressRow._fields[:2], ["job", "number"])
        self._specs = make.insert(schema.specs, ["job", "number", "spec"])
        self._outcomes = make.replace(schema.outcomes, OutcomeRow._fields)
        self._packs = make.insert(schema.packs, PackRow._fields)
        self._packs_done = make.delete(schema.packs, "job", "first")
        self._moves = make.insert(schema.moves, MoveRow._fields)
        self._successes = make.insert(schema.successes, SuccessesRow._fields)
        self._options = make.insert(schema.options, OptionsRow._fields)
        self._blobs = make.insert_or_keep(schema.blobs, ["job", "key", "data"])
        self._chunks = make.insert(schema.chunks, ["job", "chunk"])
        self._reservations = make.insert(schema.reservations, ReservationRow._fields)
        self._links = make.insert(schema.links, LinkRow._fields)
        self._links_done = make.delete(schema.links, *LinkRow._fields[:-1])
        self._early = make.insert(schema.early, EarlyRow._fields)
        self._early_done = make.delete(schema.early, "id")
        self._outbox = make.insert(schema.outbox, OutboxRow._fields)
        self._outbox_done = make.delete(schema.outbox, "id")
        self._workers = make.replace(schema.workers, WorkerRow._fields)
        self._workers_done = make.delete(schema.workers, "name")
        self._classes = make.replace(schema.classes, ClassRow._fields)
        self._classes_done = make.delete(schema.classes, "name")
        self._steps = make.replace(schema.steps, StepRow._fields)
        self._data = make.replace(schema.data, DataRow._fields)
        self._data_done = make.delete(schema.data, "id")
        self._uses = make.insert_or_keep(schema.uses, UseRow._fields)
        self._log = make.insert(schema.log, LogRow._fields)
        of_a_job = (
            *(schema.tasks, schema.specs, schema.outcomes, schema.options, schema.blobs),
            *(schema.chunks, schema.reservations, schema.links, schema.uses, schema.packs, schema.moves, schema.successes),
        )
        self._jobs_done = [*(make.delete(table, "job") for table in of_a_job), make.delete(schema.jobs, "key")]

    def payloads(self, cursor: Cursor, writes: Writes) -> None:
        """Write what lookups of the same batch need to find, and take it out of `writes`."""
        self._specs.run(cursor, writes.specs)
        self._outcomes.run(cursor, writes.outcomes)
        self._packs.run(cursor, writes.packs)
        self._moves.run(cursor, writes.moves)
        self._successes.run(cursor, writes.successes)
        self._blobs.run(cursor, writes.blobs)
        self._uses.run(cursor, writes.uses)
        self._data.run(cursor, [row._replace(ref=encode_part(row.ref)) for row in writes.data])
        self._data_done.run(cursor, [(one,) for one in writes.data_done])
        writes.specs, writes.outcomes, writes.blobs = [], [], []
        writes.packs, writes.moves, writes.successes = [], [], []
        writes.uses, writes.data, writes.data_done = [], [], []

    def sweeps(self, cursor: Cursor, writes: Writes) -> None:
        """Move the rows of many tasks, and take that out of `writes`."""
        for sweep in writes.sweeps:
            self._sweeps[sweep.after].run(cursor, sweep._asdict())
        writes.sweeps = []

    def apart(self, cursor: Cursor, job: int, first: int, rows: Apart) -> None:
        """Write the rows that a pack stands for, in its place."""
        self._packs_done.run(cursor, [(job, first)])
        self._add_tasks(cursor, rows.tasks)
        self._specs.run(cursor, rows.specs)
        self._outcomes.run(cursor, rows.outcomes)

    def _add_tasks(self, cursor: Cursor, rows: Iterable[tuple[NewTaskRow, TaskRow]]) -> None:
        self._new_tasks.run(cursor, [(state.job, state.number, *new, *state[:-3], "", state.changed) for new, state in rows])

    def all(self, cursor: Cursor, writes: Writes) -> None:
        """Write everything."""
        self.payloads(cursor, writes)
        self._new_jobs.run(cursor, writes.new_jobs)
        self._jobs.run(cursor, [(*row[1:], row.key) for row in writes.jobs])
        # Before the rows of single tasks: what else has happened to those is written over it.
        self.sweeps(cursor, writes)
        self._add_tasks(cursor, writes.new_tasks)
        self._tasks.run(cursor, writes.tasks)
        self._progress.run(cursor, writes.progress)
        self._options.run(
            cursor,
            [row._replace(options=encode_part(row.options), origin=row.origin and encode_part(row.origin)) for row in writes.options],
        )
        self._chunks.run(cursor, writes.chunks)
        self._reservations.run(cursor, writes.reservations)
        self._links.run(cursor, writes.links)
        self._links_done.run(cursor, [row[:-1] for row in writes.links_done])
        self._early.run(cursor, writes.early)
        self._early_done.run(cursor, [(number,) for number in writes.early_done])
        self._outbox.run(cursor, writes.outbox)
        self._outbox_done.run(cursor, [(number,) for number in writes.outbox_done])
        self._workers.run(
            cursor,
            [
                row._replace(
                    resources=encode_part(row.resources),
                    free=encode_part(row.free),
                    asked=None if row.asked is None else encode_part(row.asked),
                )
                for row in writes.workers
            ],
        )
        self._workers_done.run(cursor, [(name,) for name in writes.workers_done])
        self._classes.run(cursor, [row._replace(needs=encode_part(row.needs)) for row in writes.classes])
        self._classes_done.run(cursor, [(name,) for name in writes.classes_done])
        self._revocations_done.run(cursor, writes.revocations_done)
        self._revocations.run(cursor, writes.revocations)
        self._steps.run(cursor, [row._replace(spec=encode_part(row.spec)) for row in writes.steps])
        self._log.run(cursor, writes.log)
        for change in self._jobs_done:
            change.run(cursor, [(key,) for key in writes.jobs_done])
