"""``broker-jobs submit``: run a program as a job, once or for each entry of an array."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from broker_jobs.cli import show
from broker_jobs.cli.directives import Directives, interpreted, standard_input
from broker_jobs.cli.entries import array_of
from broker_jobs.cli.options import (
    WORK_FAILED,
    NamespaceOption,
    OutputFormat,
    OutputOption,
    PartitionOption,
    UrlOption,
    connect,
    err,
    exit_codes,
    out,
    show_ended,
    wait_for,
)
from broker_jobs.core import batch_options
from broker_jobs.core.request import ResourceRequest
from broker_jobs.core.spec import Lane, Pin, Retry
from broker_jobs.errors import ValidationError
from broker_jobs.ids import reference, short

if TYPE_CHECKING:
    from broker_jobs import Job, SubmittedJob


def submit(
    program: Annotated[
        list[str],
        typer.Argument(metavar="PROGRAM", help="The program and its arguments, exactly as they are. Put '--' before them."),
    ],
    context: typer.Context,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the job; by default the program's.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag to find it by; may be given several times.")] = None,
    cpus: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="Processors that it needs: 2, 0.5, all, '4 scatter', '8 compact!'. By default 1."),
    ] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory that it needs, such as '4 GiB'.")] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=AMOUNT", help="Another resource that it needs, such as gpus=1; may be given several times."),
    ] = None,
    resource_class: Annotated[
        str | None, typer.Option(metavar="NAME", help="What it needs, by the name of a class of broker-jobs.toml.")
    ] = None,
    nodes: Annotated[
        int, typer.Option(metavar="NUMBER", min=0, help="So many whole workers of one group, for this task alone.", show_default=False)
    ] = 0,
    min_time: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Time that its worker must have left, such as 90 or 1h30m.")
    ] = None,
    pin: Annotated[
        Pin | None,
        typer.Option(help="Hold it to the processors that it is given: by its affinity, or by telling OpenMP.", show_default=False),
    ] = None,
    executor: Annotated[
        str | None, typer.Option(metavar="NAME", help="Run it in this batch system: sge, htcondor, or another.", show_default=False)
    ] = None,
    executor_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="For the batch system of a worker that has one: q=1-day; NAME alone for a flag. May be given several times.",
            show_default=False,
        ),
    ] = None,
    time_limit: Annotated[str | None, typer.Option(metavar="DURATION", help="Wall-clock limit, such as 90 or 1h30m.")] = None,
    grace: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Time between SIGTERM and SIGKILL at a limit or a cancel; 0 kills at once. By default 2 s."),
    ] = None,
    memory_limit: Annotated[str | None, typer.Option(metavar="SIZE", help="Limit on the memory of all its processes together.")] = None,
    output_limit: Annotated[str | None, typer.Option(metavar="SIZE", help="Limit on what it prints; it is killed beyond.")] = None,
    retry: Annotated[int, typer.Option(metavar="NUMBER", min=1, help="Attempts in all.")] = 1,
    lane: Annotated[Lane, typer.Option(help="Workers prefer a higher lane.")] = Lane.normal,
    priority: Annotated[int, typer.Option(metavar="NUMBER", help="Among the tasks of a job, the highest starts first.")] = 0,
    cwd: Annotated[str | None, typer.Option(metavar="FOLDER", help="Folder to run in; made if it is missing. By default this one.")] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An environment variable; may be given several times.")
    ] = None,
    stdout: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Where its standard output goes: a path, with ':rm-if-finished' removed on success, or 'none'."),
    ] = None,
    stderr: Annotated[str | None, typer.Option(metavar="FILE", help="The same for its standard error.")] = None,
    task_dir: Annotated[
        bool, typer.Option("--task-dir", metavar="", help="Run it in a fresh folder of its own, which is removed at the end.")
    ] = False,
    stdin: Annotated[bool, typer.Option("--stdin", metavar="", help="Hand on the standard input of this command, to each task.")] = False,
    max_fails: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=0, help="More failed tasks than this abort the rest.", show_default=False)
    ] = None,
    array: Annotated[
        str | None,
        typer.Option(metavar="IDS", help="A task for each id, such as 1-100, 0-10:2 or 1,5,8-10; it is in BROKER_JOBS_ARRAY_ID."),
    ] = None,
    each_line: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A task for each line of a file; it is in BROKER_JOBS_ENTRY.", show_default=False)
    ] = None,
    from_json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A task for each item of a JSON list; it is in BROKER_JOBS_ENTRY, as JSON.", show_default=False),
    ] = None,
    job: Annotated[
        str | None, typer.Option("--job", metavar="JOB", help="Add to this open job, instead of a job of its own.", show_default=False)
    ] = None,
    directives: Annotated[
        Directives, typer.Option(help="Where to look for lines such as '#BJ --cpus 4': auto is in programs that end with .sh.")
    ] = Directives.auto,
    wait: Annotated[bool, typer.Option("--wait", metavar="", help="Wait for its end, print its output, exit with 1 if it failed.")] = False,
    progress: Annotated[bool, typer.Option("--progress", metavar="", help="As --wait, with a progress bar in any case.")] = False,
) -> None:
    """Run a program on a worker, or with --array, --each-line or --from-json as many tasks.

    The job goes on when this command ends:  [bold]broker-jobs job wait last[/]

    Examples of use:

    broker-jobs submit --wait --time-limit 1m -- sort --unique names.txt

    broker-jobs submit --each-line names.txt -- sh -c 'echo "$BROKER_JOBS_ARRAY_ID: $BROKER_JOBS_ENTRY"'

    With --each-line or --from-json, --array picks some of the entries, which are counted from 0.
    A script may hold options itself, in lines such as [bold]#BJ --cpus 4[/] before its first command; those of the command line win.
    """
    import broker_jobs
    from broker_jobs.client.authoring import TaskCommon

    with exit_codes():
        if job is not None and name is not None:
            raise ValidationError("--name belongs to the job that is open already: leave it out with --job")
        written = broker_jobs.Job(name=name or Path(program[0]).name, tags=tag or (), lane=lane, max_fails=max_fails)
        entries = array_of(array, each_line, from_json)
        argv = interpreted(program, directives)
        given = standard_input(context) if stdin else None
        common = TaskCommon(
            name=Path(program[0]).name,
            resources=_request(cpus, memory, resource, nodes, min_time),
            resource_class=resource_class,
            pin=None if pin is None else pin.value,
            executor=executor,
            executor_options=dict(batch_options.given(executor_option or ())),
            time_limit=time_limit,
            grace=grace,
            memory_limit=memory_limit,
            output_limit=output_limit,
            retry=Retry(max_attempts=retry) if retry > 1 else None,
            priority=priority,
            cwd=cwd,
            env=dict(_pair(text, "--env") for text in env or ()),
            stdout=None if stdout is None else broker_jobs.Stdio.parse(stdout),
            stderr=None if stderr is None else broker_jobs.Stdio.parse(stderr),
        )
        if entries is None:
            written.program(argv, stdin=given, task_dir=task_dir, **common)
        else:
            written.array(argv, entries.ids, entries=entries.entries, stdin=given, task_dir=task_dir, **common)
        launch(written, url, namespace, partition, output, to=job, wait=wait, progress=progress, single=entries is None and job is None)


def launch(
    job: Job,
    url: str | None,
    namespace: str | None,
    partition: int | None,
    output: OutputFormat,
    *,
    to: str | None,
    wait: bool,
    progress: bool,
    single: bool,
) -> None:
    """Submit a job, and wait for it where that is wanted; of an open job, for the tasks that it has.

    Args:
        to: the open job that its tasks are added to
        single: it is one program, whose output is shown as if it had run here
    """
    from broker_jobs.config import shown

    with connect(url, namespace, partition) as client:
        submitted = client.submit(job, to=to)
        waits = wait or progress
        if output is OutputFormat.table:
            follow = (
                "" if waits else f"; follow it with: broker-jobs job wait {reference(submitted.id)}{f' --url {shown(url)}' if url else ''}"
            )
            what = f"{job.name}{follow}" if to is None else f"+ {len(job)} tasks"
            err.print(Text(f"submitted {short(submitted.id)} {what}"), soft_wrap=True)
        if not waits:
            _told(submitted, output)
            return
        succeeded = wait_for([submitted], output, bar=progress) if to is None else submitted.wait_for_tasks()
        if not single:
            show_ended([submitted], output)
        elif output is OutputFormat.json:
            _written(submitted)
        else:
            _printed(submitted, succeeded=succeeded)
        if not succeeded:
            sys.exit(WORK_FAILED)


def _told(submitted: SubmittedJob, output: OutputFormat) -> None:
    """The id, where a program asked for it."""
    if output is OutputFormat.json:
        show.write_json({"job": submitted.id})
    elif output is OutputFormat.quiet:
        out.out(reference(submitted.id))


def _written(submitted: SubmittedJob) -> None:
    """How it ended, for programs."""
    show.write_json(
        {
            "job": submitted.id,
            "state": submitted.state.value,
            "stdout": submitted.stdout(0).decode(errors="replace"),
            "stderr": submitted.stderr(0).decode(errors="replace"),
            "errors": [{"cause": error.cause, "message": error.message} for error in submitted.errors().values()],
        }
    )


def _printed(submitted: SubmittedJob, *, succeeded: bool) -> None:
    """What it printed, where it would have printed it, and why it failed."""
    for stream, data in ((sys.stdout, submitted.stdout(0)), (sys.stderr, submitted.stderr(0))):
        stream.buffer.write(data)
        stream.buffer.flush()
    if succeeded:
        return
    failed = submitted.errors().values()
    for error in failed:
        err.print(Text.assemble(("failed", "bold red"), f" ({error.cause}): {error.message}"), soft_wrap=True)
    if not failed:
        err.print(Text.assemble((submitted.state.value, "yellow"), f": {submitted.info().reason}"), soft_wrap=True)


def _request(cpus: str | None, memory: str | None, further: list[str] | None, nodes: int, min_time: str | None) -> ResourceRequest | None:
    """What was asked for on the command line; None for nothing."""
    given = dict(_pair(text, "--resource") for text in further or ())
    given |= {name: value for name, value in (("cpus", cpus), ("memory", memory)) if value is not None}
    if not given and not nodes and min_time is None:
        return None
    return ResourceRequest(given.pop("cpus", "1"), given.pop("memory", None), given.pop("gpus", "0"), given, nodes, min_time)


def _pair(text: str, option: str) -> tuple[str, str]:
    """``NAME=VALUE`` taken apart."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValidationError(f"{option} takes NAME=VALUE, not {text!r}")
    return name, value
