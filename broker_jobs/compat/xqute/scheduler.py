"""Where jobs run: what all schedulers have, and how one of the user's own is driven."""

from __future__ import annotations

import asyncio
import inspect
import shlex
import traceback
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from broker_jobs.compat.xqute.job import LOST, Job, JobErrorStrategy, JobStatus, logger

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Sequence

    Report = Callable[[Job, JobStatus, int | None, str], Awaitable[None]]
    """Told of a job that runs or has ended: its status, its return code, and what is to be said in ``job.stderr``."""

PAUSE: Final = 0.1
_MISSED: Final = 5

_SCRIPT: Final = """#!{shell}
cleanup() {{
  rc=$?
  echo $rc > {rc}
  [ $rc -eq 0 ] && echo 6 > {status} || echo 7 > {status}
  rm -f {jid}
}}
echo 4 > {status}
trap cleanup EXIT
exec > {stdout} 2> {stderr}
cd {cwd} || exit
{exports}
{cmd}
"""


class Scheduler(ABC):
    """The base of schedulers: `submit_job`, `kill_job` and `job_is_running` are a subclass's own, everything else is done here.

    A job has ended when its script says so in ``job.status`` (`Job.wrap_cmd` writes such a script), or when it is not running any more.
    Options besides those of `Xqute`: `cwd`, where commands run; `timeout`, seconds after which one is ended (0: never); others in `config`.
    """

    name: ClassVar[str]
    job_class: ClassVar[type[Job]] = Job

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        said = inspect.get_annotations(cls).get("job_class")  # xqute's page says ``job_class: MyJob``
        if isinstance(said, type):
            cls.job_class = said

    def __init__(  # noqa: PLR0917 (xqute's signature)
        self,
        workdir: str | os.PathLike[str],
        forks: int = 1,
        error_strategy: str = "ignore",
        num_retries: int = 3,
        cwd: str | os.PathLike[str] | None = None,
        timeout: int = 0,
        **kwargs: Any,
    ) -> None:
        self.workdir, self.forks, self.num_retries = Path(workdir).absolute(), forks, num_retries
        self.error_strategy = JobErrorStrategy(error_strategy)
        self.cwd, self.timeout, self.config = cwd, timeout, kwargs
        self.busy = asyncio.Lock()
        self._report: Report
        self._misses: dict[Job, int] = {}
        self._watching: asyncio.Task[None] | None = None

    @abstractmethod
    async def submit_job(self, job: Job) -> object:
        """Submit a job; its id in the scheduler's system."""

    @abstractmethod
    async def kill_job(self, job: Job) -> None:
        """Kill a job."""

    @abstractmethod
    async def job_is_running(self, job: Job) -> bool:
        """Whether a job is submitted or running; its id is in ``job.lock_file``."""

    def wrapped_job_script(self, job: Job) -> Path:
        """Write the script of a job, which keeps its files; where it is."""
        names = ("rc", "status", "stdout", "stderr", "jid")
        files = {name: shlex.quote(str(job.metadir / f"job.{name}")) for name in names}
        exports = "\n".join(f"export {name}={shlex.quote(str(value))}" for name, value in job.envs.items())
        limit = f"timeout -k 2 {self.timeout} " if self.timeout else ""
        place = shlex.quote(str(self.cwd or Path.cwd()))
        script = _SCRIPT.format(shell=job.CMD_WRAPPER_SHELL, cwd=place, exports=exports, cmd=limit + job.strcmd, **files)
        path = job.wrapped_script(self)
        path.write_text(script, errors="surrogateescape")
        path.chmod(0o700)
        return path

    async def open(self, report: Report) -> None:
        """Begin; `report` is told of every change of a job, one at a time, by whoever holds `busy`."""
        self._report = report
        self._watching = asyncio.create_task(self._watch())

    async def submit_jobs(self, jobs: Sequence[Job]) -> dict[Job, str]:
        """Submit jobs; those that could not be, and why."""
        refused: dict[Job, str] = {}
        for job in jobs:
            try:
                await job.wrap_cmd(self)
                job.jid_file.write_text(str(await self.submit_job(job)))
                await self.adopt(job)
            except Exception:  # noqa: BLE001 (of the user's scheduler: the job has failed)
                refused[job] = traceback.format_exc()
        return refused

    async def adopt(self, job: Job) -> None:
        """Watch a job that was submitted."""
        self._misses[job] = 0

    async def kill_jobs(self, jobs: Sequence[Job]) -> None:
        """Kill jobs; `report` is told of each that is gone."""
        for job in jobs:
            try:
                await self.kill_job(job)
            except Exception:  # noqa: BLE001 (of the user's scheduler: the job goes on, and its end is waited for)
                logger.exception("%r cannot be killed", job)
                continue
            if self._misses.pop(job, None) is not None:
                await self._report(job, JobStatus.KILLED, None, "")

    async def close(self) -> None:
        """End."""
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(PAUSE)
            for job in list(self._misses):
                async with self.busy:
                    if job in self._misses:
                        await self._look(job)

    async def _look(self, job: Job) -> None:
        """See what the script of a job says, and whether it is there at all; its return code stands before its status, and stays."""
        status, rc = job.told()
        self._misses[job] += rc < 0 and not await self._running(job)
        if rc >= 0 or self._misses[job] >= _MISSED:
            del self._misses[job]
            code = 0 if rc < 0 and status is JobStatus.FINISHED else rc
            lost = "the job is not running any more, and has left no return code\n" if code < 0 else ""
            await self._report(job, JobStatus.FAILED if code else JobStatus.FINISHED, LOST if code < 0 else code, lost)
        elif status is JobStatus.RUNNING:
            await self._report(job, status, None, "")

    async def _running(self, job: Job) -> bool:
        try:
            return bool(await self.job_is_running(job))
        except Exception:  # noqa: BLE001 (of the user's scheduler: it is asked again)
            logger.exception("%r: whether it is running is not known", job)
            return True
