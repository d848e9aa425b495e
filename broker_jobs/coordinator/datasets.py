"""Data in the ledger: what there is, what made it, who takes it; and what may be deleted.

Data is deleted only if no job takes it, and a job only if nothing is left that it has made, and no job that was submitted inside it: so
whatever there is, what it came from is known. The log of what happened outlives both.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.coordinator.store import DataRow, LogRow, UseRow
from broker_jobs.coordinator.store.parts import clean
from broker_jobs.ids import FEWEST_DIGITS, short
from broker_jobs.wire.codec import decode_part
from broker_jobs.wire.messages import (
    AddData,
    DataDeleted,
    DataInfo,
    DataList,
    DeleteData,
    FindData,
    ListData,
    ListLog,
    ListUses,
    Log,
    LogEntry,
    LogKind,
    Program,
    Refusal,
    Refused,
    StepCall,
    TagData,
    Task,
    Use,
    UseList,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs.coordinator.effects import Batch
    from broker_jobs.coordinator.jobs import Jobs
    from broker_jobs.coordinator.live import LiveJob
    from broker_jobs.coordinator.store import JobFacts, LedgerStore
    from broker_jobs.core.outcome import Succeeded
    from broker_jobs.wire.messages import Answer

MOST_LISTED: Final = 1000
MOST_NAMED: Final = 10
"""Objects that keep something, which a refusal names."""
_HEX: Final = frozenset("0123456789abcdef")
_WHOLE: Final = 32


class Datasets:
    """Answers questions about data, and performs what is wished of it."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store

    # --- what happens ---

    def taken(self, batch: Batch, job: LiveJob, task: Task) -> None:
        """A task has come that takes data."""
        batch.writes.uses.extend(use_rows(job.facts, task))

    def made(self, batch: Batch, job: LiveJob, number: int, succeeded: Succeeded) -> None:
        """A task has succeeded, and has made data."""
        self._store.write_payloads(batch.writes)
        work = decode_part(Task, self._store.look.specs(job.facts.key, [number])[number]).work
        step = work.step if isinstance(work, StepCall) else ""
        for artifact in succeeded.made:
            data = artifact.data
            tags = json.dumps([clean(tag) for tag in artifact.tags])
            name, slot = clean(data.name), clean(artifact.slot)
            batch.writes.data.append(DataRow(data.id, data, name, tags, job.facts.user, batch.now_ms, job.facts.id, number, slot, step))
            text = f"by {step or 'a program'}, as {slot}"
            batch.writes.log.append(LogRow(batch.now_ms, LogKind.data_made, data.id, name, text, job.facts.id))

    # --- wishes ---

    def perform(self, batch: Batch, wish: AddData | TagData | DeleteData) -> Answer:
        """Do what is wished."""
        match wish:
            case AddData():
                return self._add(batch, wish)
            case TagData():
                return self._tag(batch, wish)
            case DeleteData():
                return self._delete(batch, wish)
            case _:
                assert_never(wish)

    def _add(self, batch: Batch, wish: AddData) -> Answer:
        """Note data that a user has put into the store."""
        info = wish.data
        known = self._find(batch, info.data.id)
        if isinstance(known, Refused):
            name = clean(info.data.name)
            tags = json.dumps([clean(tag) for tag in info.tags])
            known = DataRow(info.data.id, info.data, name, tags, clean(info.user), batch.now_ms, None, 0, "", "")
            batch.writes.data.append(known)
            batch.writes.log.append(LogRow(batch.now_ms, LogKind.data_added, info.data.id, name, f"by {clean(info.user)}"))
        return self._info(known)

    def _tag(self, batch: Batch, wish: TagData) -> Answer:
        """Give data other tags."""
        row = self._find(batch, wish.data)
        if isinstance(row, Refused):
            return row
        row = row._replace(tags=json.dumps([clean(tag) for tag in wish.tags]))
        batch.writes.data.append(row)
        return self._info(row)

    def _delete(self, batch: Batch, wish: DeleteData) -> Answer:
        """Drop data that no job takes."""
        row = self._find(batch, wish.data)
        if isinstance(row, Refused):
            return row
        users = list(dict.fromkeys(job for job, _, _ in self._store.look.data.uses_of(row.id, MOST_LISTED)))
        if users:
            named = ", ".join(short(job) for job in users[:MOST_NAMED]) + (
                f" and {len(users) - MOST_NAMED} more" if users[MOST_NAMED:] else ""
            )
            text = f"the data {row.name!r} ({short(row.id)}) is the input of {_jobs(users)} {named}: delete {_them(users)} first"
            return Refused(Refusal.in_use, text, tuple(users[:MOST_LISTED]))
        batch.writes.data_done.append(row.id)
        batch.writes.log.append(LogRow(batch.now_ms, LogKind.data_deleted, row.id, row.name, "", row.job))
        batch.effects.delete.append((row.ref.store, row.ref.key))
        return DataDeleted(row.id)

    def kept(self, batch: Batch, facts: JobFacts, jobs: Jobs, going: frozenset[str]) -> Refused | None:
        """Why a job cannot be deleted; None where it can.

        Args:
            going: jobs that are deleted with it
        """
        name = f"job {short(facts.id)}"
        self._store.write_payloads(batch.writes)
        made = self._store.look.data.made_by(facts.id)
        if made:
            named = ", ".join(short(one) for one in made[:MOST_NAMED])
            what = "data that is still there" if len(made) == 1 else f"{len(made)} pieces of data that are still there"
            text = f"{name} has made {what}: {named}; delete {_them(made)} first, or all together"
            return Refused(Refusal.in_use, text, tuple(made[:MOST_LISTED]))
        below = [sub.id for sub in self._store.look.sub_jobs(facts.id) if not jobs.forgotten(sub.id)]
        below += [job.facts.id for job in jobs.changed.values() if job.facts.parent == facts.id and job.facts.id not in below]
        below = [one for one in below if one not in going]
        if below:
            named = ", ".join(short(one) for one in below[:MOST_NAMED])
            were = "was" if len(below) == 1 else "were"
            text = f"{_jobs(below)} {named} {were} submitted inside {name}: delete {_them(below)} first, or all together"
            return Refused(Refusal.in_use, text, tuple(below[:MOST_LISTED]))
        return None

    # --- questions ---

    def answer(self, batch: Batch, question: FindData | ListData | ListUses | ListLog) -> Answer:
        """What is asked."""
        match question:
            case FindData():
                row = self._find(batch, question.text)
                return row if isinstance(row, Refused) else self._info(row)
            case ListData():
                return self._list(question)
            case ListUses():
                return self._uses(batch, question)
            case ListLog():
                return self._entries(question)
            case _:
                assert_never(question)

    def _list(self, question: ListData) -> DataList:
        """Data that fits, the newest first."""
        limit = max(1, min(question.limit, MOST_LISTED))
        rows = self._store.look.data.select(question, limit + 1)
        return DataList(tuple(map(self._info, rows[:limit])), more=len(rows) > limit)

    def _uses(self, batch: Batch, question: ListUses) -> Answer:
        """The tasks that take data."""
        row = self._find(batch, question.data)
        if isinstance(row, Refused):
            return row
        return UseList(tuple(Use(job, number, slot) for job, number, slot in self._store.look.data.uses_of(row.id, MOST_LISTED)))

    def _entries(self, question: ListLog) -> Log:
        """What has happened, the latest first."""
        limit = max(1, min(question.limit, MOST_LISTED))
        found = self._store.look.data.log(question.subject, question.before, limit + 1)
        entries = tuple(
            LogEntry(number, at_ms, LogKind(kind), subject, name, text, job)
            for number, at_ms, kind, subject, name, text, job in found[:limit]
        )
        return Log(entries, more=len(found) > limit)

    # --- inside ---

    def _find(self, batch: Batch, text: str) -> DataRow | Refused:
        """The data that is meant by a whole id or the unique ending of one; what this batch has done is seen already."""
        self._store.write_payloads(batch.writes)
        wanted = text.strip().lower().replace("-", "")
        if not set(wanted) <= _HEX or not FEWEST_DIGITS <= len(wanted) <= _WHOLE:
            return Refused(Refusal.invalid, f"{text[:100]!r} is no data: give a whole id, or at least its last {FEWEST_DIGITS} digits")
        rows = self._store.look.data.ending(wanted, MOST_NAMED + 1)
        if len(rows) > 1:
            candidates = tuple(row.id for row in rows[:MOST_NAMED])
            return Refused(
                Refusal.ambiguous, f"several pieces of data end with {wanted!r}: {', '.join(candidates)}; give more digits", candidates
            )
        return rows[0] if rows else Refused(Refusal.data_not_found, f"there is no data {wanted}")

    def _info(self, row: DataRow) -> DataInfo:
        used = self._store.look.data.use_count(row.id)
        return DataInfo(row.ref, tuple(json.loads(row.tags)), row.user, row.created_ms, row.job, row.task, row.slot, row.step, used)


def use_rows(job: JobFacts, task: Task) -> Iterator[UseRow]:
    """The rows of what a task takes."""
    match task.work:
        case StepCall(slots=slots):
            taken = [(name, data.id) for name, held in slots for data in held]
        case Program(files=files):
            taken = [(path, data.id) for path, data in files]
        case _:
            taken = []
    for place, (slot, data) in enumerate(taken):
        yield UseRow(job.key, task.number, place, clean(slot), data, job.id)


def _jobs(jobs: list[str]) -> str:
    return "job" if len(jobs) == 1 else "jobs"


def _them(jobs: list[str]) -> str:
    return "it" if len(jobs) == 1 else "them"


def job_log(facts: JobFacts, at_ms: int, kind: LogKind) -> LogRow:
    """An entry about a job."""
    text = {LogKind.job_submitted: f"by {clean(facts.user)}", LogKind.job_ended: facts.state.value}.get(kind, "")
    return LogRow(at_ms, kind, facts.id, clean(facts.name), text, facts.id)
