"""What is kept of a job in its folder, so that the next process of the worker can go on with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from broker_jobs.core.spec import TaskOptions
from broker_jobs.errors import DecodeError
from broker_jobs.wire.codec import decode_part, encode_part
from broker_jobs.wire.messages import Origin, Program
from broker_jobs_worker.executors.port import Execution

_NO_ORIGIN: Final = Origin("", "", "")


@dataclass(frozen=True, slots=True)
class Record:
    """A job, and the execution that it is.

    Attributes:
        id: the batch system's
        system: name of the executor, which knows the id
        argv: of the program, for messages, without its arguments
        env: variables of the program, of which some are in names of files
    """

    tag: ClassVar[str] = "batch job"
    id: str
    system: str
    execution: str
    job: str
    task: int
    attempt: int
    argv: tuple[bytes, ...]
    env: tuple[tuple[str, str], ...]
    options: TaskOptions
    submitter: str
    resource_class: str

    @classmethod
    def of(cls, execution: Execution, program: Program, id: str, system: str) -> Record:  # noqa: A002 (as the field)
        """What to keep of an execution."""
        return cls(
            id,
            system,
            execution.execution,
            execution.job,
            execution.task,
            execution.attempt,
            program.argv[:1],
            program.env,
            execution.options,
            execution.submitter,
            execution.resource_class,
        )

    def restored(self) -> Execution:
        """The execution, as far as it is needed while it runs."""
        return Execution(
            self.execution,
            self.job,
            self.task,
            self.attempt,
            Program(self.argv, env=self.env),
            self.options,
            _NO_ORIGIN,
            submitter=self.submitter,
            resource_class=self.resource_class,
        )


def packed(record: Record) -> bytes:
    """The bytes of a record."""
    return encode_part(record)


def unpacked(data: bytes) -> Record | None:
    """The record in these bytes; None where there is none, as of a later version."""
    try:
        return decode_part(Record, data)
    except DecodeError:
        return None
