"""``broker-jobs worker``: the daemons that work."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from broker_jobs.cli import show
from broker_jobs.cli.options import NamespaceOption, OutputFormat, OutputOption, UrlOption, connect, exit_codes
from broker_jobs_worker.cli import start

GONE: Final = "gone"

app = typer.Typer(no_args_is_help=True, help="The daemons that work.")


app.command("start")(start)


@app.command("list")
def list_workers(
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    output: OutputOption = OutputFormat.table,
    everybody: Annotated[bool, typer.Option("--all", metavar="", help="Also those that have ended during the last day.")] = False,
) -> None:
    """List the workers that the coordinator knows."""
    with exit_codes(), connect(url, namespace) as client:
        show.workers([worker for worker in client.cluster().workers if everybody or worker.state != GONE], output)
