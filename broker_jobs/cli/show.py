"""Jobs, tasks and workers as tables, as JSON, or as bare ids."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from broker_jobs.cli.options import OutputFormat, out
from broker_jobs.core.descriptor import descriptor
from broker_jobs.core.outcome import Failed, Succeeded
from broker_jobs.core.quantities import shown_amount
from broker_jobs.core.request import Request
from broker_jobs.core.states import TaskState
from broker_jobs.ids import reference, short

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from broker_jobs.core.resources import Resources
    from broker_jobs.core.spec import TaskOptions
    from broker_jobs.wire.messages import JobInfo, TaskInfo, WorkerInfo

MINUTE: Final = 60
LONGEST: Final = 10_000
"""Columns into which every table fits."""
NARROWEST: Final = 30
"""Columns that the last one of a table has at least, where it has so much text."""

STYLES: Final = {
    "succeeded": "green",
    "failed": "bold red",
    "canceled": "yellow",
    "aborted": "yellow",
    "paused": "magenta",
    "running": "cyan",
    "retrying": "magenta",
    "canceling": "yellow",
    "lost": "bold red",
    "suspect": "yellow",
    "active": "green",
    "draining": "yellow",
}


def state(name: str) -> Text:
    """A state in its color."""
    return Text(name, style=STYLES.get(name, "dim"))


def when(ms: int | None) -> str:
    """A time for people, in their time zone."""
    return "" if ms is None else datetime.fromtimestamp(ms / 1000, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(start_ms: int | None, end_ms: int | None) -> str:
    """How long something took."""
    if start_ms is None or end_ms is None:
        return ""
    seconds = max(0, end_ms - start_ms) / 1000
    return f"{seconds:.2f} s" if seconds < MINUTE else str(timedelta(seconds=round(seconds)))


def counts(numbers: Mapping[str, int]) -> Text:
    """Tasks by state, in the order of their life."""
    parts = [(f"{numbers[name]} {name}", STYLES.get(name, "dim")) for name in TaskState if numbers.get(name)]
    return Text(", ").join(Text(text, style=style) for text, style in parts)


def amounts(resources: Resources) -> str:
    """Resources for people."""
    return " ".join(
        f"{name}={value / 2**30:.3g}GiB" if name == "memory" else f"{name}={shown_amount(value)}{_grouped(resources, name)}"
        for name, value in resources.amounts
    )


def _grouped(resources: Resources, name: str) -> str:
    groups = next((groups for each, groups in resources.groups if each == name), ())
    return f" in {len(groups)} groups" if len(groups) > 1 else ""


def hardware(resources: Resources, sources: Mapping[str, str]) -> None:
    """What a worker would give to tasks, and how it was found."""
    table = new_table("resource", "amount", "as written", "found by")
    for name, value in resources.amounts:
        shown = f"{value / 2**30:.1f} GiB" if name == "memory" else shown_amount(value)
        table.add_row(name, shown, Text(descriptor(resources, name)), sources[name])
    print_table(table)


def jobs(infos: Sequence[JobInfo], output: OutputFormat) -> None:
    """Several jobs."""
    if output is OutputFormat.quiet:
        _lines(reference(info.job) for info in infos)
    elif output is OutputFormat.json:
        write_json([as_json(info) for info in infos])
    elif not infos:
        out.print("[dim]no jobs[/]")
    else:
        table = new_table("id", "name", "state", "tasks", "submitted", "took", "tags")
        for info in infos:
            table.add_row(
                short(info.job),
                Text(info.name),
                state(info.state) + Text(" open" if info.open else "", style="dim"),
                counts(info.counts),
                when(info.submitted_ms),
                duration(info.submitted_ms, info.ended_ms),
                Text(" ".join(info.tags)),
            )
        print_table(table)


def job(info: JobInfo, failed: Sequence[TaskInfo], output: OutputFormat) -> None:
    """One job, with its failures."""
    if output is OutputFormat.quiet:
        _lines([info.job])
        return
    if output is OutputFormat.json:
        write_json({**as_json(info), "failed": [as_json(task) for task in failed]})
        return
    grid = Table.grid(padding=(0, 2))
    total = "" if info.total is None else f" of {info.total}"
    rows: list[tuple[str, str | Text]] = [
        ("job", Text(f"{short(info.job)}  {info.name}")),
        ("id", info.job),
        ("state", state(info.state)),
        ("tasks", counts(info.counts) + Text(total, style="dim")),
        ("submitted", f"{when(info.submitted_ms)} by {info.user or 'somebody'}"),
        ("ended", when(info.ended_ms)),
        ("took", duration(info.submitted_ms, info.ended_ms)),
        ("tags", Text(" ".join(info.tags))),
        ("inside", f"a task of {short(info.parent)}" if info.parent else ""),
        *(("needs", Text(str(request))) for request in info.requests),
        ("reason", Text(info.reason)),
        *(("note", Text(note, style="yellow")) for note in info.notes),
    ]
    for name, value in rows:
        if value:
            grid.add_row(Text(name, style="dim"), value)
    out.print(grid)
    if failed:
        out.print()
        tasks(failed, OutputFormat.table)


def tasks(infos: Sequence[TaskInfo], output: OutputFormat) -> None:
    """Several tasks."""
    if output is OutputFormat.quiet:
        _lines(str(info.number) for info in infos)
    elif output is OutputFormat.json:
        write_json([as_json(info) for info in infos])
    elif not infos:
        out.print("[dim]no tasks[/]")
    else:
        table = new_table("task", "name", "state", "attempt", "took", "worker", "why")
        for info in infos:
            table.add_row(
                str(info.number),
                Text(info.name),
                state(info.state),
                str(info.attempt or ""),
                duration(info.started_ms, info.ended_ms),
                Text(info.worker),
                Text(first_line(info.reason)),
            )
        print_table(table)


def task(info: TaskInfo, output: OutputFormat) -> None:
    """One task, with its whole outcome."""
    if output is OutputFormat.quiet:
        _lines([str(info.number)])
        return
    if output is OutputFormat.json:
        write_json(as_json(info))
        return
    grid = Table.grid(padding=(0, 2))
    rows: list[tuple[str, str | Text]] = [
        ("task", Text(f"{info.number}  {info.name}")),
        ("kind", info.kind),
        ("state", state(info.state)),
        ("class", info.resource_class),
        *_asked(info.options),
        ("attempt", str(info.attempt or "")),
        ("crashes", str(info.crashes or "")),
        ("worker", Text(info.worker)),
        ("started", when(info.started_ms)),
        ("ended", when(info.ended_ms)),
        ("took", duration(info.started_ms, info.ended_ms)),
        ("progress", "" if info.progress is None else f"{info.progress:.0%} {info.progress_text}"),
        ("why", Text(info.reason)),
    ]
    for name, value in rows:
        if value:
            grid.add_row(Text(name, style="dim"), value)
    out.print(grid)
    if isinstance(info.outcome, Failed) and info.outcome.traceback:
        out.print()
        out.print(Text(info.outcome.traceback.rstrip()))


def _asked(options: TaskOptions | None) -> list[tuple[str, str | Text]]:
    """What was asked for of a task, besides what it does."""
    if options is None:
        return []
    pin = f", pinned by {options.pin.value}" if options.pin else ""
    executor = " ".join(f"{name}={value}" for name, values in options.executor_options for value in values or ("true",))
    return [
        ("needs", Text(f"{options.resources}{pin}")),
        ("priority", str(options.priority or "")),
        ("executor options", Text(executor)),
    ]


def workers(infos: Sequence[WorkerInfo], output: OutputFormat) -> None:
    """Several workers."""
    if output is OutputFormat.quiet:
        _lines(worker.worker for worker in infos)
    elif output is OutputFormat.json:
        write_json([as_json(worker) for worker in infos])
    elif not infos:
        out.print("[yellow]no worker is there; start one with:[/] broker-jobs worker start")
    else:
        reasons = any(worker.reason for worker in infos)
        table = new_table("worker", "group", "host", "pid", "state", "free", "of", "holds", "seen", *(["why"] if reasons else []))
        for worker in infos:
            table.add_row(
                worker.worker,
                worker.group,
                worker.host.rpartition("/")[2],
                str(worker.pid),
                state(worker.state),
                amounts(worker.free),
                amounts(worker.resources),
                str(worker.held),
                when(worker.seen_ms),
                *([Text(worker.reason)] if reasons else []),
            )
        print_table(table)


def worker(info: WorkerInfo, output: OutputFormat) -> None:
    """One worker, with the attempts that it has."""
    if output is OutputFormat.quiet:
        _lines([info.worker])
        return
    if output is OutputFormat.json:
        write_json(as_json(info))
        return
    grid = Table.grid(padding=(0, 2))
    rows: list[tuple[str, str | Text]] = [
        ("worker", info.worker),
        ("group", info.group),
        ("state", state(info.state)),
        ("why", Text(info.reason)),
        ("host", f"{info.host.rpartition('/')[2]}, process {info.pid}"),
        ("version", info.version),
        ("free", amounts(info.free)),
        ("of", amounts(info.resources)),
        ("started", when(info.started_ms or None)),
        ("ends", when(info.ends_ms)),
        ("seen", when(info.seen_ms)),
        ("holds", f"{info.held} tasks" if info.held != 1 else "1 task"),
        ("serves", ", ".join(info.steps)),
        ("team", ", ".join(info.team) and f"{', '.join(info.team)}: one task for all of them, on {info.team[0]}"),
    ]
    for name, value in rows:
        if value:
            grid.add_row(Text(name, style="dim"), value)
    out.print(grid)
    if info.attempts:
        out.print()
        table = new_table("job", "task", "attempt")
        for held in info.attempts:
            table.add_row(short(held.job), str(held.task), str(held.attempt))
        print_table(table)


def as_json(value: Any) -> Any:
    """A class of the wire as plain data for JSON; values of users are left out."""
    match value:
        case Request():
            return str(value)
        case Succeeded():
            return {"kind": "succeeded"}
        case Failed():
            return {name: as_json(getattr(value, name)) for name in ("cause", "message", "traceback", "exit_code", "signal")}
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return value.decode(errors="replace")
        case dict():
            return {str(key): as_json(part) for key, part in value.items()}
        case list() | tuple():
            return [as_json(part) for part in value]
        case _:
            return {name: as_json(getattr(value, name)) for name in type(value).__dataclass_fields__}


def write_json(value: object) -> None:
    """JSON on standard output, as it is."""
    out.out(json.dumps(value, indent=2, ensure_ascii=False))


def first_line(text: str) -> str:
    """The first line of a text, for a table."""
    return text.splitlines()[0] if text else ""


def _lines(texts: Iterable[str]) -> None:
    for text in texts:
        out.out(text)


def new_table(*columns: str) -> Table:
    """A table without lines."""
    return Table(*columns, box=None, header_style="dim", padding=(0, 2, 0, 0))


def print_table(table: Table) -> None:
    """Print a table with all that is in it: the last column is folded, and the terminal folds what is still too long."""
    for column in table.columns:
        longest = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
        column.min_width = longest if column is not table.columns[-1] else min(longest, NARROWEST)
    options = out.options.update(width=LONGEST, max_width=LONGEST)
    out.print(table, width=max(out.width, Measurement.get(out, options, table).minimum), crop=False)
