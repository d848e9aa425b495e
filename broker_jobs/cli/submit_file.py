"""``broker-jobs submit-file``: submit what a job file describes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker_jobs.cli.jobfile import read_job
from broker_jobs.cli.options import NamespaceOption, OutputFormat, OutputOption, PartitionOption, UrlOption, exit_codes
from broker_jobs.cli.submit import launch


def submit_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The job file, in TOML.")],
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    job: Annotated[
        str | None, typer.Option("--job", metavar="JOB", help="Add to this open job, instead of a job of its own.", show_default=False)
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", metavar="", help="Wait for its end, exit with 1 if it failed.")] = False,
    progress: Annotated[bool, typer.Option("--progress", metavar="", help="As --wait, with a progress bar in any case.")] = False,
) -> None:
    """Submit a job that a TOML file describes: tasks with ids and dependencies, or one array.

    Keys of a task: id, name, command, env, stdin, stdout, stderr, cwd, task_dir, time_limit, memory_limit, output_limit, priority,
    crash_limit, executor, executor_options, deps, after, request. An example is in docs/guide.md, "Job files".
    """
    with exit_codes():
        written = read_job(file, attached=job is not None)
        launch(written, url, namespace, partition, output, to=job, wait=wait, progress=progress, single=False)
