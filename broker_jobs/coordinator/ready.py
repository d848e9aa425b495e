"""Attempts that may start, in their order; pure."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Ready(NamedTuple):
    """An attempt that may start.

    Attributes:
        size: bytes of the task
    """

    number: int
    attempt: int
    size: int


class Heap:
    """The lowest number comes first. Those in a row that come together, and are alike, take the room of one."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int]] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Ready]:
        """All of them, in no order."""
        return (Ready(number, attempt, size) for first, attempt, size, stop in self._rows for number in range(first, stop))

    @property
    def first(self) -> Ready:
        """The next one."""
        return Ready._make(self._rows[0][:3])

    def push(self, tasks: Iterable[Ready]) -> None:
        """Add some."""
        first = stop = attempt = size = 0
        for task in tasks:
            if task != (stop, attempt, size):
                self._push(first, attempt, size, stop)
                first, attempt, size = task
            stop = task.number + 1
        self._push(first, attempt, size, stop)

    def pop(self) -> Ready:
        """Take the next one out."""
        number, attempt, size, stop = self._rows[0]
        if number + 1 < stop:
            heapq.heapreplace(self._rows, (number + 1, attempt, size, stop))
        else:
            heapq.heappop(self._rows)
        self._length -= 1
        return Ready(number, attempt, size)

    def before(self, number: int) -> int:
        """How many have a lower number than this."""
        return sum(max(0, min(stop, number) - first) for first, _, _, stop in self._rows)

    def _push(self, first: int, attempt: int, size: int, stop: int) -> None:
        if first < stop:
            heapq.heappush(self._rows, (first, attempt, size, stop))
            self._length += stop - first
