"""Tasks of one chunk as one row, as long as they do nothing but what many do together.

A pack stands for the rows of its tasks in `tasks` and `specs`. What many of them do together (they are released, published, paused,
canceled) is one row of `moves`, and a row of `successes`, which is a reply as it came, stands for those in `outcomes`: of a hundred tasks
that wait, run and succeed there are three rows, not three hundred that are written six hundred times. As soon as something else happens
to one of them, the pack is taken apart (`Packs.apart`), and there are rows as for any other task. What is said of tasks that are in no
pack any more is not looked at. Whoever reads rows of tasks sees no difference.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sqlalchemy as sa

from broker_jobs.coordinator.store import schema
from broker_jobs.coordinator.store.moves import latest, numbers_of
from broker_jobs.coordinator.store.parts import clean, dump_outcome
from broker_jobs.coordinator.store.rows import MoveRow, NewTaskRow, OutcomeRow, PackRow, SuccessesRow, TaskRow, TaskView
from broker_jobs.coordinator.store.statement import Query
from broker_jobs.core.states import TaskState
from broker_jobs.errors import DecodeError
from broker_jobs.wire.codec import decode, decode_part, encode_part, unpack
from broker_jobs.wire.codec import pack as packed
from broker_jobs.wire.messages import Ended, Reply, Task

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Iterator, Sequence

    from sqlalchemy.engine import Dialect

    from broker_jobs.coordinator.store.statement import Cursor

_PAYLOADS: Final = (b"", b"")
"""In place of the last columns of a pack, where they are not read: what its tasks wait for, and what they do."""

BLOCK: Final = 50
"""Tasks of a pack that are written together, and read: many are small together, and few are read soon."""

_AT_ONCE: Final = 1000
"""Of so many tasks it is looked up together what has become of them."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What each task of a pack waits for, as it is kept.

    Attributes:
        deps: tasks whose success it waits for
        after: tasks whose end it waits for; nothing at all where no task has any
    """

    deps: tuple[tuple[int, ...], ...]
    after: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """Some tasks of a pack in a row, as they are kept; to read one of them, all of these are read."""

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
        packs, moves, successes = schema.packs, schema.moves, schema.successes
        job, low, high, since = map(_parameter, ("job", "low", "high", "since"))
        columns = [packs.c[name] for name in PackRow._fields]
        heads = columns[: -len(_PAYLOADS)]
        among = (packs.c.job == job, packs.c.first <= high, packs.c.first + packs.c.length > low)

        def query(table: sa.Table, wanted: Sequence[sa.ColumnElement[Any]], *where: sa.ColumnElement[bool], by: str = "changed") -> Query:
            return Query(sa.select(*wanted).where(table.c.job == job, *where).order_by(table.c[by]), dialect)

        self._heads = query(packs, heads, by="first")
        self._with_needs = query(packs, columns[:-1], by="first")
        self._heads_among = query(packs, heads, *among, by="first")
        self._among = query(packs, columns, *among, by="first")
        # What has happened: when, to how many tasks, and to which at most.
        last = (packs.c.first + packs.c.length - 1).label("high")
        came = query(packs, (packs.c.changed, packs.c.length, packs.c.first, last), packs.c.changed + packs.c.length > since + 1)
        self._happened = [came]
        for table in (moves, successes):
            # The versions of a row follow each other, so that none but the last of the older rows may have some that are newer.
            older = sa.select(sa.func.max(table.c.changed)).where(table.c.job == job, table.c.changed <= since).scalar_subquery()
            what = (table.c.changed, table.c.length, table.c.low, table.c.high)
            self._happened.append(query(table, what, table.c.changed >= sa.func.coalesce(older, 0)))
        self._moves = query(moves, list(moves.c))
        self._moved = query(moves, list(moves.c), moves.c.low <= high, moves.c.high >= low)
        version = _parameter("version")
        self._move = query(moves, list(moves.c), moves.c.changed == version)
        self._success = query(successes, list(successes.c), successes.c.changed == version)
        self._successes = query(successes, list(successes.c))
        self._told = query(successes, list(successes.c), successes.c.low <= high, successes.c.high >= low)

    def heads(self, job: int) -> list[PackRow]:
        """All packs of a job, without what its tasks do and wait for."""
        return [_pack(row) for row in self._heads.all(self._cursor, job=job)]

    def rows(self, job: int) -> Iterator[tuple[NewTaskRow, TaskRow]]:
        """The rows of all tasks of packs, by number; the size is the average of their pack."""
        packs = [_pack(row) for row in self._with_needs.all(self._cursor, job=job)]
        if packs:
            story = _Story(self._moves.all(self._cursor, job=job), self._successes.all(self._cursor, job=job))
            for pack in packs:
                yield from _rows(pack, story, _numbers(pack))

    def changes(self, job: int, since: int, limit: int) -> list[TaskView]:
        """Tasks of packs that changed after a version of their job: the first ones, at least so many of them as there are."""
        rows = (row for query in self._happened for row in query.all(self._cursor, job=job, since=since))
        happened = sorted(row for row in rows if row[0] + row[1] > since + 1)
        found: list[TaskView] = []
        place = 0
        while place < len(happened) and len(found) < limit:
            # Of what has happened, as much as there may be tasks; those to which something has happened since come with that.
            begin, tasks = place, 0
            while place < len(happened) and tasks < max(limit, _AT_ONCE):
                tasks += happened[place][1]
                place += 1
            changed, length, _, _ = happened[place - 1]
            last = changed + length - 1
            numbers = {number for part in happened[begin:place] for number in self._of(job, *part)}
            found += [view for view in self.views(job, numbers).values() if since < view.changed <= last]
        return found

    def views(self, job: int, numbers: Collection[int]) -> dict[int, TaskView]:
        """Those of these tasks that are in packs."""
        return {row.number: _view(new, row) for new, row in self._chosen(self._heads_among, job, numbers)}

    def names(self, job: int, numbers: Collection[int]) -> dict[int, str]:
        """Names of those of these tasks that are in packs."""
        wanted = set(numbers)
        found: dict[int, str] = {}
        for pack, chosen in self._packs_with(self._heads_among, job, wanted):
            names = _names(pack)
            found.update((number, names[number - pack.first]) for number in chosen)
        return found

    def works(self, job: int, numbers: Collection[int]) -> dict[int, Task]:
        """What those of these tasks do that are in packs, and those beside them."""
        return {
            task.number: task
            for pack, chosen in self._packs_with(self._among, job, set(numbers))
            for task in load_tasks(pack.specs, {(number - pack.first) // BLOCK for number in chosen})
        }

    def specs(self, job: int, numbers: Collection[int]) -> dict[int, bytes]:
        """The same, encoded, of these tasks alone."""
        wanted = set(numbers)
        return {number: encode_part(task) for number, task in self.works(job, wanted).items() if number in wanted}

    def outcomes(self, job: int, numbers: Collection[int]) -> dict[int, OutcomeRow]:
        """How those of these tasks have ended that are in packs, as far as they have."""
        found: dict[int, OutcomeRow] = {}
        for _, chosen in self._packs_with(self._heads_among, job, set(numbers)):
            successes = _successes(self._told.all(self._cursor, job=job, low=chosen[0], high=chosen[-1]))
            found.update((number, _outcome(job, successes[number])) for number in chosen if number in successes)
        return found

    def apart(self, job: int, first: int) -> Apart:
        """All rows that a pack stands for."""
        (pack,) = (_pack(row) for row in self._among.all(self._cursor, job=job, low=first, high=first))
        numbers = _numbers(pack)
        story = self._story(job, numbers[0], numbers[-1])
        specs = {task.number: encode_part(task) for task in load_tasks(pack.specs)}
        return Apart(
            tasks=[(new._replace(size=len(specs[row.number])), row) for new, row in _rows(pack, story, numbers)],
            specs=[(job, number, spec) for number, spec in specs.items()],
            outcomes=[_outcome(job, story.successes[number]) for number in numbers if number in story.successes],
        )

    def _of(self, job: int, changed: int, length: int, low: int, high: int) -> Iterable[int]:
        """The tasks to which a version of the job, and those after it, belong."""
        if high - low + 1 == length:
            return range(low, high + 1)
        moved = self._move.first(self._cursor, job=job, version=changed)
        if moved is not None:
            return numbers_of(MoveRow._make(moved))
        told = self._success.first(self._cursor, job=job, version=changed)
        return [success.ended.task for success in _told(SuccessesRow._make(told))] if told is not None else ()

    def _chosen(self, query: Query, job: int, numbers: Collection[int]) -> Iterator[tuple[NewTaskRow, TaskRow]]:
        for pack, chosen in self._packs_with(query, job, set(numbers)):
            yield from _rows(pack, self._story(job, chosen[0], chosen[-1]), chosen)

    def _story(self, job: int, low: int, high: int) -> _Story:
        """What has happened to tasks between these."""
        moved, told = (query.all(self._cursor, job=job, low=low, high=high) for query in (self._moved, self._told))
        return _Story(moved, told)

    def _packs_with(self, query: Query, job: int, wanted: set[int]) -> Iterator[tuple[PackRow, list[int]]]:
        """Packs in which there are some of these numbers, each with those, in order."""
        if wanted:
            for row in query.all(self._cursor, job=job, low=min(wanted), high=max(wanted)):
                pack = _pack(row)
                chosen = sorted(wanted.intersection(_numbers(pack)))
                if chosen:
                    yield pack, chosen


class _Story:
    """What has happened to tasks of packs: where they have moved, and how they have succeeded.

    A task in a pack succeeds once, and nothing happens to it afterwards; what is said of others is for their rows to say.

    Args:
        moved: rows of `moves`, oldest first
        told: rows of `successes`
    """

    def __init__(self, moved: Iterable[tuple[Any, ...]], told: Iterable[tuple[Any, ...]]) -> None:
        self.moves = latest(map(MoveRow._make, moved))
        self.successes = _successes(told)


def dump_tasks(tasks: tuple[Task, ...]) -> bytes:
    """What tasks do, as a column."""
    return packed([encode_part(Block(tasks[first : first + BLOCK])) for first in range(0, len(tasks), BLOCK)])


def load_tasks(data: bytes, chosen: Container[int] | None = None) -> list[Task]:
    """The tasks in a column.

    Args:
        chosen: places of the blocks that are wanted; None wants all

    Raises:
        DecodeError: there are none
    """
    blocks = unpack(data)
    if not isinstance(blocks, list) or not all(isinstance(block, bytes) for block in blocks):
        raise DecodeError("a pack of the ledger has no list of tasks")
    wanted = blocks if chosen is None else [block for place, block in enumerate(blocks) if place in chosen]
    return [task for block in wanted for task in decode_part(Block, block).tasks]


def _pack(row: tuple[Any, ...]) -> PackRow:
    """A pack, where some columns were left out."""
    return PackRow._make((*row, *_PAYLOADS[len(row) - len(PackRow._fields) :]) if len(row) < len(PackRow._fields) else row)


def _successes(told: Iterable[tuple[Any, ...]]) -> dict[int, Success]:
    return {success.ended.task: success for row in told for success in _told(SuccessesRow._make(row))}


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


def _needs(pack: PackRow) -> Iterator[tuple[str, str]]:
    """What each task waits for, as in its row."""
    needs = decode_part(Needs, pack.needs) if pack.needs else Needs(())
    deps, after = needs.deps or ((),) * pack.length, needs.after or ((),) * pack.length
    return ((",".join(map(str, before)), ",".join(map(str, earlier))) for before, earlier in zip(deps, after, strict=True))


def _rows(pack: PackRow, story: _Story, numbers: Iterable[int]) -> Iterator[tuple[NewTaskRow, TaskRow]]:
    """What rows of these tasks would say; what they wait for only where that was read."""
    names = _names(pack)
    needs = list(_needs(pack))
    state, attempt = (TaskState.queued, 1) if pack.chunk else (TaskState.waiting, 0)
    came = TaskRow(
        *(state.value, attempt, 0, 0, False, "", "", pack.chunk or None, "", "", False, None, None, None, 0, pack.job, 0),
    )
    for number in numbers:
        place = number - pack.first
        success, moved = story.successes.get(number), story.moves.get(number)
        if success is not None:
            ended = success.ended
            row = came._replace(
                state=TaskState.succeeded.value,
                attempt=ended.attempt,
                execution=clean(ended.execution),
                chunk=None,
                worker=success.worker,
                boot=success.boot,
                started_ms=ended.started_ms,
                ended_ms=ended.ended_ms,
                changed=success.changed,
                number=number,
            )
        elif moved is not None:
            to = moved.to
            row = came._replace(
                state=to.state,
                attempt=to.attempt,
                reason=to.reason,
                chunk=to.chunk,
                ended_ms=to.ended_ms,
                changed=moved.changed,
                number=number,
            )
        else:
            row = came._replace(number=number, changed=pack.changed + place)
        yield NewTaskRow(names[place], pack.kind, pack.options, *needs[place], pack.size), row


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
