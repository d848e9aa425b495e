"""The schedulers that there are: jobs are tasks of broker-jobs, on its workers or in Grid Engine."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import broker_jobs
from broker_jobs import TaskChanged, TaskState
from broker_jobs.compat.xqute.scheduler import KILLED, LOST, SUBMISSION_FAILED, TIMED_OUT, Job, JobStatus, Scheduler
from broker_jobs.errors import BrokerError, CoordinatorUnavailable, JobNotFound, TaskFailed, ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs import AsyncSubmittedJob
    from broker_jobs.compat.xqute.core import Xqute

_SHARE: Final = broker_jobs.ResourceRequest(cpus=0.0001)
"""Next to nothing: `forks` says how many run at once, whatever processors there are."""

_ENDED: Final = {TaskState.succeeded, TaskState.failed, TaskState.canceled, TaskState.aborted}


class Local(Scheduler):
    """Jobs of a run are tasks of one open job: many are submitted at once, and one stream has the news of all."""

    name = "local"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options = self._task_options()

    def _task_options(self) -> dict[str, Any]:
        if self.config:
            raise ValidationError(f"the scheduler {self.name!r} has no options {', '.join(map(repr, self.config))}")
        return {"resources": _SHARE}

    async def open(self, run: Xqute) -> None:
        """Begin a run: by default on this user's own node, which is started where none runs."""
        self._run, self._client = run, await run.at_end.enter_async_context(broker_jobs.AsyncClient())
        self._own: AsyncSubmittedJob | None = None
        self._natives: dict[str, AsyncSubmittedJob] = {}
        self._jobs: dict[tuple[str, int], Job] = {}

    async def submit_jobs(self, jobs: Sequence[Job]) -> dict[Job, Exception]:
        """Submit them all at once; those that could not be, and why."""
        refused: dict[Job, Exception] = {}
        spec, tasks = broker_jobs.Job(), dict[Job, broker_jobs.Task]()
        for job in jobs:
            common = {"env": job.envs, "cwd": self.cwd, "time_limit": self.timeout or None, **self._options}
            try:
                tasks[job] = spec.program(job.cmd, stdout=job.stdout_file, stderr=job.stderr_file, **common)
            except ValidationError as error:
                refused[job] = error
        if not tasks:
            return refused
        try:
            own = self._own = self._own or await self._open()
            await self._client.submit(spec, to=own)
        except (BrokerError, CoordinatorUnavailable) as error:
            return refused | dict.fromkeys(tasks, error)
        for job, task in tasks.items():
            number = spec.submissions[own.id] + task.number
            job.jid_file.write_text(f"{own.id}:{number}")
            self._jobs[own.id, number] = job
        return refused

    async def _open(self) -> AsyncSubmittedJob:
        own = await self._client.open(f"xqute {self.workdir}")
        self._run.at_end.push_async_callback(own.close)
        return self._follow(own)

    async def submit_job(self, job: Job) -> object:
        """Submit one; its id."""
        for error in (await self.submit_jobs([job])).values():
            raise error
        return await job.get_jid()

    async def job_is_running(self, job: Job) -> bool:
        """Whether it has not ended; then it is followed from now on."""
        try:
            native, number = await self._place(job)
            [task] = await native.tasks([number])
        except (JobNotFound, ValueError):
            return False
        running = task.state not in _ENDED
        if running:
            self._jobs[native.id, number] = job
        return running

    async def kill_job(self, job: Job) -> None:
        """Cancel it: it is asked to end, then killed with all its children; that it is gone is heard of later."""
        native, number = await self._place(job)
        await native.cancel("killed", tasks=[number])

    async def _place(self, job: Job) -> tuple[AsyncSubmittedJob, int]:
        """The task of a job; `ValueError` or `JobNotFound` where its id is none of ours."""
        id_, _, digits = (await job.get_jid() or "").partition(":")
        number = int(digits)
        return self._natives.get(id_) or self._follow(await self._client.job(id_)), number

    def _follow(self, native: AsyncSubmittedJob) -> AsyncSubmittedJob:
        """Hear of all tasks of a job from now on."""
        self._natives[native.id] = native
        self._run.spawn(self._hear(native))
        return native

    async def _hear(self, native: AsyncSubmittedJob) -> None:
        async for event in native.events():
            if isinstance(event, TaskChanged):
                async with self._run.busy:
                    if event.state in _ENDED and (job := self._jobs.pop((event.job, event.task), None)):
                        await self._run.report(job, *await self._ending(native, event))
                    elif event.state is TaskState.running and (job := self._jobs.get((event.job, event.task))):
                        await self._run.report(job, JobStatus.RUNNING)

    async def _ending(self, native: AsyncSubmittedJob, event: TaskChanged) -> tuple[JobStatus, int, str]:
        """How a task has ended: status, return code, and what ``job.stderr`` does not say."""
        try:
            if event.state is TaskState.failed:
                await native.result(event.task)
        except TaskFailed as failed:
            if failed.cause == "time limit":
                return JobStatus.FAILED, TIMED_OUT, f"timed out after {self.timeout:g} seconds"
            if failed.exit_status is not None:
                return JobStatus.FAILED, failed.exit_status, ""
            return JobStatus.FAILED, SUBMISSION_FAILED if failed.cause in {"error", "rejected"} else LOST, event.reason
        return (JobStatus.FINISHED, 0, "") if event.state is TaskState.succeeded else (JobStatus.KILLED, KILLED, "")


class Sge(Local):
    """Grid Engine, by a worker that is there as long as the run, unless another one for it is there and no commands are named.

    `qsub`, `qstat`, `qdel` and `qacct` are paths; every other option, ``sge_`` before it or not, is one of qsub.
    """

    name = "sge"

    def _task_options(self) -> dict[str, Any]:
        self._commands = {name: self.config.pop(name) for name in ("qsub", "qstat", "qdel", "qacct") if name in self.config}
        return {"executor": self.name, "executor_options": {name.removeprefix("sge_"): value for name, value in self.config.items()}}

    async def open(self, run: Xqute) -> None:
        """Begin a run, with a worker; its name is that of the folder, so that it finds jobs again that were left."""
        await super().open(run)
        name = f"xqute-{hashlib.sha256(str(self.workdir).encode()).hexdigest()[:12]}"
        active = [worker for worker in (await self._client.cluster()).workers if worker.state == "active"]
        if not any(one.worker == name or ("executor sge" in one.resources.features and not self._commands) for one in active):
            make = partial(broker_jobs.LocalWorker, cpus=self.forks, name=name, idle_timeout="1d")
            worker = await asyncio.to_thread(make, executor=self.name, executor_options=self._commands)
            run.at_end.push_async_callback(asyncio.to_thread, worker.close)


SCHEDULERS: Final[dict[str, type[Scheduler]]] = {"local": Local, "sge": Sge}
