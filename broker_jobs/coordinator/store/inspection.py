"""A look at a ledger as it is at one moment, whoever keeps it: everything in one transaction that only reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from broker_jobs.coordinator.store import schema
from broker_jobs.coordinator.store.database import ledger_name, open_database, shown_name
from broker_jobs.coordinator.store.lookups import Lookups
from broker_jobs.coordinator.store.rows import MoveRow, PackRow, SuccessesRow, TaskRow
from broker_jobs.coordinator.store.statement import Query
from broker_jobs.errors import LedgerRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs.coordinator.store.rows import JobFacts

_OF_A_JOB: Final = (
    *(schema.tasks, schema.specs, schema.outcomes, schema.options, schema.blobs),
    *(schema.chunks, schema.reservations, schema.links, schema.uses, schema.packs, schema.moves, schema.successes),
)


class Inspection:
    """Reads all rows of a ledger. Close it soon: a file keeps what is written meanwhile in its log.

    Args:
        url: of a ledger that exists

    Attributes:
        name: for people
        look: what a coordinator reads, too

    Raises:
        LedgerRefused: there is no ledger of this namespace, partition and version
        LedgerLost: the database does not answer
    """

    def __init__(self, url: str, namespace: str, partition: int) -> None:
        ledger = ledger_name(namespace, partition)
        self._database = open_database(url, ledger, durable=False, holder="ledger verify")
        self.name = self._database.name
        try:
            self._cursor = self._database.look()
            self._expect(ledger)
            self.look = Lookups(self._cursor, self._database.dialect)
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Look no longer."""
        self._database.close()

    def damage(self) -> list[str]:
        """What the database itself finds wrong with its pages; empty where it does not look."""
        return self._database.damage(self._cursor)

    def revision(self) -> str:
        """The version that the migrations have written down."""
        rows = self._all(sa.select(schema.alembic_version.c.version_num))
        return ", ".join(str(number) for (number,) in rows)

    def job_keys(self) -> list[tuple[int, str]]:
        """Key and id of each job, oldest first."""
        return [(key, str(job)) for key, job in self._all(sa.select(schema.jobs.c.key, schema.jobs.c.id).order_by(schema.jobs.c.key))]

    def facts(self, job: str) -> JobFacts:
        """The row of a job that there is."""
        found = self.look.job(job)
        if found is None:
            raise LedgerRefused(f"the ledger {self.name} has no job {job} any more")
        return found

    def tasks(self, job: int) -> list[tuple[TaskRow, int, int, tuple[int, ...], tuple[int, ...]]]:
        """The rows of the tasks of a job that are in no pack: state, options, size, dependencies, what they come after."""
        tasks = schema.tasks
        more = (tasks.c.options, tasks.c.size, tasks.c.deps, tasks.c.after)
        wanted = sa.select(*(tasks.c[name] for name in TaskRow._fields), *more).where(tasks.c.job == job).order_by(tasks.c.number)
        return [
            (TaskRow._make(row), options, size, _numbers(deps), _numbers(after)) for *row, options, size, deps, after in self._all(wanted)
        ]

    def packs(self, job: int) -> list[PackRow]:
        """The packs of a job, with their tasks."""
        return [PackRow._make(row) for row in self._all(sa.select(schema.packs).where(schema.packs.c.job == job))]

    def moves(self, job: int) -> list[MoveRow]:
        """What tasks in packs have done together, oldest first."""
        moves = schema.moves
        return [MoveRow._make(row) for row in self._all(sa.select(moves).where(moves.c.job == job).order_by(moves.c.changed))]

    def successes(self, job: int) -> list[SuccessesRow]:
        """The replies about tasks in packs."""
        successes = schema.successes
        return [
            SuccessesRow._make(row) for row in self._all(sa.select(successes).where(successes.c.job == job).order_by(successes.c.changed))
        ]

    def specs(self, job: int) -> Iterator[tuple[int, bytes]]:
        """What the tasks of a job do."""
        yield from self._all(sa.select(schema.specs.c.number, schema.specs.c.spec).where(schema.specs.c.job == job))

    def outcomes(self, job: int) -> Iterator[tuple[int, bytes]]:
        """How the tasks of a job ended."""
        yield from self._all(sa.select(schema.outcomes.c.number, schema.outcomes.c.outcome).where(schema.outcomes.c.job == job))

    def orphans(self) -> list[tuple[str, int, int]]:
        """Rows of jobs that there are not: table, key of the job, how many."""
        jobs = sa.select(schema.jobs.c.key)
        found: list[tuple[str, int, int]] = []
        for table in _OF_A_JOB:
            counted = sa.select(table.c.job, sa.func.count()).where(table.c.job.not_in(jobs)).group_by(table.c.job)
            found += [(table.name, key, rows) for key, rows in self._all(counted)]
        return found

    def early(self) -> list[tuple[int, str, int, bytes]]:
        """Replies that came before their tasks: number, job, task, message."""
        early = schema.early
        rows = self._all(sa.select(early.c.id, early.c.job_id, early.c.task, early.c.reply))
        return [(number, str(job), task, bytes(reply)) for number, job, task, reply in rows]

    def _expect(self, ledger: str) -> None:
        """Refuse what is no ledger of ours."""
        known = self._database.facts(self._cursor)
        if known is None:
            raise LedgerRefused(f"there is no ledger of the namespace {shown_name(ledger)} in {self.name}")
        found, ours = known.get("schema", "none"), str(schema.SCHEMA_VERSION)
        if (owner := known.get("namespace", "")) != ledger:
            raise LedgerRefused(f"the ledger {self.name} belongs to the namespace {shown_name(owner)}, not to {shown_name(ledger)}")
        if found != ours:
            remedy = (
                "start a coordinator once, which brings it up to date"
                if found.isdecimal() and int(found) < int(ours)
                else "use a newer one"
            )
            raise LedgerRefused(f"the ledger {self.name} has the format {found}, and this version of broker-jobs verifies {ours}: {remedy}")

    def _all(self, statement: sa.Select[Any]) -> list[tuple[Any, ...]]:
        return Query(statement, self._database.dialect).all(self._cursor)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(","))) if text else ()
