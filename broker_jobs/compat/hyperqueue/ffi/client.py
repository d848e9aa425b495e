"""The connection, with ids in place of jobs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import broker_jobs
from broker_jobs.compat.hyperqueue.ffi import JobId, TaskId

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_REFRESH: Final = 0.2
_ENDED: Final = frozenset({"succeeded", "failed", "canceled", "aborted"})
_DOWN_TIMEOUT: Final = 60.0


@dataclass(frozen=True)
class FailedTaskContext:
    """Why a task has failed, and where to look.

    Attributes:
        error: the traceback of a function, else a sentence
        cwd: where it ran
        stdout: the file with its standard output, where it has one
    """

    error: str
    cwd: str | None
    stdout: str | None
    stderr: str | None


TaskFailureMap = dict[JobId, dict[TaskId, FailedTaskContext]]


class ClientConnection:
    """A connection to a broker.

    Args:
        directory: state folder or address; default: this user's own node
        native: a client of broker-jobs, in place of a directory
        stop: what stops the server
    """

    def __init__(
        self, directory: str | None = None, *, native: broker_jobs.Client | None = None, stop: Callable[[], None] | None = None
    ) -> None:
        self.native = native or broker_jobs.Client(_address(directory))
        self._own = directory is None and native is None
        self._stop = stop

    def wait_for_jobs(self, job_ids: Sequence[JobId], callback: Callable[[Mapping[JobId, Mapping[str, int | bool]]], None]) -> list[JobId]:
        """Wait until jobs have ended; those that did not succeed.

        Args:
            callback: called now and then with the numbers of each job: finished, failed, total, completed
        """
        jobs = {job_id: self.native.job(job_id) for job_id in job_ids}
        while True:
            infos = {job_id: job.info() for job_id, job in jobs.items()}
            callback(
                {
                    job_id: {
                        "finished": info.counts.get("succeeded", 0),
                        "failed": info.counts.get("failed", 0),
                        "total": info.total or sum(info.counts.values()),
                        "completed": info.state.value in _ENDED,
                    }
                    for job_id, info in infos.items()
                }
            )
            waiting = [jobs[job_id] for job_id, info in infos.items() if info.state.value not in _ENDED]
            if not waiting:
                return [job_id for job_id, info in infos.items() if info.state.value != "succeeded"]
            try:
                self.native.wait_for_jobs(waiting, timeout=_REFRESH, raise_on_error=False, progress=False)
            except TimeoutError:
                continue

    def failures(self, job_id: JobId) -> dict[TaskId, str]:
        """The texts of all failures of a job, by task."""
        job = self.native.job(job_id)
        failed = [task.number for task in job.tasks() if task.state.value == "failed"]
        return {task.number: _text(task.outcome) for task in (job.tasks(failed) if failed else ())}

    def forget_job(self, job_id: JobId) -> None:
        """Drop a job that has ended; `RuntimeError` where it has not, or is not known."""
        try:
            self.native.job(job_id).forget()
        except broker_jobs.BrokerJobsError as error:
            raise RuntimeError(f"Cannot forget job {job_id}. {error}") from error

    def stop_server(self) -> None:
        """End what serves this client: its own node, or its cluster; `RuntimeError` where it is another's."""
        if self._stop is not None:
            self._stop()
        elif self._own:
            self.native.close()
            subprocess.run([sys.executable, "-P", "-m", "broker_jobs", "down"], check=True, timeout=_DOWN_TIMEOUT, capture_output=True)
        else:
            raise RuntimeError("coordinators and workers are stopped where they were started")


def _address(directory: str | None) -> str | None:
    """A state folder as an address; what is an address already stays."""
    return directory if directory is None or "://" in directory else f"sqlite:///{directory}/queue.db"


def _text(outcome: object) -> str:
    """A failure as HyperQueue tells it."""
    traceback, exit_code = getattr(outcome, "traceback", ""), getattr(outcome, "exit_code", None)
    if traceback:
        return str(traceback)
    if exit_code is not None:
        return f"Program terminated with exit code {exit_code}."
    return str(getattr(outcome, "message", "it failed"))
