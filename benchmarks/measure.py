"""What a side of a case is given, and what it answers. Plain Python: it is imported in the environment of the peers too."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST: Final = 200
"""Tasks of the first try, which warms up what is to be measured."""
GROWTH: Final = 10
WARM_UP: Final = 10
ALLOWANCE: Final = 1.25
"""A little longer is fine where all tasks are done."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a side may use.

    Attributes:
        tasks: how many to do
        seconds: what one measurement should take at most; slower systems do fewer tasks
        url: address of a virtual host of its own on RabbitMQ, or empty
        folder: for its files
    """

    tasks: int
    seconds: float
    url: str
    folder: str


@dataclass(frozen=True, slots=True)
class Measure:
    """What was measured.

    Attributes:
        tasks: how many were done
        figures: numbers by the names that the case has for them
    """

    tasks: int
    figures: dict[str, float]


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def growing(setting: Setting, work: Callable[[int], object], first: int = FIRST) -> tuple[int, float]:
    """Do more and more tasks, up to ten times as many each time, until all are done at once, or as many as the time is enough for.

    Returns:
        how many tasks the last step had, and its seconds
    """
    tasks = min(first, setting.tasks)
    work(min(WARM_UP, tasks))  # connections, imports and children are there from now on
    while True:
        seconds = timed(lambda: work(tasks))  # noqa: B023 (called at once)
        more = min(tasks * GROWTH, setting.tasks)
        if seconds * more / tasks > setting.seconds * ALLOWANCE:
            more = rounded(setting.seconds * tasks / seconds)
        if more < tasks * 2:
            return tasks, seconds
        tasks = more


def rounded(number: float) -> int:
    """Down to two digits and zeros, which read better."""
    unit = 10 ** max(0, math.floor(math.log10(max(number, 1))) - 1)
    return int(number // unit) * unit


def rate(setting: Setting, work: Callable[[int], object], first: int = FIRST) -> Measure:
    """Tasks a second, of as many tasks as `growing` comes to."""
    tasks, seconds = growing(setting, work, first)
    return Measure(tasks, {"rate": tasks / seconds})
