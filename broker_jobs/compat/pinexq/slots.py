"""The slots of a job for data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import broker_jobs
from broker_jobs.compat.pinexq.exceptions import ApiException
from broker_jobs.compat.pinexq.workdata import WorkData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs import Client, StepRun, SubmittedJob

_Slot = TypeVar("_Slot")


@dataclass(frozen=True, slots=True)
class InputDataSlot:
    """A slot for data that a job takes."""

    name: str
    title: str
    description: str
    media_type: str
    selected_workdatas: list[WorkData]

    @classmethod
    def of(cls, client: Client, spec: Any, data: Sequence[broker_jobs.WorkData]) -> Self:
        """A slot with what is in it."""
        return cls(spec.name, spec.title, spec.description, spec.media_type, [WorkData.of(client, each) for each in data])

    @property
    def is_configured(self) -> bool:
        """Whether something is in it."""
        return bool(self.selected_workdatas)


@dataclass(frozen=True, slots=True)
class OutputDataSlot:
    """A slot for data that a job makes.

    Attributes:
        assigned_workdatas: while the job runs, what was written so far, with `read` alone
    """

    name: str
    title: str
    description: str
    media_type: str
    assigned_workdatas: list[Any]

    @classmethod
    def of(cls, client: Client, spec: Any, data: Any) -> Self:
        """A slot with what is in it."""
        found = [WorkData.of(client, each) if isinstance(each, broker_jobs.WorkData) else each for each in data]
        return cls(spec.name, spec.title, spec.description, spec.media_type, found)


def filled(slots: Sequence[_Slot], index: int) -> _Slot:
    """The slot with this number, from 0."""
    if not 0 <= index < len(slots):
        raise ApiException(f"there is no slot {index}: the step has {len(slots)}")
    return slots[index]


def made(client: Client, call: StepRun | None, job: SubmittedJob | None) -> dict[str, list[Any]]:
    """What a job has made, by slot."""
    if job is None:
        return {}
    if call is not None:
        return {slot: data if isinstance(data, list) else [data] for slot, data in call.outputs().items()}
    found: dict[str, list[Any]] = {}
    for data in reversed(client.datasets(job=job, limit=None)):
        found.setdefault(data.info.slot, []).append(data)
    return found
