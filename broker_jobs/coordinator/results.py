"""What tasks have returned on which others wait: the latest results are kept at hand, since most of them are sent on at once."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from broker_jobs.coordinator.store.parts import load_outcome
from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.wire.codec import pack

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from broker_jobs.coordinator.store import Lookups
    from broker_jobs.core.outcome import Outcome
    from broker_jobs.core.value import Value

MOST_BYTES: Final = 16 * 2**20
"""What the results take that are kept."""

_OVERHEAD: Final = 400
"""Bytes that a result takes in memory besides its own."""

_NONE: Final = Inline(Encoding.msgpack, pack(None))
"""The value of a program that succeeded."""


class Results:
    """Results of tasks, by job and number."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], Value] = OrderedDict()
        self._bytes = 0

    def keep(self, job: int, outcomes: Iterable[tuple[int, Outcome]]) -> None:
        """Keep those of tasks that have just ended, and those that came longest ago no longer."""
        for number, outcome in outcomes:
            if isinstance(outcome, Succeeded):
                value = self._kept[job, number] = _result(outcome)
                self._bytes += _cost(value)
        while self._bytes > MOST_BYTES:
            self._bytes -= _cost(self._kept.popitem(last=False)[1])

    def find(self, look: Lookups, job: int, numbers: Collection[int]) -> dict[int, Value]:
        """Those of these tasks; what has not succeeded is missing."""
        found = {number: value for number in numbers if (value := self._kept.get((job, number))) is not None}
        missing = [number for number in numbers if number not in found]
        for number, data in (look.outcomes(job, missing) if missing else {}).items():
            outcome = load_outcome(data)
            if isinstance(outcome, Succeeded):
                found[number] = _result(outcome)
        return found


def _result(outcome: Succeeded) -> Value:
    return _NONE if outcome.value is None else outcome.value


def _cost(value: Value) -> int:
    return _OVERHEAD + (value.size if isinstance(value, Inline) else 0)
