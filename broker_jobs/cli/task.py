"""``broker-jobs task``: look at tasks, end them."""

from __future__ import annotations

from typing import Annotated

import typer

from broker_jobs.cli import explaining, show
from broker_jobs.cli.control import ReasonOption, act, canceled
from broker_jobs.cli.options import (
    JobArgument,
    NamespaceOption,
    OutputFormat,
    OutputOption,
    PartitionOption,
    TaskArgument,
    UrlOption,
    connect,
    exit_codes,
    task_ref,
)
from broker_jobs.core.states import TaskState
from broker_jobs.errors import TaskNotFound
from broker_jobs.ids import reference, short

app = typer.Typer(no_args_is_help=True, help="Look at the tasks of a job, end them.")


@app.command("list")
def list_tasks(
    job: JobArgument,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    state: Annotated[TaskState | None, typer.Option(help="Only tasks in this state.")] = None,
) -> None:
    """List the tasks of a job."""
    with exit_codes(), connect(url, namespace, partition) as client:
        found = client.job(job).tasks()
        show.tasks([task for task in found if state in {None, task.state}], output)


@app.command("explain")
def explain(
    job: JobArgument,
    task: TaskArgument,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
) -> None:
    """Say why a task has not started: what it waits for, and what each worker lacks for it."""
    with exit_codes(), connect(url, namespace, partition) as client:
        explaining.explanation(client.job(job).explain(task_ref(task)), output)


@app.command("info")
def info(
    job: JobArgument,
    task: TaskArgument,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
) -> None:
    """Show a task: where it ran, how it ended, its traceback."""
    with exit_codes(), connect(url, namespace, partition) as client:
        found = client.job(job)
        infos = found.tasks([found.number(task_ref(task))])
        if not infos:
            raise TaskNotFound(f"job {short(found.id)} has no task {task}; what it has: broker-jobs task list {reference(found.id)}")
        show.task(infos[0], output)


@app.command("cancel")
def cancel(
    job: JobArgument,
    tasks: Annotated[str, typer.Argument(metavar="TASKS", help="Which: '1-5,7', '0-90:10', names, '[33]'.", show_default=False)],
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    reason: ReasonOption = "canceled from the command line",
) -> None:
    """End some tasks of a job. Tasks that depend on them are aborted."""
    with exit_codes(), connect(url, namespace, partition) as client:
        act([client.job(job)], output, lambda found: found.cancel(reason, tasks=tasks), canceled)
