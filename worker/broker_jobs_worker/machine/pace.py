"""How long calls of a function and runs of a program take: quick ones are handed over many at a time, slow ones alone."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from broker_jobs.core.pace import usual

if TYPE_CHECKING:
    from collections.abc import Sequence

LINE_MS: Final = 50
"""A line should take about so many milliseconds: it holds back a cancel, a drain, and what the end of one waits for."""
MEMORY: Final = 1000
"""So many sorts of tasks are remembered, the latest ones."""
_WEIGHT: Final = 0.25
"""Of the latest task, in the average; of several that are told together, as if each were."""
_LEAST_MS: Final = 0.05


class Pace:
    """Running averages, by the sort of the task."""

    def __init__(self) -> None:
        self._averages: OrderedDict[str, float] = OrderedDict()

    def line_ended(self, sort: str, spent: Sequence[int]) -> None:
        """Several took so many milliseconds, one after the other."""
        self.ended(sort, usual(spent), len(spent))

    def ended(self, sort: str, milliseconds: float, count: int = 1) -> None:
        """So many of them took so long each."""
        known = self._averages.get(sort)
        if known is None:
            if len(self._averages) >= MEMORY:
                self._averages.popitem(last=False)
            known = milliseconds
        # One that is slower than expected counts at once: others may wait behind the next.
        weight = 1 - (1 - _WEIGHT) ** count
        self._averages[sort] = max(milliseconds, known) if milliseconds > LINE_MS else known + weight * (milliseconds - known)

    def fitting(self, sort: str) -> int:
        """How many of them make a line; 1 as long as nothing is known."""
        known = self._averages.get(sort)
        return 1 if known is None else max(1, int(LINE_MS / max(known, _LEAST_MS)))
