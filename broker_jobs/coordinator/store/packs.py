"""Tasks of one chunk as one row, as long as none of them has done anything but succeed.

A pack stands for the rows of its tasks in `tasks` and `specs`, and a row of `successes`, which is a reply as it came, for those in
`outcomes`: a hundred tasks are two rows, not three hundred that are written four hundred times. As soon as something else happens to one
of them, the pack is taken apart (`Packs.apart`), and there are rows as for any other task. What a reply says of tasks that are in no
pack any more is not looked at. Whoever reads rows of tasks sees no difference.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from broker_jobs.coordinator.store import schema
from broker_jobs.coordinator.store.parts import clean, dump_outcome
from broker_jobs.coordinator.store.rows import NewTaskRow, OutcomeRow, PackRow, SuccessesRow, TaskRow, TaskView
from broker_jobs.coordinator.store.statement import Query
from broker_jobs.core.states import TaskState
from broker_jobs.wire.codec import decode, decode_part, encode_part
from broker_jobs.wire.messages import Ended, Reply, Task

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from sqlalchemy.engine import Dialect

    from broker_jobs.coordinator.store.statement import Cursor


@dataclass(frozen=True, slots=True)
class PackedTasks:
    """The tasks of a pack, as they are kept."""

    tasks: tuple[Task, ...]


class Success(NamedTuple):
    """How a task of a pack has ended, and the version of the job that this made."""

    changed: int
    ended: Ended
    worker: str
    boot: str
    host: str


class Apart(NamedTuple):
    """The rows of a pack that is taken apart."""

    tasks: list[tuple[NewTaskRow, TaskRow]]
    specs: list[tuple[int, int, bytes]]
    outcomes: list[OutcomeRow]


class Packs:
    """Reads packs, as the rows that they stand for.

    Args:
        cursor: of the ledger's one connection
    """

    def __init__(self, cursor: Cursor, dialect: Dialect) -> None:
        self._cursor = cursor
        packs, successes = schema.packs, schema.successes
        job, low, high, since = map(_parameter, ("job", "low", "high", "since"))
        heads = [packs.c[name] for name in PackRow._fields[:-1]]
        among = (packs.c.job == job, packs.c.first <= high, packs.c.first + packs.c.length > low)
        self._heads = Query(sa.select(*heads).where(packs.c.job == job).order_by(packs.c.first), dialect)
        self._heads_among = Query(sa.select(*heads).where(*among).order_by(packs.c.first), dialect)
        self._among = Query(sa.select(packs).where(*among).order_by(packs.c.first), dialect)
        after = (successes.c.job == job, successes.c.changed + successes.c.length > since + 1)
        self._after = Query(sa.select(successes).where(*after).order_by(successes.c.changed), dialect)
        told = (successes.c.job == job, successes.c.low <= high, successes.c.high >= low)
        self._told = Query(sa.select(successes).where(*told).order_by(successes.c.changed), dialect)

    def heads(self, job: int) -> list[PackRow]:
        """All packs of a job, without what its tasks do."""
        return [PackRow._make((*row, b"")) for row in self._heads.all(self._cursor, job=job)]

    def rows(self, job: int) -> Iterator[tuple[NewTaskRow, TaskRow]]:
        """The rows of all tasks of packs, by number."""
        heads = self.heads(job)
        successes = self._successes(self._after, job=job, since=-1) if heads else {}
        for pack in heads:
            yield from _rows(pack, successes, _numbers(pack))

    def changes(self, job: int, since: int) -> list[TaskView]:
        """Tasks of packs that changed after a version of their job."""
        heads = self.heads(job)
        successes = self._successes(self._after, job=job, since=since) if heads else {}
        views: list[TaskView] = []
        for pack in heads:
            # Where the pack is older than that, nothing but its successes can be younger.
            fresh = pack.changed + pack.length > since + 1
            numbers = _numbers(pack) if fresh else [number for number in _numbers(pack) if number in successes]
            views += [_view(new, row) for new, row in _rows(pack, successes, numbers) if row.changed > since]
        return views

    def views(self, job: int, numbers: Collection[int]) -> dict[int, TaskView]:
        """Those of these tasks that are in packs."""
        wanted = set(numbers)
        found: dict[int, TaskView] = {}
        for pack in self._packs_with(self._heads_among, job, wanted):
            chosen = sorted(wanted.intersection(_numbers(pack)))
            successes = self._successes(self._told, job=job, low=chosen[0], high=chosen[-1])
            found.update((row.number, _view(new, row)) for new, row in _rows(pack, successes, chosen))
        return found

    def names(self, job: int, numbers: Collection[int]) -> dict[int, str]:
        """Names of those of these tasks that are in packs."""
        wanted = set(numbers)
        found: dict[int, str] = {}
        for pack in self._packs_with(self._heads_among, job, wanted):
            names = _names(pack)
            found.update((number, names[number - pack.first]) for number in wanted.intersection(_numbers(pack)))
        return found

    def specs(self, job: int, numbers: Collection[int]) -> dict[int, bytes]:
        """What those of these tasks do that are in packs."""
        wanted = set(numbers)
        packs = list(self._packs_with(self._among, job, wanted))
        return {task.number: encode_part(task) for pack in packs for task in _tasks(pack) if task.number in wanted}

    def outcomes(self, job: int, numbers: Collection[int]) -> dict[int, OutcomeRow]:
        """How those of these tasks have ended that are in packs, as far as they have."""
        wanted = set(numbers)
        found: dict[int, OutcomeRow] = {}
        for pack in self._packs_with(self._heads_among, job, wanted):
            chosen = sorted(wanted.intersection(_numbers(pack)))
            successes = self._successes(self._told, job=job, low=chosen[0], high=chosen[-1])
            found.update((number, _outcome(job, successes[number])) for number in chosen if number in successes)
        return found

    def apart(self, job: int, first: int) -> Apart:
        """All rows that a pack stands for."""
        (pack,) = (PackRow._make(row) for row in self._among.all(self._cursor, job=job, low=first, high=first))
        numbers = _numbers(pack)
        successes = self._successes(self._told, job=job, low=numbers[0], high=numbers[-1])
        specs = {task.number: encode_part(task) for task in _tasks(pack)}
        return Apart(
            tasks=[(new._replace(size=len(specs[row.number])), row) for new, row in _rows(pack, successes, numbers)],
            specs=[(job, number, spec) for number, spec in specs.items()],
            outcomes=[_outcome(job, successes[number]) for number in numbers if number in successes],
        )

    def _packs_with(self, query: Query, job: int, wanted: Collection[int]) -> Iterator[PackRow]:
        """Packs in which there are some of these numbers."""
        if wanted:
            for row in query.all(self._cursor, job=job, low=min(wanted), high=max(wanted)):
                pack = PackRow._make(row if len(row) == len(PackRow._fields) else (*row, b""))
                if any(number in wanted for number in _numbers(pack)):
                    yield pack

    def _successes(self, query: Query, **chosen: int) -> dict[int, Success]:
        """By task; a task in a pack succeeds once, and what is said of others is for their rows to say."""
        return {success.ended.task: success for row in query.all(self._cursor, **chosen) for success in _told(SuccessesRow._make(row))}


def _parameter(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(name)


def _told(row: SuccessesRow) -> Iterator[Success]:
    reply = decode(row.reply)
    if isinstance(reply, Reply):
        for place, item in enumerate(reply.items):
            if isinstance(item, Ended):
                yield Success(row.changed + place, item, reply.worker, reply.boot, row.host)


def _numbers(pack: PackRow) -> range:
    return range(pack.first, pack.first + pack.length)


def _names(pack: PackRow) -> list[str]:
    return json.loads(pack.names) if pack.names else [""] * pack.length


def _tasks(pack: PackRow) -> tuple[Task, ...]:
    return decode_part(PackedTasks, pack.tasks).tasks


def _rows(pack: PackRow, successes: Mapping[int, Success], numbers: Iterable[int]) -> Iterator[tuple[NewTaskRow, TaskRow]]:
    """What rows of these tasks would say; their size is not known."""
    names = _names(pack)
    queued = TaskRow(
        *(TaskState.queued.value, 1, 0, 0, False, "", "", pack.chunk, "", "", False, None, None, None, 0, pack.job, 0),
    )
    for number in numbers:
        place = number - pack.first
        success = successes.get(number)
        if success is None:
            row = queued._replace(number=number, changed=pack.changed + place)
        else:
            ended = success.ended
            row = queued._replace(
                state=TaskState.succeeded.value,
                execution=clean(ended.execution),
                chunk=None,
                worker=success.worker,
                boot=success.boot,
                started_ms=ended.started_ms,
                ended_ms=ended.ended_ms,
                changed=success.changed,
                number=number,
            )
        yield NewTaskRow(names[place], pack.kind, pack.options, "", "", 0), row


def _view(new: NewTaskRow, row: TaskRow) -> TaskView:
    return TaskView(
        row.number,
        new.name,
        new.kind,
        new.options,
        row.state,
        row.attempt,
        row.crashes,
        row.execution,
        row.reason,
        row.worker,
        row.started_ms,
        row.ended_ms,
        None,
        "",
        row.changed,
    )


def _outcome(job: int, success: Success) -> OutcomeRow:
    ended = success.ended
    return OutcomeRow(job, ended.task, dump_outcome(ended.outcome), encode_part(ended.stdout), encode_part(ended.stderr), success.host)
