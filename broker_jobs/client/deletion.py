"""Deleting a job with what belongs to it: the jobs inside it, what it has made, what it took; bottom up, and every part is reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from broker_jobs.client import control
from broker_jobs.client.data import select
from broker_jobs.errors import BrokerJobsError, LookupFailed
from broker_jobs.ids import short
from broker_jobs.wire.messages import DataDeleted, DeleteData, ListData, ListJobs

if TYPE_CHECKING:
    from broker_jobs.client.core import Core
    from broker_jobs.wire.messages import DataInfo, JobInfo


@dataclass(frozen=True, slots=True)
class DeletedPart:
    """A job or data, and what became of it.

    Attributes:
        kind: ``job`` or ``data``
        reason: why it was kept: the rule, and what it names; empty where it is gone
    """

    kind: Literal["job", "data"]
    id: str
    name: str
    reason: str = ""

    @property
    def deleted(self) -> bool:
        """Whether it is gone."""
        return not self.reason

    def __str__(self) -> str:
        return f"{self.kind} {short(self.id)} {self.name!r}: {self.reason or 'deleted'}"


@dataclass(frozen=True, slots=True)
class Deletion:
    """What became of all parts, in the order in which they were tried."""

    parts: tuple[DeletedPart, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everything is gone that was to be."""
        return all(part.deleted for part in self.parts)

    @property
    def kept(self) -> tuple[DeletedPart, ...]:
        """What is still there, and why."""
        return tuple(part for part in self.parts if not part.deleted)


@dataclass(slots=True)
class _Sweep:
    """Deletes, and notes what comes of it."""

    core: Core
    outputs: bool
    inputs: bool
    sub_jobs: bool
    parts: list[DeletedPart] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    async def job(self, info: JobInfo) -> None:
        """A job with what belongs to it."""
        self.seen.add(info.job)
        if self.sub_jobs:
            for below in await control.find(self.core, ListJobs(parent=info.job), None):
                if below.job not in self.seen:
                    await self.job(below)
        taken = await select(self.core, ListData(used_by=info.job), None) if self.inputs else []
        if self.outputs:
            for made in await select(self.core, ListData(made_by=info.job), None):
                await self._data(made)
        try:
            await control.forget_all(self.core, (info.job,))
        except BrokerJobsError as error:
            self.parts.append(DeletedPart("job", info.job, info.name, str(error)))
        else:
            self.parts.append(DeletedPart("job", info.job, info.name))
        for data in taken:
            await self._data(data)

    async def _data(self, info: DataInfo) -> None:
        if info.data.id in self.seen:
            return
        try:
            await self.core.ask(DeleteData(info.data.id), DataDeleted)
        except LookupFailed:
            self.seen.add(info.data.id)  # somebody else was quicker
        except BrokerJobsError as error:
            # It may go later, with another job that takes it.
            self.parts.append(DeletedPart("data", info.data.id, info.data.name, str(error)))
        else:
            self.seen.add(info.data.id)
            self.parts.append(DeletedPart("data", info.data.id, info.data.name))


async def delete_all(core: Core, job: str, *, outputs: bool, inputs: bool, sub_jobs: bool) -> Deletion:
    """Delete a job with what belongs to it; what is kept is reported, and never an error.

    Raises:
        JobNotFound: there is no such job
    """
    sweep = _Sweep(core, outputs, inputs, sub_jobs)
    await sweep.job(await core.find(job))
    gone = {part.id for part in sweep.parts if part.deleted}
    return Deletion(tuple(part for part in sweep.parts if part.deleted or part.id not in gone))
