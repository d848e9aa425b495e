"""What tasks in packs have done together: the numbers in a row of `moves`, and where a task stands after several of them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from broker_jobs.coordinator.store.rows import MoveRow
from broker_jobs.errors import DecodeError
from broker_jobs.wire.codec import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Place(NamedTuple):
    """What tasks that move together have in common; all else of their rows is as it was when they came."""

    state: str
    attempt: int
    chunk: str | None
    reason: str
    ended_ms: int | None


class Moved(NamedTuple):
    """Where a task stands, and the version of the job that this made."""

    changed: int
    to: MoveRow


def move_rows(job: int, version: int, places: Iterable[tuple[int, Place]]) -> list[MoveRow]:
    """The rows for these tasks, with versions of the job after this one: one for each place."""
    together: defaultdict[Place, list[int]] = defaultdict(list)
    for number, place in places:
        together[place].append(number)
    rows: list[MoveRow] = []
    for place, numbers in together.items():
        numbers.sort()
        low, high, length = numbers[0], numbers[-1], len(numbers)
        listed = b"" if high - low + 1 == length else pack(numbers)
        rows.append(MoveRow(job, version + 1, length, low, high, *place, listed))
        version += length
    return rows


def numbers_of(row: MoveRow) -> Sequence[int]:
    """The tasks that have moved, in order.

    Raises:
        DecodeError: its bytes are no list of numbers
    """
    if not row.numbers:
        return range(row.low, row.high + 1)
    numbers = unpack(row.numbers)
    if not isinstance(numbers, list) or not all(isinstance(number, int) for number in numbers):
        raise DecodeError("a move of the ledger has no list of numbers")
    return numbers


def latest(rows: Iterable[MoveRow]) -> Mapping[int, Moved]:
    """Where each task stands that has moved; the rows are given oldest first."""
    return {number: Moved(row.changed + place, row) for row in rows for place, number in enumerate(numbers_of(row))}
