"""``broker-jobs worker``: the daemons that work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from broker_jobs.cli import show
from broker_jobs.cli.options import NamespaceOption, OutputFormat, OutputOption, PartitionOption, UrlOption, connect, exit_codes, out
from broker_jobs.core.quantities import UNIT
from broker_jobs_worker.cli import NoHyperThreadingOption, start

if TYPE_CHECKING:
    from broker_jobs.wire.messages import EndingWorkers

GONE: Final = "gone"

app = typer.Typer(no_args_is_help=True, help="The daemons that work.")

_WHICH: Final = "its name, a unique beginning or end of it, or 'last' for the one that was started last."

WorkersArgument = Annotated[list[str] | None, typer.Argument(metavar="WORKER", help=f"Each by {_WHICH}", show_default=False)]
GroupOption = Annotated[str | None, typer.Option("--group", metavar="NAME", help="Only workers of this group.", show_default=False)]
AllOption = Annotated[bool, typer.Option("--all", metavar="", help="Every worker (of the group).")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who look.", show_default=False)]


app.command("start")(start)


@app.command("list")
def list_workers(
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    group: GroupOption = None,
    everybody: Annotated[bool, typer.Option("--all", metavar="", help="Also those that have ended during the last day.")] = False,
) -> None:
    """List the workers that the coordinator knows."""
    with exit_codes(), connect(url, namespace, partition) as client:
        show.workers([worker for worker in client.cluster(group=group).workers if everybody or worker.state != GONE], output)


@app.command("info")
def info(
    worker: Annotated[str, typer.Argument(metavar="WORKER", help=f"By {_WHICH}")],
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
) -> None:
    """Show one worker, and what it has."""
    with exit_codes(), connect(url, namespace, partition) as client:
        [found] = client.cluster(worker, held=True).workers
        show.worker(found, output)


@app.command("drain")
def drain(
    workers: WorkersArgument = None,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    group: GroupOption = None,
    everybody: AllOption = False,
    reason: ReasonOption = "",
) -> None:
    """Let workers finish what they run, start nothing more, and end.

    What has not started goes to other workers at once. Returns before the workers have ended: look with `worker list`.
    """
    with exit_codes(), connect(url, namespace, partition) as client:
        chosen = _chosen(workers, group, everybody=everybody)
        _show(client.end_workers(*chosen, group=group, reason=reason), output, "drain, and end when what they run has ended")


@app.command("stop")
def stop(
    workers: WorkersArgument = None,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    group: GroupOption = None,
    everybody: AllOption = False,
    reason: ReasonOption = "",
) -> None:
    """Let workers end now, within 10 s.

    What they run is ended and given back: it starts again elsewhere, and no crash is counted. `worker drain` lets it finish.
    """
    with exit_codes(), connect(url, namespace, partition) as client:
        chosen = _chosen(workers, group, everybody=everybody)
        _show(client.end_workers(*chosen, group=group, stop=True, reason=reason), output, "stop, and give back what they run")


def _chosen(workers: list[str] | None, group: str | None, *, everybody: bool) -> list[str]:
    """Names; none means all, which must have been said."""
    if workers and everybody:
        raise typer.BadParameter("name some workers, or give --all")
    if not workers and not everybody and group is None:
        raise typer.BadParameter("say which workers: names, 'last', --group NAME or --all")
    return workers or []


def _show(ending: EndingWorkers, output: OutputFormat, what: str) -> None:
    """What was done."""
    if output is OutputFormat.quiet:
        for name in ending.workers:
            out.out(name)
    elif output is OutputFormat.json:
        show.write_json(show.as_json(ending))
    elif not ending.workers:
        out.print("[dim]no worker is there that could end[/]")
    else:
        out.print(f"told to {what}: {', '.join(ending.workers)} (tasks there when last heard: {ending.held})", markup=False)


@app.command("hwdetect")
def hwdetect(
    no_hyper_threading: NoHyperThreadingOption = False,
    output: OutputOption = OutputFormat.table,
) -> None:
    """Show what a worker on this machine would give to tasks, how it was found, and how memory limits would be held.

    It looks at affinity, control groups, sockets and NUMA nodes, and at graphics processors of NVIDIA and AMD.
    With  --output quiet  it prints options of  broker-jobs worker start  that say the same.
    """
    from broker_jobs.core.descriptor import descriptor
    from broker_jobs_worker.executors.groups import find as find_groups
    from broker_jobs_worker.hardware import detect

    found = detect(hyper_threading=not no_hyper_threading)
    resources = {name: descriptor(found.resources, name) for name, _ in found.resources.amounts}
    if output is OutputFormat.quiet:
        for name, what in resources.items():
            out.out(f"--{name}={what}" if name in {"cpus", "memory"} else f"--resource={name}={what}")
    elif output is OutputFormat.json:
        amounts = dict(found.resources.amounts)
        show.write_json(
            {
                name: {
                    "amount": amounts[name] if name == "memory" else amounts[name] / UNIT,
                    "groups": found.resources.labels(name),
                    "descriptor": what,
                    "source": found.sources[name],
                }
                for name, what in resources.items()
            }
        )
    else:
        show.hardware(found.resources, found.sources)
        groups, held_by = find_groups()
        if groups is not None:
            groups.close()
        out.print(Text(f"\nmemory limits of tasks are held by {held_by}"), soft_wrap=True)
