"""Jobs that plugins are told of: each is followed from its submission to its end, by the replies and the ledger's word that come anyway.

Everything runs on the client's loop, and nothing waits for a plugin here but a cancel, which one may refuse.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.client.followed import leave
from broker_jobs.core.outcome import Canceled, Crashed, Failed, Succeeded
from broker_jobs.core.states import ENDED, TaskState
from broker_jobs.errors import BrokerJobsError, JobNotFound
from broker_jobs.hooks.facts import JobNow, TaskNow
from broker_jobs.hooks.order import SUBMITTED, Order
from broker_jobs.wire.messages import Ended, Progress, Returned, Started, Taken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence

    from broker_jobs.client.core import Core
    from broker_jobs.client.followed import Followed
    from broker_jobs.client.jobview import Ending
    from broker_jobs.core.outcome import Outcome
    from broker_jobs.hooks.calling import Hooks
    from broker_jobs.hooks.facts import Told
    from broker_jobs.wire.messages import Changes, Reply, ReplyItem, TaskInfo

KILLING: Final = "on_task_killing"

AGAIN: Final = 5.0
"""Seconds until the ledger is asked again where nobody has answered; replies are heard meanwhile."""

_log = logging.getLogger("broker_jobs.hooks")


class Watch:
    """Tells plugins of the tasks of one job.

    Attributes:
        running: follows the job, once something of it was submitted
    """

    def __init__(self, hooks: Told, followed: Followed) -> None:
        self.order = Order()
        self.running: asyncio.Task[None] | None = None
        self._hooks = hooks
        self._followed = followed

    def heard(self, reply: Reply, endings: Sequence[Ending]) -> None:
        """A worker has told something, of which the job's replica knows already; these endings are new to it."""
        ended = {ending.number: ending for ending in endings}
        for item in reply.items:
            if self.order.expects(item.task):
                self._hooks.tell(self.order.news(self._now(item, reply.worker, ended.get(item.task))))
        self.complete()

    def told(self, changes: Changes) -> None:
        """The ledger has told something, of which the job's replica knows already."""
        for info in changes.tasks:
            if self.order.expects(info.number):
                self._hooks.tell(self.order.news(_told(self._followed.id, info)))
        self.complete()

    def submitted(self) -> None:
        """Nothing is on its way any more."""
        self._hooks.tell(self.order.release())
        self.complete()

    def complete(self, *, surely: bool = False) -> None:
        """Tell that the job has ended, if it has.

        Args:
            surely: also where the end of some tasks is not known, as the ledger has told all it knows
        """
        view = self._followed.view
        if view.ended and (surely or not self.order.open):
            reason = view.info.reason if view.info else ""
            self._hooks.tell(self.order.job_over(JobNow(view.job, view.name, view.state, dict(view.progress), reason)))

    async def follow(self, core: Core) -> None:
        """Ask the ledger where replies do not tell, until plugins know of the end of the job."""
        followed = self._followed
        while not self.order.over:
            poller = asyncio.ensure_future(core.poll(followed, values=False, tasks=None))
            try:
                while not self.order.over and not poller.done():
                    await asyncio.wait({followed.changed(), poller}, return_when=asyncio.FIRST_COMPLETED)
                if poller.done():
                    await poller
                    self.complete(surely=True)
                    return
            except JobNotFound:
                return  # somebody has forgotten it
            except BrokerJobsError as error:
                _log.debug("plugins hear no more of job %s for now: %s", followed.id, error)
                await asyncio.sleep(AGAIN)
            finally:
                leave(poller)

    def _now(self, item: ReplyItem, worker: str, ending: Ending | None) -> TaskNow:
        view = self._followed.view
        row = view.layout.row(item.task) if view.layout else None
        job, number, name = view.job, item.task, row.label(item.task) if row else ""
        match item:
            case Started() | Taken():
                return TaskNow(job, number, name, TaskState.running, item.attempt, worker)
            case Progress(fraction=fraction, text=text):
                return TaskNow(job, number, name, TaskState.running, item.attempt, worker, progress=fraction, progress_text=text)
            case Returned(reason=reason):
                return TaskNow(job, number, name, TaskState.queued, item.attempt, worker, reason)
            case Ended(outcome=outcome):
                state = ending.state if ending else view.state_of(number) or TaskState.running
                return TaskNow(job, number, name, state, item.attempt, worker, _why(outcome))
            case _:
                assert_never(item)


@contextlib.asynccontextmanager
async def watched(
    core: Core, hooks: Hooks, followed: Followed, numbers: Collection[int], tasks: Callable[[], Iterable[TaskNow]]
) -> AsyncIterator[None]:
    """While tasks of a job are sent; plugins are told of them from then on.

    Args:
        numbers: of these tasks
        tasks: what *submitted* is told of
    """
    watch = followed.watch
    if watch is None:
        watch = followed.watch = Watch(hooks, followed)
    watch.order.expect(numbers)
    watch.order.hold()
    try:
        yield
    except BaseException:
        watch.order.forget(numbers)
        watch.submitted()
        if watch.running is None:
            followed.watch = None
        raise
    hooks.tell_all(SUBMITTED, tasks)
    watch.submitted()
    if watch.running is None or watch.running.done():
        watch.running = asyncio.get_running_loop().create_task(watch.follow(core))
        core.keep(watch.running)


async def settled(core: Core, timeout: float) -> None:
    """Wait until plugins were told of all that is known of jobs which have ended; as many seconds at most."""
    left = [job.watch.running for job in core.jobs() if job.watch is not None and job.watch.running is not None and job.view.ended]
    if left:
        await asyncio.wait(left, timeout=timeout)


async def unless_vetoed(core: Core, hooks: Hooks, job: Followed, chosen: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Which of these tasks may be canceled (None: all of the job), once plugins were asked for each that has not ended."""
    view = job.view
    if view.layout:
        numbers = range(view.layout.total) if chosen is None else chosen
        known = [
            TaskNow(view.job, number, row.label(number), state)
            for number in dict.fromkeys(numbers)
            if (row := view.layout.row(number)) and (state := view.state_of(number)) is not None and state not in ENDED
        ]
    else:
        known = [_told(view.job, info) for info in await core.tasks(job, only=chosen) if info.state not in ENDED]
    refusals = await hooks.ask_async(KILLING, lambda: known)
    spared = {refusal.of.number for refusal in refusals if isinstance(refusal.of, TaskNow)}
    if not spared:
        return chosen
    by = ", ".join(sorted({refusal.plugin for refusal in refusals}))
    _log.info("job %s: %d tasks are not canceled, as plugins wish: %s", view.job, len(spared), by)
    wanted = [now.number for now in known] if chosen is None else chosen
    return tuple(number for number in wanted if number not in spared)


def _told(job: str, info: TaskInfo) -> TaskNow:
    return TaskNow(job, info.number, info.name, info.state, info.attempt, info.worker, info.reason, info.progress, info.progress_text)


def _why(outcome: Outcome) -> str:
    match outcome:
        case Succeeded():
            return ""
        case Failed(message=message) | Crashed(message=message):
            return message
        case Canceled(reason=reason):
            return reason
        case _:
            assert_never(outcome)
