"""The client's one shell: follows jobs over one connection, on one event loop.

What is known of a job comes from two sides. Workers' replies come by themselves, to whoever has sent the job; the ledger is asked, by
long polls, where replies cannot come (a job of another process), may have been missed (a reconnect), or stay away for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar

from broker_jobs.client.chunking import WORTH_MS
from broker_jobs.client.followed import Batch, Followed, leave
from broker_jobs.client.jobview import JobView, ending_of
from broker_jobs.client.link import PATIENCE
from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.pace import Pace
from broker_jobs.core.states import ENDED, JOB_ENDED
from broker_jobs.errors import BrokerJobsError, ClientClosed, CoordinatorUnavailable, TaskNotFound
from broker_jobs.wire.messages import CancelResult, CancelTasks, Changes, Ended, FindJob, ForgetJobs, GetChanges, JobInfo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence

    from broker_jobs.client.chunking import OpenClasses
    from broker_jobs.client.jobview import Ending, Layout
    from broker_jobs.client.link import Frame, Link
    from broker_jobs.core.spec import Lane
    from broker_jobs.hooks.calling import Hooks
    from broker_jobs.wire.messages import Question, Reply, ReplyItem, TaskInfo

LONG_POLL: Final = 10.0
"""Seconds for which the ledger may keep a question until there is news."""

TOLERANCE: Final = 60.0
"""Seconds for which a wait bears the absence of a coordinator that has answered before: it may be starting again."""

_GRACE_SUBMITTED: Final = 0.25
_GRACE_CALLED: Final = 5.0
_PAUSE: Final = 0.05
_PAUSE_FED: Final = 1.0
_PAGE: Final = 1000
_CLASS_MEMORY: Final = 1800.0
_FORGET_AT: Final = 200
_FORGET_AT_BYTES: Final = 64 * 2**20
_FORGET_AFTER: Final = 2.0

_log = logging.getLogger(__name__)
_Kind = TypeVar("_Kind")


class Core:
    """The jobs of one connection.

    Args:
        hooks: plugins, where there are some

    Attributes:
        unfinished: jobs that were submitted over it and are not known to have ended
        pace: how long calls take
    """

    def __init__(self, link: Link, hooks: Hooks | None = None) -> None:
        self.link = link
        self.hooks = hooks
        self.unfinished: set[str] = set()
        self.pace = Pace(WORTH_MS)
        self._opened: dict[tuple[str, Lane], float] = {}
        self._followed: weakref.WeakValueDictionary[str, Followed] = weakref.WeakValueDictionary()
        self._batches: dict[str, tuple[Batch, Followed]] = {}
        self._forget: list[str] = []
        self._forget_bytes = 0
        self._forgetting: asyncio.TimerHandle | None = None
        self._minding: asyncio.TimerHandle | None = None
        self._background: set[asyncio.Task[None]] = set()
        link.listen(self)

    # --- what comes in ---

    def heard(self, reply: Reply) -> None:
        """A worker has said something of a job of ours.

        Of a job that this client has opened, and not sent whole, it does not know the tasks: what a failure means, only the ledger tells.
        """
        followed = self._followed.get(reply.job)
        if followed is not None and followed.view.layout is not None:
            endings = followed.view.heard(reply)
            if followed.view.layout.sort is not None and (took := spent(reply.items)):
                self.pace.several_ended(followed.view.layout.sort, took)
            if followed.watch is not None:
                followed.watch.heard(reply, endings)
            self._known(followed, endings)

    def told(self, info: JobInfo) -> None:
        """The coordinator says that a job of ours has another state."""
        if info.state in JOB_ENDED:
            self.unfinished.discard(info.job)
        followed = self._followed.get(info.job)
        if followed is not None and followed.view.told(info):
            if info.state in JOB_ENDED:
                followed.urgent.set()
                if info.job in self._batches:
                    self._mind(*self._batches[info.job])
            followed.notify()

    def interrupted(self) -> None:
        """The connection was away: replies may have been missed."""
        for followed in list(self._followed.values()):
            followed.interrupted()
        for batch, followed in list(self._batches.values()):
            self._mind(batch, followed)

    # --- jobs that were submitted ---

    async def open_classes(self, wanted: Iterable[tuple[str, Lane]]) -> OpenClasses:
        """Those of these classes and lanes that have a queue; one that has is remembered for a while."""
        wanted = frozenset(wanted)
        found = await self.link.open_classes(wanted - self.opened(wanted))
        self._opened.update(dict.fromkeys(found, time.monotonic()))
        return self.opened(wanted)

    def opened(self, wanted: OpenClasses) -> OpenClasses:
        """Those that are known to have a queue; one that is not used for a day loses it."""
        young = time.monotonic() - _CLASS_MEMORY
        return frozenset(one for one in wanted if self._opened.get(one, 0.0) > young)

    async def submit(self, job: str, layout: Layout, frames: Iterable[Frame], timeout: float) -> Followed:
        """Send a whole job; returns when nothing of it can be lost any more."""
        followed = self.follow(job, layout)
        await self.link.send(job, frames, timeout)
        if not followed.view.ended:
            self.unfinished.add(job)
        return followed

    @staticmethod
    async def together(submits: Iterable[Coroutine[Any, Any, Followed]]) -> list[Followed]:
        """Let all of these submit; raises what happened to the first that did not."""
        sent = await asyncio.gather(*submits, return_exceptions=True)
        for result in sent:
            if isinstance(result, BaseException):
                raise result
        return [result for result in sent if isinstance(result, Followed)]

    def follow(self, job: str, layout: Layout | None = None) -> Followed:
        """A job of this or of another process."""
        followed = self._followed.get(job)
        if followed is None:
            followed = self._followed[job] = Followed(JobView(job, layout), grace=_GRACE_SUBMITTED)
        return followed

    def jobs(self) -> list[Followed]:
        """Those that somebody follows."""
        return list(self._followed.values())

    def join(self, followed: Followed) -> Followed:
        """The same job on this connection, where it was followed on an earlier one (before a fork)."""
        known = self._followed.get(followed.id)
        if known is None:
            known = self._followed[followed.id] = Followed(followed.view, grace=_GRACE_SUBMITTED)
            known.interrupted()
        return known

    async def find(self, text: str, timeout: float = PATIENCE) -> JobInfo:
        """The job of this id, ending of an id, or ``last``."""
        return await self.ask(FindJob(text), JobInfo, timeout)

    async def info(self, followed: Followed) -> JobInfo:
        """The job at a glance, from the ledger."""
        info = await self.find(followed.id)
        followed.view.told(info)
        self._known(followed, ())
        return info

    async def ask(self, question: Question, kind: type[_Kind], timeout: float = PATIENCE) -> _Kind:
        """The ledger's answer, of the kind that belongs to the question."""
        answer = await self.link.ask(question, timeout)
        if not isinstance(answer, kind):
            raise CoordinatorUnavailable(f"the coordinator has answered with a {type(answer).tag}: it is of another version")
        return answer

    async def ended(self, followed: Followed) -> None:
        """Wait for the end of a job."""
        await self._until(followed, lambda: followed.view.ended, tasks=())

    async def settled(self, jobs: Iterable[str]) -> bool:
        """Wait until the ledger knows of the ends that workers have told this client already; whether there was one that it did not."""
        told = [job for job in jobs if (followed := self._followed.get(job)) is not None and followed.view.ended]
        news = False
        for job in told:
            info = await self.find(job)
            until = time.monotonic() + LONG_POLL
            while info.state not in JOB_ENDED and time.monotonic() < until:
                news = True
                info = (await self._changes(self.follow(job), GetChanges(job, info.version, round(LONG_POLL * 1000), 1), LONG_POLL)).info
            news = news or info.state in JOB_ENDED
        return news

    async def ending(self, followed: Followed, number: int) -> Ending:
        """Wait for the end of a task; `TaskNotFound` where the job has none of this number."""
        view = followed.view
        found: list[Ending] = []

        def known() -> bool:
            missing = view.total is not None and not 0 <= number < view.total
            return missing or bool(found) or view.ending(number) is not None

        with followed.subscribed(lambda endings: found.extend(ending for ending in endings if ending.number == number)):
            await self._until(followed, known, values=True, tasks=(number,))
        ending = view.ending(number) or (found[0] if found else None)
        if ending is None:
            raise TaskNotFound(f"job {view.job} has no task {number}")
        return ending

    async def endings(self, followed: Followed) -> list[Ending]:
        """Wait for the end of a job: how its tasks ended, with their values."""
        await self.ended(followed)
        if followed.view.complete:
            return followed.view.endings()
        return [ending_of(task) for task in await self.tasks(followed, values=True) if task.state in ENDED]

    async def as_completed(self, followed: Followed) -> AsyncIterator[list[Ending]]:
        """Endings with their values, as they become known, until the job has ended."""
        view = followed.view
        fresh = view.endings()
        seen = {ending.number for ending in fresh}

        def take(endings: Sequence[Ending]) -> None:
            fresh.extend(ending for ending in endings if ending.number not in seen)
            seen.update(ending.number for ending in endings)

        def complete() -> bool:
            return view.layout is not None and len(seen) == view.layout.total

        with followed.subscribed(take):
            while True:
                told = await self._until(followed, lambda: bool(fresh) or complete(), values=True)
                ready, fresh[:] = list(fresh), []
                if ready:
                    yield ready
                if told or (complete() and not fresh):
                    return

    async def tasks(self, followed: Followed, *, values: bool = False, only: tuple[int, ...] | None = None) -> list[TaskInfo]:
        """The tasks as the ledger has them now, by number."""
        found: dict[int, TaskInfo] = {}
        since, more = 0, True
        while more:
            changes = await self.ask(
                GetChanges(followed.id, since, limit=_PAGE, values=values, tasks=only, options=only is not None), Changes
            )
            self._learn(followed, changes, values=values)
            since, more = changes.upto, changes.more
            found.update((task.number, task) for task in changes.tasks)
        return [task for _, task in sorted(found.items())]

    async def changes(self, followed: Followed) -> AsyncIterator[Changes]:
        """What the ledger hears of a job, from its beginning to its end."""
        since, wait = 0, 0.0
        while True:
            changes = await self._changes(followed, GetChanges(followed.id, since, round(wait * 1000), _PAGE), wait)
            self._learn(followed, changes, values=False)
            since, wait = changes.upto, 0.0 if changes.more else LONG_POLL
            yield changes
            if not changes.more:
                if changes.info.state in JOB_ENDED:
                    return
                await asyncio.sleep(_PAUSE)

    async def cancel(self, job: str, tasks: tuple[int, ...] | None, reason: str, *, unstarted_only: bool = False) -> CancelResult:
        """End a job, or some of its tasks."""
        return await self.ask(CancelTasks(job, tasks, reason, unstarted_only), CancelResult)

    # --- calls ---

    def launch(self, batch: Batch) -> None:
        """Send calls; their endings are delivered as they come."""
        followed = Followed(JobView(batch.job, batch.layout, budget=0), grace=_GRACE_CALLED)  # each ending is delivered when it is known
        self._followed[batch.job] = followed
        self._batches[batch.job] = batch, followed
        self._spawn(self._send(batch))
        if not followed.flat:
            self._mind(batch, followed)
        elif self._minding is None:
            self._minding = asyncio.get_running_loop().call_later(_GRACE_CALLED, self._mind_old)

    @property
    def calls_are_stuck(self) -> bool:
        """Whether calls are open, and none of them is known to have started."""
        return bool(self._batches) and not any(
            self.started(job, number) for job, (batch, _) in self._batches.items() for number in batch.open
        )

    def started(self, job: str, number: int) -> bool:
        """Whether a call is known to have started."""
        followed = self._followed.get(job)
        state = followed.view.state_of(number) if followed is not None else None
        return state is not None and state.value not in {"waiting", "queued"}

    def withdraw(self, job: str, reason: str) -> None:
        """Cancel and forget calls whose results nobody wants any more."""
        batch, _ = self._batches.pop(job, (None, None))
        if batch:
            if batch.minder:
                batch.minder.cancel()
            self._spawn(self._tell(CancelTasks(job, None, reason)))
        self.forget(job)

    def forget(self, job: str, stored: int = 0) -> None:
        """Forget calls whose values were read: the ledger and the value store, where they take so many bytes, keep them until then."""
        self._forget.append(job)
        self._forget_bytes += stored
        if len(self._forget) >= _FORGET_AT or self._forget_bytes >= _FORGET_AT_BYTES:
            self._forget_now()
        elif self._forgetting is None:
            self._forgetting = asyncio.get_running_loop().call_later(_FORGET_AFTER, self._forget_now)

    async def close(self, *, keep_calls: bool = False) -> None:
        """Cancel calls that have not started, unless they are kept, forget those that were delivered, and end the connection."""
        batches, self._batches = [batch for batch, _ in self._batches.values()], {}
        for timer in (self._minding, self._forgetting):
            if timer:
                timer.cancel()
        for task in tuple(self._background):
            task.cancel()
        for batch in batches:
            batch.fail(ClientClosed("the client was closed before this call was done"))
        questions: list[Question] = []
        if not keep_calls:
            questions += [CancelTasks(batch.job, None, "its client was closed", unstarted_only=True) for batch in batches]
        if self._forget:
            questions.append(ForgetJobs(tuple(self._forget)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FORGET_AFTER):
                await asyncio.gather(*map(self._tell, questions))
        await self.link.close()

    # --- inside ---

    def _known(self, followed: Followed, endings: Sequence[Ending]) -> None:
        """Endings have become known, or the job's state."""
        batch, _ = self._batches.get(followed.id, (None, None))
        if batch:
            self._deliver(batch, endings)
        elif followed.view.ended:
            self.unfinished.discard(followed.id)
        followed.notify(endings)

    def _learn(self, followed: Followed, changes: Changes, *, values: bool) -> None:
        """The ledger has told of tasks."""
        endings = followed.view.changed(changes, values=values)
        if followed.watch is not None:
            followed.watch.told(changes)
        self._known(followed, endings)

    async def _until(
        self, followed: Followed, done: Callable[[], bool], *, values: bool = False, tasks: tuple[int, ...] | None = None
    ) -> bool:
        """Wait until `done()`, or until the job has ended and the ledger has told all of it; whether it was the latter."""
        if done():
            return False
        poller = asyncio.ensure_future(self.poll(followed, values=values, tasks=tasks))
        try:
            while not done():
                if poller.done():
                    await poller
                    return True
                await asyncio.wait({followed.changed(), poller}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leave(poller)
        return False

    async def poll(self, followed: Followed, *, values: bool, tasks: tuple[int, ...] | None) -> None:
        """Ask the ledger until the job has ended."""
        if followed.fed:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(followed.urgent.wait(), followed.grace)
        since, wait = 0, 0.0
        while True:
            changes = await self._changes(followed, GetChanges(followed.id, since, round(wait * 1000), _PAGE, values, tasks), wait)
            self._learn(followed, changes, values=values)
            since, wait = changes.upto, 0.0 if changes.more else LONG_POLL
            if not changes.more:
                if changes.info.state in JOB_ENDED:
                    return
                await asyncio.sleep(_PAUSE_FED if followed.fed and not followed.urgent.is_set() else _PAUSE)

    async def _changes(self, followed: Followed, question: GetChanges, wait: float) -> Changes:
        """The answer to one long poll; a coordinator that was there may be away for a while, and flat work needs none."""
        begun = time.monotonic()
        while True:
            try:
                return await self.ask(question, Changes, wait + PATIENCE)
            except CoordinatorUnavailable:
                if not followed.flat and (not question.since or time.monotonic() - begun > TOLERANCE):
                    raise

    async def _send(self, batch: Batch) -> None:
        try:
            await self.link.send(batch.job, batch.frames, batch.timeout)
        except BrokerJobsError as error:
            self._give_up(batch, error)
        batch.sent.set()

    def _deliver(self, batch: Batch, endings: Iterable[Ending]) -> None:
        fresh = [ending for ending in endings if ending.number in batch.open]
        if fresh:
            batch.open.difference_update([ending.number for ending in fresh])
            batch.deliver(fresh)
        if not batch.open:
            del self._batches[batch.job]
            if batch.minder:
                batch.minder.cancel()

    def _give_up(self, batch: Batch, error: BrokerJobsError) -> None:
        if self._batches.pop(batch.job, None):
            batch.fail(error)

    def _mind_old(self) -> None:
        """Ask the ledger for calls that have been silent for long."""
        self._minding = None
        old = time.monotonic() - _GRACE_CALLED
        for batch, followed in self._batches.values():
            if batch.begun <= old:
                self._mind(batch, followed)
        if self._batches:
            self._minding = asyncio.get_running_loop().call_later(_GRACE_CALLED, self._mind_old)

    def _mind(self, batch: Batch, followed: Followed) -> None:
        if batch.minder is None:
            followed.urgent.set()
            batch.minder = asyncio.get_running_loop().create_task(self._ask_for(batch, followed))
            self.keep(batch.minder)

    async def _ask_for(self, batch: Batch, followed: Followed) -> None:
        await batch.sent.wait()
        try:
            await self._until(followed, lambda: not batch.open, values=True)
        except BrokerJobsError as error:
            self._give_up(batch, error)

    def _forget_now(self) -> None:
        if self._forgetting:
            self._forgetting.cancel()
            self._forgetting = None
        jobs, self._forget, self._forget_bytes = tuple(self._forget), [], 0
        self._spawn(self._tell(ForgetJobs(jobs)))

    async def _tell(self, question: Question) -> None:
        try:
            await self.link.tell(question)
        except BrokerJobsError:
            _log.debug("not told: %s; the coordinator drops old calls by itself", type(question).tag, exc_info=True)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        self.keep(asyncio.get_running_loop().create_task(work))

    def keep(self, task: asyncio.Task[None]) -> None:
        """Let this go on in the background, until `close` at most: the loop itself holds its tasks weakly."""
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def spent(items: Iterable[ReplyItem]) -> list[int]:
    """How many milliseconds those took that have succeeded."""
    return [item.ended_ms - item.started_ms for item in items if isinstance(item, Ended) and isinstance(item.outcome, Succeeded)]
