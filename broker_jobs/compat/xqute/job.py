"""Jobs, their states, and the folder that each has."""

from __future__ import annotations

import logging
import shlex
import shutil
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from broker_jobs.compat.xqute.scheduler import Scheduler

logger: Final = logging.getLogger("XQUTE")

SUBMISSION_FAILED, LOST, KILLED, TIMED_OUT = -2, -3, -9, 124
"""Return codes of jobs that could not be submitted, left none, were killed, or ran longer than `timeout`."""

_FILES: Final = ("stdout", "stderr", "status", "rc")

JobStatus = IntEnum("JobStatus", "INIT RETRYING QUEUED SUBMITTED RUNNING KILLING FINISHED FAILED KILLED", start=0)
"""Where a job is; the numbers stand in ``job.status``. KILLED is ours: xqute calls what it has killed finished."""
JobErrorStrategy = StrEnum("JobErrorStrategy", "IGNORE RETRY HALT")
"""What a failed job means for itself and the others."""

ENDED: Final = frozenset({JobStatus.FINISHED, JobStatus.FAILED, JobStatus.KILLED})


class Job:
    """A command, and its folder ``metadir/index`` with ``job.stdout``, ``job.stderr``, ``job.status``, ``job.rc`` and ``job.jid``.

    A list is a program with its arguments, each of which arrives as it is; in xqute ``$(…)`` inside one runs. A text is a line for bash.
    """

    CMD_WRAPPER_SHELL: ClassVar[str] = "/bin/bash"

    def __init__(  # noqa: PLR0917 (xqute's signature)
        self,
        index: int,
        cmd: str | Sequence[object],
        metadir: str | os.PathLike[str] = "./.xqute",
        error_retry: bool = False,  # noqa: FBT001, FBT002 (xqute's signature)
        num_retries: int = 3,
        envs: Mapping[str, str] | None = None,
    ) -> None:
        self.index, self.error_retry, self.num_retries = index, error_retry, num_retries
        self.cmd = ("bash", "-c", cmd) if isinstance(cmd, str) else tuple(map(str, cmd))
        self.metadir = Path(metadir).absolute() / str(index)
        self.metadir.mkdir(parents=True, exist_ok=True)
        places = {"XQUTE_METADIR": str(self.metadir.parent), "XQUTE_JOB_METADIR": str(self.metadir)}
        self.envs = {"XQUTE_JOB_INDEX": str(index), **places, **(envs or {})}
        self.stdout_file, self.stderr_file, self.status_file, self.rc_file = (self.metadir / f"job.{name}" for name in _FILES)
        self.jid_file = self.lock_file = self.metadir / "job.jid"
        self.retry_dir = self.metadir / "job.retry"
        self.wrapped_cmd: list[str] | None = None
        self.trial_count, self.started, self.now = 0, False, JobStatus.INIT

    def __repr__(self) -> str:
        return f"<{type(self).__name__}-{self.index}: {self.strcmd}>"

    @property
    def strcmd(self) -> str:
        """The command as a line that a shell takes apart into the same arguments."""
        return shlex.join(self.cmd)

    async def get_status(self) -> JobStatus:
        """Where it is."""
        return self.now

    async def get_rc(self) -> int:
        """Its return code; −1 as long as there is none."""
        return self.told()[1]

    status, rc = property(get_status), property(get_rc)

    async def get_jid(self) -> str | None:
        """Its id in the scheduler's system; None as long as there is none."""
        return self.jid_file.read_text().strip() if self.jid_file.exists() else None

    def told(self) -> tuple[JobStatus, int]:
        """What its files say: status and return code."""
        return JobStatus(_number(self.status_file, self.now)), _number(self.rc_file, -1)

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
        else:
            place.mkdir(parents=True, exist_ok=True)
        for file in (self.stdout_file, self.stderr_file, self.status_file, self.rc_file):
            if self.trial_count and file.exists():
                file.replace(place / file.name)
            file.unlink(missing_ok=True)
        self.jid_file.unlink(missing_ok=True)
        self.started = False

    def wrapped_script(self, scheduler: Scheduler) -> Path:
        """Where its script is."""
        return self.metadir / f"job.wrapped.{scheduler.name}"

    async def wrap_cmd(self, scheduler: Scheduler) -> None:
        """Write the script that a scheduler of one's own submits; it keeps ``job.status`` and ``job.rc``, and clears the lock file."""
        self.wrapped_cmd = [self.CMD_WRAPPER_SHELL, str(scheduler.wrapped_job_script(self))]


def _number(file: Path, default: int) -> int:
    """The number in a file that may be missing, or just being written."""
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):
        return default
