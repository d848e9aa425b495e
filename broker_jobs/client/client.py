"""The synchronous client; its event loop runs in a thread of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import copy
import sys
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeAlias, TypeVar, Unpack, overload

from broker_jobs import config
from broker_jobs.client import control, inquiry
from broker_jobs.client import data as work_data
from broker_jobs.client.advice import advise
from broker_jobs.client.authoring import Job, Task
from broker_jobs.client.calls import Caller, header_of, origin
from broker_jobs.client.data import WorkData
from broker_jobs.client.executor import CallExecutor
from broker_jobs.client.link import PATIENCE, BrokerLink
from broker_jobs.client.mapping import MappedResults
from broker_jobs.client.node import OwnNode
from broker_jobs.client.options import CallDefaults, FunctionOptions
from broker_jobs.client.registry import known_step, known_steps
from broker_jobs.client.runtime import Runtime
from broker_jobs.client.steps import StepRun
from broker_jobs.client.submission import Submission
from broker_jobs.client.submitted import SubmittedJob
from broker_jobs.core.states import JobState
from broker_jobs.errors import FailedJobsError, JobNotFound, ValidationError
from broker_jobs.hooks.found import CLIENTS, installed
from broker_jobs.ids import new_job_id
from broker_jobs.wire.messages import (
    AddData,
    CancelResult,
    Cluster,
    DataInfo,
    EndingWorkers,
    EndWorkers,
    GetWorkers,
    JobInfo,
    ListData,
    OpenJob,
    PauseResult,
    Reserved,
    ReserveTasks,
    ResumeResult,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from datetime import datetime
    from types import ModuleType
    from typing import BinaryIO

    from broker_jobs.client.chunking import OpenClasses
    from broker_jobs.client.core import Core
    from broker_jobs.client.encoding import Placement
    from broker_jobs.client.followed import Followed
    from broker_jobs.client.hooked import Submitting
    from broker_jobs.client.jobview import Layout
    from broker_jobs.client.link import Link
    from broker_jobs.client.submission import Spool
    from broker_jobs.config import Settings
    from broker_jobs.core.quantities import Duration
    from broker_jobs.hooks.calling import Hooks
    from broker_jobs.wire.messages import KnownStep, LogEntry

_Params = ParamSpec("_Params")
_Result = TypeVar("_Result")
_Sending: TypeAlias = "Coroutine[Any, Any, Followed]"

_REFRESH: Final = 0.1
_CANCELED: Final = "nobody waits for this call any more"


class Client:
    """A connection to a broker, over which jobs are submitted, followed and ended.

    It connects at once. It may be used by many threads, after a fork, and as a context manager. Submitted jobs go on when it is closed;
    calls belong to it: closing it cancels those that have not started.

    Args:
        url: ``amqp://user:password@host:5672/vhost`` or ``sqlite:////path/queue.db``; default: ``BROKER_JOBS_URL``, ``broker-jobs.toml``,
            else this user's own embedded broker, whose node is started where none runs
        namespace: prefix of every name at the broker
        signing_key: hexadecimal text, the same for submitters, coordinators and workers
        partition: of the ledger, in which this client's jobs are (default: ``BROKER_JOBS_PARTITION``, 0; inside a task, that of its job)
        by_value: modules whose functions and classes travel whole, because workers do not have them
        timeout: seconds to wait for a broker or a node that does not answer, and for a plugin
        plugins: modules and objects with hooks, or names of modules, beside those that are installed; ``"no:name"`` does without one of
            these; see `broker_jobs.hooks`

    Raises:
        AddressError: the address cannot be understood
        ValidationError: the configuration is wrong, or a plugin
        BrokerUnavailable, AccessRefused, VirtualHostNotFound: the broker cannot be reached or used
        CoordinatorUnavailable: the embedded node does not start
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
        settings = config.resolve(url, namespace, signing_key, partition=partition)
        follow = f" --url {config.shown(url)}" if url else ""
        self._begin(settings, Runtime(partial(_open_link, settings, timeout), follow), by_value, timeout, plugins)

    def _begin(
        self, settings: Settings, runtime: Runtime, by_value: Iterable[ModuleType], timeout: float, plugins: Iterable[object]
    ) -> None:
        """Connect, with the plugins."""
        self.settings = settings
        self.runtime = runtime
        self._by_value = tuple(by_value)
        self._timeout = timeout
        self.defaults = CallDefaults()
        self._ids: weakref.WeakKeyDictionary[Job, str] = weakref.WeakKeyDictionary()
        self._said: set[str] = set()
        self._advised: set[Placement] = set()
        self._caller: Caller | None = None
        self._hooks: Hooks | None = None
        entries, given = installed(CLIENTS), list(plugins)
        if entries or given:
            from broker_jobs.client.hooked import open_hooks

            self._hooks = runtime.hooks = open_hooks(self, entries, given, timeout)
        runtime.connect()
        if self._hooks is not None:
            self._hooks.begin()

    # --- calls ---

    def options(self, *, timeout: Duration | None = None, lane: str | None = None, **run: Unpack[FunctionOptions]) -> Self:
        """The same client with other defaults for `call`, `map` and `executor`.

        Args:
            timeout: for `call` and `map`: how long to wait; then the call is canceled and `TimeoutError` raised
            lane: ``"high"``, ``"normal"`` or ``"low"``
            run: see `RunOptions`

        Raises:
            ValidationError: one of them is wrong
        """
        other = copy.copy(self)
        other.defaults = self.defaults.with_options(timeout, lane, run)
        other._caller = None  # noqa: SLF001 (a copy of this one)
        return other

    @overload
    def call(self, fn: Callable[_Params, Coroutine[Any, Any, _Result]], /, *args: _Params.args, **kwargs: _Params.kwargs) -> _Result: ...
    @overload
    def call(self, fn: Callable[_Params, _Result], /, *args: _Params.args, **kwargs: _Params.kwargs) -> _Result: ...
    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function on a worker, and wait for its value.

        Raises:
            TaskFailed: it raised; the text has the remote traceback, and the cause is its own exception
            UnpicklableError, ValueTooLarge: function or arguments cannot be sent
            TimeoutError: the timeout of `options` has passed; the call was canceled
        """
        caller = self.caller()
        job = caller.new_job()
        encoded = caller.encode(caller.encoder(job), fn, args, kwargs)
        done = caller.start(job, encoded, caller.open_classes())
        try:
            ending = done.result(self.defaults.timeout)
        except TimeoutError:
            caller.withdraw(job, _CANCELED)
            raise TimeoutError(f"{encoded.task.name!r} was not done within {self.defaults.timeout:g} s, and was canceled") from None
        except KeyboardInterrupt:
            caller.withdraw(job, _CANCELED)
            raise
        return caller.read(ending, job)

    @overload
    def map(self, fn: Callable[..., Coroutine[Any, Any, _Result]], *iterables: Iterable[Any]) -> MappedResults[_Result]: ...
    @overload
    def map(self, fn: Callable[..., _Result], *iterables: Iterable[Any]) -> MappedResults[_Result]: ...
    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any]) -> MappedResults[Any]:
        """Call a function for each row of the iterables: an iterator over the values, in order.

        Rows are read a bounded number ahead of what was taken, so the iterables may be endless. The first failure is raised where its
        value would be, and ends the iteration; then, and at `close()` of the iterator, what was sent and not taken is canceled.

        Raises:
            TaskFailed, UnpicklableError, ValueTooLarge, TimeoutError: as for `call`; the timeout is for the whole map
        """
        return MappedResults(self.caller(), fn, iterables, self.defaults.timeout)

    def executor(self) -> CallExecutor:
        """A `concurrent.futures.Executor`: its futures raise the task's own exception type, with `TaskFailed` as the cause."""
        return CallExecutor(self.caller())

    # --- jobs ---

    def open(
        self, name: str | None = None, *, tags: Iterable[str] = (), max_fails: int | None = None, idempotency_key: str | None = None
    ) -> SubmittedJob:
        """Make a job without tasks that stays open: `submit` adds to it, from any process, until somebody closes it.

        It does not end before it is closed (`SubmittedJob.close`), canceled, or given up because of `max_fails`.

        Args:
            name: what to call it
            tags: texts to find it by
            max_fails: more failed tasks than this abort the rest, and end it
            idempotency_key: with the same key it is the same job

        Raises:
            ValidationError: one of these is wrong
            CoordinatorUnavailable: nobody can make it now
        """
        self.settings.required_key()
        spec = Job(name, tags=tags, max_fails=max_fails)
        known = self._find_key(idempotency_key) if idempotency_key else None
        if known:
            return self._submitted(known.job)
        link = self.runtime.connect().link
        header = header_of(
            link.client, spec.name, origin=origin(), tags=spec.tags, max_fails=spec.max_fails, idempotency_key=idempotency_key
        )
        question = OpenJob(self._new_job(), header, self.settings.value_store)
        return self._submitted(self.runtime.run(lambda core: core.ask(question, JobInfo)).job)

    def submit(
        self, job: Job, *, to: SubmittedJob | str | None = None, idempotency_key: str | None = None, timeout: float = 30.0
    ) -> SubmittedJob:
        """Submit a job; returns when nothing of it can be lost any more.

        Args:
            job: as it is now; what is added to it later is not part of it
            to: a job that is open, or its id: the tasks are added to it, and numbered behind those that it has
            idempotency_key: of several submissions with the same key, one counts; one that was cut off is gone on with
            timeout: seconds in which the broker must confirm

        Raises:
            ValidationError: the job is empty, or something of it cannot be sent; the text says what. Nothing was sent
            SigningKeyMissing: there is no key. Nothing was sent
            BrokerBlocked, BrokerUnavailable: the broker takes no messages now. Nothing was sent
            SubmitUnknown: the broker did not confirm all of it in time
            Vetoed: a plugin would not have it. Nothing was sent
            CoordinatorUnavailable: with an idempotency key or an open job only: nobody can say whether the key was used, or give numbers
        """
        self.settings.required_key()
        if to is not None:
            return self._add_to(self.job(to) if isinstance(to, str) else self._submitted(to.id), job, idempotency_key, timeout)
        deadline = time.monotonic() + timeout
        known = self._find_key(idempotency_key, min(timeout, PATIENCE)) if idempotency_key else None
        if known and not known.incomplete:
            self._note(job, known.job, 0)
            return self._submitted(known.job)
        left = max(0.0, deadline - time.monotonic())
        return self._send([self._submission(job, known.job if known else self._new_job())], idempotency_key, left)[0]

    def submit_each(self, jobs: Iterable[Job], *, timeout: float = 30.0) -> list[SubmittedJob]:
        """Submit many jobs: one after the other, but waiting once for all confirms together.

        Args:
            jobs: see `submit`
            timeout: seconds in which the broker must confirm all of them

        Raises:
            ValidationError: something of one cannot be sent; the text says what. Nothing was sent
            SigningKeyMissing, BrokerBlocked, BrokerUnavailable, SubmitUnknown: as `submit`; some may have been submitted
        """
        self.settings.required_key()
        return self._send([self._submission(job, self._new_job()) for job in jobs], None, timeout)

    def wait_for_jobs(
        self,
        jobs: Iterable[SubmittedJob] | SubmittedJob,
        *,
        timeout: float | None = None,
        raise_on_error: bool = True,
        progress: bool | None = None,
    ) -> bool:
        """Wait until jobs have ended; whether all succeeded. Ctrl-C ends the wait, not the jobs.

        Args:
            jobs: submitted jobs
            timeout: seconds; then `TimeoutError`
            raise_on_error: raise where one did not succeed
            progress: show a bar on standard error (default: on a terminal)

        Raises:
            FailedJobsError: some did not succeed; the text has their first failures
            TimeoutError: they have not ended in time
            CoordinatorUnavailable: they need a coordinator, and none answers
        """
        waited = [jobs] if isinstance(jobs, SubmittedJob) else list(jobs)
        ends = [job.start(partial(_ended, timeout=timeout)) for job in waited]
        if progress is None:
            progress = sys.stderr is not None and sys.stderr.isatty()
        try:
            if progress:
                from broker_jobs.client.progress import WaitProgress  # takes as long to load as many a job takes to end

                with WaitProgress([job.view for job in waited]) as bar:
                    while _watch(ends, _REFRESH):
                        bar.update()
            else:
                _watch(ends, None)
        except BaseException:
            for end in ends:
                end.cancel()
            raise
        late: list[SubmittedJob] = []
        for job, end in zip(waited, ends, strict=True):
            try:
                job.client.runtime.wait(end)
            except TimeoutError:
                late.append(job)
        if late:
            raise inquiry.too_late([job.view for job in late], len(waited), timeout)
        failed = [job for job in waited if job.view.state is not JobState.succeeded]
        if failed and raise_on_error:
            stories = [job.client.runtime.wait(job.start(inquiry.story)) for job in failed]
            raise FailedJobsError("\n".join(stories), jobs=failed)
        return not failed

    def wait_for_any(self, jobs: Iterable[SubmittedJob], *, timeout: float | None = None) -> list[SubmittedJob]:
        """Wait until one job has ended, however it ends; those that have, in the order given. Of no jobs, none at once.

        Raises:
            TimeoutError: none has ended after `timeout` seconds
            CoordinatorUnavailable: one needs a coordinator, and none answers
        """
        waited = list(jobs)
        ends = {job.start(partial(_ended, timeout=None)): job for job in waited}
        try:
            found = concurrent.futures.wait(ends, timeout, concurrent.futures.FIRST_COMPLETED).done
        finally:
            for end in ends:
                end.cancel()
        if waited and not found:
            raise TimeoutError(f"none of {len(waited)} jobs has ended within {timeout:g} s")
        for end in found:
            ends[end].client.runtime.wait(end)
        return [job for job in waited if job.view.ended]

    def job(self, text: str | int) -> SubmittedJob:
        """A job of this or another process.

        Args:
            text: ``"last"``, a whole id, or the end of one, 4 digits at least; an integer is a whole id, as ``int(job.id, 16)``

        Raises:
            JobNotFound: there is none
            AmbiguousId: there are several; they are named
        """
        wanted = f"{text:032x}" if isinstance(text, int) else text
        info = self.runtime.run(lambda core: core.find(wanted))
        return self._submitted(info.job)

    def jobs(
        self,
        *,
        state: JobState | str | Iterable[JobState | str] | None = None,
        tags: Iterable[str] = (),
        name: str | None = None,
        older_than: Duration | None = None,
        parent: SubmittedJob | str | None = None,
        tags_any: Iterable[str] = (),
        without_tags: Iterable[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = 20,
    ) -> list[SubmittedJob]:
        """Jobs, the newest first. What is chosen so can be handed to `cancel`, `pause`, `resume` and `forget`.

        Args:
            state: only those in this state, or in one of these
            tags: only those with all of these
            name: only those whose name fits this pattern, such as ``"train*"``
            older_than: only those that ended so long ago
            parent: only those that were submitted inside a task of this job (its whole id)
            tags_any: only those with one of these, at least
            without_tags: only those with none of these
            since: only those that were submitted then or later; without a zone it is local time
            until: only those that were submitted before
            limit: at most so many; None is all

        Raises:
            ValidationError: a filter makes no sense
        """
        choice = control.chosen(tags_any, without_tags, since, until)
        question = control.filtered(state, tags, name, older_than, _job_id(parent), choice=choice)
        infos = self.runtime.run(lambda core: control.find(core, question, limit))
        submitted = [self._submitted(info.job) for info in infos]
        for job, info in zip(submitted, infos, strict=True):
            job.view.told(info)
        return submitted

    def cancel(self, wanted: SubmittedJob | Job | Task | Iterable[SubmittedJob], reason: str = "") -> CancelResult:
        """End a job, several (what `jobs` has found), or one task of a job that this client has submitted.

        Returns:
            numbers of tasks, of all jobs together; see `SubmittedJob.cancel`
        """
        meant = self._meant(wanted)
        if isinstance(meant, tuple):
            return meant[0].cancel(reason, tasks=meant[1])
        return control.total(CancelResult, self.runtime.run(lambda core: control.cancel_all(core, meant, reason)))

    def pause(self, wanted: SubmittedJob | Job | Task | Iterable[SubmittedJob], reason: str = "") -> PauseResult:
        """Hold a job back, several, or one task; what has started goes on. See `SubmittedJob.pause`."""
        meant = self._meant(wanted)
        if isinstance(meant, tuple):
            return meant[0].pause(reason, tasks=meant[1])
        return control.total(PauseResult, self.runtime.run(lambda core: control.pause_all(core, meant, reason)))

    def resume(self, wanted: SubmittedJob | Job | Task | Iterable[SubmittedJob]) -> ResumeResult:
        """Let a job go on, several, or one task. See `SubmittedJob.resume`."""
        meant = self._meant(wanted)
        if isinstance(meant, tuple):
            return meant[0].resume(tasks=meant[1])
        return control.total(ResumeResult, self.runtime.run(lambda core: control.resume_all(core, meant)))

    def forget(self, wanted: SubmittedJob | str | Iterable[SubmittedJob]) -> int:
        """Drop a job from the ledger, or several, with their values and output; how many there were.

        Raises:
            JobActive: one has not ended
            InUse: data is left that one has made, or jobs that were submitted inside it; then nothing is dropped
        """
        jobs = [self.job(wanted)] if isinstance(wanted, str) else [wanted] if isinstance(wanted, SubmittedJob) else list(wanted)
        return self.runtime.run(lambda core: control.forget_all(core, [job.id for job in jobs]))

    def _meant(self, wanted: SubmittedJob | Job | Task | Iterable[SubmittedJob]) -> tuple[SubmittedJob, list[Task] | None] | list[str]:
        """One job, with the task of it that is meant, or the ids of several."""
        match wanted:
            case SubmittedJob():
                return wanted, None
            case Task():
                return self._submitted(self._id_of(wanted.job)), [wanted]
            case Job():
                return self._submitted(self._id_of(wanted)), None
            case _:
                return [job.id for job in wanted]

    def cluster(self, *workers: str, group: str | None = None, held: bool = False) -> Cluster:
        """The workers and resource classes that the coordinator knows.

        Args:
            workers: only these: names, unique beginnings or ends of names, or ``last``
            group: only those of this group
            held: with the attempts that each has

        Raises:
            WorkerNotFound, AmbiguousId: a name fits no worker, or several
        """
        return self.runtime.run(lambda core: core.ask(GetWorkers(workers, group, held), Cluster))

    def steps(self, name: str = "*", *, tags: Iterable[str] = (), schemas: bool = False) -> list[KnownStep]:
        """The steps that workers have announced, by name, the latest version of each first.

        Args:
            name: a shell pattern
            tags: all of these must be there
            schemas: with descriptions and schemas, which are left empty otherwise
        """
        return self.runtime.run(lambda core: known_steps(core, name, tags, schemas=schemas))

    def step(self, name: str, version: str | None = None) -> StepRun:
        """A call of a step, to be configured and started; its state is pushed, and any process finds it by its id.

        Args:
            name: the whole name
            version: one, or a range, as for `find_step`; None where the step has only one

        Raises:
            StepNotFound: there is none; the text lists what there is
            AmbiguousStep: there are several versions, and none was named
            ValidationError: the version cannot be read
        """
        known = self.runtime.run(lambda core: known_step(core, name, version))
        return StepRun(self, known.spec)

    def step_run(self, job: SubmittedJob | str) -> StepRun:
        """The call of a step that a job of this or another process is: with its step, parameters and data, to be followed.

        Args:
            job: one of a single task, or its id, as for `job`

        Raises:
            ValidationError: it is no call of a step
            JobNotFound, AmbiguousId: there is none, or several
            StepNotFound: the registry does not know its step
        """
        return StepRun.started(self, self.job(job) if isinstance(job, str) else job)

    def find_step(self, name: str, version: str = "*") -> KnownStep:
        """One step, with its schemas.

        Args:
            name: the whole name
            version: one such as ``"1.2.0"``, which may be deprecated or a pre-release, or a range such as ``"^1.0"``, of which the latest
                is found that is neither

        Raises:
            StepNotFound: there is none; the text lists what there is
            ValidationError: the version cannot be read
        """
        return self.runtime.run(lambda core: known_step(core, name, version))

    # --- data ---

    def add_data(
        self,
        content: bytes | os.PathLike[str] | BinaryIO | None = None,
        *,
        json: object = None,
        name: str | None = None,
        media_type: str | None = None,
        tags: Iterable[str] = (),
    ) -> WorkData:
        """Put data into the store, for the slots of steps and the folders of programs.

        Args:
            content: bytes, the path of a file, or a stream that is open for reading in binary mode; it is not held in memory
            json: plain data instead, kept as JSON
            name: as of a file (default: that of the file)
            media_type: such as ``text/csv`` (default: by the name)
            tags: texts to find it by

        Raises:
            ValidationError: something of it cannot be; nothing was written
            ValueStoreError: there is no store, or it cannot be written
        """
        if (content is None) is (json is None):
            raise ValidationError("give content or json=, and not both")
        given = work_data.as_json(json) if content is None else content
        kind = work_data.JSON if content is None and media_type is None else media_type
        info = work_data.upload(self.settings.value_store, given, name, kind, tags)
        return WorkData(self, self.runtime.run(lambda core: core.ask(AddData(info), DataInfo)))

    def data(self, text: str) -> WorkData:
        """Data by its id, or the unique end of one (4 digits at least).

        Raises:
            DataNotFound, AmbiguousId: there is none, or several
        """
        return WorkData(self, self.runtime.run(lambda core: work_data.find(core, text)))

    def datasets(
        self,
        *,
        name: str | None = None,
        tags: Iterable[str] = (),
        job: SubmittedJob | str | None = None,
        used_by: SubmittedJob | str | None = None,
        used: bool | None = None,
        step: str | None = None,
        tags_any: Iterable[str] = (),
        without_tags: Iterable[str] = (),
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = 100,
    ) -> list[WorkData]:
        """Data, the newest first.

        Args:
            name: only what has a name that fits this pattern, such as ``"*.csv"``
            tags: only what has all of these
            job: only what this job has made
            used_by: only what this job takes
            used: only what some job takes (True), or what none does (False)
            step: only what was made by a step that fits this pattern, such as ``"simulate 1.*"``
            tags_any, without_tags: only what has one of these at least, or none of these
            since, until: only what was made then or later, or before; without a zone it is local time
            limit: at most so much; None is all
        """
        choice = control.chosen(tags_any, without_tags, since, until)
        question = ListData(name, tuple(tags), _job_id(job), _job_id(used_by), used, step, choice=choice)
        return [WorkData(self, info) for info in self.runtime.run(lambda core: work_data.select(core, question, limit))]

    def log(self, subject: SubmittedJob | WorkData | str | None = None, *, limit: int | None = 100) -> list[LogEntry]:
        """What has happened to jobs and data, the latest first; it stays when they are gone.

        Args:
            subject: only of this job and its data, or of this data (its whole id)
            limit: at most so many entries; None is all
        """
        wanted = subject if subject is None or isinstance(subject, str) else subject.id
        return self.runtime.run(lambda core: work_data.entries(core, wanted, limit))

    def end_workers(self, *workers: str, group: str | None = None, stop: bool = False, reason: str = "") -> EndingWorkers:
        """Let workers take nothing more and end; returns at once. A worker that is away now is told when it comes back.

        Args:
            workers: names, unique beginnings or ends of names, or ``last``; none means all
            group: only those of this group
            stop: at once: what runs is given back and runs again elsewhere, and no crash is counted; else it may finish
            reason: for people

        Raises:
            WorkerNotFound, AmbiguousId: a name fits no worker, or several; then nothing is done
        """
        return self.runtime.run(lambda core: core.ask(EndWorkers(workers, group, stop, reason), EndingWorkers))

    def hook_failures(self) -> dict[str, int]:
        """How often hooks of plugins have raised, or have not answered in time, by plugin and hook: ``{"mine.on_task_failed": 2}``."""
        return self._hooks.failures() if self._hooks else {}

    # --- end ---

    def close(self) -> None:
        """End the connection; calls that have not started are canceled. Plugins are told what is left to tell. Again does nothing."""
        self.runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        partition = f" partition {self.settings.partition}" if self.settings.partition else ""
        return f"<{type(self).__name__} {config.shown(self.settings.url)} namespace {self.settings.namespace!r}{partition}>"

    # --- inside ---

    def caller(self) -> Caller:
        """What sends calls with the defaults of this client."""
        if self._hooks is not None:
            self.runtime.refuse_own_thread()  # a coroutine of a plugin would wait for itself
        caller = self._caller
        if caller is None:
            caller = Caller(
                self.runtime,
                self.defaults.task_options(),
                self.settings.value_store,
                self._by_value,
                self._timeout,
                self.defaults.setup,
                self.settings.partition,
            )
            if caller.placement not in self._advised:
                self._advised.add(caller.placement)
                self._advise(lambda core: lambda: core.calls_are_stuck, [caller.placement])
            self._caller = caller
        return caller

    def _new_job(self) -> str:
        return new_job_id(self.settings.partition)

    def _submission(self, job: Job, job_id: str) -> Submission:
        return Submission(job, job_id, self.settings.value_store, self._by_value)

    def _send(self, submissions: Sequence[Submission], idempotency_key: str | None, timeout: float) -> list[SubmittedJob]:
        """Send whole jobs, when all of them are encoded."""
        placements = {placement for submission in submissions for placement in submission.placements}
        wanted = frozenset((placement.resource_class, placement.options.lane) for placement in placements)
        known = self.runtime.connect().opened(wanted)
        begun = time.monotonic()
        is_open = known if known == wanted else self.runtime.run(lambda core: _open_classes(core, wanted, timeout))
        timeout = max(0.0, timeout - (time.monotonic() - begun))
        core = self.runtime.connect()
        hooked = [self._submitting(submission.job, submission.id) for submission in submissions]
        with contextlib.ExitStack() as spools:
            encoded: list[tuple[Spool, Layout]] = []
            for submission in submissions:
                encoded.append(submission.encode(core.link, is_open, idempotency_key, core.pace))
                spools.callback(encoded[-1][0].close)
            for submitting in hooked:
                if submitting:
                    submitting.agree()

            def send(core: Core, submission: Submission, submitting: Submitting | None, spool: Spool, layout: Layout) -> _Sending:
                if submitting:
                    return submitting.send(core, layout, spool, timeout)
                return core.submit(submission.id, layout, spool, timeout)

            followed = self.runtime.run(
                lambda core: core.together(
                    send(core, submission, submitting, *frames)
                    for submission, submitting, frames in zip(submissions, hooked, encoded, strict=True)
                )
            )
        for submission in submissions:
            self._note(submission.job, submission.id, 0)
        total = sum(len(submission.job) for submission in submissions)
        self._advise(lambda _core: lambda: all(one.stuck for one in followed), placements, total)
        return [SubmittedJob(self, one) for one in followed]

    def _add_to(self, target: SubmittedJob, job: Job, idempotency_key: str | None, timeout: float) -> SubmittedJob:
        """Add the tasks of a job to one that is open."""
        submitting = self._submitting(job, target.id)
        submission = self._submission(job, target.id)
        link = self.runtime.connect().link
        draft = submission.draft(link.client)
        try:
            if submitting:
                submitting.agree()
            # The numbers last of all: what was numbered and does not come is missed.
            question = ReserveTasks(target.id, idempotency_key or new_job_id(), len(job))
            first = self.runtime.run(lambda core: core.ask(question, Reserved, min(timeout, PATIENCE))).first
            frames = draft.frames(link, first)
            if submitting:
                self.runtime.run(lambda core: submitting.add(core, target.joined(core), frames, timeout, first=first))
            else:
                self.runtime.run(lambda core: core.link.send(target.id, frames, timeout))
        finally:
            draft.close()
        self._note(job, target.id, first)
        return target

    def _submitting(self, job: Job, job_id: str) -> Submitting | None:
        """What plugins are told of a job, where there are some."""
        if self._hooks is None:
            return None
        from broker_jobs.client.hooked import Submitting

        return Submitting(self._hooks, job, job_id)

    def _note(self, job: Job, job_id: str, first: int) -> None:
        """Remember where a job was submitted."""
        self._ids[job] = job_id
        job.submissions.pop(job_id, None)
        job.submissions[job_id] = first

    def _advise(self, stuck: Callable[[Core], Callable[[], bool]], placements: Iterable[Placement], tasks: int = 1) -> None:
        """Look in the background whether somebody could do this."""
        embedded = self.settings.embedded
        self.runtime.start(lambda core: advise(core, stuck(core), placements, self._said, embedded=embedded, tasks=tasks))

    def _submitted(self, job: str) -> SubmittedJob:
        async def follow(core: Core) -> Followed:
            return core.follow(job)

        return SubmittedJob(self, self.runtime.run(follow))

    def _id_of(self, job: Job) -> str:
        found = self._ids.get(job)
        if found is None:
            raise JobNotFound(f"{job!r} was not submitted by this client")
        return found

    def _find_key(self, key: str, timeout: float = PATIENCE) -> Any:
        try:
            return self.runtime.run(lambda core: core.find(f"key:{key}", timeout))
        except JobNotFound:
            return None


async def _open_classes(core: Core, wanted: OpenClasses, timeout: float) -> OpenClasses:
    """Those that are known to have a queue; none where the broker does not say so in time, since the ledger knows the rest."""
    try:
        async with asyncio.timeout(timeout):
            return await core.open_classes(wanted)
    except TimeoutError:
        return frozenset()


def _job_id(job: SubmittedJob | str | None) -> str | None:
    return job.id if isinstance(job, SubmittedJob) else job


def _watch(ends: Sequence[concurrent.futures.Future[None]], seconds: float | None) -> bool:
    """Wait a while for the ends, or for the first that is a problem; whether to go on."""
    found = concurrent.futures.wait(ends, seconds, concurrent.futures.FIRST_EXCEPTION)
    return bool(found.not_done) and not any(end.exception() for end in found.done)


async def _ended(core: Core, job: Followed, *, timeout: float | None) -> None:
    await inquiry.ended(core, job, timeout)


async def _open_link(settings: Settings, timeout: float) -> Link:
    """Connect; this user's own node is started where the broker is theirs."""
    node = OwnNode(settings.home, settings.namespace, timeout) if settings.embedded else None
    return await BrokerLink.open(settings, timeout, node)
