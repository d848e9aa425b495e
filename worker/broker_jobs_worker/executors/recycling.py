"""When a warm child makes room for a new one: the remedy for libraries that leak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from broker_jobs.core.quantities import milliseconds, size_bytes
from broker_jobs.errors import ValidationError
from broker_jobs_worker.processes import look

if TYPE_CHECKING:
    from broker_jobs_worker.executors.server import Child


@dataclass(frozen=True, slots=True)
class Recycling:
    """When a child makes room for a new one, between two tasks; None is never.

    Attributes:
        tasks: after so many
        age: seconds after its start
        memory: when it takes more than so many bytes after a task
    """

    tasks: int | None = None
    age: float | None = None
    memory: int | None = None

    def last(self, child: Child) -> bool:
        """Whether a child that has just been given a task gets no further one."""
        return self.tasks is not None and child.tasks >= self.tasks

    def aged(self, child: Child, now: float) -> bool:
        """Whether a child that has run something is too old."""
        return self.age is not None and child.tasks > 0 and now - child.born >= self.age

    def worn(self, child: Child, now: float) -> bool:
        """Whether a child that has just run a task gets no further one."""
        if self.aged(child, now):
            return True
        process = look(child.pid) if self.memory is not None and child.pid is not None else None
        return process is not None and self.memory is not None and process.resident > self.memory


KEEP: Final = Recycling()
"""Children live as long as they are used."""


def given_recycling(tasks: int | None, age: str | None, memory: str | None) -> Recycling:
    """The limits as a person writes them.

    Args:
        tasks: a number
        age: seconds, or a text such as ``"2h"``
        memory: bytes, or a text such as ``"4 GiB"``

    Raises:
        ValidationError: one of them is wrong
    """
    if tasks is not None and tasks < 1:
        raise ValidationError(f"--child-max-tasks must be 1 or more, not {tasks}")
    return Recycling(
        tasks,
        None if age is None else milliseconds(age, "--child-max-age") / 1000,
        None if memory is None else size_bytes(memory, "--child-max-memory"),
    )
