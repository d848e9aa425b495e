"""The asynchronous client: the same core, awaited from the caller's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, Unpack, cast, overload

from broker_jobs.client import control, inquiry
from broker_jobs.client.authoring import Job, Task
from broker_jobs.client.client import Client
from broker_jobs.client.mapping import News, Rows
from broker_jobs.client.placeholders import EarlierTask
from broker_jobs.client.results import value_of
from broker_jobs.core.outcome import Succeeded
from broker_jobs.errors import BrokerJobsError, ClientClosed
from broker_jobs.ids import short
from broker_jobs.wire.messages import CloseJob, JobInfo

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
    from datetime import datetime
    from types import ModuleType
    from typing import BinaryIO

    from broker_jobs.client.aiodata import AsyncWorkData
    from broker_jobs.client.aiosteps import AsyncStepRun
    from broker_jobs.client.calls import Caller
    from broker_jobs.client.chunking import OpenClasses
    from broker_jobs.client.core import Core
    from broker_jobs.client.deletion import Deletion
    from broker_jobs.client.followed import Followed
    from broker_jobs.client.inquiry import Event, TaskRef
    from broker_jobs.client.options import FunctionOptions
    from broker_jobs.client.results import TaskError
    from broker_jobs.client.submitted import SubmittedJob
    from broker_jobs.core.quantities import Duration
    from broker_jobs.core.states import JobState
    from broker_jobs.wire.messages import (
        CancelResult,
        Cluster,
        EndingWorkers,
        Explanation,
        KnownStep,
        LogEntry,
        PauseResult,
        ResumeResult,
        TaskInfo,
    )

_Params = ParamSpec("_Params")
_Result = TypeVar("_Result")

_CANCELED = "nobody waits for this call any more"


class AsyncClient:
    """`Client` for programs with an event loop: the same methods, as coroutines and asynchronous iterators.

    It connects when it is entered (``async with``) or first used.

    Args:
        url: and everything else as for `Client`
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str | None = None,
        signing_key: str | None = None,
        partition: int | None = None,
        by_value: Iterable[ModuleType] = (),
        timeout: float = 30.0,
        plugins: Iterable[object] = (),
    ) -> None:
        connect = partial(
            Client,
            url,
            namespace=namespace,
            signing_key=signing_key,
            partition=partition,
            by_value=tuple(by_value),
            timeout=timeout,
            plugins=tuple(plugins),
        )
        self._connection = _Connection(connect)
        self._chosen: list[Callable[[Client], Client]] = []

    # --- calls ---

    def options(self, *, timeout: Duration | None = None, lane: str | None = None, **run: Unpack[FunctionOptions]) -> AsyncClient:
        """The same client with other defaults for `call` and `map`; wrong ones are refused when they are used."""
        other = object.__new__(type(self))
        other._connection = self._connection
        other._chosen = [*self._chosen, lambda client: client.options(timeout=timeout, lane=lane, **run)]
        return other

    @overload
    async def call(
        self, fn: Callable[_Params, Coroutine[Any, Any, _Result]], /, *args: _Params.args, **kwargs: _Params.kwargs
    ) -> _Result: ...
    @overload
    async def call(self, fn: Callable[_Params, _Result], /, *args: _Params.args, **kwargs: _Params.kwargs) -> _Result: ...
    async def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function on a worker, and wait for its value; it is canceled with the coroutine that waits for it."""
        client = await self._sync()
        caller = client.caller()
        is_open = await _open_classes(caller)
        job = caller.new_job()
        encoded = caller.encode(caller.encoder(job), fn, args, kwargs)
        done = caller.start(job, encoded, is_open)
        try:
            async with asyncio.timeout(client.defaults.timeout):
                ending = await asyncio.wrap_future(done)
        except TimeoutError:
            caller.withdraw(job, _CANCELED)
            raise TimeoutError(f"{encoded.task.name!r} was not done within {client.defaults.timeout:g} s, and was canceled") from None
        except asyncio.CancelledError:
            caller.withdraw(job, _CANCELED)
            raise
        return caller.read(ending, job)

    async def map(self, fn: Callable[..., _Result], *iterables: Iterable[Any]) -> AsyncIterator[_Result]:
        """Call a function for each row of the iterables: the values, in order. The first failure ends it."""
        client = await self._sync()
        caller, loop = client.caller(), asyncio.get_running_loop()
        news: asyncio.Queue[News] = asyncio.Queue()
        rows = Rows(caller, fn, iterables, lambda item: loop.call_soon_threadsafe(news.put_nowait, item))
        try:
            async with asyncio.timeout(client.defaults.timeout):
                while True:
                    while rows.wanting:
                        rows.send_ahead(await _open_classes(caller))
                        await asyncio.sleep(0)  # for news to come in
                        with contextlib.suppress(asyncio.QueueEmpty):
                            while not isinstance(item := news.get_nowait(), BrokerJobsError):
                                rows.note(item)
                            news.put_nowait(item)
                    if rows.done:
                        return
                    while not rows.ready:
                        rows.note(await news.get())
                    yield cast("_Result", rows.take())
        finally:
            rows.close()

    # --- jobs ---

    async def open(
        self, name: str | None = None, *, tags: Iterable[str] = (), max_fails: int | None = None, idempotency_key: str | None = None
    ) -> AsyncSubmittedJob:
        """Make a job without tasks that stays open, as `Client.open`."""
        client = await self._sync()
        found = await asyncio.to_thread(client.open, name, tags=tags, max_fails=max_fails, idempotency_key=idempotency_key)
        return AsyncSubmittedJob(found)

    async def submit(
        self, job: Job, *, to: AsyncSubmittedJob | str | None = None, idempotency_key: str | None = None, timeout: float = 30.0
    ) -> AsyncSubmittedJob:
        """Submit a job, as `Client.submit`; it is pickled in another thread."""
        client, target = await self._sync(), to.submitted if isinstance(to, AsyncSubmittedJob) else to
        return AsyncSubmittedJob(await asyncio.to_thread(client.submit, job, to=target, idempotency_key=idempotency_key, timeout=timeout))

    async def wait_for_jobs(
        self, jobs: Iterable[AsyncSubmittedJob] | AsyncSubmittedJob, *, timeout: float | None = None, raise_on_error: bool = True
    ) -> bool:
        """Wait until jobs have ended; whether all succeeded. `FailedJobsError` and the others as for `Client.wait_for_jobs`."""
        waited = [jobs] if isinstance(jobs, AsyncSubmittedJob) else list(jobs)

        async def in_time(job: AsyncSubmittedJob) -> bool:
            try:
                await job.wait(timeout)
            except TimeoutError:
                return False
            return True

        there = await asyncio.gather(*map(in_time, waited))
        if late := [job.submitted.view for job, ended in zip(waited, there, strict=True) if not ended]:
            raise inquiry.too_late(late, len(waited), timeout)
        client = await self._sync()
        return await asyncio.to_thread(
            client.wait_for_jobs, [job.submitted for job in waited], raise_on_error=raise_on_error, progress=False
        )

    async def wait_for_any(self, jobs: Iterable[AsyncSubmittedJob], *, timeout: float | None = None) -> list[AsyncSubmittedJob]:
        """Wait until one job has ended, however it ends; those that have. As `Client.wait_for_any`."""
        waited = list(jobs)
        ends = [asyncio.ensure_future(job.wait()) for job in waited]
        try:
            found = (await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED))[0] if ends else ()
        finally:
            for end in ends:
                end.cancel()
        if waited and not found:
            raise TimeoutError(f"none of {len(waited)} jobs has ended within {timeout:g} s")
        for end in found:
            end.result()
        return [job for job in waited if job.submitted.view.ended]

    async def job(self, text: str | int) -> AsyncSubmittedJob:
        """A job of this or another process: ``"last"``, a whole id, or the end of one."""
        return AsyncSubmittedJob(await asyncio.to_thread((await self._sync()).job, text))

    async def jobs(
        self,
        *,
        state: JobState | str | Iterable[JobState | str] | None = None,
        tags: Iterable[str] = (),
        name: str | None = None,
        older_than: Duration | None = None,
        parent: AsyncSubmittedJob | str | None = None,
        tags_any: Iterable[str] = (),
        without_tags: Iterable[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = 20,
    ) -> list[AsyncSubmittedJob]:
        """Jobs, the newest first, as `Client.jobs`."""
        client = await self._sync()
        inside = parent.id if isinstance(parent, AsyncSubmittedJob) else parent
        choice = partial(client.jobs, tags_any=tags_any, without_tags=without_tags, since=since, until=until)
        found = await asyncio.to_thread(choice, state=state, tags=tags, name=name, older_than=older_than, parent=inside, limit=limit)
        return [AsyncSubmittedJob(job) for job in found]

    async def cancel(self, wanted: AsyncSubmittedJob | Job | Task | Iterable[AsyncSubmittedJob], reason: str = "") -> CancelResult:
        """End a job, several, or one task, as `Client.cancel`."""
        return await asyncio.to_thread((await self._sync()).cancel, _meant(wanted), reason)

    async def pause(self, wanted: AsyncSubmittedJob | Job | Task | Iterable[AsyncSubmittedJob], reason: str = "") -> PauseResult:
        """Hold a job back, several, or one task, as `Client.pause`."""
        return await asyncio.to_thread((await self._sync()).pause, _meant(wanted), reason)

    async def resume(self, wanted: AsyncSubmittedJob | Job | Task | Iterable[AsyncSubmittedJob]) -> ResumeResult:
        """Let a job go on, several, or one task, as `Client.resume`."""
        return await asyncio.to_thread((await self._sync()).resume, _meant(wanted))

    async def forget(self, wanted: AsyncSubmittedJob | str | Iterable[AsyncSubmittedJob]) -> int:
        """Drop a job from the ledger, or several, as `Client.forget`."""
        meant = wanted if isinstance(wanted, str) else _meant(wanted)
        return await asyncio.to_thread((await self._sync()).forget, meant)

    async def cluster(self, *workers: str, group: str | None = None, held: bool = False) -> Cluster:
        """The workers and resource classes that the coordinator knows, as `Client.cluster`."""
        return await asyncio.to_thread((await self._sync()).cluster, *workers, group=group, held=held)

    async def steps(self, name: str = "*", *, tags: Iterable[str] = (), schemas: bool = False) -> list[KnownStep]:
        """The steps that workers have announced, as `Client.steps`."""
        return await asyncio.to_thread((await self._sync()).steps, name, tags=tuple(tags), schemas=schemas)

    async def step(self, name: str, version: str | None = None) -> AsyncStepRun:
        """A call of a step, to be configured and started, as `Client.step`."""
        from broker_jobs.client.aiosteps import AsyncStepRun

        return AsyncStepRun(await asyncio.to_thread((await self._sync()).step, name, version))

    async def step_run(self, job: AsyncSubmittedJob | str) -> AsyncStepRun:
        """The call of a step that a job is, as `Client.step_run`."""
        from broker_jobs.client.aiosteps import AsyncStepRun

        wanted = job if isinstance(job, str) else job.submitted
        return AsyncStepRun(await asyncio.to_thread((await self._sync()).step_run, wanted))

    async def find_step(self, name: str, version: str = "*") -> KnownStep:
        """One step, with its schemas, as `Client.find_step`."""
        return await asyncio.to_thread((await self._sync()).find_step, name, version)

    async def add_data(
        self,
        content: bytes | os.PathLike[str] | BinaryIO | None = None,
        *,
        json: object = None,
        name: str | None = None,
        media_type: str | None = None,
        tags: Iterable[str] = (),
    ) -> AsyncWorkData:
        """Put data into the store, as `Client.add_data`."""
        from broker_jobs.client.aiodata import AsyncWorkData

        client = await self._sync()
        put = partial(client.add_data, content, json=json, name=name, media_type=media_type, tags=tuple(tags))
        return AsyncWorkData(await asyncio.to_thread(put))

    async def data(self, text: str) -> AsyncWorkData:
        """Data by its id, as `Client.data`."""
        from broker_jobs.client.aiodata import AsyncWorkData

        return AsyncWorkData(await asyncio.to_thread((await self._sync()).data, text))

    async def datasets(
        self,
        *,
        name: str | None = None,
        tags: Iterable[str] = (),
        job: str | None = None,
        used_by: str | None = None,
        used: bool | None = None,
        step: str | None = None,
        tags_any: Iterable[str] = (),
        without_tags: Iterable[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = 100,
    ) -> list[AsyncWorkData]:
        """Data, the newest first, as `Client.datasets`; jobs by their whole ids."""
        from broker_jobs.client.aiodata import AsyncWorkData

        client = await self._sync()
        find = partial(client.datasets, name=name, tags=tuple(tags), job=job, used_by=used_by, used=used, step=step, limit=limit)
        choice = partial(find, tags_any=tags_any, without_tags=without_tags, since=since, until=until)
        return [AsyncWorkData(data) for data in await asyncio.to_thread(choice)]

    async def log(self, subject: str | None = None, *, limit: int | None = 100) -> list[LogEntry]:
        """What has happened to jobs and data, as `Client.log`; the subject by its whole id."""
        return await asyncio.to_thread(partial((await self._sync()).log, subject, limit=limit))

    async def end_workers(self, *workers: str, group: str | None = None, stop: bool = False, reason: str = "") -> EndingWorkers:
        """Let workers end, as `Client.end_workers`."""
        return await asyncio.to_thread((await self._sync()).end_workers, *workers, group=group, stop=stop, reason=reason)

    async def hook_failures(self) -> dict[str, int]:
        """How often hooks of plugins have failed, as `Client.hook_failures`."""
        return (await self._sync()).hook_failures()

    # --- end ---

    async def close(self) -> None:
        """End the connection; calls that have not started are canceled. Again does nothing."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        await self._sync()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _sync(self) -> Client:
        client = await self._connection.client()
        for choose in self._chosen:
            client = choose(client)
        return client


class AsyncSubmittedJob:
    """A job that was submitted: `SubmittedJob`, awaited."""

    def __init__(self, submitted: SubmittedJob) -> None:
        self.submitted = submitted

    @property
    def id(self) -> str:
        """The whole id."""
        return self.submitted.id

    @property
    def name(self) -> str:
        """What the job is called."""
        return self.submitted.name

    async def state(self) -> JobState:
        """Its state now."""
        return await asyncio.to_thread(lambda: self.submitted.state)

    async def info(self) -> JobInfo:
        """The job at a glance, from the ledger."""
        return await self._ask(lambda core, job: core.info(job))

    async def tasks(self, numbers: Sequence[int] | None = None) -> list[TaskInfo]:
        """Its tasks at a glance; with outcomes where numbers are given."""
        return await self._ask(lambda core, job: inquiry.tasks(core, job, numbers))

    async def number(self, task: TaskRef) -> int:
        """The number of a task, as `SubmittedJob.number`."""
        return await self._ask(lambda core, job: inquiry.number_of(core, job, task))

    async def task(self, task: TaskRef) -> EarlierTask:
        """A task of this job for tasks of later jobs, as `SubmittedJob.task`."""
        return EarlierTask(self.id, await self.number(task))

    async def close(self) -> None:
        """Let an open job end with the tasks that it has, as `SubmittedJob.close`."""
        await self._ask(lambda core, job: core.ask(CloseJob(job.id), JobInfo))

    async def wait_for_tasks(self, timeout: float | None = None) -> bool:
        """Wait until every task that was submitted so far has ended, as `SubmittedJob.wait_for_tasks`."""
        return await self._ask(lambda core, job: inquiry.idle(core, job, timeout))

    async def explain(self, task: TaskRef) -> Explanation:
        """Why a task has not started, as `SubmittedJob.explain`."""
        return await self._ask(lambda core, job: inquiry.explain(core, job, task))

    async def wait_for_start(self, timeout: float | None = None) -> None:
        """Wait until one of its tasks has started, as `SubmittedJob.wait_for_start`."""
        await self._ask(lambda core, job: inquiry.started(core, job, timeout))

    async def wait_for_sub_jobs(self, timeout: float | None = None, *, raise_on_error: bool = True) -> bool:
        """Wait until the jobs inside it have ended; whether all succeeded. As `SubmittedJob.wait_for_sub_jobs`."""
        await self._ask(lambda core, job: control.ended_inside(core, job, timeout))
        return await asyncio.to_thread(self.submitted.wait_for_sub_jobs, raise_on_error=raise_on_error)

    async def wait(self, timeout: float | None = None) -> None:
        """Wait for its end. `TimeoutError` after `timeout` seconds."""
        await self._ask(lambda core, job: inquiry.ended(core, job, timeout))

    async def result(self, task: TaskRef, *, timeout: float | None = None) -> Any:
        """Wait for the end of a task; its value, or of a program its exit code. Raises as `SubmittedJob.result`."""
        return value_of(await self._ask(lambda core, job: inquiry.ending(core, job, task, timeout)), self.id)

    async def results(self, *, timeout: float | None = None) -> dict[int, Any]:
        """Wait for the end of the job; the values of the tasks that succeeded, by number."""
        found = await self._ask(lambda core, job: inquiry.endings(core, job, timeout))
        succeeded = [ending for ending in found if isinstance(ending.outcome, Succeeded)]
        return {ending.number: value_of(ending, self.id) for ending in sorted(succeeded, key=lambda ending: ending.number)}

    async def as_completed(self) -> AsyncIterator[tuple[int, Any]]:
        """Pairs of number and value of the tasks that succeed, as they do, until the job has ended."""
        async for endings in self._iterate(lambda core, job: core.as_completed(job)):
            for ending in endings:
                if isinstance(ending.outcome, Succeeded):
                    yield ending.number, value_of(ending, self.id)

    async def errors(self) -> dict[int, TaskError]:
        """Why tasks have failed so far, by number; does not wait."""
        return await self._ask(inquiry.task_errors)

    async def stdout(self, task: TaskRef, *, timeout: float | None = None) -> bytes:
        """What a task has printed, once it has ended, from wherever it ran; as `SubmittedJob.stdout`."""
        return inquiry.all_of(await self._ask(lambda core, job: inquiry.output(core, job, task, timeout)), task)

    async def stderr(self, task: TaskRef, *, timeout: float | None = None) -> bytes:
        """What a task has printed to standard error."""
        return inquiry.all_of(await self._ask(lambda core, job: inquiry.output(core, job, task, timeout, stderr=True)), task)

    async def follow(self, task: TaskRef, stream: Literal["stdout", "stderr"] = "stdout") -> AsyncIterator[bytes]:
        """What a task prints, as it does, from its beginning to its end."""
        async for data in self._iterate(lambda core, job: inquiry.follow(core, job, task, stderr=stream == "stderr")):
            yield data

    async def cancel(self, reason: str = "", *, tasks: Sequence[TaskRef] | str | None = None) -> CancelResult:
        """End the job, or these tasks of it, as `SubmittedJob.cancel`."""
        return await self._ask(lambda core, job: control.cancel(core, job, reason, tasks))

    async def pause(self, reason: str = "", *, tasks: Sequence[TaskRef] | str | None = None) -> PauseResult:
        """Hold the job back, or these tasks of it, as `SubmittedJob.pause`."""
        return await self._ask(lambda core, job: control.pause(core, job, reason, tasks))

    async def resume(self, *, tasks: Sequence[TaskRef] | str | None = None) -> ResumeResult:
        """Let the job go on, or these tasks of it, as `SubmittedJob.resume`."""
        return await self._ask(lambda core, job: control.resume(core, job, tasks))

    async def resubmit(self, *, tasks: Sequence[TaskRef] | str | None = None, everything: bool = False) -> AsyncSubmittedJob:
        """Run again what did not succeed, as `SubmittedJob.resubmit`."""
        return AsyncSubmittedJob(await asyncio.to_thread(partial(self.submitted.resubmit, tasks=tasks, everything=everything)))

    async def delete_with_associated(
        self, *, delete_output_data: bool = True, delete_input_data: bool = False, delete_subjobs_with_data: bool = True
    ) -> Deletion:
        """Drop the job with what belongs to it, as `SubmittedJob.delete_with_associated`."""
        delete = partial(
            self.submitted.delete_with_associated,
            delete_output_data=delete_output_data,
            delete_input_data=delete_input_data,
            delete_subjobs_with_data=delete_subjobs_with_data,
        )
        return await asyncio.to_thread(delete)

    async def sub_jobs(self) -> list[AsyncSubmittedJob]:
        """Jobs that were submitted inside a task of this one, as `SubmittedJob.sub_jobs`."""
        return [AsyncSubmittedJob(job) for job in await asyncio.to_thread(self.submitted.sub_jobs)]

    async def events(self) -> AsyncIterator[Event]:
        """What happens to the job and its tasks, as it happens."""
        async for events in self._iterate(inquiry.events):
            for event in events:
                yield event

    def __repr__(self) -> str:
        return f"<AsyncSubmittedJob {short(self.id)} {self.name!r} {self.submitted.view.state.value}>"

    async def _ask(self, work: Callable[[Core, Followed], Coroutine[Any, Any, _Result]]) -> _Result:
        return await asyncio.wrap_future(self.submitted.start(work))

    async def _iterate(self, items: Callable[[Core, Followed], AsyncIterator[_Result]]) -> AsyncIterator[_Result]:
        """The items of an iterator that lives on the client's loop."""
        steps = self.submitted.client.runtime.steps(lambda core: items(core, self.submitted.joined(core)))
        try:
            while found := await asyncio.wrap_future(steps.next()):
                yield found[0]
        finally:
            await asyncio.wrap_future(steps.end())


@overload
def _meant(wanted: AsyncSubmittedJob | Iterable[AsyncSubmittedJob]) -> SubmittedJob | list[SubmittedJob]: ...
@overload
def _meant(
    wanted: AsyncSubmittedJob | Job | Task | Iterable[AsyncSubmittedJob],
) -> SubmittedJob | Job | Task | list[SubmittedJob]: ...
def _meant(
    wanted: AsyncSubmittedJob | Job | Task | Iterable[AsyncSubmittedJob],
) -> SubmittedJob | Job | Task | list[SubmittedJob]:
    """The same for the synchronous client."""
    if isinstance(wanted, AsyncSubmittedJob):
        return wanted.submitted
    return wanted if isinstance(wanted, Job | Task) else [job.submitted for job in wanted]


class _Connection:
    """One client, made once, in another thread."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._lock = asyncio.Lock()
        self._client: Client | None = None
        self._closed = False

    async def client(self) -> Client:
        async with self._lock:
            if self._closed:
                raise ClientClosed
            if self._client is None:
                self._client = await asyncio.to_thread(self._connect)
            return self._client

    async def close(self) -> None:
        async with self._lock:
            self._closed = True
            if self._client:
                await asyncio.to_thread(self._client.close)


async def _open_classes(caller: Caller) -> OpenClasses:
    wanted = caller.wanted
    return caller.known_open() or await asyncio.wrap_future(caller.runtime.start(lambda core: core.open_classes(wanted)))
