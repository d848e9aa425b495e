"""``broker-jobs job cancel|pause|resume|resubmit|forget``: jobs by their ids, some of their tasks, or everything that a filter selects."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from broker_jobs.cli import show
from broker_jobs.cli.options import (
    JobsArgument,
    NamespaceOption,
    OutputFormat,
    OutputOption,
    PartitionOption,
    UrlOption,
    connect,
    err,
    exit_codes,
    out,
)
from broker_jobs.core.states import ENDED, JOB_ENDED, JobState
from broker_jobs.errors import InUse, ValidationError
from broker_jobs.ids import reference, short

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from broker_jobs import Client, SubmittedJob
    from broker_jobs.wire.messages import CancelResult, PauseResult, ResumeResult

FEW: Final = 20
"""So many jobs have a line each; of more, the sum is shown."""

_OPEN: Final = tuple(state for state in JobState if state not in JOB_ENDED)

SomeJobsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="JOB", help="'last', whole ids, or the ends of some (4 digits or more).", show_default=False),
]
TasksOption = Annotated[
    str | None,
    typer.Option("--tasks", metavar="TASKS", help="Only these tasks: '1-5,7', '0-90:10', names, '[33]'.", show_default=False),
]
StateOption = Annotated[
    list[JobState] | None,
    typer.Option("--state", help="Instead of JOB: those in this state; may be given several times.", show_default=False),
]
TagOption = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="Instead of JOB: those with this tag; with all of several.", show_default=False),
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", metavar="PATTERN", help="Instead of JOB: those whose name fits, such as 'train*'.", show_default=False),
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who look at the job.", show_default=False)]
DryRunOption = Annotated[bool, typer.Option("--dry-run", metavar="", help="Only show which jobs it would be.")]


def cancel(
    jobs: SomeJobsArgument = None,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    tasks: TasksOption = None,
    everything: Annotated[bool, typer.Option("--all", metavar="", help="Every job that has not ended.")] = False,
    state: StateOption = None,
    tag: TagOption = None,
    name: NameOption = None,
    reason: ReasonOption = "canceled from the command line",
    dry_run: DryRunOption = False,
) -> None:
    """End jobs: what waits does not start, what runs is stopped. What has ended stays as it is."""
    with exit_codes(), connect(url, namespace, partition) as client:
        found = _chosen(client, jobs, everything=everything, state=state, tag=tag, name=name, among=_OPEN)
        if not _only_shown(found, output, dry_run=dry_run):
            act(found, output, lambda job: job.cancel(reason, tasks=tasks), canceled)


def pause(
    jobs: SomeJobsArgument = None,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    tasks: TasksOption = None,
    everything: Annotated[bool, typer.Option("--all", metavar="", help="Every job that has not ended.")] = False,
    state: StateOption = None,
    tag: TagOption = None,
    name: NameOption = None,
    reason: ReasonOption = "paused from the command line",
    dry_run: DryRunOption = False,
) -> None:
    """Hold jobs back: what has started goes on, nothing else starts until `broker-jobs job resume`."""
    with exit_codes(), connect(url, namespace, partition) as client:
        found = _chosen(client, jobs, everything=everything, state=state, tag=tag, name=name, among=_OPEN)
        if not _only_shown(found, output, dry_run=dry_run):
            act(found, output, lambda job: job.pause(reason, tasks=tasks), _paused)


def resume(
    jobs: SomeJobsArgument = None,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    tasks: TasksOption = None,
    everything: Annotated[bool, typer.Option("--all", metavar="", help="Every job that has not ended.")] = False,
    state: StateOption = None,
    tag: TagOption = None,
    name: NameOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Let paused jobs go on."""
    with exit_codes(), connect(url, namespace, partition) as client:
        found = _chosen(client, jobs, everything=everything, state=state, tag=tag, name=name, among=_OPEN)
        if not _only_shown(found, output, dry_run=dry_run):
            act(found, output, lambda job: job.resume(tasks=tasks), _resumed)


def resubmit(
    jobs: JobsArgument,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    tasks: TasksOption = None,
    everything: Annotated[bool, typer.Option("--all", metavar="", help="What succeeded, too.")] = False,
) -> None:
    """Run again what did not succeed of jobs that have ended. Each becomes a new job, which has the results of the other tasks."""
    with exit_codes(), connect(url, namespace, partition) as client:
        made = [(job, job.resubmit(tasks=tasks, everything=everything)) for job in map(client.job, jobs)]
        if output is OutputFormat.json:
            show.write_json([{"job": new.id, "of": old.id} for old, new in made])
        elif output is OutputFormat.quiet:
            for _, new in made:
                out.out(reference(new.id))
        else:
            for old, new in made:
                counts = new.view.info.counts if new.view.info else {}
                again = sum(number for state, number in counts.items() if state not in ENDED)
                out.print(f"{short(new.id)}: {again} tasks of {short(old.id)} run again")


def forget(
    jobs: SomeJobsArgument = None,
    url: UrlOption = None,
    namespace: NamespaceOption = None,
    partition: PartitionOption = None,
    output: OutputOption = OutputFormat.table,
    everything: Annotated[bool, typer.Option("--all", metavar="", help="Every job that has ended.")] = False,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="DURATION", help="Instead of JOB: what ended so long ago: 30d, 12h.", show_default=False),
    ] = None,
    state: StateOption = None,
    tag: TagOption = None,
    name: NameOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Drop ended jobs from the ledger, with their values and their output.

    What has not ended, or has made data or jobs that are still there, is refused, or left alone by filters.
    """
    with exit_codes(), connect(url, namespace, partition) as client:
        among = tuple(JOB_ENDED)
        found = _chosen(client, jobs, everything=everything, state=state, tag=tag, name=name, among=among, older_than=older_than)
        if _only_shown(found, output, dry_run=dry_run):
            return
        kept: dict[str, InUse] = {}
        if jobs:
            client.forget(found)
        else:
            found, kept = _forgotten(client, found)
        if output is OutputFormat.json:
            show.write_json([job.id for job in found])
        elif output is OutputFormat.table:
            if len(found) <= FEW:
                for job in found:
                    out.print(f"{short(job.id)}: forgotten")
            else:
                out.print(f"{len(found)} jobs: forgotten")
        for why in list(kept.values())[:FEW]:
            err.print(f"left: {why}", soft_wrap=True)
        if len(kept) > FEW:
            err.print(f"left: {len(kept) - FEW} more")


def _forgotten(client: Client, found: Sequence[SubmittedJob]) -> tuple[list[SubmittedJob], dict[str, InUse]]:
    """What could be dropped of these jobs, which come newest first, and by job why the others stay."""
    with suppress(InUse):
        client.forget(found)
        return list(found), {}
    kept: dict[str, InUse] = {}
    for job in found:
        try:
            client.forget(job)
        except InUse as error:
            kept[job.id] = error
    return [job for job in found if job.id not in kept], kept


def _chosen(
    client: Client,
    jobs: Sequence[str] | None,
    *,
    everything: bool,
    state: Sequence[JobState] | None,
    tag: Sequence[str] | None,
    name: str | None,
    among: Collection[JobState],
    older_than: str | None = None,
) -> list[SubmittedJob]:
    """The jobs that are meant: by their ids, or by a filter, which finds only those that can be meant."""
    filtered = bool(state or tag or name or older_than)
    if bool(jobs) + (everything or filtered) != 1:
        raise ValidationError("name the jobs, or choose them with --all, --state, --tag or --name")
    if jobs:
        return [client.job(text) for text in jobs]
    states = [one for one in state or among if one in among]
    if not states:
        raise ValidationError(f"this concerns jobs that are {', '.join(sorted(among))}")
    return client.jobs(state=states, tags=tag or (), name=name, older_than=older_than, limit=None)


def _only_shown(found: Sequence[SubmittedJob], output: OutputFormat, *, dry_run: bool) -> bool:
    """Show what would be meant, where that is all that is wanted, or nothing is."""
    if dry_run or not found:
        show.jobs([info for job in found if (info := job.view.info) is not None], output)
    return dry_run or not found


def act(found: Sequence[SubmittedJob], output: OutputFormat, act: Callable[[SubmittedJob], Any], told: Callable[[Any], str]) -> None:
    """Do it to each job, and tell what it did."""
    results = [(job, act(job)) for job in found]
    if output is OutputFormat.json:
        show.write_json([{"job": job.id, **show.as_json(result)} for job, result in results])
    elif output is OutputFormat.table:
        if len(results) <= FEW:
            for job, result in results:
                out.print(f"{short(job.id)}: {told(result)}")
        else:
            sums = {field.name: sum(getattr(result, field.name) for _, result in results) for field in dataclasses.fields(results[0][1])}
            out.print(f"{len(results)} jobs: {told(type(results[0][1])(**sums))}")


def canceled(result: CancelResult) -> str:
    """What a cancel did, for people."""
    text = f"canceled {result.before_start} before their start and {result.while_running} while running; {result.ended_already} had ended"
    return text + _unknown(result.unknown)


def _paused(result: PauseResult) -> str:
    text = f"{result.paused} paused; {result.running} go on, {result.waiting} wait for others; {result.ended_already} had ended"
    return text + _unknown(result.unknown)


def _resumed(result: ResumeResult) -> str:
    text = f"{result.resumed} resumed; {result.not_paused} were not paused, {result.ended_already} had ended"
    return text + _unknown(result.unknown)


def _unknown(number: int) -> str:
    return f"; [yellow]{number} are not in the job[/]" if number else ""
