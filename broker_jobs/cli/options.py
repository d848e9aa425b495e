"""What every command takes, and how every command ends.

Exit codes: 0 success, 1 the work failed, 2 misuse, 3 the broker or the coordinator cannot be reached.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from broker_jobs import errors
from broker_jobs.cmdline import conceal
from broker_jobs.core.states import JobState
from broker_jobs.ids import MOST_PARTITIONS, reference

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from broker_jobs import Client, SubmittedJob

WORK_FAILED: Final = 1
MISUSE: Final = 2
UNREACHABLE: Final = 3

INTERRUPTED: Final = 130

PIPE_WIDTH: Final = 10_000
"""Columns where the output is no terminal: a row is a line, whatever is in it."""

_LONGEST_NUMBER: Final = 10


class _Output(Console):
    """Standard output. That its reader has gone (`| head`) is no failure."""

    def on_broken_pipe(self) -> None:
        """End the process, in order."""
        _drop_output()
        sys.exit(0)


out: Final = _Output(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err: Final = Console(stderr=True, highlight=False)


class OutputFormat(StrEnum):
    """How results are written."""

    table = "table"
    json = "json"
    quiet = "quiet"


UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        callback=conceal,
        help="Broker: amqp://user:password@host:5672/vhost, or sqlite:////path/queue.db."
        " Default: BROKER_JOBS_URL, broker-jobs.toml, else your own embedded one.",
        show_default=False,
    ),
]
NamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        metavar="NAME",
        help="Prefix of all queues; programs in different namespaces do not see each other.",
        show_default=False,
    ),
]
PartitionOption = Annotated[
    int | None,
    typer.Option(
        "--partition",
        metavar="NUMBER",
        min=0,
        max=MOST_PARTITIONS - 1,
        help="Partition of the ledger, where there are several. Default: BROKER_JOBS_PARTITION, broker-jobs.toml, else 0.",
        show_default=False,
    ),
]
OutputOption = Annotated[OutputFormat, typer.Option("--output", help="How to write results.")]


JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="'last', a whole id, or the end of one (4 digits or more).")]
JobsArgument = Annotated[list[str], typer.Argument(metavar="JOB", help="'last', whole ids, or the ends of some (4 digits or more).")]
TaskArgument = Annotated[
    str, typer.Argument(metavar="TASK", help="Its number, its name, or '[7]' for the array task with the id 7.", show_default=False)
]


def task_ref(text: str) -> int | str:
    """A task as a person names it: by number, else by name."""
    return int(text) if text.isdecimal() and len(text) <= _LONGEST_NUMBER else text


def connect(url: str | None, namespace: str | None, partition: int | None) -> Client:
    """The client that a command talks through; the command itself says what goes on without it."""
    from broker_jobs import Client

    client = Client(url, namespace=namespace, partition=partition)
    client.runtime.reports_left_work = False
    return client


def wait_for(jobs: Sequence[SubmittedJob], output: OutputFormat, *, timeout: float | None = None, bar: bool = False) -> bool:
    """Wait for the end of jobs, with a bar where somebody looks or wants one; whether all succeeded."""
    progress = True if bar else None if output is OutputFormat.table else False
    return jobs[0].client.wait_for_jobs(jobs, timeout=timeout, raise_on_error=False, progress=progress)


def show_ended(jobs: Sequence[SubmittedJob], output: OutputFormat) -> None:
    """Show what became of jobs."""
    from broker_jobs.cli import show

    infos = [job.info() for job in jobs]
    show.jobs(infos, output)
    bad = [info for info in infos if info.state is not JobState.succeeded and not info.open]
    if bad and output is OutputFormat.table:
        err.print(f"[dim]why:[/] broker-jobs job info {reference(bad[0].job)}")


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """End the process with the code that fits an exception, and one paragraph that says what to do."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            yield
    except (errors.BrokerError, errors.CoordinatorUnavailable, errors.LedgerLost, errors.SubmitUnknown) as error:
        _fail(error, UNREACHABLE)
    except (errors.FailedJobsError, errors.TaskUnsuccessful) as error:
        _fail(error, WORK_FAILED)
    except errors.BrokerJobsError as error:
        _fail(error, MISUSE)
    except TimeoutError as error:
        _fail(error, WORK_FAILED)
    except KeyboardInterrupt:
        err.print("interrupted; submitted jobs go on: broker-jobs job list")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _drop_output()
        sys.exit(0)


def _fail(error: Exception, code: int) -> None:
    err.print(f"[bold red]{type(error).__name__}[/]: {escape(str(error))}", soft_wrap=True)
    if isinstance(error, errors.AmbiguousId):
        for candidate in error.candidates:
            err.print(f"  {candidate}")
    sys.exit(code)


def _show_warning(message: Warning | str, *_: object, **_more: object) -> None:
    """A warning for people; where in the code it came up is not their concern."""
    err.print(f"[bold yellow]warning[/]: {escape(str(message))}", soft_wrap=True)


def _drop_output() -> None:
    """Send what is still in the buffer of standard output nowhere; else Python complains about it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
