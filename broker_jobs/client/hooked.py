"""The plugins of a client, and what they are asked when it submits; nothing of it is loaded where there are none."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from broker_jobs.client.watching import watched
from broker_jobs.core.states import TaskState
from broker_jobs.errors import Vetoed
from broker_jobs.hooks.calling import Hooks
from broker_jobs.hooks.facts import TaskNow
from broker_jobs.hooks.plugins import collect
from broker_jobs.ids import short
from broker_jobs.wire.messages import JobInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
    from importlib.metadata import EntryPoint

    from broker_jobs.client.authoring import Job
    from broker_jobs.client.client import Client
    from broker_jobs.client.core import Core
    from broker_jobs.client.followed import Followed
    from broker_jobs.client.jobview import Layout
    from broker_jobs.client.link import Frame
    from broker_jobs.client.runtime import Runtime
    from broker_jobs.hooks.calling import Refusal
    from broker_jobs.wire.messages import ResubmitJob

MOST_WAITING: Final = 1_000_000
"""Moments that wait for a plugin; one that is so far behind hangs, or will never catch up."""

_INIT: Final = "on_task_init"
_QUEUED: Final = "on_task_queued"
_SUBMITTING: Final = "on_task_submitting"


def open_hooks(client: Client, entries: Sequence[EntryPoint], given: Iterable[object], patience: float) -> Hooks | None:
    """The plugins of a client, or None where there are none after all.

    Raises:
        ValidationError: one that was given cannot be used
    """
    plugins = collect(entries, given)
    return Hooks(plugins, ("client", client), _on(client.runtime), patience=patience, most=MOST_WAITING) if plugins else None


class Submitting:
    """The tasks of a job that is being submitted, as plugins are told of them.

    Args:
        job: as it is now
        job_id: the id that it gets, or that of the open job to which it is added
    """

    def __init__(self, hooks: Hooks, job: Job, job_id: str) -> None:
        self._hooks = hooks
        self._entries = tuple(job.entries)
        self._count = len(job)
        self._id = job_id
        hooks.tell_all(_INIT, self._tasks)

    def agree(self) -> None:
        """Ask whether it may be sent, now that it could be.

        Raises:
            Vetoed: a plugin has said no
        """
        hooks = self._hooks
        hooks.tell_all(_QUEUED, self._tasks)
        _obey(hooks.ask(_SUBMITTING, self._tasks), self._id)

    async def send(self, core: Core, layout: Layout, frames: Iterable[Frame], timeout: float) -> Followed:
        """Send it as a job of its own, as `Core.submit`; plugins are told of it from then on."""
        async with watched(core, self._hooks, core.follow(self._id, layout), range(self._count), self._tasks):
            return await core.submit(self._id, layout, frames, timeout)

    async def add(self, core: Core, job: Followed, frames: Iterable[Frame], timeout: float, *, first: int) -> None:
        """Send it to a job that is open, where its first task has this number."""

        def numbered() -> Iterator[TaskNow]:
            return (replace(task, number=task.number + first) for task in self._tasks())

        async with watched(core, self._hooks, job, range(first, first + self._count), numbered):
            await core.link.send(self._id, frames, timeout)

    def _tasks(self) -> Iterator[TaskNow]:
        for entry in self._entries:
            for number in range(entry.first, entry.first + entry.count):
                yield TaskNow(self._id, number, entry.label(number))


async def resubmit(core: Core, hooks: Hooks, job: Followed, wish: ResubmitJob) -> JobInfo:
    """Run a job again, as `ResubmitJob` says; plugins are asked and told as when it was submitted.

    Raises:
        Vetoed: a plugin has said no
    """
    known = await core.tasks(job, only=wish.tasks)
    tasks = [TaskNow(wish.new, info.number, info.name) for info in known if wish.everything or info.state is not TaskState.succeeded]
    hooks.tell_all(_INIT, lambda: tasks)
    hooks.tell_all(_QUEUED, lambda: tasks)
    _obey(await hooks.ask_async(_SUBMITTING, lambda: tasks), wish.new)
    async with watched(core, hooks, core.follow(wish.new), [task.number for task in tasks], lambda: tasks):
        return await core.ask(wish, JobInfo)


def _obey(refusals: Sequence[Refusal], job: str) -> None:
    refused = [(refusal.plugin, refusal.of) for refusal in refusals if isinstance(refusal.of, TaskNow)]
    if refused:
        plugin, task = refused[0]
        more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        raise Vetoed(
            f"job {short(job)} was not submitted: plugin {plugin!r} would not have task {task.number} {task.name!r}{more}; "
            "nothing was sent",
            plugin=plugin,
            tasks=[task.number for by, task in refused if by == plugin],
        )


def _on(runtime: Runtime) -> Callable[[Coroutine[Any, Any, object]], object]:
    """Runs coroutines of plugins on the client's loop."""

    def run(coroutine: Coroutine[Any, Any, object]) -> object:
        try:
            done = asyncio.run_coroutine_threadsafe(coroutine, runtime.loop)
        except BaseException:
            coroutine.close()
            raise
        return done.result()

    return run
