"""The command line ``broker-jobs-worker``; ``broker-jobs worker start`` is the same function."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from broker_jobs.errors import BrokerError, BrokerJobsError, ValidationError

MISUSE = 2
UNREACHABLE = 3

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _about() -> None:
    """Work on the tasks of broker-jobs."""


@app.command()
def start(
    url: Annotated[
        str | None, typer.Option(help="Broker: amqp://user:password@host:5672/vhost, or sqlite:////path/queue.db.", show_default=False)
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="Prefix of all queues.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option(help="Name of this worker; no other may have it.", show_default=False)] = None,
    cpus: Annotated[
        str | None, typer.Option(help="Processors to give to tasks; by default all that this process may use.", show_default=False)
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory to give to tasks, such as '16 GiB'; by default all of this machine.", show_default=False)
    ] = None,
    gpus: Annotated[str, typer.Option(help="Graphics processors to give to tasks.")] = "0",
    resource: Annotated[
        list[str] | None, typer.Option(help="A further resource, such as fpga=2; may be repeated.", show_default=False)
    ] = None,
    path: Annotated[list[Path] | None, typer.Option(help="Folder with modules of users; may be repeated.", show_default=False)] = None,
    spool: Annotated[
        Path | None, typer.Option(help="Folder for output; by default 'output' in the state folder.", show_default=False)
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address of /metrics and /healthz.")] = "127.0.0.1",
    metrics_port: Annotated[str, typer.Option(help="Their port; 0 for none, 'auto' for any free one.")] = "0",
) -> None:
    """Run a worker in the foreground. SIGTERM or Ctrl-C drains it; a second one gives back what runs."""
    # A command line that only shows its help needs neither broker nor numbers.
    from broker_jobs.config import resolve
    from broker_jobs.metrics import parse_port
    from broker_jobs_worker.config import WorkerConfig
    from broker_jobs_worker.daemon import serve

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = resolve(url, namespace)
        config = WorkerConfig(
            settings.url,
            settings.namespace,
            settings.required_key(),
            spool or settings.home / "output",
            name=name,
            cpus=cpus,
            memory=memory,
            gpus=gpus,
            resources=dict(map(_resource, resource or [])),
            path=tuple(str(folder.absolute()) for folder in path or []),
            metrics_host=metrics_host,
            metrics_port=parse_port(metrics_port),
        )
        code = asyncio.run(serve(config))
    except BrokerJobsError as error:
        print(f"broker-jobs-worker: {error}", file=sys.stderr)
        code = UNREACHABLE if isinstance(error, BrokerError) else MISUSE
    raise typer.Exit(code)


def _resource(text: str) -> tuple[str, str]:
    name, equals, amount = text.partition("=")
    if not equals:
        raise ValidationError(f"a further resource is written NAME=AMOUNT, not {text!r}")
    return name, amount


def main() -> None:
    """Run the command line."""
    app()
