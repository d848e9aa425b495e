"""``broker-jobs ledger``: whether the database of jobs agrees with itself."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Annotated

import typer

from broker_jobs.cli.options import NamespaceOption, OutputFormat, OutputOption, PartitionOption, exit_codes
from broker_jobs.cmdline import conceal

if TYPE_CHECKING:
    from broker_jobs.coordinator.verify import Report

app = typer.Typer(no_args_is_help=True, help="The database of jobs.")


@app.callback()
def _group() -> None:
    pass


@app.command("verify")
def verify(
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            callback=conceal,
            help="The ledger: sqlite:////path/ledger.db or postgresql://user:password@host/database."
            " Default: ledger.db in the state folder.",
            show_default=False,
        ),
    ] = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Derive anew what follows from other rows with certainty. No coordinator may keep it meanwhile."),
    ] = False,
    output: OutputOption = OutputFormat.table,
) -> None:
    """Look whether the ledger agrees with itself: jobs with their tasks, tasks with their results, what is referenced with what is there.

    Nothing is changed, and a coordinator may be at work. What is wrong is said for each job. Exit code 0: nothing is; 1: something is.
    """
    from broker_jobs.config import ledger_file, resolve, sqlite_url
    from broker_jobs.coordinator import verify as ledger

    with exit_codes():
        settings = resolve(None, namespace, partition=partition)
        url = store or sqlite_url(ledger_file(settings.home, settings.partition))
        report = ledger.verify(url, settings.namespace, partition=settings.partition)
        repaired = len(report.remedies) if repair else 0
        if repaired:
            holder = f"ledger verify on {platform.node()}"
            ledger.repair(url, settings.namespace, report.remedies, holder=holder, partition=settings.partition)
            report = ledger.verify(url, settings.namespace, partition=settings.partition)
        _show(report, repaired, output)
        raise typer.Exit(1 if report.problems else 0)


def _show(report: Report, repaired: int, output: OutputFormat) -> None:
    from broker_jobs.cli.show import write_json
    from broker_jobs.ids import short

    if output is OutputFormat.json:
        problems = [{"job": item.job or None, "text": item.text, "repairable": item.remedy is not None} for item in report.problems]
        write_json(
            {
                "ledger": report.ledger,
                "jobs": report.jobs,
                "tasks": report.tasks,
                "values": report.values,
                "values_elsewhere": report.elsewhere,
                "repaired": repaired,
                "problems": problems,
            }
        )
        return
    for item in report.problems:
        typer.echo(f"{f'job {short(item.job)}' if item.job else 'ledger'}: {item.text}")
    if output is OutputFormat.quiet:
        return
    if repaired:
        typer.echo(f"repaired: the counts and versions of {_number(repaired, 'job')} were derived anew from their tasks")
    found = f"{_number(report.jobs, 'job')}, {_number(report.tasks, 'task')}, {_number(report.values, 'value')} in folders of this host"
    unseen = f"; {_number(report.elsewhere, 'value')} in places that cannot be seen from here" if report.elsewhere else ""
    verdict = _number(len(report.problems), "problem") if report.problems else "nothing is wrong"
    typer.echo(f"{report.ledger}: {found}{unseen}: {verdict}")
    if report.remedies:
        what = _number(len(report.remedies), "job")
        typer.echo(f"{what} can be repaired: broker-jobs ledger verify --repair, when no coordinator is up")


def _number(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
