"""What is asked of submitted jobs: asynchronous, on the client's loop, for both faces of the client."""

from __future__ import annotations

import asyncio
import warnings
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from broker_jobs.client.authoring import Task
from broker_jobs.client.jobview import only
from broker_jobs.client.output import parts, whole
from broker_jobs.client.placeholders import EarlierTask
from broker_jobs.client.results import MOST_SHOWN, summary, task_error
from broker_jobs.core.outcome import Failed
from broker_jobs.core.states import ENDED, JOB_ENDED, JobState, TaskState
from broker_jobs.errors import ValidationError
from broker_jobs.ids import short
from broker_jobs.wire.messages import ExplainTask, Explanation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence

    from broker_jobs.client.core import Core
    from broker_jobs.client.followed import Followed
    from broker_jobs.client.jobview import Ending, JobView
    from broker_jobs.client.output import Whole
    from broker_jobs.client.results import TaskError
    from broker_jobs.wire.messages import TaskInfo

_Result = TypeVar("_Result")

TaskRef = Task | EarlierTask | int | str
"""A task: the object, its number, or its name where only one has it."""


@dataclass(frozen=True, slots=True)
class JobChanged:
    """A job has another state.

    Attributes:
        counts: tasks by state
    """

    job: str
    state: JobState
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TaskChanged:
    """A task has another state, attempt or progress.

    Attributes:
        reason: why it is in this state
        progress: 0 to 1, where the task says so
    """

    job: str
    task: int
    name: str
    state: TaskState
    attempt: int
    reason: str = ""
    worker: str = ""
    progress: float | None = None
    progress_text: str = ""


Event = JobChanged | TaskChanged


async def within(timeout: float | None, work: Coroutine[object, object, _Result], what: str) -> _Result:
    """Do this in time; `TimeoutError`, which says what did not happen."""
    try:
        async with asyncio.timeout(timeout):
            return await work
    except TimeoutError:
        raise TimeoutError(f"{what} within {timeout:g} s") from None


async def ending(core: Core, job: Followed, task: TaskRef, timeout: float | None) -> Ending:
    """How a task ended, once it has."""

    async def wait() -> Ending:
        return await core.ending(job, await number_of(core, job, task))

    return await within(timeout, wait(), f"task {_named(task)} of job {short(job.id)} has not ended")


async def endings(core: Core, job: Followed, timeout: float | None) -> list[Ending]:
    """How all tasks ended, once the job has."""
    return await within(timeout, core.endings(job), f"job {short(job.id)} has not ended")


async def ended(core: Core, job: Followed, timeout: float | None) -> None:
    """Wait for the end of a job."""
    await within(timeout, core.ended(job), f"job {short(job.id)} has not ended")


def too_late(late: Sequence[JobView], total: int, timeout: float | None) -> TimeoutError:
    """Why a wait for jobs was given up."""
    names = [f"{short(view.job)} {view.name!r} ({view.state.value})" for view in late[:MOST_SHOWN]]
    named = ", ".join([*names, "…"] if len(late) > MOST_SHOWN else names)
    return TimeoutError(f"{len(late)} of {total} jobs {'has' if len(late) == 1 else 'have'} not ended within {timeout or 0:g} s: {named}")


async def started(core: Core, job: Followed, timeout: float | None) -> None:
    """Wait until a task of a job has started, or the job has ended."""

    async def wait() -> None:
        async for changes in core.changes(job):
            if changes.info.state in {*JOB_ENDED, JobState.running}:
                return

    await within(timeout, wait(), f"no task of job {short(job.id)} has started")


async def idle(core: Core, job: Followed, timeout: float | None) -> bool:
    """Wait until every task that was submitted so far has ended; whether all succeeded."""

    async def wait() -> bool:
        async for changes in core.changes(job):
            counts, info = changes.info.counts, changes.info
            if not info.incomplete and sum(counts.get(state.value, 0) for state in ENDED) == info.total:
                return counts.get(TaskState.succeeded.value, 0) == info.total
        return job.view.state is JobState.succeeded

    return await within(timeout, wait(), f"the tasks of job {short(job.id)} have not ended")


async def output(core: Core, job: Followed, task: TaskRef, timeout: float | None, *, stderr: bool = False) -> Whole:
    """One stream of a task, once that has ended."""

    async def wait() -> Whole:
        return await whole(core, job, await number_of(core, job, task), stderr=stderr)

    return await within(timeout, wait(), f"the output of task {_named(task)} of job {short(job.id)} did not come")


async def follow(core: Core, job: Followed, task: TaskRef, *, stderr: bool) -> AsyncIterator[bytes]:
    """What a task prints, as it does, until it has ended."""
    number = await number_of(core, job, task)
    async with aclosing(parts(core, job, number, stderr=stderr, follow=True)) as found:
        async for part in found:
            if part.data:
                yield part.data


def all_of(found: Whole, task: TaskRef) -> bytes:
    """The bytes, with a warning where some are missing."""
    if found.lost:
        text = f"the first {found.lost} bytes of the output of task {_named(task)} are gone: its worker keeps them for a while only"
        warnings.warn(text, stacklevel=3)
    return found.data


async def tasks(core: Core, job: Followed, numbers: Sequence[int] | None) -> list[TaskInfo]:
    """Tasks as the ledger has them; with outcomes where numbers are given."""
    only_these = None if numbers is None else tuple(numbers)
    return await core.tasks(job, values=numbers is not None, only=only_these)


async def explain(core: Core, job: Followed, task: TaskRef) -> Explanation:
    """Why a task has not started."""
    return await core.ask(ExplainTask(job.id, await number_of(core, job, task)), Explanation)


async def errors(core: Core, job: Followed, most: int | None = None) -> dict[int, tuple[Ending, Failed]]:
    """The failures so far, by task number."""
    if job.view.complete:
        known = {ending.number: ending for ending in job.view.endings()}
    else:
        failed = [task.number for task in await core.tasks(job) if task.state is TaskState.failed]
        known = {number: await core.ending(job, number) for number in failed[:most]}
    found = ((number, ending, ending.outcome) for number, ending in sorted(known.items()))
    return {number: (ending, outcome) for number, ending, outcome in found if isinstance(outcome, Failed)}


async def task_errors(core: Core, job: Followed) -> dict[int, TaskError]:
    """The failures so far, as data."""
    return {number: task_error(ending, failed) for number, (ending, failed) in (await errors(core, job)).items()}


async def story(core: Core, job: Followed) -> str:
    """A job that did not succeed, and why."""
    found = await errors(core, job, MOST_SHOWN + 1)
    return summary(job.view, found.values())


async def events(core: Core, job: Followed) -> AsyncIterator[list[Event]]:
    """What happens to a job and its tasks, from its beginning to its end; what is heard at once comes at once."""
    state: JobState | None = None
    async for changes in core.changes(job):
        info, found = changes.info, list[Event]()
        if info.state not in JOB_ENDED and info.state is not state:
            state = info.state
            found.append(JobChanged(info.job, state, info.counts))
        found += [
            TaskChanged(
                info.job, task.number, task.name, task.state, task.attempt, task.reason, task.worker, task.progress, task.progress_text
            )
            for task in changes.tasks
        ]
        if info.state in JOB_ENDED and not changes.more:
            found.append(JobChanged(info.job, info.state, info.counts))
        if found:
            yield found


async def number_of(core: Core, job: Followed, task: TaskRef) -> int:
    """The number of a task."""
    match task:
        case Task():
            return task.number + task.job.submissions.get(job.id, 0)
        case EarlierTask():
            return task.number
        case bool():
            raise ValidationError(f"a task is named by its number, its name or the task itself, not {task!r}")
        case int():
            return task
        case str():
            layout = job.view.layout
            if layout:
                return layout.named(task)
            # An id in brackets alone is that of an array.
            found = [info.number for info in await core.tasks(job) if info.name == task or (task[:1] == "[" and info.name.endswith(task))]
            return only(found, task)
        case _:
            raise ValidationError(f"a task is named by its number, its name or the task itself, not {task!r}")


def _named(task: TaskRef) -> str:
    return f"{task.number} {task.name!r}" if isinstance(task, Task) else repr(task)
