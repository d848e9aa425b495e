"""``broker-jobs submit``: run a program as a job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from broker_jobs.cli.options import (
    WORK_FAILED,
    NamespaceOption,
    OutputFormat,
    OutputOption,
    UrlOption,
    connect,
    err,
    exit_codes,
    out,
)
from broker_jobs.cli.show import write_json
from broker_jobs.core.spec import Lane, ResourceRequest, Retry
from broker_jobs.errors import ValidationError
from broker_jobs.ids import short


def submit(
    program: Annotated[
        list[str], typer.Argument(metavar="-- PROGRAM [ARGS]...", help="The program and its arguments, taken exactly as they are.")
    ],
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.table,
    name: Annotated[str | None, typer.Option(help="Name of the job; by default the program's.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag to find it by; may be given several times.")] = None,
    cpus: Annotated[str, typer.Option(help="Processors that it needs, such as 2 or 0.5.")] = "1",
    memory: Annotated[str | None, typer.Option(help="Memory that it needs, such as '4 GiB'.")] = None,
    resource: Annotated[
        list[str] | None, typer.Option(metavar="NAME=AMOUNT", help="Another resource that it needs; may be given several times.")
    ] = None,
    time_limit: Annotated[str | None, typer.Option(help="Wall-clock limit, such as 90 or 1h30m.")] = None,
    retry: Annotated[int, typer.Option(min=1, help="Attempts in all.")] = 1,
    lane: Annotated[Lane, typer.Option(help="Workers prefer a higher lane.")] = Lane.normal,
    priority: Annotated[int, typer.Option(help="Among the tasks of a job, the highest starts first.")] = 0,
    cwd: Annotated[str | None, typer.Option(help="Folder to run in; made if it is missing. By default this one.")] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An environment variable; may be given several times.")
    ] = None,
    stdout: Annotated[str | None, typer.Option(help="File for standard output.")] = None,
    stderr: Annotated[str | None, typer.Option(help="File for standard error.")] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Hand on this command's standard input.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end, print its output, exit with 1 if it failed.")] = False,
    progress: Annotated[bool, typer.Option("--progress", help="Wait with a progress bar.")] = False,
) -> None:
    """Run a program on a worker.

    The job goes on when this command ends:  [bold]broker-jobs job wait last[/]

    Example:  broker-jobs submit --wait --time-limit 1m -- sort --unique names.txt
    """
    from broker_jobs import Job

    with exit_codes():
        job = Job(name=name or Path(program[0]).name, tags=tag or (), lane=lane)
        task = job.program(
            program,
            stdin=sys.stdin.buffer.read() if stdin else None,
            resources=ResourceRequest(cpus=cpus, memory=memory, resources=dict(_pair(text, "--resource") for text in resource or ())),
            time_limit=time_limit,
            retry=Retry(max_attempts=retry) if retry > 1 else None,
            priority=priority,
            cwd=cwd,
            env=dict(_pair(text, "--env") for text in env or ()),
            stdout=stdout,
            stderr=stderr,
        )
        with connect(url, namespace) as client:
            submitted = client.submit(job)
            if output is OutputFormat.json:
                write_json({"job": submitted.id})
            elif output is OutputFormat.quiet:
                out.out(short(submitted.id))
            else:
                err.print(f"submitted [bold]{short(submitted.id)}[/] {job.name}")
            if wait or progress:
                succeeded = client.wait_for_jobs([submitted], raise_on_error=False, progress=progress or None)
                sys.stdout.buffer.write(submitted.stdout(task))
                sys.stdout.buffer.flush()
                sys.stderr.buffer.write(submitted.stderr(task))
                sys.stderr.buffer.flush()
                if not succeeded:
                    for error in submitted.errors().values():
                        err.print(f"[bold red]failed[/] ({error.cause}): {error.message}", soft_wrap=True)
                    sys.exit(WORK_FAILED)


def _pair(text: str, option: str) -> tuple[str, str]:
    """``NAME=VALUE`` taken apart."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValidationError(f"{option} takes NAME=VALUE, not {text!r}")
    return name, value
