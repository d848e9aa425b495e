"""The numbers of an open job: each submission gets a range of its own, whoever submits, and the same one when it asks again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Reservations:
    """Ranges of task numbers by the key of their submission.

    Args:
        given: key, first number and count of each, in any order
    """

    def __init__(self, given: Iterable[tuple[str, int, int]] = ()) -> None:
        self._given = {key: range(first, first + count) for key, first, count in given}
        self.total = max((numbers.stop for numbers in self._given.values()), default=0)

    def get(self, key: str) -> range | None:
        """The numbers that a submission has got."""
        return self._given.get(key)

    def reserve(self, key: str, count: int) -> range:
        """Numbers for a submission, just behind all others; `ValueError` where it has got another count of them."""
        known = self._given.get(key)
        if known is None:
            known = self._given[key] = range(self.total, self.total + count)
            self.total = known.stop
        if len(known) != count:
            raise ValueError(f"this submission has {len(known)} tasks, not {count}")
        return known

    def check(self) -> None:
        """What must always be true; `AssertionError` where it is not."""
        ranges = sorted(self._given.values(), key=lambda numbers: (numbers.start, numbers.stop))
        stops = [0, *(numbers.stop for numbers in ranges)]
        assert [numbers.start for numbers in ranges] == stops[:-1], "ranges follow each other without a gap"
        assert self.total == stops[-1], "the next number is behind all others"
