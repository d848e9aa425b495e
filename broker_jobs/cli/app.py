"""The tree of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from broker_jobs import __version__
from broker_jobs.cli import coordinator, demo, doctor, job, key, node, step, submit, submit_file, task, worker
from broker_jobs.cli.directives import DirectedCommand


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"broker-jobs {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="broker-jobs",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Graphs of programs and Python functions over RabbitMQ, or over one file on this machine.

Without an address everything runs on your own embedded broker, which starts when it is needed.
Try it:  [bold]broker-jobs demo[/]   then   [bold]broker-jobs submit --wait -- echo hello[/]""",
    epilog="Exit codes: 0 success, 1 the work failed, 2 misuse, 3 the broker or the coordinator cannot be reached.",
)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


app.command("demo", rich_help_panel="Start here")(demo.demo)
app.command("submit", rich_help_panel="Work", cls=DirectedCommand, context_settings={"allow_interspersed_args": False})(submit.submit)
app.command("submit-file", rich_help_panel="Work")(submit_file.submit_file)
app.add_typer(job.app, name="job", rich_help_panel="Work")
app.add_typer(task.app, name="task", rich_help_panel="Work")
app.add_typer(step.app, name="step", rich_help_panel="Work")
app.command("up", rich_help_panel="Daemons")(node.up)
app.command("down", rich_help_panel="Daemons")(node.down)
app.add_typer(coordinator.app, name="coordinator", rich_help_panel="Daemons")
app.add_typer(worker.app, name="worker", rich_help_panel="Daemons")
app.add_typer(key.app, name="key", rich_help_panel="Set-up")
app.command("doctor", rich_help_panel="Set-up")(doctor.doctor)
