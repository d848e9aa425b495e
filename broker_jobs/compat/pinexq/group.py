"""Several jobs together."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from broker_jobs.compat.pinexq.exceptions import PollingException, PollingTimeout
from broker_jobs.compat.pinexq.states import ENDED, JobStates

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs import Client
    from broker_jobs.compat.pinexq.job import Job

_ENDLESS = 1e9
_PAUSE = 0.05


class JobGroup:
    """A set of jobs, in this process; states are asked for when they are needed."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._jobs: dict[Job, None] = {}

    @classmethod
    def from_query_result(cls, client: Client, jobs: Iterable[Job]) -> Self:
        """The jobs that a query has found."""
        return cls(client).add_jobs(list(jobs))

    def add_jobs(self, jobs: Job | list[Job]) -> Self:
        """Add one or several."""
        self._jobs.update(dict.fromkeys(jobs if isinstance(jobs, list) else [jobs]))
        return self

    def remove(self, jobs: Job | list[Job]) -> Self:
        """Take one or several out; `KeyError` where one is not in it."""
        for job in jobs if isinstance(jobs, list) else [jobs]:
            del self._jobs[job]
        return self

    def clear(self) -> Self:
        """Take all out."""
        self._jobs.clear()
        return self

    def is_empty(self) -> bool:
        """Whether there is none."""
        return not self._jobs

    def start_all(self) -> Self:
        """Start all, one after the other, up to the first that cannot be."""
        for job in self._jobs:
            job.start()
        return self

    def wait_all(self, job_timeout_s: float | None = None, total_timeout_s: float | None = None) -> Self:
        """Wait until all have ended, however they end.

        Raises:
            PollingTimeout: some have not, in the time for each or for all; pinexQ's group says nothing of the former
        """
        deadline, late = time.monotonic() + (_ENDLESS if total_timeout_s is None else total_timeout_s), []
        for job in self._jobs:
            with suppress(PollingException):  # `has_error_jobs` tells
                job.wait_for_completion(min(_ENDLESS if job_timeout_s is None else job_timeout_s, max(deadline - time.monotonic(), 0)))
            if job.get_state() not in ENDED:
                late.append(job.get_name())
        if late:
            raise PollingTimeout(f"Timeout waiting for {len(late)} of {len(self._jobs)} jobs: {', '.join(late)}")
        return self

    def wait_any(self, timeout_s: float | None = None) -> Self:
        """Wait until one has completed; `PollingException` where one has ended otherwise, `PollingTimeout` where it takes too long."""
        deadline = time.monotonic() + (_ENDLESS if timeout_s is None else timeout_s)
        while not (ended := self._in(*ENDED)) and self._jobs:
            if time.monotonic() > deadline:
                raise PollingTimeout(f"Timeout waiting for one of {len(self._jobs)} jobs")
            time.sleep(_PAUSE)
        for job in ended:
            job.wait_for_completion()
        return self

    def get_jobs(self) -> list[Job]:
        """All, in the order in which they were added."""
        return list(self._jobs)

    def get_completed_jobs(self) -> list[Job]:
        """Those that have completed."""
        return self._in(JobStates.completed)

    def get_incomplete_jobs(self) -> list[Job]:
        """Those that wait or run."""
        return self._in(JobStates.processing, JobStates.pending)

    def get_error_jobs(self) -> list[Job]:
        """Those that ended with an error."""
        return self._in(JobStates.error)

    def all_jobs_completed_ok(self) -> bool:
        """Whether all have completed; of none, yes."""
        return len(self.get_completed_jobs()) == len(self._jobs)

    def has_completed_jobs(self) -> bool:
        """Whether one has completed."""
        return bool(self.get_completed_jobs())

    def has_incomplete_jobs(self) -> bool:
        """Whether one waits or runs."""
        return bool(self.get_incomplete_jobs())

    def has_error_jobs(self) -> bool:
        """Whether one ended with an error."""
        return bool(self.get_error_jobs())

    def remove_completed_jobs(self) -> Self:
        """Take those out that have completed."""
        return self.remove(self.get_completed_jobs())

    def remove_incomplete_jobs(self) -> Self:
        """Take those out that wait or run."""
        return self.remove(self.get_incomplete_jobs())

    def remove_error_jobs(self) -> Self:
        """Take those out that ended with an error."""
        return self.remove(self.get_error_jobs())

    def _in(self, *states: JobStates) -> list[Job]:
        return [job for job in self._jobs if job.get_state() in states]
