"""What was added to a job that is being written: one task, or a row of them that is kept as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from broker_jobs.core.placeholders import ARRAY_ID
from broker_jobs.wire.messages import Outside, Program

if TYPE_CHECKING:
    from broker_jobs.client.placeholders import Placeholder
    from broker_jobs.core.data import DataRef
    from broker_jobs.core.plain import Plain
    from broker_jobs.core.spec import TaskOptions
    from broker_jobs.core.step import StepSpec

ENTRY: Final = "BROKER_JOBS_ENTRY"
"""Variable with the entry of a task of an array."""

Setup = Callable[[], object]
"""A function that runs once in each process."""


@dataclass(frozen=True, slots=True)
class CallWork:
    """A function and its arguments."""

    function: Callable[..., object]
    args: tuple[object, ...]
    kwargs: dict[str, object]
    setup: Setup | None


@dataclass(frozen=True, slots=True)
class MapWork:
    """A function, and its arguments for a row of tasks: one column for each parameter."""

    function: Callable[..., object]
    columns: tuple[Sequence[object], ...]
    setup: Setup | None


@dataclass(frozen=True, slots=True)
class ArrayWork:
    """A program, and what tells the tasks of a row apart: their chosen ids, and a text for each."""

    program: Program
    ids: Sequence[int]
    entries: Sequence[str] | None

    def of(self, index: int) -> Program:
        """The program of one task."""
        env = ((ARRAY_ID, str(self.ids[index])),)
        return replace(self.program, env=env if self.entries is None else (*env, (ENTRY, self.entries[index])))


@dataclass(frozen=True, slots=True)
class StepWork:
    """A step and its parameters.

    Attributes:
        parameters: plain data
        places: by name, what stands for the results of other tasks
        slots: the data in its slots
    """

    spec: StepSpec
    parameters: dict[str, Plain]
    places: dict[str, Placeholder]
    slots: tuple[tuple[str, tuple[DataRef, ...]], ...] = ()


Work = Program | CallWork | MapWork | ArrayWork | StepWork


@dataclass(frozen=True, slots=True)
class Entry:
    """Tasks that were added together: one, or the row of a `Job.map` or a `Job.array`."""

    first: int
    count: int
    name: str
    work: Work
    options: TaskOptions
    deps: tuple[int, ...]
    after: tuple[int, ...]
    outside: tuple[Outside, ...] = ()

    @property
    def ids(self) -> Sequence[int] | None:
        """What its tasks are told apart by, or None where it is one task."""
        match self.work:
            case MapWork():
                return range(self.count)
            case ArrayWork(ids=ids):
                return ids
            case _:
                return None

    def label(self, number: int) -> str:
        """What one of its tasks is called."""
        ids = self.ids
        return self.name if ids is None else f"{self.name}[{ids[number - self.first]}]"
