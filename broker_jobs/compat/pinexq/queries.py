"""Queries: made with filters, run when they are asked. What they find is in the order of broker-jobs, the newest first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime
from glob import escape
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from broker_jobs import JobState, StepRun
from broker_jobs.compat.pinexq.exceptions import ApiException, translated
from broker_jobs.compat.pinexq.group import JobGroup
from broker_jobs.compat.pinexq.job import Job
from broker_jobs.compat.pinexq.states import STATES, JobStates
from broker_jobs.compat.pinexq.step import ProcessingStep
from broker_jobs.compat.pinexq.tags import HIDDEN, linked
from broker_jobs.compat.pinexq.workdata import WorkData

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from broker_jobs import Client

_Entity = TypeVar("_Entity")


@dataclass
class _Query(ABC, Generic[_Entity]):
    """What has all of `tags_by_and` and one of `tags_by_or`; of what is hidden nothing (False), only that (True), or all (None)."""

    client: Client
    tags_by_and: Iterable[str] = ()
    tags_by_or: Iterable[str] = ()
    show_hidden: bool | None = False
    created_before: datetime | None = None
    created_after: datetime | None = None

    @classmethod
    def create(cls, client: Client, **filters: Any) -> Self:
        """A query with these filters: the attributes of this class, all of which must hold."""
        return cls(client, **filters)

    @abstractmethod
    def _found(self) -> list[_Entity]: ...

    @translated()
    def to_list(self) -> list[_Entity]:
        """All that fits; the pages of the ledger are put together."""
        return self._found()

    execute = to_list

    def iter(self) -> Iterator[_Entity]:
        """One after the other."""
        return iter(self.to_list())

    def count(self) -> int:
        """How many there are."""
        return len(self.to_list())

    def exists(self) -> bool:
        """Whether there is one."""
        return bool(self.to_list())

    def first(self) -> _Entity | None:
        """The first, or None."""
        return next(self.iter(), None)

    def one(self) -> _Entity:
        """The only one; `ApiException` where there is none, or are several."""
        found = self.to_list()
        if len(found) != 1:
            raise ApiException(f"Expected exactly one entity, but found {len(found)}.")
        return found[0]

    def _fits(self, tags: Iterable[str], created_ms: int | None = None) -> bool:
        there, some, created = set(tags), set(self.tags_by_or), datetime.fromtimestamp((created_ms or 0) / 1000, UTC)
        in_time = (self.created_before is None or created < self.created_before) and (
            self.created_after is None or created > self.created_after
        )
        return in_time and self.show_hidden in {None, HIDDEN in there} and (not some or bool(some & there))


@dataclass
class JobQuery(_Query[Job]):
    """Jobs that were started, by any process; `name` is a part of the name."""

    state: JobStates | None = None
    name: str = ""
    work_data_url: str | None = None
    is_sub_job: bool | None = None
    parent_job_url: str | None = None

    def _found(self) -> list[Job]:
        users = self.client.data(*linked("data", self.work_data_url)).used_by() if self.work_data_url else None
        parent = linked("job", self.parent_job_url)[0] if self.parent_job_url else None
        states = [ours.value for ours, theirs in STATES.items() if self.state in {None, theirs} and ours.value in set(JobState)]
        pattern = f"*{escape(self.name)}*"
        found = self.client.jobs(state=states, tags=self.tags_by_and, name=pattern, parent=parent, limit=None) if states else []
        there = [(job, job.view.info) for job in found if users is None or job.id in users]
        return [
            Job.over(self.client, job)
            for job, info in there
            if info and self._fits(info.tags, info.submitted_ms) and self.is_sub_job in {None, info.parent is not None}
        ]

    def to_job_group(self) -> JobGroup:
        """What is found, as a group."""
        return JobGroup.from_query_result(self.client, self.to_list())


@dataclass
class WorkDataQuery(_Query[WorkData]):
    """Data in the store; what no job takes is deletable."""

    name_contains: str = ""
    producer_processing_step_url: str | None = None
    media_type_contains: str = ""
    is_deletable: bool | None = None
    is_used: bool | None = None

    def _found(self) -> list[WorkData]:
        step = " ".join(linked("step", self.producer_processing_step_url)) if self.producer_processing_step_url else None
        pattern = f"*{escape(self.name_contains)}*"
        return [
            WorkData.of(self.client, data)
            for data in self.client.datasets(name=pattern, tags=self.tags_by_and, used=self.is_used, step=step, limit=None)
            if self.media_type_contains in data.media_type
            and self._fits(data.tags, data.info.created_ms)
            and self.is_deletable in {None, not data.info.used}
        ]


@dataclass
class ProcessingStepQuery(_Query[ProcessingStep]):
    """Steps that workers have announced; of deprecated ones and of pre-releases as of what is hidden."""

    function_name: str = ""
    title_contains: str = ""
    version: str | None = None
    show_deprecated: bool | None = False
    show_prerelease: bool | None = False

    def _found(self) -> list[ProcessingStep]:
        known = self.client.steps(f"*{escape(self.function_name)}*", tags=self.tags_by_and, schemas=True)
        return [
            ProcessingStep(self.client, StepRun(self.client, each.spec))
            for each in known
            if self._fits(each.spec.tags, each.announced_ms)
            and self.title_contains in each.spec.title
            and self.version in {None, str(each.spec.version)}
            and self.show_deprecated in {None, each.spec.deprecated is not None}
            and self.show_prerelease in {None, bool(each.spec.version.pre)}
        ]
