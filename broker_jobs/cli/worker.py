"""``broker-jobs worker``: the daemons that work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker_jobs.cli import show
from broker_jobs.cli.options import NamespaceOption, OutputFormat, OutputOption, UrlOption, connect, exit_codes
from broker_jobs.cli.submit import pair

app = typer.Typer(no_args_is_help=True, help="The daemons that work.")


@app.command("start")
def start(
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    name: Annotated[str | None, typer.Option(help="Name of this worker; by default made of host and process.", show_default=False)] = None,
    cpus: Annotated[
        str | None, typer.Option(help="Processors to give to tasks; by default all that this process may use.", show_default=False)
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory to give to tasks, such as '16 GiB'; by default all.", show_default=False)
    ] = None,
    gpus: Annotated[str, typer.Option(help="Graphics processors to give to tasks.")] = "0",
    resource: Annotated[list[str] | None, typer.Option(metavar="NAME=AMOUNT", help="Another resource; may be given several times.")] = None,
    path: Annotated[list[Path] | None, typer.Option(help="Folder with modules that functions need; may be given several times.")] = None,
    metrics_port: Annotated[str, typer.Option(help="Serve /metrics and /healthz there; 'auto' takes a free port, 0 is off.")] = "0",
    metrics_host: Annotated[str, typer.Option(help="Address to serve them on.")] = "127.0.0.1",
) -> None:
    """Run a worker in the foreground.

    SIGTERM and Ctrl-C drain it: running tasks finish, the rest is given back. A second signal gives back what runs, too.
    """
    from broker_jobs_worker.cli import run

    with exit_codes():
        raise typer.Exit(
            run(
                url=url,
                namespace=namespace,
                name=name,
                cpus=cpus,
                memory=memory,
                gpus=gpus,
                resources=dict(pair(text, "--resource") for text in resource or ()),
                path=path or (),
                metrics_port=metrics_port,
                metrics_host=metrics_host,
            )
        )


@app.command("list")
def list_workers(url: UrlOption = None, namespace: NamespaceOption = None, output: OutputOption = OutputFormat.table) -> None:
    """List the workers that the coordinator knows."""
    with exit_codes(), connect(url, namespace) as client:
        show.cluster(client.cluster(), output)
