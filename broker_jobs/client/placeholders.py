"""What stands for values that are not there yet, and for tasks of jobs that were submitted earlier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker_jobs.errors import ValidationError
from broker_jobs.ids import short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs.client.authoring import Job, Task, TaskArray


@dataclass(frozen=True, slots=True)
class EarlierTask:
    """A task of a job that was submitted: to be waited for, or to take the result of, by tasks of later jobs.

    Attributes:
        job: id of its job
        number: inside its job
    """

    job: str
    number: int

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"of job {short(self.job)}"

    @property
    def output(self) -> TaskOutput:
        """Its result, there or still to come, to be given to functions of later jobs as an argument, or anywhere inside one."""
        return TaskOutput(self)


class Placeholder:
    """Stands for a value that is not there yet; only as an argument of a task."""

    __slots__ = ()

    def __reduce__(self) -> str:
        # Places are written before pickle asks for this, so it was met somewhere else.
        raise ValidationError(f"{self!r} can only be an argument of a task, or be inside one")


class TaskOutput(Placeholder):
    """The future result of a task, or a part of it: ``task.output["key"][0]``."""

    __slots__ = ("path", "task")

    # Without it, Python would ask for [0], [1], … without end.
    __iter__ = None

    def __init__(self, task: Task | EarlierTask, path: tuple[object, ...] = ()) -> None:
        self.task = task
        self.path = path

    def __getitem__(self, key: object) -> TaskOutput:
        return TaskOutput(self.task, (*self.path, key))

    def __repr__(self) -> str:
        return f"<output of task {self.task.number} {self.task.name!r}{''.join(f'[{key!r}]' for key in self.path)}>"


class ArrayOutput(Placeholder):
    """The future list of the results of a task array."""

    __slots__ = ("array",)

    def __init__(self, array: TaskArray) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> TaskOutput:
        return self.array[index].output

    def __iter__(self) -> Iterator[TaskOutput]:
        return (task.output for task in self.array)

    def __repr__(self) -> str:
        return f"<outputs of {self.array!r}>"


class JobValue(Placeholder):
    """A large argument that is sent once for many tasks."""

    __slots__ = ("job", "value")

    def __init__(self, job: Job, value: object) -> None:
        self.job = job
        self.value = value

    def __repr__(self) -> str:
        return f"<job value of type {type(self.value).__name__}>"
