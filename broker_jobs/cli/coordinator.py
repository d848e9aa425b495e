"""``broker-jobs coordinator``: the daemon that keeps the ledger."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from broker_jobs.cli.options import NamespaceOption, PartitionOption, UrlOption
from broker_jobs.cmdline import command, conceal, python_environment

app = typer.Typer(no_args_is_help=True, help="The daemon that keeps the ledger of jobs.")


@app.callback()
def _group() -> None:
    pass


@app.command("start")
def start(
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            callback=conceal,
            help="The ledger: sqlite:////path/ledger.db, or postgresql://user:password@host/database for several coordinators."
            " Default: ledger.db in the state folder, for partition 1 ledger-1.db.",
            show_default=False,
        ),
    ] = None,
    retain: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Forget jobs so long after their end, such as 30d. Default: never.", show_default=False),
    ] = None,
    metrics_host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address of /metrics and /healthz.")] = "127.0.0.1",
    metrics_port: Annotated[str, typer.Option(metavar="PORT", help="Their port; 0 for none, 'auto' for any free one.")] = "0",
) -> None:
    """Run a coordinator in the foreground: it keeps the ledger, releases tasks whose dependencies are done, and answers questions.

    SIGTERM and Ctrl-C end it in order; nothing is lost however it ends. One coordinator for a ledger that is a file: a second
    one says who has it. In a PostgreSQL any number may share a ledger: one keeps it, and when it is gone another goes on within seconds.

    Where one coordinator is not fast enough, a namespace may have several partitions, each with a ledger and coordinators of its own
    (--partition 1): jobs are submitted to one of them, and all share the workers. A PostgreSQL may hold the ledgers of all.
    """
    given = {"--url": url, "--namespace": namespace, "--partition": partition, "--store": store, "--retain": retain}
    arguments = [text for name, value in given.items() if value is not None for text in (name, str(value))]
    line = command("broker_jobs.coordinator", *arguments, "--metrics-port", metrics_port, "--metrics-host", metrics_host)
    # In the place of this process: a daemon that stays for months need not keep what reads a command line.
    os.execve(line[0], line, python_environment())  # noqa: S606 (there is no shell, on purpose)
