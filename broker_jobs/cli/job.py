"""``broker-jobs job``: look at jobs, wait for them, end them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from broker_jobs.cli import show
from broker_jobs.cli.options import WORK_FAILED, NamespaceOption, OutputFormat, OutputOption, UrlOption, connect, err, exit_codes, out
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.ids import short

if TYPE_CHECKING:
    from broker_jobs import SubmittedJob

app = typer.Typer(no_args_is_help=True, help="Look at jobs, wait for them, end them.")

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="'last', a whole id, or the end of one (4 digits or more).")]

MOST_FAILURES = 10


@app.command("list")
def list_jobs(
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.table,
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only jobs with this tag; may be given several times.")] = None,
    name: Annotated[str | None, typer.Option(help="Only jobs whose name fits this pattern, such as 'train*'.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest first.")] = 20,
) -> None:
    """List jobs, the newest first."""
    with exit_codes(), connect(url, namespace) as client:
        found = client.jobs(state=state, tags=tag or (), name=name, limit=limit)
        show.jobs([job.info() for job in found], output)


@app.command("info")
def info(job: JobArgument, url: UrlOption = None, namespace: NamespaceOption = None, output: OutputOption = OutputFormat.table) -> None:
    """Show a job: its tasks by state, why it waits, what failed."""
    with exit_codes(), connect(url, namespace) as client:
        found = client.job(job)
        failed = [task for task in found.tasks() if task.state is TaskState.failed][:MOST_FAILURES]
        show.job(found.info(), failed, output)


@app.command("wait")
def wait(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="'last', whole ids, or the ends of some.")],
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.table,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which to give up (exit code 1).")] = None,
) -> None:
    """Wait until jobs have ended; exit code 1 if one did not succeed."""
    with exit_codes(), connect(url, namespace) as client:
        _wait([client.job(job) for job in jobs], output, timeout, progress=None)


@app.command("progress")
def progress(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="'last', whole ids, or the ends of some.")],
    url: UrlOption = None,
    namespace: NamespaceOption = None,
) -> None:
    """Show a progress bar until jobs have ended; exit code 1 if one did not succeed."""
    with exit_codes(), connect(url, namespace) as client:
        _wait([client.job(job) for job in jobs], OutputFormat.table, None, progress=True)


@app.command("cat")
def cat(
    job: JobArgument,
    task: Annotated[int | None, typer.Argument(metavar="TASK", help="Number of the task; without it, every task in order.")] = None,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    stderr: Annotated[bool, typer.Option("--stderr", help="Standard error instead of standard output.")] = False,
) -> None:
    """Print what tasks have printed."""
    with exit_codes(), connect(url, namespace) as client:
        found = client.job(job)
        numbers = [one.number for one in found.tasks()] if task is None else [task]
        for number in numbers:
            data = found.stderr(number) if stderr else found.stdout(number)
            sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


@app.command("cancel")
def cancel(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="'last', whole ids, or the ends of some.")],
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.table,
    reason: Annotated[str, typer.Option(help="Why; shown with the job.")] = "canceled from the command line",
) -> None:
    """End jobs: what waits does not start, what runs is stopped."""
    with exit_codes(), connect(url, namespace) as client:
        for text in jobs:
            found = client.job(text)
            result = found.cancel(reason=reason)
            if output is OutputFormat.json:
                show.write_json({"job": found.id, **show.as_json(result)})
            elif output is OutputFormat.table:
                out.print(
                    f"{short(found.id)}: canceled {result.before_start} before their start and {result.while_running} while running;"
                    f" {result.ended_already} had ended"
                )


@app.command("forget")
def forget(jobs: Annotated[list[str], typer.Argument(metavar="JOB...")], url: UrlOption = None, namespace: NamespaceOption = None) -> None:
    """Drop ended jobs, with their values and output, from the ledger."""
    with exit_codes(), connect(url, namespace) as client:
        for text in jobs:
            client.forget(client.job(text))


def _wait(jobs: list[SubmittedJob], output: OutputFormat, timeout: float | None, *, progress: bool | None) -> None:
    """Wait, then show what became of them."""
    client = jobs[0].client
    succeeded = client.wait_for_jobs(jobs, timeout=timeout, raise_on_error=False, progress=progress)
    show.jobs([job.info() for job in jobs], output)
    if not succeeded:
        if output is OutputFormat.table:
            err.print(f"[dim]what failed:[/] broker-jobs job info {short(jobs[0].id)}")
        sys.exit(WORK_FAILED)
