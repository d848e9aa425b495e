"""What submitters submit, and what has to come of it: both follow from a key, so that nobody has to be believed; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Final, TypeAlias

from broker_jobs import Job, Retry
from tests.system.chaos import work

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker_jobs import Task

FAN_IN: Final = 3
PROGRAM: Final = (
    'printf \'{"key": "%s", "number": %d, "layer": 0, "begun": %s, "worker": "%s", "attempt": %d}\\n\' '
    '"$1" "$2" "$(cut -d" " -f1 /proc/uptime)" "$CHAOS_WORKER" "$BROKER_JOBS_ATTEMPT" >>"$0/effects-$CHAOS_WORKER.jsonl"'
)


class Shape(StrEnum):
    """Kinds of jobs."""

    flat = "flat"
    """Tasks that may all start at once."""
    layers = "layers"
    """Each task takes values of the layer before."""
    large = "large"
    """The same, with large values."""
    retried = "retried"
    """Each task fails at first, and is tried again."""
    failing = "failing"
    """Some tasks fail for good."""
    programs = "programs"
    """Programs instead of functions."""
    chains = "chains"
    """Quick tasks in rows, of which a worker runs one after the other by itself."""


_QUICK: Final = 0.002
"""Seconds that a task of a chain takes: it goes out with others only where it is known to be quick."""

_DECK: Final = (
    *(Shape.layers, Shape.flat, Shape.layers, Shape.retried, Shape.layers),
    *(Shape.failing, Shape.chains, Shape.large, Shape.programs, Shape.chains),
)
_SIZES: Final = {
    Shape.flat: (1, 60),
    Shape.layers: (5, 12),
    Shape.large: (3, 8),
    Shape.retried: (1, 24),
    Shape.failing: (2, 16),
    Shape.programs: (1, 12),
    Shape.chains: (40, 2),
}
"""Layers, and tasks in each."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A task fails, with this in its message."""

    text: str


Expected: TypeAlias = "str | int | Failure"


@dataclass(frozen=True, slots=True)
class Plan:
    """A job.

    Attributes:
        key: its name; what its tasks return follows from it
        seconds: how long each task takes
    """

    key: str
    shape: Shape
    seconds: float
    parents: tuple[tuple[int, ...], ...]

    @property
    def keyed(self) -> bool:
        """Whether it is submitted with an idempotency key, and again until that is confirmed."""
        return int(self.key.rpartition("-")[2]) % 2 == 0

    def layer(self, number: int) -> int:
        """In which layer a task is: of any but the first, a coordinator has released it. Of a chain that says nothing."""
        return 0 if self.shape is Shape.chains else number // _SIZES[self.shape][1]

    def fails(self, number: int) -> bool:
        """Whether a task fails for good."""
        return self.shape is Shape.failing and self.layer(number) == 1 and number % 4 == 0

    def job(self, folder: str) -> Job:
        """The job, to be submitted; its tasks leave their lines in this folder."""
        job = Job(name=self.key)
        tasks: list[Task] = []
        for number, parents in enumerate(self.parents):
            if self.shape is Shape.programs:
                argv = ["sh", "-c", PROGRAM, folder, self.key, str(number)]
                tasks.append(job.program(argv, crash_limit="unlimited"))
                continue
            values = [tasks[parent].output for parent in parents]
            seconds = _QUICK if self.shape is Shape.chains else self.seconds
            args = (folder, self.key, number, self.layer(number), seconds, *values)
            retry = Retry(max_attempts=2, backoff=0.5) if self.shape is Shape.retried else Retry(max_attempts=1)
            tasks.append(job.function(self._function(number), args=args, retry=retry, crash_limit="unlimited"))
        return job

    def _function(self, number: int) -> Callable[..., str]:
        match self.shape:
            case Shape.large:
                return work.work_large
            case Shape.retried:
                return work.work_again
            case Shape.failing if self.fails(number):
                return work.fail
            case _:
                return work.work

    def expected(self) -> dict[int, Expected]:
        """What has to come of each task."""
        found: dict[int, Expected] = {}
        values: list[str] = []
        for number, parents in enumerate(self.parents):
            value = work.digest(self.key, number, tuple(values[parent] for parent in parents))
            values.append(work.large(value) if self.shape is Shape.large else value)
            if self.shape is Shape.programs:
                found[number] = 0
            elif self.fails(number):
                found[number] = Failure(f"{self.key} {number}")
            else:
                found[number] = values[-1]
        return found


def submitter_of(key: str) -> int:
    """The number of the submitter of a job."""
    return int(key.split("-")[-2])


def plan(seed: int, submitter: int, ordinal: int, seconds: float) -> Plan:
    """The job of this number of a submitter."""
    chance = Random(f"{seed} {submitter} {ordinal}")
    shape = _DECK[(ordinal + submitter * 3) % len(_DECK)]
    layers, width = _SIZES[shape]
    parents: list[tuple[int, ...]] = []
    for layer in range(layers):
        before = range((layer - 1) * width, layer * width)
        if shape is Shape.chains:
            parents += [(number,) for number in before] if layer else [()] * width
        else:
            parents += [tuple(sorted(chance.sample(before, FAN_IN))) if layer else () for _ in range(width)]
    return Plan(f"chaos-{seed}-{submitter}-{ordinal}", shape, seconds, tuple(parents))
