"""The tree of commands. What a command needs is imported when it is called: the daemons, above all, start without the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from broker_jobs import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES: Final = (
    *("demo", "submit", "submit-file", "job", "task", "step", "up", "down", "coordinator", "worker", "queue", "dead"),
    *("ledger", "key", "doctor"),
)
_START, _WORK, _DAEMONS, _BROKER, _SETUP = "Start here", "Work", "Daemons", "Broker", "Set-up"


def _add(app: typer.Typer, name: str) -> None:
    """Import a command, and hang it into the tree."""
    match name:
        case "demo":
            from broker_jobs.cli.demo import demo

            app.command(name, rich_help_panel=_START)(demo)
        case "submit":
            from broker_jobs.cli.directives import DirectedCommand
            from broker_jobs.cli.submit import submit

            app.command(name, rich_help_panel=_WORK, cls=DirectedCommand, context_settings={"allow_interspersed_args": False})(submit)
        case "submit-file":
            from broker_jobs.cli.submit_file import submit_file

            app.command(name, rich_help_panel=_WORK)(submit_file)
        case "job":
            from broker_jobs.cli import job

            app.add_typer(job.app, name=name, rich_help_panel=_WORK)
        case "task":
            from broker_jobs.cli import task

            app.add_typer(task.app, name=name, rich_help_panel=_WORK)
        case "step":
            from broker_jobs.cli import step

            app.add_typer(step.app, name=name, rich_help_panel=_WORK)
        case "up":
            from broker_jobs.cli.node import up

            app.command(name, rich_help_panel=_DAEMONS)(up)
        case "down":
            from broker_jobs.cli.node import down

            app.command(name, rich_help_panel=_DAEMONS)(down)
        case "coordinator":
            from broker_jobs.cli import coordinator

            app.add_typer(coordinator.app, name=name, rich_help_panel=_DAEMONS)
        case "worker":
            from broker_jobs.cli import worker

            app.add_typer(worker.app, name=name, rich_help_panel=_DAEMONS)
        case "queue":
            from broker_jobs.cli import queue

            app.add_typer(queue.app, name=name, rich_help_panel=_BROKER)
        case "dead":
            from broker_jobs.cli import dead

            app.add_typer(dead.app, name=name, rich_help_panel=_BROKER)
        case "ledger":
            from broker_jobs.cli import ledger

            app.add_typer(ledger.app, name=name, rich_help_panel=_SETUP)
        case "key":
            from broker_jobs.cli import key

            app.add_typer(key.app, name=name, rich_help_panel=_SETUP)
        case "doctor":
            from broker_jobs.cli.doctor import doctor

            app.command(name, rich_help_panel=_SETUP)(doctor)


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported when it is asked for."""

    def __init__(self) -> None:
        self._imported: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._imported:
            if name not in _NAMES:
                raise KeyError(name)
            branch = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False)
            _add(branch, name)
            self._imported.update(typer.main.get_group(branch).commands)
        return self._imported[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


class _Tree(TyperGroup):
    """A group of `_Commands`."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.commands: Any = _Commands()


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"broker-jobs {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="broker-jobs",
    cls=_Tree,
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
