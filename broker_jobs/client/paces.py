"""How long calls of a function take, as far as this client has heard: of quick ones, many travel together from the beginning."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.pace import usual
from broker_jobs.wire.messages import Ended

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.wire.messages import ReplyItem

WORTH_MS: Final = 10
"""Work of so many milliseconds is worth a message of its own."""
_LEAST_MS: Final = 0.05
_MEMORY: Final = 1000
_WEIGHT: Final = 0.5
"""Of the latest reply, in the average."""


class Paces:
    """Running averages, by the hash of the function; written on one thread, read on any."""

    def __init__(self) -> None:
        self._averages: OrderedDict[str, float] = OrderedDict()

    def heard(self, function: str, items: Iterable[ReplyItem]) -> None:
        """Calls of a function have ended."""
        spent = [item.ended_ms - item.started_ms for item in items if isinstance(item, Ended) and isinstance(item.outcome, Succeeded)]
        if not spent:
            return
        mean = max(0, usual(spent))
        known = self._averages.get(function, mean)
        # One that has become slower counts at once: its tasks shall not stand behind each other.
        self._averages[function] = mean if mean > known else known + _WEIGHT * (mean - known)
        if len(self._averages) > _MEMORY:
            self._averages.popitem(last=False)

    def worth(self, function: str | None) -> int:
        """How many calls are worth a message; 1 where nothing is known."""
        known = None if function is None else self._averages.get(function)
        return 1 if known is None else max(1, int(WORTH_MS / max(known, _LEAST_MS)))
