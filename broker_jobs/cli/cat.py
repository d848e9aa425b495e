"""``broker-jobs job cat``: what tasks have printed, from wherever they ran, byte for byte."""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape

from broker_jobs.cli.options import NamespaceOption, OutputFormat, OutputOption, PartitionOption, UrlOption, connect, err, exit_codes
from broker_jobs.client import output as printing
from broker_jobs.client.following import followed
from broker_jobs.core.selection import task_refs
from broker_jobs.core.states import TaskState
from broker_jobs.errors import TaskNotFound, ValidationError
from broker_jobs.ids import FEWEST_DIGITS, short

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from broker_jobs import Client, SubmittedJob
    from broker_jobs.client.output import Printed
    from broker_jobs.client.reading import Part
    from broker_jobs.wire.messages import TaskInfo

STREAMS: Final = ("stdout", "stderr")

_COLORS: Final = (36, 33, 32, 35, 34, 31)
_LONGEST_LINE: Final = 2**20
_MIB: Final = 2**20


def cat(
    jobs: Annotated[
        list[str],
        typer.Argument(metavar="JOB", help="'last', whole ids, or the ends of some. A last word stdout or stderr says which; else stdout."),
    ],
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    tasks: Annotated[
        str | None,
        typer.Option(metavar="NUMBERS", help="Only these: numbers as in 0,5-9, names, ids of arrays as '[7]'.", show_default=False),
    ] = None,
    state: Annotated[
        list[TaskState] | None,
        typer.Option(metavar="STATE", help="Only tasks in this state, such as failed; may be given several times.", show_default=False),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", metavar="", help="Go on, as the tasks print, until they have ended.")] = False,
    header: Annotated[
        bool | None,
        typer.Option("--header/--no-header", metavar="", help="Say before each task which it is (default: of several, on a terminal)."),
    ] = None,
) -> None:
    """Print what tasks have printed so far, byte for byte, from wherever they ran.

    Of several tasks, `--follow` writes whole lines, each with the number of its task in front (`--no-header`: without).
    With `--output json`: a list with an object a task; `base64` takes the place of `text` where that would not be UTF-8.
    """
    names, stderr = _chosen(jobs)
    wanted = None if tasks is None else _selection(tasks)
    if follow and output is OutputFormat.json:
        raise typer.BadParameter("it writes bytes as they come, so it does not go with --output json", param_hint="--follow")
    if follow and state:
        raise typer.BadParameter("the states of tasks change while they are followed", param_hint="--state")
    if follow and len(names) > 1:
        raise typer.BadParameter("one job at a time", param_hint="--follow")
    with exit_codes(), connect(url, namespace, partition) as client:
        found = [client.job(name) for name in names]
        if follow:
            _follow(client, found[0], wanted, stderr=stderr, header=header)
            return
        chosen = [(job, _tasks(client, job, wanted, state or ())) for job in found]
        if output is OutputFormat.json:
            _write_json(client, chosen, stderr=stderr)
        else:
            many = sum(len(infos) for _, infos in chosen) > 1
            told = output is OutputFormat.table and many and sys.stdout.isatty() if header is None else header
            _write(client, chosen, stderr=stderr, header=told)


def _selection(text: str) -> list[int | str]:
    """The tasks of a selection such as ``0,5-9,20-90:10,[33],train``: numbers, ids of arrays, names."""
    try:
        return task_refs(text)
    except ValidationError as error:
        raise typer.BadParameter(str(error), param_hint="--tasks") from None


def _chosen(words: Sequence[str]) -> tuple[list[str], bool]:
    """The jobs, and whether standard error is meant."""
    names, stream = (list(words[:-1]), words[-1]) if words[-1] in STREAMS else (list(words), STREAMS[0])
    if not names:
        raise typer.BadParameter("which job? 'last', a whole id, or the end of one", param_hint="JOB")
    for name in names:
        if len(name) < FEWEST_DIGITS or name.startswith("["):
            raise typer.BadParameter(f"{name!r} is too short for a job; tasks are chosen with --tasks {name}", param_hint="JOB")
    return names, stream == "stderr"


def _tasks(client: Client, job: SubmittedJob, wanted: Sequence[int | str] | None, states: Sequence[TaskState]) -> list[TaskInfo]:
    """The tasks that are meant.

    Raises:
        TaskNotFound: one that was asked for is not there
    """
    only = None if wanted is None else tuple([task if isinstance(task, int) else job.number(task) for task in wanted])
    infos = client.runtime.run(lambda core: core.tasks(job.joined(core), only=only))
    missing = set(only or ()) - {info.number for info in infos}
    if missing:
        raise TaskNotFound(f"job {short(job.id)} has no task {min(missing)}")
    return [info for info in infos if not states or info.state in states]


def _printed(client: Client, job: SubmittedJob, infos: Sequence[TaskInfo], *, stderr: bool) -> Iterator[Printed]:
    chosen = [info.number for info in infos]
    return client.runtime.iterate(lambda core: printing.printed(core, job.joined(core), chosen, stderr=stderr))


def _write(client: Client, chosen: Sequence[tuple[SubmittedJob, Sequence[TaskInfo]]], *, stderr: bool, header: bool) -> None:
    """Byte for byte, one task after the other."""
    status = None if sys.stdout.isatty() or not err.is_terminal else err.status("reading")
    written = 0
    if status is not None:
        status.start()
    try:
        for job, infos in chosen:
            by_number = {info.number: info for info in infos}
            begun: int | None = None
            for text in _printed(client, job, infos, stderr=stderr):
                if header and begun != text.task:
                    begun = text.task
                    _put(_header(job, by_number[text.task]))
                if text.part is not None:
                    _note_lost(text.task, text.part)
                    _put(text.part.data)
                    written += len(text.part.data)
                    if status is not None:
                        status.update(f"{written / _MIB:.0f} MiB")
    finally:
        if status is not None:
            status.stop()


def _write_json(client: Client, chosen: Sequence[tuple[SubmittedJob, Sequence[TaskInfo]]], *, stderr: bool) -> None:
    """A list with an object a task, written as it is read: all of it may not fit into memory."""
    separator = "[\n"
    for job, infos in chosen:
        by_number = {info.number: info for info in infos}
        data, lost = bytearray(), 0
        for text in _printed(client, job, infos, stderr=stderr):
            if text.part is not None:
                data += text.part.data
                lost += text.part.lost
                continue
            info = by_number[text.task]
            about: dict[str, Any] = {"job": job.id, "task": info.number, "name": info.name, "state": info.state, "attempt": info.attempt}
            about |= {"stream": STREAMS[stderr], "lost": lost, **_as_text(bytes(data))}
            sys.stdout.write(separator + json.dumps(about, ensure_ascii=False))
            separator = ",\n"
            data, lost = bytearray(), 0
    sys.stdout.write("[]\n" if separator == "[\n" else "\n]\n")
    sys.stdout.flush()


def _as_text(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def _follow(client: Client, job: SubmittedJob, wanted: Sequence[int | str] | None, *, stderr: bool, header: bool | None) -> None:
    """As tasks print: one byte for byte, several line by line."""
    chosen: list[int] | None = None
    if wanted is not None:
        chosen = [info.number for info in _tasks(client, job, wanted, ())]
    elif job.info().total == 1:
        chosen = [0]
    if chosen is not None and len(chosen) == 1:
        task = chosen[0]
        for part in client.runtime.iterate(lambda core: printing.parts(core, job.joined(core), task, stderr=stderr, follow=True)):
            _note_lost(task, part)
            _put(part.data)
        return
    only = None if chosen is None else frozenset(chosen)
    lines: dict[int, bytes] = {}
    for text in client.runtime.iterate(lambda core: followed(core, job.joined(core), only, stderr=stderr)):
        begun = lines.pop(text.task, b"")
        if text.part is None:
            whole, rest = (begun + b"\n" if begun else b""), b""
        else:
            _note_lost(text.task, text.part)
            cut = (begun + text.part.data).rpartition(b"\n")
            whole, rest = cut[0] + cut[1], cut[2]
            if len(rest) > _LONGEST_LINE:
                whole, rest = whole + rest + b"\n", b""
        if rest:
            lines[text.task] = rest
        if whole:
            front = b"" if header is False else _front(text.task)
            _put(b"".join(front + line + b"\n" for line in whole[:-1].split(b"\n")))


def _front(task: int) -> bytes:
    """What stands before each line of a task."""
    if sys.stdout.isatty():
        return f"\x1b[{_COLORS[task % len(_COLORS)]}m{task:>4} | \x1b[0m".encode()
    return f"{task:>4} | ".encode()


def _header(job: SubmittedJob, info: TaskInfo) -> bytes:
    name = f" {info.name}" if info.name else ""
    text = f"==> {short(job.id)} task {info.number}{name} ({info.state}) <=="
    return (f"\x1b[1m{text}\x1b[0m\n" if sys.stdout.isatty() else f"{text}\n").encode()


def _note_lost(task: int, part: Part) -> None:
    if part.lost:
        err.print(f"[yellow]task {task}: {part.lost} bytes are missing here;[/] {escape(_WHY)}", soft_wrap=True)


_WHY: Final = "a worker keeps long output while it has room, and of more than 64 MiB the end"


def _put(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
