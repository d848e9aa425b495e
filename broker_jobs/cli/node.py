"""``broker-jobs up`` and ``broker-jobs down``: the node, a coordinator and a worker in one."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from broker_jobs.cli.options import NamespaceOption, UrlOption, err, exit_codes, out


def up(
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    cpus: Annotated[
        int | None, typer.Option(min=1, help="Processors to use; by default all that this process may use.", show_default=False)
    ] = None,
) -> None:
    """Run a node in the foreground: a coordinator and a worker.

    Without an address it serves your own embedded broker, the one that scripts use by default. Ctrl-C drains and ends it.
    """
    arguments = [sys.executable, "-P", "-m", "broker_jobs_worker.node", "--foreground"]
    for name, value in (("--url", url), ("--namespace", namespace), ("--cpus", cpus)):
        if value is not None:
            arguments += [name, str(value)]
    # The node takes the place of this process: signals and exit code are its own.
    os.execv(sys.executable, arguments)  # noqa: S606 (our own program, no shell)


def down(
    timeout: Annotated[float, typer.Option(help="Seconds to wait for running tasks; then they are given back.")] = 30.0,
) -> None:
    """End your own embedded node. Work that is left goes on when it is started again."""
    from broker_jobs.client.node import stop_node

    with exit_codes():
        if stop_node(timeout=timeout):
            out.print("the node has ended")
        else:
            err.print("no node was running")
