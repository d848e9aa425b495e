"""How long calls of a function and runs of a program take: quick ones are sent and handed over many at a time, slow ones alone."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMORY: Final = 1000
"""So many sorts of tasks are remembered, the latest ones."""
_WEIGHT: Final = 0.25
"""Of the latest task, in the average; of several that are told together, as if each were."""
_EXCEPTIONS: Final = 8
_RELUCTANCE: Final = 4
"""A busy machine makes tasks slower, and none quicker: what says that they are slower counts so much less."""
_WEATHER_MS: Final = 2.0
"""So long may a task take only because its child is cold, others are at work, or a clock of milliseconds has just moved on."""
_OF_WEATHER: Final = 16
"""What says that tasks are slower, and may be nothing but that, counts so much less."""
_LEAST_MS: Final = 0.02
"""Clocks tell milliseconds, and a task takes some time in any case."""


class Pace:
    """Running averages, by the sort of the task, such as the hash of its function; written on one thread, read on any.

    Args:
        together_ms: tasks are put together that take so many milliseconds
    """

    def __init__(self, together_ms: int) -> None:
        self._together_ms = together_ms
        self._averages: OrderedDict[str, float] = OrderedDict()

    def several_ended(self, sort: str, spent: Sequence[int]) -> None:
        """Several took so many milliseconds, one after the other; one or more.

        On a busy machine a process waits for its turn as long as hundreds of tasks take: the slowest eighth says nothing about the others.
        """
        usual = sorted(spent)[: max(len(spent) - max(1, len(spent) // _EXCEPTIONS), 1)]
        self.ended(sort, max(0, sum(usual) / len(usual)), len(spent))

    def ended(self, sort: str, milliseconds: float, count: int = 1) -> None:
        """So many of them took so long each."""
        known = self._averages.get(sort)
        if known is None:
            if len(self._averages) >= MEMORY:
                self._averages.popitem(last=False)
            known = milliseconds
        # One that is slower than expected counts at once: others may wait behind the next.
        weight = 1 - (1 - _WEIGHT) ** count
        if milliseconds > known:
            weight /= _OF_WEATHER if milliseconds <= _WEATHER_MS else _RELUCTANCE
        self._averages[sort] = max(milliseconds, known) if milliseconds > self._together_ms else known + weight * (milliseconds - known)

    def fitting(self, sort: str | None) -> int:
        """How many of them should go together; 1 as long as nothing is known."""
        known = None if sort is None else self._averages.get(sort)
        return 1 if known is None else max(1, int(self._together_ms / max(known, _LEAST_MS)))
