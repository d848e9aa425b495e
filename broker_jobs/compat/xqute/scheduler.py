"""Jobs with their folders, and where they run: what all schedulers have, and how one of the user's own is driven."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import shlex
import shutil
from abc import ABC, abstractmethod
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import broker_jobs
from broker_jobs import ResourceRequest, TaskChanged, TaskState
from broker_jobs.errors import BrokerError, CoordinatorUnavailable, JobNotFound, TaskFailed, ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.compat.xqute.core import Xqute

logger: Final = logging.getLogger("XQUTE")

SUBMISSION_FAILED, LOST, KILLED, TIMED_OUT = -2, -3, -9, 124
"""Return codes of jobs that could not be submitted, left none, were killed, or ran longer than `timeout`."""

JobStatus = IntEnum("JobStatus", "INIT RETRYING QUEUED SUBMITTED RUNNING KILLING FINISHED FAILED KILLED", start=0)
"""Where a job is; the numbers stand in ``job.status``. KILLED is ours: xqute calls what it has killed finished."""
JobErrorStrategy = StrEnum("JobErrorStrategy", "IGNORE RETRY HALT")
"""What a failed job means for itself and the others."""

_ENDED: Final = {TaskState.succeeded, TaskState.failed, TaskState.canceled, TaskState.aborted}
_PAUSE, _MISSED = 0.1, 5

_SCRIPT: Final = """#!{shell}
cd {folder} || exit
echo 4 > job.status
trap 'rc=$?; echo $rc > job.rc; echo $((rc ? 7 : 6)) > job.status; rm -f job.jid' EXIT
(cd {cwd} && exec {words}) > job.stdout 2> job.stderr
"""


class Job:
    """A command, and its folder ``metadir/index`` with ``job.stdout``, ``job.stderr``, ``job.status``, ``job.rc`` and ``job.jid``.

    A list is a program with its arguments, each of which arrives as it is; in xqute ``$(…)`` inside one runs. A text is a line for bash.
    """

    CMD_WRAPPER_SHELL: ClassVar[str] = "/bin/bash"

    def __init__(
        self, index: int, cmd: str | Sequence[object], metadir: str | Path = "./.xqute", error_retry: object = None, num_retries: int = 3
    ) -> None:
        self.index, self.error_retry, self.num_retries = index, bool(error_retry), num_retries
        self.cmd = ("bash", "-c", cmd) if isinstance(cmd, str) else tuple(map(str, cmd))
        self.metadir = Path(metadir).absolute() / str(index)
        self.metadir.mkdir(parents=True, exist_ok=True)
        self.envs = {"XQUTE_JOB_INDEX": str(index), "XQUTE_METADIR": str(self.metadir.parent), "XQUTE_JOB_METADIR": str(self.metadir)}
        files = [self.metadir / f"job.{name}" for name in ("stdout", "stderr", "status", "rc", "jid")]
        self.stdout_file, self.stderr_file, self.status_file, self.rc_file, self.jid_file = self.files = files
        self.lock_file, self.retry_dir = self.jid_file, self.metadir / "job.retry"
        self.wrapped_cmd: list[str] | None = None
        self.trial_count, self.started, self.now = 0, False, JobStatus.INIT

    async def get_status(self) -> JobStatus:
        """Where it is."""
        return self.now

    async def get_rc(self) -> int:
        """Its return code; −1 as long as there is none."""
        return _number(self.rc_file, -1)

    async def get_jid(self) -> str | None:
        """Its id in the scheduler's system; None as long as there is none."""
        return self.jid_file.read_text().strip() if self.jid_file.exists() else None

    status, rc = property(get_status), property(get_rc)

    def mark(self, status: JobStatus, rc: int | None = None) -> None:
        """Note where it is, and at its end its return code."""
        self.now = status
        self.status_file.write_text(str(int(status)))
        if rc is not None:
            self.rc_file.write_text(str(rc))
            self.jid_file.unlink(missing_ok=True)

    def clean(self) -> None:
        """Move what a trial has left to ``job.retry``; remove what earlier runs have left."""
        place = self.retry_dir / str(self.trial_count)
        if not self.trial_count:
            shutil.rmtree(self.retry_dir, ignore_errors=True)
        for file in self.files:
            if self.trial_count and file.exists():
                place.mkdir(parents=True, exist_ok=True)
                file.replace(place / file.name)
            file.unlink(missing_ok=True)
        self.started = False

    async def wrap_cmd(self, scheduler: Scheduler) -> None:
        """Write the script that a scheduler of one's own submits; it keeps ``job.status`` and ``job.rc``, and clears the lock file."""
        limit = ("timeout", "-k", "2", str(scheduler.timeout)) if scheduler.timeout else ()
        words = shlex.join(["env", *(f"{name}={value}" for name, value in self.envs.items()), *limit, *self.cmd])
        folder, cwd = (shlex.quote(str(place)) for place in (self.metadir, scheduler.cwd or Path.cwd()))
        path = self.metadir / f"job.wrapped.{scheduler.name}"
        script = _SCRIPT.format(shell=self.CMD_WRAPPER_SHELL, folder=folder, cwd=cwd, words=words)
        path.write_text(script, errors="surrogateescape")
        path.chmod(0o700)
        self.wrapped_cmd = [self.CMD_WRAPPER_SHELL, str(path)]


class Scheduler(ABC):
    """The base of schedulers: `submit_job`, `kill_job` and `job_is_running` are a subclass's own, everything else is done here.

    A job has ended when its script says so in ``job.status`` (`Job.wrap_cmd` writes such a script), or when it is not running any more.
    Options besides those of `Xqute`: `cwd`, where commands run; `timeout`, seconds after which one is ended (0: never); others in `config`.
    """

    name: ClassVar[str]
    run: Xqute
    job_class: ClassVar[type[Job]] = Job

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        said = inspect.get_annotations(cls).get("job_class")  # xqute's page says ``job_class: MyJob``
        if isinstance(said, type):
            cls.job_class = said

    def __init__(self, workdir: str | Path, forks: int = 1, error_strategy: str = "ignore", num_retries: int = 3, **config: Any) -> None:
        self.workdir, self.forks, self.num_retries = Path(workdir).absolute(), forks, num_retries
        self.error_strategy = JobErrorStrategy(error_strategy)
        self.cwd, self.timeout, self.config = config.pop("cwd", None), config.pop("timeout", 0), config
        self._misses: dict[Job, int] = {}

    @abstractmethod
    async def submit_job(self, job: Job) -> object:
        """Submit a job; its id in the scheduler's system."""

    @abstractmethod
    async def kill_job(self, job: Job) -> None:
        """Kill a job."""

    @abstractmethod
    async def job_is_running(self, job: Job) -> bool:
        """Whether a job is submitted or running; its id is in ``job.lock_file``."""

    async def open(self) -> None:
        """Begin a run, which is told of every change of a job."""
        self._misses = {}
        self.run.spawn(self._watch())

    async def submit_jobs(self, jobs: Sequence[Job]) -> None:
        """Submit jobs; the run is told of those that cannot be."""
        for job in jobs:
            try:
                await job.wrap_cmd(self)
                job.jid_file.write_text(str(await self.submit_job(job)))
                await self.adopt(job)
            except Exception as error:  # noqa: BLE001 (of the user's scheduler: the job has failed)
                await self.run.refuse(job, error)

    async def adopt(self, job: Job) -> None:
        """Watch a job that was submitted."""
        self._misses[job] = 0

    async def _watch(self) -> None:
        """See what the scripts of jobs say, and whether they are there at all; a return code stands before its status, and stays."""
        while True:
            await asyncio.sleep(_PAUSE)
            for job in list(self._misses):
                async with self.run.busy:
                    status, rc = JobStatus(_number(job.status_file, job.now)), _number(job.rc_file, -1)
                    self._misses[job] += rc < 0 and not await self.job_is_running(job)
                    lost = self._misses[job] >= _MISSED
                    if rc >= 0 or lost:
                        del self._misses[job]
                    if job.now is JobStatus.KILLING and (rc >= 0 or lost):
                        await self.run.report(job, JobStatus.KILLED, KILLED)
                    elif rc >= 0 or (lost and status is JobStatus.FINISHED):
                        await self.run.report(job, JobStatus.FAILED if rc > 0 else JobStatus.FINISHED, max(rc, 0))
                    elif lost:
                        await self.run.report(job, JobStatus.FAILED, LOST, "the job is not running any more, and has left no return code")
                    elif status is JobStatus.RUNNING:
                        await self.run.report(job, status)


def _number(file: Path, default: int) -> int:
    """The number in a file that may be missing, or just being written."""
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):
        return default


class Local(Scheduler):
    """Jobs of a run are tasks of one open job: many are submitted at once, and one stream has the news of all."""

    name = "local"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options = self._task_options()

    def _task_options(self) -> dict[str, Any]:
        if self.config:
            raise ValidationError(f"the scheduler {self.name!r} has no options {', '.join(map(repr, self.config))}")
        return {"resources": ResourceRequest(cpus=0.0001)}  # `forks` says how many run at once, whatever processors there are

    async def open(self) -> None:
        """Begin a run: by default on this user's own node, which is started where none runs."""
        self._client = await self.run.at_end.enter_async_context(broker_jobs.AsyncClient())
        self._own: broker_jobs.AsyncSubmittedJob | None = None
        self._natives: dict[str, broker_jobs.AsyncSubmittedJob] = {}
        self._jobs: dict[tuple[str, int], Job] = {}

    async def submit_jobs(self, jobs: Sequence[Job]) -> None:
        """Submit them all at once."""
        spec, tasks = broker_jobs.Job(), dict[Job, broker_jobs.Task]()
        for job in jobs:
            common = {"env": job.envs, "cwd": self.cwd, "time_limit": self.timeout or None, **self._options}
            try:
                tasks[job] = spec.program(job.cmd, stdout=job.stdout_file, stderr=job.stderr_file, **common)
            except ValidationError as error:
                await self.run.refuse(job, error)
        if not tasks:
            return
        try:
            if self._own is None:
                self._own = self._follow(await self._client.open(f"xqute {self.workdir}"))
                self.run.at_end.push_async_callback(self._own.close)
            own = await self._client.submit(spec, to=self._own)
        except (BrokerError, CoordinatorUnavailable) as error:
            for job in tasks:
                await self.run.refuse(job, error)
            return
        for job, task in tasks.items():
            number = spec.submissions[own.id] + task.number
            job.jid_file.write_text(f"{own.id}:{number}")
            self._jobs[own.id, number] = job

    async def submit_job(self, job: Job) -> object:
        """Submit one; its id."""
        await self.submit_jobs([job])
        return await job.get_jid()

    async def job_is_running(self, job: Job) -> bool:
        """Whether it has not ended; then it is followed from now on."""
        try:
            native, number = await self._place(job)
            [task] = await native.tasks([number])
        except (JobNotFound, ValueError):
            return False
        if task.state in _ENDED:
            return False
        self._jobs[native.id, number] = job
        return True

    async def kill_job(self, job: Job) -> None:
        """Cancel it: it is asked to end, then killed with all its children; that it is gone is heard of later."""
        native, number = await self._place(job)
        await native.cancel("killed", tasks=[number])

    async def _place(self, job: Job) -> tuple[broker_jobs.AsyncSubmittedJob, int]:
        """The task of a job; `ValueError` or `JobNotFound` where its id is none of ours."""
        id_, _, digits = (await job.get_jid() or "").partition(":")
        number = int(digits)
        return self._natives.get(id_) or self._follow(await self._client.job(id_)), number

    def _follow(self, native: broker_jobs.AsyncSubmittedJob) -> broker_jobs.AsyncSubmittedJob:
        """Hear of all tasks of a job from now on."""
        self._natives[native.id] = native
        self.run.spawn(self._hear(native))
        return native

    async def _hear(self, native: broker_jobs.AsyncSubmittedJob) -> None:
        async for event in native.events():
            if isinstance(event, TaskChanged):
                async with self.run.busy:
                    if event.state in _ENDED and (job := self._jobs.pop((event.job, event.task), None)):
                        await self.run.report(job, *await self._ending(native, event))
                    elif event.state is TaskState.running and (job := self._jobs.get((event.job, event.task))):
                        await self.run.report(job, JobStatus.RUNNING)

    async def _ending(self, native: broker_jobs.AsyncSubmittedJob, event: TaskChanged) -> tuple[JobStatus, int, str]:
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

    async def open(self) -> None:
        """Begin a run, with a worker; its name is that of the folder, so that it finds jobs again that were left."""
        await super().open()
        name = f"xqute-{hashlib.sha256(str(self.workdir).encode()).hexdigest()[:12]}"
        active = [worker for worker in (await self._client.cluster()).workers if worker.state == "active"]
        if not any(one.worker == name or ("executor sge" in one.resources.features and not self._commands) for one in active):
            of: dict[str, Any] = {"executor": self.name, "executor_options": self._commands, "idle_timeout": "1d"}
            worker = await asyncio.to_thread(lambda: broker_jobs.LocalWorker(cpus=self.forks, name=name, **of))
            self.run.at_end.push_async_callback(asyncio.to_thread, worker.close)


SCHEDULERS: Final[dict[str, type[Scheduler]]] = {"local": Local, "sge": Sge}
