"""Several jobs together, and queries, which find them."""

from __future__ import annotations

from dataclasses import dataclass
from glob import escape
from typing import TYPE_CHECKING, Any, Self

from broker_jobs import JobState
from broker_jobs.compat.pinexq.exceptions import Translating
from broker_jobs.compat.pinexq.job import HIDDEN, STATES, Job, JobStates

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from broker_jobs import Client


class JobGroup(Translating):
    """A set of jobs, in this process; states are asked for when they are needed."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._jobs: dict[Job, None] = {}

    def add_jobs(self, jobs: Job | list[Job]) -> Self:
        """Add one or several."""
        self._jobs.update(dict.fromkeys(jobs if isinstance(jobs, list) else [jobs]))
        return self

    def start_all(self) -> Self:
        """Start all, one after the other, up to the first that cannot be."""
        for job in self._jobs:
            job.start()
        return self

    def wait_all(self, job_timeout_s: float | None = None, total_timeout_s: float | None = None) -> Self:
        """Wait until all have ended, however they end: so long for each, and for all; `PollingTimeout` names those that are late."""
        each = None if job_timeout_s is None else job_timeout_s * len(self._jobs)
        timeout = min((seconds for seconds in (each, total_timeout_s) if seconds is not None), default=None)
        self.client.wait_for_jobs([job.native for job in self._jobs], timeout=timeout, raise_on_error=False, progress=False)
        return self

    def get_jobs(self, *states: JobStates) -> list[Job]:
        """All, in the order in which they were added; or those in one of these states."""
        return [job for job in self._jobs if not states or job.get_state() in states]

    def get_completed_jobs(self) -> list[Job]:
        """Those that have completed."""
        return self.get_jobs(JobStates.completed)

    def get_incomplete_jobs(self) -> list[Job]:
        """Those that wait or run."""
        return self.get_jobs(JobStates.processing, JobStates.pending)

    def get_error_jobs(self) -> list[Job]:
        """Those that ended with an error."""
        return self.get_jobs(JobStates.error)

    def all_jobs_completed_ok(self) -> bool:
        """Whether all have completed; of none, yes."""
        return len(self.get_completed_jobs()) == len(self._jobs)


@dataclass(kw_only=True)
class JobQuery(Translating):
    """Jobs that were started, by any process; of what is hidden nothing (False), only that (True), or all (None)."""

    client: Client
    state: JobStates | None = None
    name: str = ""
    tags_by_and: Iterable[str] = ()
    tags_by_or: Iterable[str] = ()
    parent_job_url: str | None = None
    show_hidden: bool | None = False

    @classmethod
    def create(cls, client: Client, **filters: Any) -> Self:
        """A query with these filters, all of which must hold; `name` is a part of the name. It looks when it is asked."""
        return cls(client=client, **filters)

    def to_list(self) -> list[Job]:
        """All that fits, the newest first; the pages of the ledger are put together."""
        states = [ours.value for ours, theirs in STATES.items() if self.state in {None, theirs} and ours.value in set(JobState)]
        found = self.client.jobs(
            state=states,
            tags=[*self.tags_by_and, *([HIDDEN] if self.show_hidden else [])],
            tags_any=self.tags_by_or,
            without_tags=[HIDDEN] if self.show_hidden is False else [],
            name=f"*{escape(self.name)}*",
            parent=self.parent_job_url,
            limit=None,
        )
        return [Job(self.client, native) for native in found] if states else []

    def iter(self) -> Iterator[Job]:
        """One after the other."""
        return iter(self.to_list())

    def count(self) -> int:
        """How many there are."""
        return len(self.to_list())
