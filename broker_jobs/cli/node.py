"""``broker-jobs up`` and ``broker-jobs down``: the node, a coordinator and a worker in one."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from broker_jobs.cli.options import NamespaceOption, OutputFormat, OutputOption, UrlOption, exit_codes, out
from broker_jobs.cli.show import write_json
from broker_jobs.wire.messages import DEFAULT_GROUP
from broker_jobs_worker.cli import (
    CpusOption,
    GpusOption,
    LimitOption,
    MemoryOption,
    NoHyperThreadingOption,
    PathOption,
    ResourceOption,
    StepsOption,
    WorkerGroupOption,
)


def up(
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    cpus: CpusOption = None,
    memory: MemoryOption = None,
    gpus: GpusOption = None,
    resource: ResourceOption = None,
    no_hyper_threading: NoHyperThreadingOption = False,
    path: PathOption = None,
    steps: StepsOption = None,
    group: WorkerGroupOption = DEFAULT_GROUP,
    time_limit: LimitOption = None,
) -> None:
    """Run a node in the foreground: a coordinator and a worker.

    Without an address it serves your own embedded broker, the one that scripts use by default. Ctrl-C drains and ends it.
    """
    arguments = [sys.executable, "-P", "-m", "broker_jobs_worker.node", "--foreground"]
    options = [
        ("--namespace", namespace),
        ("--cpus", cpus),
        ("--memory", memory),
        ("--gpus", gpus),
        ("--group", group),
        ("--time-limit", time_limit),
    ]
    several = [("--resource", resource), ("--path", path), ("--steps", steps)]
    for name, value in (*options, *((name, each) for name, values in several for each in values or ())):
        if value is not None:
            arguments.append(f"{name}={value}")
    if no_hyper_threading:
        arguments.append("--no-hyper-threading")
    # An address may hold a password, and command lines are public.
    environ = os.environ if url is None else {**os.environ, "BROKER_JOBS_URL": url}
    # The node takes the place of this process: signals and exit code are its own.
    os.execve(sys.executable, arguments, environ)  # noqa: S606 (our own program, no shell)


def down(
    output: OutputOption = OutputFormat.table,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", help="How long running tasks may go on; then they are given back.")] = 30.0,
) -> None:
    """End your own embedded node. Work that is left goes on when it is started again."""
    from broker_jobs.client.node import stop_node

    with exit_codes():
        ended = stop_node(timeout=timeout)
        if output is OutputFormat.json:
            write_json({"ended": ended})
        elif output is OutputFormat.table:
            out.print("the node has ended" if ended else "no node was running")
