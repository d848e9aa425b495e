"""``broker-jobs demo``: the main job on real input, and a report to read."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from broker_jobs.cli.options import WORK_FAILED, OutputFormat, OutputOption, exit_codes, out, wait_for
from broker_jobs.cli.show import write_json
from broker_jobs.cmdline import conceal
from broker_jobs.core.states import TaskState
from broker_jobs.demo.graph import FILES, build, standard_library

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs import SubmittedJob

BAR_WIDTH = 24
MOST_FAILURES = 10


def demo(
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            callback=conceal,
            help="Run it over RabbitMQ: amqp://user:password@host:5672/vhost. Default: embedded, without a server.",
            show_default=False,
        ),
    ] = None,
    output: OutputOption = OutputFormat.table,
    workers: Annotated[int, typer.Option(metavar="NUMBER", min=1, max=64, help="Worker processes.")] = 1,
    files: Annotated[int, typer.Option(metavar="NUMBER", min=1, max=5000, help="Source files to look at; four tasks each.")] = FILES,
) -> None:
    """Run the main job: more than a thousand tasks over the Python standard library of this machine.

    A graph of Python functions and programs (sort, uniq, gzip), with values handed on from task to task, on worker
    processes of its own: on an embedded broker, or with --url over RabbitMQ. Nothing is left behind.
    """
    from broker_jobs import Job, LocalCluster

    with exit_codes(), tempfile.TemporaryDirectory(prefix="broker-jobs-demo-") as folder:
        root, found = standard_library(files)
        if output is OutputFormat.table:
            crowd = "1 worker process" if workers == 1 else f"{workers} worker processes"
            out.print(f"[bold]broker-jobs demo[/]: {len(found)} source files of {root}", soft_wrap=True)
            out.print(f"on {'RabbitMQ' if url else 'an embedded broker'}, with {crowd}")
        begun = time.monotonic()
        with LocalCluster(workers=workers, url=url) as cluster, cluster.client() as client:
            up = time.monotonic()
            job = Job(name="standard library", tags=["demo"])
            last = build(job, root, found, Path(folder))
            submitted = client.submit(job)
            sent = time.monotonic()
            succeeded = wait_for([submitted], output)
            seconds = {"cluster up": up - begun, "submitted": sent - up, "worked": time.monotonic() - sent}
            report = submitted.result(last) if succeeded else None
            if output is OutputFormat.json:
                write_json({"report": report, "tasks": dict(submitted.info().counts), "seconds": seconds})
            elif output is OutputFormat.table:
                if report:
                    _report(report)
                _summary(submitted, seconds)
        if not succeeded:
            sys.exit(WORK_FAILED)


def _report(report: dict[str, Any]) -> None:
    """What the job found out."""
    out.print()
    out.print(f"  {report['files']:,} files, {report['functions']:,} functions")
    out.print(f"  {report['lines']:,} lines: {report['code']:,} of code, {report['comments']:,} with a comment")
    packages = sorted(report["groups"].items(), key=lambda item: item[1][1], reverse=True)[:8]
    out.print(_bars("Lines of code by package (files)", [(f"{name} ({files})", code) for name, (files, code, _) in packages]))
    out.print(_bars("Most complex functions: paths through them", [(name, points) for points, name in report["complex"]]))
    out.print(_bars("Names used in most files", [(name, count) for count, name in report["names"][:6]]))
    lines, longest = report["longest"]
    out.print(f"  longest function    {longest}, {lines} lines")
    out.print(f"  all names, packed   {report['packed']:,} bytes")
    for file, error in report["unreadable"]:
        out.print(Text(f"  not readable: {file}: {error}", style="yellow"))


def _bars(title: str, rows: Sequence[tuple[str, int]]) -> Panel:
    """Numbers as bars."""
    most = max((value for _, value in rows), default=1) or 1
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=42, no_wrap=True)
    grid.add_column(width=BAR_WIDTH)
    grid.add_column(justify="right")
    for name, value in rows:
        grid.add_row(Text(name), Text("█" * max(1, round(BAR_WIDTH * value / most)), style="cyan"), f"{value:,}")
    return Panel(grid, title=title, title_align="left", border_style="dim", expand=False)


def _summary(submitted: SubmittedJob, seconds: dict[str, float]) -> None:
    """What it took, and what failed."""
    info = submitted.info()
    total = sum(info.counts.values())
    worked = seconds["worked"]
    spent = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    out.print()
    out.print(f"[bold]{total:,} tasks in {worked:.1f} s[/] ({total / worked:,.0f} a second)")
    failed = submitted.errors()
    for number, error in list(failed.items())[:MOST_FAILURES]:
        out.print(Text(f"  task {number} failed ({error.cause}): {error.message}", style="red"))
    states = ", ".join(f"{info.counts[state]:,} {state.value}" for state in TaskState if info.counts.get(state))
    out.print(f"{states}; {'nothing failed' if not failed else f'{len(failed):,} failed'}; {spent}")
