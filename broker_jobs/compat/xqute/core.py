"""The producer: jobs are fed to it, it keeps as many of them under way as `forks` says, and tells plugins of them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import itertools
import signal
import warnings
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar

from broker_jobs.compat.xqute.scheduler import KILLED, SCHEDULERS, SUBMISSION_FAILED, Job, JobErrorStrategy, JobStatus, Scheduler, logger
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

_Function = TypeVar("_Function", bound="Callable[..., object]")
_MARK: Final = "broker_jobs_xqute_hook"
_MOMENTS: Final = ("init", "queued", "submitting", "submitted", "started", "polling", "killing", "killed", "failed", "succeeded")
_HOOKS: Final = ("on_init", *(f"on_job_{moment}" for moment in _MOMENTS), "on_shutdown", "on_complete")
"""False from *submitting*, *killing* and *shutdown* means no."""

_OLD = {"job_metadir": "workdir", "job_error_strategy": "error_strategy", "job_num_retries": "num_retries", "scheduler_forks": "forks"}
_POLLING, _TOGETHER = 1.0, 0.02
_ENDING: Final = {JobStatus.FINISHED: "succeeded", JobStatus.FAILED: "failed", JobStatus.KILLED: "killed"}


@functools.cache
class Simplug:
    """The plugins of a project, which have functions that are marked by `impl`; the same object wherever it is made under this name."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.registered: list[object] = []

    def impl(self, function: _Function) -> _Function:
        """Mark a function as a hook; it takes those arguments that it names. `ValidationError` where no hook has its name."""
        name, wants = function.__name__, set(inspect.signature(function).parameters) - {"self"}
        if name not in _HOOKS:
            raise ValidationError(f"{name} is no hook; there are {', '.join(_HOOKS)}")
        today = name in {"on_init", "on_shutdown"} and "scheduler" not in wants  # plain functions in today's xqute
        if not today and not inspect.iscoroutinefunction(function):
            warnings.warn(f"{name} should be a coroutine function", stacklevel=2)
        setattr(function, _MARK, wants)
        return function

    def register(self, *plugins: object) -> None:
        """Let every `Xqute` that is made from now on call the hooks of these modules, classes or objects."""
        self.registered += [plugin for plugin in plugins if plugin not in self.registered]

    def unregister(self, *plugins: object) -> None:
        """The opposite."""
        self.registered = [plugin for plugin in self.registered if plugin not in plugins]


plugin = simplug = Simplug("xqute")


class Xqute:
    """A producer of jobs, made in an event loop; `RuntimeError` elsewhere, `ValidationError` where an option is wrong.

    Args:
        scheduler: ``"local"``, ``"sge"``, or a subclass of `Scheduler`
        plugins: instead of those that are registered
        options: `workdir` (``./.xqute``), `error_strategy` (``"ignore"``; ``"retry"``; ``"halt"``: the first failure ends all),
            `num_retries` (3), `forks` (1: how many are submitted or running at once); what the scheduler takes, also as `scheduler_opts`
    """

    def __init__(self, scheduler: str | type[Scheduler] = "local", *, plugins: Iterable[object] | None = None, **options: Any) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError("an Xqute must be made in an event loop: in a coroutine that asyncio.run() runs") from None
        options = {"workdir": "./.xqute", "forks": 1, **(options.pop("scheduler_opts", None) or {}), **options}
        options |= {_OLD[name]: options.pop(name) for name in _OLD if name in options}
        made = SCHEDULERS.get(scheduler) if isinstance(scheduler, str) else scheduler
        if made is None:
            raise ValidationError(f"there is no scheduler {scheduler!r}: there are {', '.join(SCHEDULERS)}, and subclasses of Scheduler")
        if not isinstance(options["forks"], int) or options["forks"] < 1:
            raise ValidationError(f"forks must be a positive integer, not {options['forks']!r}")
        if options.get("error_strategy", "ignore") not in set(JobErrorStrategy):
            raise ValidationError(f"the error strategy is one of {', '.join(JobErrorStrategy)}, not {options['error_strategy']!r}")
        self.scheduler = made(**options)
        self.scheduler.run = self
        self.plugins = list(plugin.registered if plugins is None else plugins)
        self.jobs: list[Job] = []
        self.busy = asyncio.Lock()
        self._waiting: deque[Job] = deque()
        self._active: set[Job] = set()
        self._wake = asyncio.Event()
        self._run: asyncio.Task[None] | None = None
        self._feeding = self._stopping = self._over = False

    async def feed(self, cmd: str | Sequence[object] | Job, envs: Mapping[str, str] | None = None) -> None:
        """Add a job: a list is a program with its arguments, a text a line for bash."""
        of, again = self.scheduler, self.scheduler.error_strategy is JobErrorStrategy.RETRY
        job = cmd if isinstance(cmd, Job) else of.job_class(len(self.jobs), cmd, of.workdir, again, of.num_retries)
        job.envs |= envs or {}
        await self._tell("on_job_init", job=job)
        self.jobs.append(job)
        job.now = JobStatus.QUEUED
        await self._tell("on_job_queued", job=job)
        self._waiting.append(job)
        self._wake.set()

    push = put = feed

    def is_feeding(self) -> bool:
        """Whether jobs can still be added to a run."""
        return self._feeding

    async def stop_feeding(self) -> None:
        """Let the run end with the jobs that it has, and wait for that."""
        if self._feeding:
            self._wake.set()
            await self.run_until_complete()
        else:
            logger.error("stop_feeding() called but keep_feeding mode was not started")

    async def run_until_complete(self, keep_feeding: bool = False) -> None:  # noqa: FBT001, FBT002 (xqute's signature)
        """Run all jobs, and wait for their ends; or, with `keep_feeding`, run them while more are added, and return at once."""
        feeding, self._feeding = self._feeding, keep_feeding
        if self._run is None or (self._run.done() and not feeding):  # one that has failed while it was fed is yet to be told
            self._stopping, self._over, self._active = False, False, set()
            self._run = asyncio.create_task(self._drive())
        if not keep_feeding:
            await self._run

    def cancel(self, sig: signal.Signals | None = None) -> None:
        """End the run: what runs is killed, and nothing more is submitted, unless a plugin says no."""
        if self._run is not None and not self._run.done() and not self._stopping:
            self._stopping = True
            self.spawn(self._shut_down(sig))

    def __del__(self) -> None:
        if getattr(self, "_feeding", False):
            logger.warning("an Xqute is dropped that is still feeding: stop_feeding() was not called")

    def spawn(self, beside: Coroutine[Any, Any, None]) -> None:
        """Let something run beside, until the end of the run at the latest; if it fails, the run does."""
        task = self._group.create_task(beside)
        self.at_end.push_async_callback(asyncio.wait, [task])
        self.at_end.callback(task.cancel)

    async def _drive(self) -> None:
        """A run; it ends with the first exception in anything of it."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as self._group, contextlib.AsyncExitStack() as self.at_end:
                with contextlib.suppress(ValueError, RuntimeError):  # not the main thread
                    for sig in (signal.SIGTERM, signal.SIGINT):
                        loop.add_signal_handler(sig, self.cancel, sig)
                        self.at_end.callback(loop.remove_signal_handler, sig)
                await self.scheduler.open()
                await self._tell("on_init")
                self.spawn(self._poll())
                await self._work()
                await self._tell("on_complete")
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None

    async def _work(self) -> None:
        """Keep as many jobs under way as there are forks, until all have ended."""
        while self._active or ((self._waiting or self._feeding) and not self._over):
            self._wake.clear()
            room = 0 if self._over else self.scheduler.forks - len(self._active)
            batch = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
            if batch:
                async with self.busy:
                    await self._submit(batch)
            else:
                await self._wake.wait()
                await asyncio.sleep(_TOGETHER if self._active else 0)  # what ends at about the same time makes room for one submission
        self._feeding = False

    async def _submit(self, batch: Sequence[Job]) -> None:
        """Submit jobs, but those that run already, and those that a plugin will not have."""
        fresh: list[Job] = []
        self._active.update(batch)
        for job in batch:
            if job.jid_file.exists() and await self.scheduler.job_is_running(job):
                logger.warning("/Job-%s Skip submitting, already submitted or running", job.index)
                job.now = JobStatus.SUBMITTED
                await self.scheduler.adopt(job)
            elif await self._tell("on_job_submitting", job=job):
                job.clean()
                job.mark(JobStatus.SUBMITTED)  # now, since later its own script may have written something
                fresh.append(job)
            else:
                job.mark(JobStatus.KILLED, KILLED)
                self._active.discard(job)
        await self.scheduler.submit_jobs(fresh)
        for job in fresh:
            if job.now is JobStatus.SUBMITTED:
                await self._tell("on_job_submitted", job=job)

    async def refuse(self, job: Job, error: Exception) -> None:
        """A job could not be submitted."""
        await self.report(job, JobStatus.FAILED, SUBMISSION_FAILED, f"Failed to submit job: {type(error).__name__}: {error}")

    async def report(self, job: Job, status: JobStatus, rc: int = 0, message: str = "") -> None:
        """A job runs, or has ended, and this is to be added to its ``job.stderr``; one at a time, by whoever holds `busy`."""
        if not job.started and status is not JobStatus.KILLED:
            job.started = True
            if status is JobStatus.RUNNING and job.now is not JobStatus.KILLING:
                job.mark(status)
            await self._tell("on_job_started", job=job)
        if status is JobStatus.RUNNING:
            return
        job.mark(status, rc)
        if message:
            with job.stderr_file.open("a", errors="surrogateescape") as file:
                file.write(f"{message}\n")
        if status is JobStatus.FAILED and job.error_retry and job.trial_count < job.num_retries and not self._over:
            job.trial_count += 1
            job.now = JobStatus.RETRYING
            self._waiting.append(job)
        else:
            await self._tell(f"on_job_{_ENDING[status]}", job=job)
            if status is JobStatus.FAILED and self.scheduler.error_strategy is JobErrorStrategy.HALT:
                logger.error("/Job-%s failed, and halts the others", job.index)
                self.cancel()
        self._active.discard(job)
        self._wake.set()

    async def _shut_down(self, sig: signal.Signals | None) -> None:
        if sig is not None:
            logger.warning("Got signal %s, trying a graceful shutdown", sig.name)
        if await self._tell("on_shutdown", consumer=self, sig=sig):
            self._over = True
            async with self.busy:
                await asyncio.gather(*map(self._kill, sorted(self._active, key=lambda job: job.index)))
            self._wake.set()
        self._stopping = False

    async def _kill(self, job: Job) -> None:
        """Kill a job, unless a plugin says no."""
        before = job.now
        job.mark(JobStatus.KILLING)
        try:
            if await self._tell("on_job_killing", job=job):
                await self.scheduler.kill_job(job)
                return
        except Exception:  # noqa: BLE001 (of the user's scheduler: the job goes on, and its end is waited for)
            logger.exception("/Job-%s cannot be killed", job.index)
        job.mark(before)

    async def _poll(self) -> None:
        for counter in itertools.count(1):
            await asyncio.sleep(_POLLING)
            for job in tuple(self._active):
                await self._tell("on_job_polling", job=job, counter=counter)

    async def _tell(self, hook: str, **given: object) -> bool:
        """Call a hook of each plugin; whether nobody has said no. An exception is logged, and is no veto."""
        agreed, given = True, {"scheduler": self.scheduler, "xqute": self, **given}
        for function in [getattr(each, hook) for each in self.plugins if hasattr(getattr(each, hook, None), _MARK)]:
            try:
                answer = function(**{name: given[name] for name in getattr(function, _MARK)})
                agreed &= (await answer if inspect.isawaitable(answer) else answer) is not False
            except Exception:  # noqa: BLE001 (whatever a plugin raises harms nothing but itself)
                logger.exception("the plugin's %s has failed", hook)
        return agreed
