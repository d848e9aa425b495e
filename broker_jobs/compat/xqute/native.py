"""The schedulers that there are: jobs are tasks of broker-jobs, on its workers or in a batch system."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import tempfile
from typing import TYPE_CHECKING, Any, ClassVar, Final

import broker_jobs
from broker_jobs.compat.xqute.job import LOST, SUBMISSION_FAILED, TIMED_OUT, Job, JobStatus
from broker_jobs.compat.xqute.scheduler import PAUSE, Scheduler
from broker_jobs.errors import BrokerError, BrokerJobsError, CoordinatorUnavailable, JobNotFound, ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs import AsyncClient, AsyncSubmittedJob, TaskChanged
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
        self.options = self._options()
        self._client: AsyncClient
        self._native: AsyncSubmittedJob | None = None
        self._jobs: dict[tuple[str, int], Job] = {}
        self._following: dict[str, asyncio.Task[None]] = {}

    def _options(self) -> dict[str, Any]:
        if self.config:
            raise ValidationError(f"the scheduler {self.name!r} has no options {', '.join(map(repr, self.config))}")
        return {"resources": _SHARE}

    async def open(self, report: Report) -> None:
        """Begin; the client connects when it is needed."""
        self._report, self._client, self._native = report, broker_jobs.AsyncClient(), None

    async def submit_jobs(self, jobs: Sequence[Job]) -> dict[Job, str]:
        """Submit them all at once; those that could not be, and why."""
        refused: dict[Job, str] = {}
        spec, tasks = broker_jobs.Job(), dict[Job, broker_jobs.Task]()
        for job in jobs:
            out, err, limit = job.stdout_file, job.stderr_file, self.timeout or None
            try:
                tasks[job] = spec.program(job.cmd, env=job.envs, cwd=self.cwd, stdout=out, stderr=err, time_limit=limit, **self.options)
            except ValidationError as error:
                refused[job] = f"{error}\n"
        if not tasks:
            return refused
        try:
            if self._native is None:
                self._native = await self._client.open(f"xqute {self.workdir}")
            await self._client.submit(spec, to=self._native)
        except (BrokerError, CoordinatorUnavailable) as error:
            return refused | dict.fromkeys(tasks, f"{error}\n")
        for job, task in tasks.items():
            job.jid_file.write_text(f"{self._native.id}:{await self._native.number(task)}")
            await self.adopt(job)
        return refused

    async def submit_job(self, job: Job) -> object:
        """Submit one; its id."""
        refused = await self.submit_jobs([job])
        if refused:
            raise BrokerJobsError(refused[job].strip())
        return await job.get_jid()

    async def adopt(self, job: Job) -> None:
        """Follow a job that was submitted, maybe by an earlier process."""
        native, number = await self._place(job)
        self._jobs[native.id, number] = job
        if native.id not in self._following:
            self._following[native.id] = asyncio.create_task(self._hear(native))

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
        for following in self._following.values():
            following.cancel()
        await asyncio.gather(*self._following.values(), return_exceptions=True)
        self._following.clear()
        if self._native is not None:
            await self._native.close()
        await self._client.close()

    async def _place(self, job: Job) -> tuple[AsyncSubmittedJob, int]:
        """The task of a job; `ValueError` or `JobNotFound` where its id is none of ours."""
        id_, _, number = (await job.get_jid() or "").partition(":")
        known = self._native is not None and self._native.id == id_
        return self._native if self._native is not None and known else await self._client.job(id_ or "none"), int(number)

    async def _hear(self, native: AsyncSubmittedJob) -> None:
        async for event in native.events():
            if isinstance(event, broker_jobs.TaskChanged):
                async with self.busy:
                    await self._heard(native, event)

    async def _heard(self, native: AsyncSubmittedJob, event: TaskChanged) -> None:
        job, status = self._jobs.get((native.id, event.task)), _STATUS.get(event.state.value)
        if job is None or status is None:
            return
        code, text = (0 if status is JobStatus.FINISHED else None), ""
        if status is JobStatus.FAILED:
            [task] = await native.tasks([event.task])
            code, text = _failure(task.outcome, event.reason, self.timeout)
        if status is not JobStatus.RUNNING:
            del self._jobs[native.id, event.task]
        await self._report(job, status, code, text)


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
    """Grid Engine, by a worker that is started here where none is there, or where commands are named.

    `qsub`, `qstat`, `qdel` and `qacct` are paths; every other option, ``sge_`` before it or not, is one of qsub.
    """

    name = "sge"
    commands: ClassVar[tuple[str, ...]] = ("qsub", "qstat", "qdel", "qacct")
    prefix: ClassVar[str] = "sge_"
    _worker: asyncio.subprocess.Process | None = None

    def _options(self) -> dict[str, Any]:
        given = {name.removeprefix(self.prefix): value for name, value in self.config.items() if name not in self.commands}
        return {"executor": self.name, "executor_options": given}

    async def submit_jobs(self, jobs: Sequence[Job]) -> dict[Job, str]:
        """See that a worker is there, and submit them."""
        try:
            await self._work()
        except (BrokerJobsError, OSError) as error:
            return dict.fromkeys(jobs, f"{error}\n")
        return await super().submit_jobs(jobs)

    async def close(self) -> None:
        """End the worker, too."""
        worker, self._worker = self._worker, None
        if worker is not None and worker.returncode is None:
            worker.terminate()
            await worker.wait()
        await super().close()

    async def _work(self) -> None:
        """Start a worker where none is there; its name is that of the folder, so that it finds its jobs again."""
        name = f"xqute-{self.name}-{hashlib.sha256(str(self.workdir).encode()).hexdigest()[:12]}"
        paths = [f"--executor-option={command}={self.config[command]}" for command in self.commands if command in self.config]
        if await self._there(name, others=not paths):
            return
        command = ["worker", "start", "--executor", self.name, "--cpus", str(self.forks), "--name", name, "--idle-timeout", "1h", *paths]
        with tempfile.TemporaryFile() as log:
            self._worker = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "broker_jobs", *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
            while not await self._there(name):
                if self._worker.returncode is not None:
                    log.seek(0)
                    raise BrokerJobsError(f"the worker for {self.name} has ended: {log.read().decode(errors='replace')[-2000:]}")
                await asyncio.sleep(PAUSE)

    async def _there(self, name: str, *, others: bool = False) -> bool:
        """Whether a worker of this name, or another one for this batch system, is there."""
        active = [worker for worker in (await self._client.cluster()).workers if worker.state == "active"]
        offered = f"executor {self.name}"
        return any(worker.worker == name or (others and offered in worker.resources.features) for worker in active)


class HTCondor(Sge):
    """HTCondor: the same with its commands; every other option, ``condor_`` before it or not, is a line of the submit description."""

    name = "htcondor"
    commands = ("condor_submit", "condor_q", "condor_rm", "condor_history")
    prefix = "condor_"


SCHEDULERS: Final[dict[str, type[Scheduler]]] = {"local": Local, "sge": Sge, "htcondor": HTCondor}
