"""``broker-jobs job``: look at jobs, wait for them, hold them back, end them."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from broker_jobs.cli import control, show
from broker_jobs.cli.cat import cat
from broker_jobs.cli.options import (
    WORK_FAILED,
    JobArgument,
    JobsArgument,
    NamespaceOption,
    OutputFormat,
    OutputOption,
    PartitionOption,
    UrlOption,
    connect,
    exit_codes,
    out,
    show_ended,
    wait_for,
)
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.ids import reference, short

app = typer.Typer(no_args_is_help=True, help="Look at jobs, wait for them, hold them back, end them.")

MOST_FAILURES: Final = 10


@app.command("list")
def list_jobs(
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="Only jobs with this tag; may be given several times.")] = None,
    name: Annotated[str | None, typer.Option(metavar="PATTERN", help="Only jobs whose name fits, such as 'train*'.")] = None,
    parent: Annotated[
        str | None, typer.Option(metavar="JOB", help="Only jobs that were started inside a task of this one.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(metavar="NUMBER", min=1, max=10_000, help="At most so many, the newest first.")] = 20,
) -> None:
    """List jobs, the newest first."""
    with exit_codes(), connect(url, namespace, partition) as client:
        above = None if parent is None else client.job(parent)
        found = client.jobs(state=state, tags=tag or (), name=name, parent=above, limit=limit)
        show.jobs([job.info() for job in found], output)


@app.command("info")
def info(
    job: JobArgument,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
) -> None:
    """Show a job: its tasks by state, why it waits, what failed."""
    with exit_codes(), connect(url, namespace, partition) as client:
        found = client.job(job)
        failed = [task for task in found.tasks() if task.state is TaskState.failed][:MOST_FAILURES]
        show.job(found.info(), failed, output)


@app.command("open")
def open_job(
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the job.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag to find it by; may be given several times.")] = None,
    max_fails: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=0, help="More failed tasks than this abort the rest.", show_default=False)
    ] = None,
) -> None:
    """Make a job to which tasks are submitted until it is closed.

    Example:  [bold]broker-jobs job open --name scan[/]   then   [bold]broker-jobs submit --job last -- echo one[/]   then
    [bold]broker-jobs job close last[/]
    """
    with exit_codes(), connect(url, namespace, partition) as client:
        opened = client.open(name, tags=tag or (), max_fails=max_fails)
        if output is OutputFormat.json:
            show.write_json({"job": opened.id})
        elif output is OutputFormat.quiet:
            out.out(reference(opened.id))
        else:
            out.print(f"{short(opened.id)}: open; add to it with: broker-jobs submit --job {reference(opened.id)} -- program")


@app.command("close")
def close(
    jobs: JobsArgument,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
) -> None:
    """Let open jobs end with the tasks that they have."""
    with exit_codes(), connect(url, namespace, partition) as client:
        found = [client.job(text) for text in jobs]
        for job in found:
            job.close()
        if output is OutputFormat.json:
            show.write_json([job.id for job in found])
        elif output is OutputFormat.table:
            for job in found:
                out.print(f"{short(job.id)}: closed")


@app.command("wait")
def wait(
    jobs: JobsArgument,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="When to give up, with exit code 1.", show_default=False)] = None,
    without_close: Annotated[
        bool, typer.Option("--without-close", metavar="", help="Of an open job, wait for the tasks that it has, not until it is closed.")
    ] = False,
) -> None:
    """Wait until jobs have ended; exit code 1 if one did not succeed."""
    with exit_codes(), connect(url, namespace, partition) as client:
        found = [client.job(job) for job in jobs]
        if without_close:  # every one of them is waited for
            succeeded = False not in {job.wait_for_tasks(timeout) for job in found}
        else:
            succeeded = wait_for(found, output, timeout=timeout)
        show_ended(found, output)
        if not succeeded:
            sys.exit(WORK_FAILED)


@app.command("progress")
def progress(
    jobs: JobsArgument,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
) -> None:
    """Show a progress bar until jobs have ended; exit code 1 if one did not succeed."""
    with exit_codes(), connect(url, namespace, partition) as client:
        found = [client.job(job) for job in jobs]
        succeeded = wait_for(found, output, bar=True)
        show_ended(found, output)
        if not succeeded:
            sys.exit(WORK_FAILED)


app.command("cat")(cat)
app.command("cancel")(control.cancel)
app.command("pause")(control.pause)
app.command("resume")(control.resume)
app.command("resubmit")(control.resubmit)
app.command("forget")(control.forget)
