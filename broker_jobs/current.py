"""`current`: what a function may know of the task in which it runs.

from broker_jobs import current

def mesh(part: int) -> None:
    for step in range(10):
        ...
        current.progress(step / 10, f"step {step}")
        if current.stop_requested:
            return
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from broker_jobs.errors import NotInTask, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Current", "current"]


@dataclass(slots=True)
class Surrounding:
    """The task that runs in this process, as its child sets it.

    Attributes:
        report: takes valid progress
        nodes: hosts of a task of several nodes
        setup: what the setup of the function has returned
    """

    job: str
    task: int
    attempt: int
    execution: str
    name: str
    allocation: Mapping[str, str]
    report: Callable[[float, str], None]
    nodes: tuple[str, ...] = ()
    stop_requested: bool = field(default=False)
    setup: object = None


class Current:
    """The task in which this code runs. Outside of one, it is false, its progress goes nowhere, and its names raise `NotInTask`."""

    __slots__ = ("_surrounding",)

    def __init__(self) -> None:
        self._surrounding: Surrounding | None = None

    def __bool__(self) -> bool:
        return self._surrounding is not None

    def __repr__(self) -> str:
        if self._surrounding is None:
            return "<current: not in a task>"
        return f"<current: job {self.job}, task {self.task}, attempt {self.attempt}>"

    def __reduce__(self) -> str:
        # It travels as a name: there is one in each process.
        return "current"

    @property
    def job(self) -> str:
        """Id of the job."""
        return self._inside().job

    @property
    def task(self) -> int:
        """Number of the task in its job."""
        return self._inside().task

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1."""
        return self._inside().attempt

    @property
    def execution(self) -> str:
        """Name of this execution: the same attempt may be executed again, under another name."""
        return self._inside().execution

    @property
    def name(self) -> str:
        """What the task is called; empty where it has no name."""
        return self._inside().name

    @property
    def allocation(self) -> Mapping[str, str]:
        """The resources that the task was given, as the environment variables that say so."""
        return self._inside().allocation

    @property
    def nodes(self) -> tuple[str, ...]:
        """Hosts of the workers of a task that asked for several (``nodes=``), that of this process first; else empty."""
        return self._inside().nodes

    @property
    def setup(self) -> Any:
        """What the ``setup=`` of this task returned in this process: the same object for all tasks there. None without a setup."""
        return self._inside().setup

    @property
    def stop_requested(self) -> bool:
        """Whether the task was canceled or its time is over; what still runs after the grace is killed."""
        return self._surrounding is not None and self._surrounding.stop_requested

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far the task is; more than ten a second are dropped.

        Args:
            fraction: 0 to 1
            text: what it does, in a few words

        Raises:
            ValidationError: it is no fraction, or no text
        """
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
            raise ValidationError(f"progress is a number from 0 to 1, not {fraction!r}")
        if not isinstance(text, str):
            raise ValidationError(f"the text of a progress is a str, not {text!r}")
        if self._surrounding is not None:
            self._surrounding.report(float(fraction), text)

    def enter(self, surrounding: Surrounding | None) -> None:
        """Begin a task, or end it with None; for the child that runs it."""
        self._surrounding = surrounding

    def prepare(self, value: object) -> None:
        """Note what the setup returned; for the child that runs the task."""
        if self._surrounding is not None:
            self._surrounding.setup = value

    def request_stop(self) -> None:
        """Note that the task should stop; for the child that runs it."""
        if self._surrounding is not None:
            self._surrounding.stop_requested = True

    def _inside(self) -> Surrounding:
        if self._surrounding is None:
            raise NotInTask
        return self._surrounding


current = Current()
