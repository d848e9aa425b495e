"""The types of managed jobs: what each does when it is executed. A further type is an entry in `KINDS`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from broker_jobs.errors import ValidationError
from broker_jobs.manager.programs import condor_job, program_job, step_job, step_wanted, workflow_job

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker_jobs.client.authoring import Job
    from broker_jobs.client.client import Client
    from broker_jobs.client.submitted import SubmittedJob
    from broker_jobs.manager.record import JobRecord


class JobType(Protocol):
    """A type of jobs.

    Attributes:
        has_work: jobs of this type become a job of the client, which is what their status follows
    """

    has_work: ClassVar[bool]

    def check(self, record: JobRecord) -> None:
        """`ValidationError` where a parameter is wrong; nothing was kept or sent."""

    def start(self, client: Client, record: JobRecord, key: str) -> SubmittedJob | None:
        """Send its work; None where there is none.

        Args:
            key: idempotency key of this run
        """


class Basic:
    """No work of its own: its user says how it goes."""

    has_work: ClassVar[bool] = False

    def check(self, record: JobRecord) -> None:
        """Any parameters will do."""

    def start(self, client: Client, record: JobRecord, key: str) -> SubmittedJob | None:  # noqa: ARG002 (of the protocol)
        """Nothing is sent."""
        return None


@dataclass(frozen=True, slots=True)
class Built:
    """Work that is written as a job and submitted.

    Args:
        build: writes it, from the record
    """

    build: Callable[[JobRecord], Job]
    has_work: ClassVar[bool] = True

    def check(self, record: JobRecord) -> None:
        """It can be written."""
        self.build(record)

    def start(self, client: Client, record: JobRecord, key: str) -> SubmittedJob:
        """Submit it."""
        return client.submit(self.build(record), idempotency_key=key)


class StepCalled:
    """A call of a step, which is chosen when the job is executed."""

    has_work: ClassVar[bool] = True

    def check(self, record: JobRecord) -> None:
        """It says which step; whether that is there, and what it takes, is known when it is executed."""
        step_wanted(record)

    def start(self, client: Client, record: JobRecord, key: str) -> SubmittedJob:
        """Submit it."""
        return client.submit(step_job(record, client), idempotency_key=key)


KINDS: Final[Mapping[str, JobType]] = {
    "basic": Basic(),
    "program": Built(program_job),
    "workflow": Built(workflow_job),
    "step": StepCalled(),
    "condor": Built(condor_job),
}


def kind_of(name: str) -> JobType:
    """The type of this name; `ValidationError`, which lists those that there are, where there is none."""
    if name not in KINDS:
        raise ValidationError(f"there is no job type {name!r}; there are {', '.join(KINDS)}")
    return KINDS[name]
