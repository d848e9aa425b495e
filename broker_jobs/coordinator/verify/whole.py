"""A whole ledger: its rows are read and decoded, job by job, and what is wrong is gathered. The one shell of `verify`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from broker_jobs.coordinator.release import FUNCTION, VALUE
from broker_jobs.coordinator.store import LedgerStore, Needs, load_tasks, numbers_of
from broker_jobs.coordinator.store.inspection import Inspection
from broker_jobs.coordinator.store.parts import load_outcome, load_value
from broker_jobs.coordinator.store.schema import SCHEMA_VERSION
from broker_jobs.coordinator.verify.job import JobRows, MovedRows, PackedRows, Problem, Recount, TaskRows, ToldRows, check_job
from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.states import ENDED, TaskState
from broker_jobs.core.value import Stored
from broker_jobs.data.files import is_url
from broker_jobs.errors import DecodeError
from broker_jobs.wire.codec import decode, decode_part
from broker_jobs.wire.messages import Ended, Reply, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from broker_jobs.coordinator.store import MoveRow, PackRow, SuccessesRow
    from broker_jobs.core.value import Value

_Read = TypeVar("_Read")


@dataclass(slots=True)
class Report:
    """What was looked at, and what is wrong.

    Attributes:
        ledger: its name
        elsewhere: values in stores that cannot be seen from here
    """

    ledger: str
    jobs: int = 0
    tasks: int = 0
    values: int = 0
    elsewhere: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def remedies(self) -> list[Recount]:
        """What can be derived anew, once for each job."""
        return list({problem.remedy.key: problem.remedy for problem in self.problems if problem.remedy is not None}.values())


def verify(url: str, namespace: str, *, partition: int = 0) -> Report:
    """Look at a ledger and change nothing.

    Raises:
        LedgerRefused: there is no ledger of this namespace, partition and version
        LedgerLost: its database does not answer
    """
    look = Inspection(url, namespace, partition)
    try:
        report = Report(look.name)
        report.problems += [Problem("", f"the file is damaged: {text}") for text in look.damage()]
        if report.problems:
            return report  # what its rows say is worth nothing
        if look.revision() != str(SCHEMA_VERSION):
            report.problems.append(Problem("", f"its migrations say version {look.revision() or 'none'}, and it is {SCHEMA_VERSION}"))
        for key, job in look.job_keys():
            report.jobs += 1
            try:
                _job(look, key, job, report)
            except (DecodeError, ValueError, TypeError, KeyError) as error:
                report.problems.append(Problem(job, f"its rows cannot be read: {error}"))
        for table, key, rows in look.orphans():
            report.problems.append(Problem("", f"{rows} rows of {table!r} belong to a job that there is not (key {key})"))
        report.problems += _messages(look, f"{namespace}.")
        return report
    finally:
        look.close()


def repair(url: str, namespace: str, remedies: Sequence[Recount], *, holder: str, partition: int = 0) -> None:
    """Derive anew what follows from other rows. Nobody else may keep the ledger meanwhile.

    Raises:
        LedgerRefused: a coordinator keeps it, or it has changed
        LedgerLost: its database does not answer
    """
    store = LedgerStore(url, namespace, partition=partition, durable=True, holder=holder)
    try:
        store.take_epoch()
        with store.transaction():
            for remedy in remedies:
                counts = json.dumps({state.value: count for state, count in remedy.counts.items()})
                store.recount(remedy.key, counts, remedy.version)
    finally:
        store.close()


def _job(look: Inspection, key: int, job: str, report: Report) -> None:
    tasks: list[TaskRows] = []
    sizes: dict[int, int] = {}
    for row, options, size, deps, after in look.tasks(key):
        counted = (row.attempt, row.failures, row.crashes, row.changed)
        held = (row.chunk, bool(row.taken), row.due_ms, row.worker)
        tasks.append(TaskRows(row.number, TaskState(row.state), options, *counted, deps, after, *held))
        sizes[row.number] = size
    packs = [_pack(row) for row in look.packs(key)]
    moved = [_moved(row) for row in look.moves(key)]
    told = [_told(row) for row in look.successes(key)]
    ended = {task.number for task in tasks if task.state in ENDED} | {end.task for reply in told for end in reply.ends}
    works = {task.number: task for pack in packs for task in pack.tasks if task.number not in ended}
    specs: dict[int, tuple[int, int]] = {}
    for number, spec in look.specs(key):
        specs[number] = sizes.get(number, len(spec)), len(spec)
        if number not in ended:
            works[number] = _read(lambda data: decode_part(Task, data), spec, f"what task {number} does")
    outcomes = {number: _read(load_outcome, data, f"the result of task {number}") for number, data in look.outcomes(key)}
    blobs = look.look.all_blobs(key)
    report.tasks += len(tasks) + sum(pack.length for pack in packs)
    rows = JobRows(
        look.facts(job),
        options=[option.number for option in look.look.options(key)],
        tasks=tasks,
        packs=packs,
        moved=moved,
        told=told,
        specs=specs,
        works=works,
        outcomes=outcomes,
        blobs={name for name, _ in blobs},
        linked={link.number for link in look.look.links(key)},
    )
    report.problems += check_job(rows, FUNCTION, VALUE)
    # What was said of tasks that have rows by now stands in these.
    ends = [*outcomes.items(), *((end.task, end.outcome) for reply in told for end in reply.ends if end.task not in outcomes)]
    results = [(f"the result of task {number}", outcome.value) for number, outcome in ends if isinstance(outcome, Succeeded)]
    taken = [("a value of its tasks", _read(load_value, data, "a value")) for name, data in blobs if name.startswith(VALUE)]
    _values(job, [*results, *taken], report)


def _values(job: str, values: Iterable[tuple[str, Value | None]], report: Report) -> None:
    """Whether what lies in a folder of this host is there."""
    for what, value in values:
        if not isinstance(value, Stored):
            continue
        if is_url(value.store) or not Path(value.store).is_dir():
            report.elsewhere += 1
            continue
        report.values += 1
        try:
            size = (Path(value.store) / value.key).stat().st_size
        except FileNotFoundError:
            report.problems.append(Problem(job, f"{what} is not in the value store: {value.store}/{value.key}"))
            continue
        if size != value.size:
            report.problems.append(Problem(job, f"{what} has {size} bytes in the value store, not {value.size}: {value.store}/{value.key}"))


def _messages(look: Inspection, prefix: str) -> list[Problem]:
    """What waits to be published, and what came too early."""
    problems = [
        Problem("", f"message {row.id} of the outbox is for the exchange {row.exchange!r} of another namespace")
        for row in look.look.outbox()
        if not row.exchange.startswith(prefix)
    ]
    for number, job, task, data in look.early():
        try:
            readable = isinstance(decode(data), Reply)
        except DecodeError:
            readable = False
        if not readable:
            problems.append(Problem(job, f"what was said early of its task {task} cannot be read (number {number})"))
    return problems


def _pack(row: PackRow) -> PackedRows:
    name = f"the shared row of the tasks from {row.first} on"
    tasks = tuple(_read(load_tasks, row.specs, name))
    needs = _read(lambda data: decode_part(Needs, data), row.needs, name) if row.needs else Needs(())
    names = len(json.loads(row.names)) if row.names else None
    return PackedRows(row.first, row.length, row.options, row.changed, tasks, names, needs.deps, needs.after, waits=not row.chunk)


def _moved(row: MoveRow) -> MovedRows:
    try:
        numbers = tuple(numbers_of(row))
    except DecodeError as error:
        raise DecodeError(f"the row that made its version {row.changed}: {error}") from error
    return MovedRows(row.changed, row.length, row.low, row.high, numbers, TaskState(row.state), row.attempt, row.chunk)


def _told(row: SuccessesRow) -> ToldRows:
    reply = _read(decode, row.reply, f"the reply that made its version {row.changed}")
    items = reply.items if isinstance(reply, Reply) else ()
    return ToldRows(row.changed, row.length, row.low, row.high, tuple([item for item in items if isinstance(item, Ended)]))


def _read(load: Callable[[bytes], _Read], data: bytes, what: str) -> _Read:
    try:
        return load(data)
    except DecodeError as error:
        raise DecodeError(f"{what}: {error}") from error
