"""The schedulers that there are: jobs are tasks of broker-jobs, on its workers or in Grid Engine."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sys
import tempfile
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import broker_jobs
from broker_jobs.compat.xqute.job import LOST, SUBMISSION_FAILED, TIMED_OUT, Job, JobStatus
from broker_jobs.compat.xqute.scheduler import PAUSE, Scheduler
from broker_jobs.errors import BrokerError, BrokerJobsError, CoordinatorUnavailable, JobNotFound, ValidationError
from broker_jobs.hooks import TaskNow, impl

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from broker_jobs.compat.xqute.scheduler import Report

_SHARE: Final = broker_jobs.ResourceRequest(cpus=0.0001)
"""Next to nothing: `forks` says how many run at once, whatever processors there are."""

_STATUS: Final = {
    "running": JobStatus.RUNNING,
    "succeeded": JobStatus.FINISHED,
    "failed": JobStatus.FAILED,
    "canceled": JobStatus.KILLED,
    "aborted": JobStatus.KILLED,
}


class Local(Scheduler):
    """Jobs are tasks on the workers of the broker: by default this user's own node, which is started where none runs."""

    name = "local"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options = self._task_options()
        self._client: broker_jobs.AsyncClient
        self._natives: dict[str, broker_jobs.AsyncSubmittedJob] = {}
        self._own: broker_jobs.AsyncSubmittedJob | None = None
        self._jobs: dict[tuple[str, int], Job] = {}
        self._news: deque[TaskNow] = deque()
        self._told = asyncio.Event()
        self._listening: list[asyncio.Task[None]] = []

    def _task_options(self) -> dict[str, Any]:
        if self.config:
            raise ValidationError(f"the scheduler {self.name!r} has no options {', '.join(map(repr, self.config))}")
        return {"resources": _SHARE}

    async def open(self, report: Report) -> None:
        """Begin; the client connects when it is needed."""
        loop = asyncio.get_running_loop()

        def put(task: TaskNow) -> None:
            self._news.append(task)
            loop.call_soon_threadsafe(self._told.set)

        self._report, self._own = report, None
        self._client = broker_jobs.AsyncClient(plugins=[_Ear(put)])
        self._listening = [asyncio.create_task(self._hear())]

    async def submit_jobs(self, jobs: Sequence[Job]) -> dict[Job, str]:
        """Submit them all at once; those that could not be, and why."""
        refused: dict[Job, str] = {}
        spec, tasks = broker_jobs.Job(), dict[Job, broker_jobs.Task]()
        for job in jobs:
            common = {"env": job.envs, "cwd": self.cwd, "time_limit": self.timeout or None, **self._options}
            try:
                tasks[job] = spec.program(job.cmd, stdout=job.stdout_file, stderr=job.stderr_file, **common)
            except ValidationError as error:
                refused[job] = f"{error}\n"
        if not tasks:
            return refused
        try:
            own = self._own = self._own or await self._client.open(f"xqute {self.workdir}")
            await self._client.submit(spec, to=own)
        except (BrokerError, CoordinatorUnavailable) as error:
            return refused | dict.fromkeys(tasks, f"{error}\n")
        self._natives[own.id] = own
        for job, task in tasks.items():
            number = spec.submissions[own.id] + task.number
            job.jid_file.write_text(f"{own.id}:{number}")
            self._jobs[own.id, number] = job
        return refused

    async def submit_job(self, job: Job) -> object:
        """Submit one; its id."""
        refused = await self.submit_jobs([job])
        if refused:
            raise BrokerJobsError(refused[job].strip())
        return await job.get_jid()

    async def adopt(self, job: Job) -> None:
        """Follow a job that an earlier process has submitted."""
        native, number = await self._place(job)
        self._jobs[native.id, number] = job
        self._listening.append(asyncio.create_task(self._follow(native, number)))

    async def job_is_running(self, job: Job) -> bool:
        """Whether it has not ended."""
        try:
            native, number = await self._place(job)
            [task] = await native.tasks([number])
        except (JobNotFound, ValueError):
            return False
        return _STATUS.get(task.state.value, JobStatus.RUNNING) is JobStatus.RUNNING

    async def kill_job(self, job: Job) -> None:
        """Cancel it: it is asked to end, then killed with all its children."""
        native, number = await self._place(job)
        await native.cancel("killed", tasks=[number])

    async def kill_jobs(self, jobs: Sequence[Job]) -> None:
        """Cancel them; that they are gone is heard of later."""
        await asyncio.gather(*map(self.kill_job, jobs))

    async def close(self) -> None:
        """End the connection."""
        for listening in self._listening:
            listening.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        if self._own is not None:
            await self._own.close()
        await self._client.close()

    async def _place(self, job: Job) -> tuple[broker_jobs.AsyncSubmittedJob, int]:
        """The task of a job; `ValueError` or `JobNotFound` where its id is none of ours."""
        id_, _, number = (await job.get_jid() or "").partition(":")
        if id_ not in self._natives:
            self._natives[id_] = await self._client.job(id_ or "none")
        return self._natives[id_], int(number)

    async def _follow(self, native: broker_jobs.AsyncSubmittedJob, number: int) -> None:
        async for event in native.events():
            if isinstance(event, broker_jobs.TaskChanged) and event.task == number:
                self._news.append(TaskNow(native.id, number, state=event.state, reason=event.reason))
                self._told.set()

    async def _hear(self) -> None:
        while await self._told.wait():
            self._told.clear()
            async with self.busy:
                while self._news:
                    await self._heard(self._news.popleft())

    async def _heard(self, now: TaskNow) -> None:
        job, status = self._jobs.get((now.job, now.number)), _STATUS.get(now.state.value)
        if job is None or status is None:
            return
        code, text = (0 if status is JobStatus.FINISHED else None), ""
        if status is JobStatus.FAILED:
            try:
                outcome = (await self._natives[now.job].tasks([now.number]))[0].outcome
            except BrokerJobsError:  # nobody can say how it failed, and it has ended all the same
                outcome = None
            code, text = _failure(outcome, now.reason, self.timeout)
        if status is not JobStatus.RUNNING:
            del self._jobs[now.job, now.number]
        await self._report(job, status, code, text)


class _Ear:
    """Hears, in a thread of its own, what the client tells of its tasks."""

    def __init__(self, put: Callable[[TaskNow], None]) -> None:
        @impl
        def told(task: TaskNow) -> None:
            put(task)

        self.on_task_started = self.on_task_succeeded = self.on_task_failed = self.on_task_killed = told


def _failure(outcome: Any, reason: str, timeout: float) -> tuple[int, str]:
    """The return code of a task that failed, and what ``job.stderr`` does not say."""
    match getattr(outcome, "cause", ""), getattr(outcome, "exit_code", None), getattr(outcome, "signal", None):
        case "time limit", _, _:
            return TIMED_OUT, f"timed out after {timeout:g} seconds\n"
        case _, int(code), _:
            return code, ""
        case _, _, int(signal):
            return 128 + signal, ""
        case cause, _, _:
            return SUBMISSION_FAILED if cause in {"error", "rejected"} else LOST, f"{reason}\n"


class Sge(Local):
    """Grid Engine, by a worker that is started here where none is there, or where its commands are named.

    `qsub`, `qstat`, `qdel` and `qacct` are paths; every other option, ``sge_`` before it or not, is one of qsub.
    """

    name = "sge"
    _worker: asyncio.subprocess.Process | None = None

    def _task_options(self) -> dict[str, Any]:
        commands = {name: self.config.pop(name) for name in ("qsub", "qstat", "qdel", "qacct") if name in self.config}
        missing = [path for path in commands.values() if shutil.which(path) is None]
        if missing:
            raise ValidationError(f"these commands of Grid Engine are not there: {', '.join(map(str, missing))}")
        self._commands = [f"--executor-option={name}={path}" for name, path in commands.items()]
        return {"executor": self.name, "executor_options": {name.removeprefix("sge_"): value for name, value in self.config.items()}}

    async def submit_jobs(self, jobs: Sequence[Job]) -> dict[Job, str]:
        """See that a worker is there, and submit them."""
        try:
            await self._work()
        except (BrokerJobsError, OSError) as error:
            return dict.fromkeys(jobs, f"{error}\n")
        return await super().submit_jobs(jobs)

    async def close(self) -> None:
        """End the worker, too."""
        if self._worker is not None and self._worker.returncode is None:
            self._worker.terminate()
            await self._worker.wait()
        await super().close()

    async def _work(self) -> None:
        """Start a worker where none is there; its name is that of the folder, so that it finds its jobs again."""
        name = f"xqute-{hashlib.sha256(str(self.workdir).encode()).hexdigest()[:12]}"
        if await self._there(name, others=not self._commands):
            return
        options = ["--executor", self.name, "--cpus", str(self.forks), "--name", name, "--idle-timeout", "1h", *self._commands]
        command = [sys.executable, "-P", "-m", "broker_jobs", "worker", "start", *options]
        with tempfile.TemporaryFile() as log:
            self._worker = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, start_new_session=True)
            while not await self._there(name):
                if self._worker.returncode is not None:
                    log.seek(0)
                    raise BrokerJobsError(f"the worker for {self.name} has ended: {log.read().decode(errors='replace')[-2000:]}")
                await asyncio.sleep(PAUSE)

    async def _there(self, name: str, *, others: bool = False) -> bool:
        """Whether a worker of this name, or another one for Grid Engine, is there."""
        active = [worker for worker in (await self._client.cluster()).workers if worker.state == "active"]
        return any(worker.worker == name or (others and "executor sge" in worker.resources.features) for worker in active)


SCHEDULERS: Final[dict[str, type[Scheduler]]] = {"local": Local, "sge": Sge}
