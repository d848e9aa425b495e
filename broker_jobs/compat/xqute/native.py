"""The schedulers that there are: jobs are tasks of broker-jobs, on its workers or in Grid Engine."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import broker_jobs
from broker_jobs import TaskChanged, TaskState
from broker_jobs.compat.xqute.scheduler import KILLED, LOST, SUBMISSION_FAILED, TIMED_OUT, Job, JobStatus, Scheduler
from broker_jobs.errors import BrokerError, BrokerJobsError, CoordinatorUnavailable, JobNotFound, TaskFailed, ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs import AsyncSubmittedJob
    from broker_jobs.compat.xqute.core import Xqute

_SHARE: Final = broker_jobs.ResourceRequest(cpus=0.0001)
"""Next to nothing: `forks` says how many run at once, whatever processors there are."""

_STATUS: Final = {
    TaskState.running: JobStatus.RUNNING,
    TaskState.succeeded: JobStatus.FINISHED,
    TaskState.failed: JobStatus.FAILED,
    TaskState.canceled: JobStatus.KILLED,
    TaskState.aborted: JobStatus.KILLED,
}


class Local(Scheduler):
    """Jobs are tasks on the workers of the broker: by default this user's own node, which is started where none runs.

    Those of a run are tasks of one open job, so that many are submitted at once, and one stream has the news of all.
    """

    name = "local"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options = self._task_options()

    def _task_options(self) -> dict[str, Any]:
        if self.config:
            raise ValidationError(f"the scheduler {self.name!r} has no options {', '.join(map(repr, self.config))}")
        return {"resources": _SHARE}

    async def open(self, run: Xqute) -> None:
        """Begin a run; the client connects when it is needed."""
        self._run, self._client = run, broker_jobs.AsyncClient()
        self._own: AsyncSubmittedJob | None = None
        self._natives: dict[str, AsyncSubmittedJob] = {}
        self._jobs: dict[tuple[str, int], Job] = {}

    async def close(self) -> None:
        """End a run, and the connection."""
        if self._own is not None:
            await self._own.close()
        await self._client.close()

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
            own = self._own = self._own or self._follow(await self._client.open(f"xqute {self.workdir}"))
            await self._client.submit(spec, to=own)
        except (BrokerError, CoordinatorUnavailable) as error:
            return refused | dict.fromkeys(tasks, error)
        for job, task in tasks.items():
            number = spec.submissions[own.id] + task.number
            job.jid_file.write_text(f"{own.id}:{number}")
            self._jobs[own.id, number] = job
        return refused

    async def submit_job(self, job: Job) -> object:
        """Submit one; its id."""
        for error in (await self.submit_jobs([job])).values():
            raise error
        return await job.get_jid()

    async def adopt(self, job: Job) -> None:
        """Follow a job that an earlier process has submitted."""
        native, number = await self._place(job)
        self._jobs[native.id, number] = job

    async def job_is_running(self, job: Job) -> bool:
        """Whether it has not ended."""
        try:
            native, number = await self._place(job)
            [task] = await native.tasks([number])
        except (JobNotFound, ValueError):
            return False
        return _STATUS.get(task.state, JobStatus.RUNNING) is JobStatus.RUNNING

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
            if isinstance(event, TaskChanged) and event.state in _STATUS:
                async with self._run.busy:
                    await self._heard(native, event, _STATUS[event.state])

    async def _heard(self, native: AsyncSubmittedJob, event: TaskChanged, status: JobStatus) -> None:
        place = native.id, event.task
        job = self._jobs.get(place) if status is JobStatus.RUNNING else self._jobs.pop(place, None)
        if job is None:
            return
        if status is JobStatus.FAILED:
            await self._run.report(job, status, *await self._failure(native, event))
        else:
            await self._run.report(job, status, KILLED if status is JobStatus.KILLED else 0)

    async def _failure(self, native: AsyncSubmittedJob, event: TaskChanged) -> tuple[int, str]:
        """The return code of a task that failed, and what ``job.stderr`` does not say."""
        failed = TaskFailed(cause="unknown")
        try:
            await native.result(event.task)
        except TaskFailed as known:
            failed = known
        except BrokerJobsError:  # nobody can say how it has failed
            return LOST, event.reason
        if failed.cause == "time limit":
            return TIMED_OUT, f"timed out after {self.timeout:g} seconds"
        if failed.exit_status is not None:
            return failed.exit_status, ""
        return SUBMISSION_FAILED if failed.cause in {"error", "rejected"} else LOST, event.reason


class Sge(Local):
    """Grid Engine, by a worker that is there as long as the run, unless another one for it is there and no commands are named.

    `qsub`, `qstat`, `qdel` and `qacct` are paths; every other option, ``sge_`` before it or not, is one of qsub.
    """

    name = "sge"
    _worker: broker_jobs.LocalWorker | None = None

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
            self._worker = await asyncio.to_thread(make, executor=self.name, executor_options=self._commands)

    async def close(self) -> None:
        """End a run, and the worker."""
        if self._worker is not None:
            await asyncio.to_thread(self._worker.close)
        await super().close()


SCHEDULERS: Final[dict[str, type[Scheduler]]] = {"local": Local, "sge": Sge}
