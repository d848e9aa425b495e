"""The keys of inputs, and chunks whose tasks get other numbers."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from broker_jobs.wire.messages import Program

if TYPE_CHECKING:
    from broker_jobs.wire.messages import Chunk, Task

_LONGEST: Final = 10


def is_task(key: str) -> bool:
    """Whether an input is the result of a task of the same job, by its number, not a value (64 hexadecimal digits)."""
    return len(key) <= _LONGEST and key.isascii() and key.isdigit()


def outside_key(job: str, task: int) -> str:
    """The key of the result of a task of another job."""
    return hashlib.sha256(f"{job}:{task}".encode()).hexdigest()


def shifted(chunk: Chunk, first: int) -> Chunk:
    """The chunk with numbers that begin at `first`, in a job that has tasks already; those among the needs become ordinary ones.

    Its name is moved too, since a job has as many chunks as tasks at most.
    """
    tasks = tuple(_shifted(task, chunk.job, first) for task in chunk.tasks)
    return replace(chunk, chunk=str(int(chunk.chunk) + first), tasks=tasks)


def _shifted(task: Task, job: str, first: int) -> Task:
    here = [other for other in task.outside if other.job == job]
    keys = {outside_key(job, other.task): str(other.task) for other in here}
    work = task.work
    if not isinstance(work, Program) and work.inputs:
        work = replace(work, inputs=tuple(str(int(key) + first) if is_task(key) else keys.get(key, key) for key in work.inputs))
    return replace(
        task,
        number=task.number + first,
        work=work,
        deps=(*(number + first for number in task.deps), *dict.fromkeys(other.task for other in here if not other.after)),
        after=(*(number + first for number in task.after), *dict.fromkeys(other.task for other in here if other.after)),
        outside=tuple(other for other in task.outside if other.job != job),
    )
