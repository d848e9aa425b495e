"""The command line ``broker-jobs-worker``, and what it shares with ``broker-jobs worker start``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from broker_jobs.cmdline import conceal
from broker_jobs.errors import BrokerError, BrokerJobsError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MISUSE: Final = 2
UNREACHABLE: Final = 3

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def run(
    *,
    url: str | None = None,
    namespace: str | None = None,
    name: str | None = None,
    cpus: str | None = None,
    memory: str | None = None,
    gpus: str = "0",
    resources: Mapping[str, str] | None = None,
    path: Sequence[Path] = (),
    metrics_host: str = "127.0.0.1",
    metrics_port: str = "0",
) -> int:
    """Run a worker until SIGTERM or SIGINT; its exit code. Logs to standard error.

    Args:
        url: address of the broker (default: as every program of broker-jobs finds it)
        namespace: prefix of every name at the broker
        name: of the worker
        cpus: processors to give to tasks (default: all that this process may use)
        memory: memory to give to tasks (default: all that this process may use)
        gpus: graphics processors to give to tasks
        resources: further ones
        path: folders with modules of users
        metrics_host: address of ``/metrics`` and ``/healthz``
        metrics_port: their port; 0 for none, ``auto`` for any free one

    Raises:
        ValidationError: an amount, the name or the port is wrong
        SigningKeyMissing: there is no key
        BrokerError: there is no connection to begin with
    """
    # The help needs neither broker nor numbers.
    from broker_jobs.config import resolve
    from broker_jobs.logs import start_logging
    from broker_jobs.metrics import parse_port
    from broker_jobs_worker.config import WorkerConfig
    from broker_jobs_worker.daemon import serve

    start_logging()
    settings = resolve(url, namespace)
    config = WorkerConfig(
        settings.url,
        settings.namespace,
        settings.required_key(),
        settings.home / "output",
        name=name,
        cpus=cpus,
        memory=memory,
        gpus=gpus,
        resources=resources or {},
        path=tuple(str(folder.absolute()) for folder in path),
        metrics_host=metrics_host,
        metrics_port=parse_port(metrics_port),
    )
    return asyncio.run(serve(config))


@app.callback()
def _about() -> None:
    """Work on the tasks of broker-jobs."""


@app.command()
def start(
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            callback=conceal,
            help="Broker: amqp://user:password@host:5672/vhost, or sqlite:////path/queue.db."
            " Default: BROKER_JOBS_URL, broker-jobs.toml, else your own embedded one.",
            show_default=False,
        ),
    ] = None,
    namespace: Annotated[str | None, typer.Option(metavar="NAME", help="Prefix of all queues.", show_default=False)] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of this worker; by default made of host and process.", show_default=False)
    ] = None,
    cpus: Annotated[
        str | None,
        typer.Option(metavar="NUMBER", help="Processors to give to tasks; by default all that this process may use.", show_default=False),
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory to give to tasks, such as '16 GiB'; by default all.", show_default=False)
    ] = None,
    gpus: Annotated[str, typer.Option(metavar="NUMBER", help="Graphics processors to give to tasks.")] = "0",
    resource: Annotated[list[str] | None, typer.Option(metavar="NAME=AMOUNT", help="Another resource; may be given several times.")] = None,
    path: Annotated[
        list[Path] | None, typer.Option(metavar="FOLDER", help="Folder with modules that functions need; may be given several times.")
    ] = None,
    metrics_host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address of /metrics and /healthz.")] = "127.0.0.1",
    metrics_port: Annotated[str, typer.Option(metavar="PORT", help="Their port; 0 for none, 'auto' for any free one.")] = "0",
) -> None:
    """Run a worker in the foreground.

    SIGTERM and Ctrl-C drain it: running tasks finish, the rest is given back. A second signal gives back what runs, too.
    """
    try:
        code = run(
            url=url,
            namespace=namespace,
            name=name,
            cpus=cpus,
            memory=memory,
            gpus=gpus,
            resources=dict(map(_pair, resource or ())),
            path=path or (),
            metrics_host=metrics_host,
            metrics_port=metrics_port,
        )
    except BrokerJobsError as error:
        print(f"broker-jobs-worker: {error}", file=sys.stderr)
        code = UNREACHABLE if isinstance(error, BrokerError) else MISUSE
    raise typer.Exit(code)


def _pair(text: str) -> tuple[str, str]:
    name, equals, amount = text.partition("=")
    if not equals:
        raise ValidationError(f"--resource is written NAME=AMOUNT, not {text!r}")
    return name, amount


def main() -> None:
    """Run the command line."""
    app()
