"""What every command takes, and how every command ends.

Exit codes: 0 success, 1 the work failed, 2 misuse, 3 the broker or the coordinator cannot be reached.
"""

from __future__ import annotations

import contextlib
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from broker_jobs import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs import Client

WORK_FAILED: Final = 1
MISUSE: Final = 2
UNREACHABLE: Final = 3

PIPE_WIDTH: Final = 160
"""Columns where the output is no terminal."""

out: Final = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
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
        help="Broker: amqp://user:password@host:5672/vhost, or sqlite:////path/queue.db."
        " Default: BROKER_JOBS_URL, broker-jobs.toml, else your own embedded one.",
        show_default=False,
    ),
]
NamespaceOption = Annotated[
    str | None,
    typer.Option("--namespace", help="Prefix of all queues; programs in different namespaces do not see each other.", show_default=False),
]
OutputOption = Annotated[OutputFormat, typer.Option("--output", help="How to write results.")]


def connect(url: str | None, namespace: str | None) -> Client:
    """The client that a command talks through."""
    from broker_jobs import Client

    return Client(url, namespace=namespace)


@contextlib.contextmanager
def exit_codes() -> Iterator[None]:
    """End the process with the code that fits an exception, and one paragraph that says what to do."""
    try:
        yield
    except (errors.BrokerError, errors.CoordinatorUnavailable, errors.SubmitUnknown) as error:
        _fail(error, UNREACHABLE)
    except (errors.FailedJobsError, errors.TaskUnsuccessful) as error:
        _fail(error, WORK_FAILED)
    except errors.BrokerJobsError as error:
        _fail(error, MISUSE)
    except TimeoutError as error:
        _fail(error, WORK_FAILED)
    except KeyboardInterrupt:
        err.print("interrupted; submitted jobs go on: broker-jobs job list")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing is wrong.
        sys.stderr.close()
        sys.exit(0)


def _fail(error: Exception, code: int) -> None:
    err.print(f"[bold red]{type(error).__name__}[/]: {_plain(str(error))}", soft_wrap=True)
    candidates = getattr(error, "candidates", ())
    for candidate in candidates:
        err.print(f"  {_plain(candidate)}")
    sys.exit(code)


def _plain(text: str) -> str:
    """Text in which brackets mean nothing to rich."""
    return text.replace("[", r"\[")
