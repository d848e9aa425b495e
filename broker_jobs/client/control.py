"""What is wanted of submitted jobs: cancel, pause, resume, resubmit, forget; asynchronous, for both faces of the client."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Final, TypeVar

from broker_jobs.client.inquiry import number_of, within
from broker_jobs.client.watching import KILLING, unless_vetoed
from broker_jobs.core.choice import Choice
from broker_jobs.core.quantities import milliseconds
from broker_jobs.core.selection import task_refs
from broker_jobs.core.states import JOB_ENDED, JobState
from broker_jobs.errors import JobActive, ValidationError
from broker_jobs.ids import new_job_id, partition_of, short
from broker_jobs.wire.messages import (
    CancelResult,
    CancelTasks,
    ForgetJobs,
    Forgotten,
    JobInfo,
    JobList,
    ListJobs,
    PauseResult,
    PauseTasks,
    ResubmitJob,
    ResumeResult,
    ResumeTasks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from broker_jobs.client.core import Core
    from broker_jobs.client.followed import Followed
    from broker_jobs.client.inquiry import TaskRef
    from broker_jobs.core.quantities import Duration
    from broker_jobs.wire.messages import Question

_Result = TypeVar("_Result", CancelResult, PauseResult, ResumeResult)
_PAGE: Final = 1000
_AT_ONCE: Final = 100


async def numbers(core: Core, job: Followed, tasks: Sequence[TaskRef] | str | None) -> tuple[int, ...] | None:
    """The numbers of tasks; None for all."""
    if tasks is None:
        return None
    return tuple([await number_of(core, job, task) for task in (task_refs(tasks) if isinstance(tasks, str) else tasks)])


async def cancel(core: Core, job: Followed, reason: str, tasks: Sequence[TaskRef] | str | None) -> CancelResult:
    """End the job, or these tasks of it."""
    chosen = await numbers(core, job, tasks)
    if core.hooks is not None and core.hooks.wants(KILLING):
        left = await unless_vetoed(core, core.hooks, job, chosen)
        if left == () != chosen:
            return CancelResult()
        chosen = left
    return await core.cancel(job.id, chosen, reason)


async def pause(core: Core, job: Followed, reason: str, tasks: Sequence[TaskRef] | str | None) -> PauseResult:
    """Hold the job back, or these tasks of it."""
    return await core.ask(PauseTasks(job.id, await numbers(core, job, tasks), reason), PauseResult)


async def resume(core: Core, job: Followed, tasks: Sequence[TaskRef] | str | None) -> ResumeResult:
    """Let the job go on, or these tasks of it."""
    return await core.ask(ResumeTasks(job.id, await numbers(core, job, tasks)), ResumeResult)


async def resubmit(core: Core, job: Followed, tasks: Sequence[TaskRef] | str | None, *, everything: bool) -> Followed:
    """Run the job again, as a new one: what did not succeed of it, or of these tasks."""
    wish = ResubmitJob(job.id, new_job_id(partition_of(job.id)), await numbers(core, job, tasks), everything)
    if core.hooks is None:
        info = await core.ask(wish, JobInfo)
    else:
        from broker_jobs.client import hooked

        info = await hooked.resubmit(core, core.hooks, job, wish)
    followed = core.follow(info.job)
    followed.view.told(info)
    return followed


async def cancel_all(core: Core, jobs: Iterable[str], reason: str) -> list[CancelResult]:
    """End many jobs: what it did to each."""
    if core.hooks is not None and core.hooks.wants(KILLING):
        return [await cancel(core, core.follow(job), reason, None) for job in jobs]
    return await _each(core, [CancelTasks(job, None, reason) for job in jobs], CancelResult)


async def pause_all(core: Core, jobs: Iterable[str], reason: str) -> list[PauseResult]:
    """Hold many jobs back: what it did to each."""
    return await _each(core, [PauseTasks(job, None, reason) for job in jobs], PauseResult)


async def resume_all(core: Core, jobs: Iterable[str]) -> list[ResumeResult]:
    """Let many jobs go on: what it did to each."""
    return await _each(core, [ResumeTasks(job) for job in jobs], ResumeResult)


async def forget_all(core: Core, jobs: Iterable[str]) -> int:
    """Drop many jobs; how many there were. `JobActive` where one has not ended: none of up to a thousand with it is dropped."""
    dropped = 0
    for page in _pages(jobs):
        wish = ForgetJobs(page)
        try:
            dropped += (await core.ask(wish, Forgotten)).jobs
        except JobActive:
            if not await core.settled(wish.jobs):
                raise
            dropped += (await core.ask(wish, Forgotten)).jobs
    return dropped


def _pages(jobs: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Jobs in parts, each of one partition of the ledger."""
    for _, group in groupby(sorted(jobs, key=partition_of), partition_of):
        ids = tuple(group)
        for start in range(0, len(ids), _PAGE):
            yield ids[start : start + _PAGE]


async def _each(core: Core, questions: Sequence[Question], kind: type[_Result]) -> list[_Result]:
    found: list[_Result] = []
    for start in range(0, len(questions), _AT_ONCE):
        found += await asyncio.gather(*(core.ask(question, kind) for question in questions[start : start + _AT_ONCE]))
    return found


def total(kind: Callable[..., _Result], results: Iterable[_Result]) -> _Result:
    """What was done to all jobs together."""
    sums: dict[str, int] = {}
    for result in results:
        for name, value in dataclasses.asdict(result).items():
            sums[name] = sums.get(name, 0) + value
    return kind(**sums)


async def ended_inside(core: Core, job: Followed, timeout: float | None) -> None:
    """Wait until the jobs that were submitted inside a task of this one have ended."""

    async def wait() -> None:
        while True:
            going = [core.follow(info.job) for info in await find(core, ListJobs(parent=job.id), None) if info.state not in JOB_ENDED]
            left = [one for one in going if not one.view.ended]  # the ledger may be behind what workers have told
            if not left:
                return
            await asyncio.gather(*map(core.ended, left))

    await within(timeout, wait(), f"the jobs inside job {short(job.id)} have not ended")


def chosen(tags_any: Iterable[str], without_tags: Iterable[str], since: datetime | None, until: datetime | None) -> Choice:
    """More filters of lists; `ValidationError` where one makes no sense."""
    for what, tags in (("tags_any", tags_any), ("without_tags", without_tags)):
        if isinstance(tags, str):
            raise ValidationError(f"{what} must be a list of texts, not {tags!r}")
    for what, moment in (("since", since), ("until", until)):
        if not isinstance(moment, datetime | None):
            raise ValidationError(f"{what} must be a datetime, not {moment!r}")
    since_ms, until_ms = (None if moment is None else round(moment.timestamp() * 1000) for moment in (since, until))
    return Choice(tuple(tags_any), tuple(without_tags), since_ms, until_ms)


def filtered(
    state: JobState | str | Iterable[JobState | str] | None,
    tags: Iterable[str],
    name: str | None,
    older_than: Duration | None,
    parent: str | None,
    *,
    choice: Choice,
) -> ListJobs:
    """The question for jobs that fit; `ValidationError` where a filter makes no sense."""
    if isinstance(tags, str):
        raise ValidationError(f"tags must be a list of texts, not {tags!r}")
    states = () if state is None else (state,) if isinstance(state, str) else tuple(state)
    try:
        wanted = tuple(JobState(one) for one in states)
    except ValueError:
        raise ValidationError(f"state must be one of {', '.join(JobState)}, not {state!r}") from None
    before = None if older_than is None else time.time_ns() // 1_000_000 - milliseconds(older_than, "older_than")
    only = wanted[0] if len(wanted) == 1 else None
    return ListJobs(only, tuple(tags), name, states=() if only else wanted, ended_before_ms=before, parent=parent, choice=choice)


async def find(core: Core, question: ListJobs, limit: int | None) -> list[JobInfo]:
    """Jobs that fit, the newest first; None is all of them."""
    found: list[JobInfo] = []
    more = True
    while more and (limit is None or len(found) < limit):
        page = _PAGE if limit is None else min(_PAGE, limit - len(found))
        answer = await core.ask(dataclasses.replace(question, limit=page, skip=len(found)), JobList)
        found += answer.jobs
        more = answer.more
    return found
