"""How long tasks of one sort take, of several that ran one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXCEPTIONS: Final = 8


def usual(spent: Sequence[int]) -> float:
    """The mean of all but the slowest eighth, at least one, where there are several.

    On a busy machine a process waits for its turn as long as hundreds of small tasks take: those say nothing about the others.

    Args:
        spent: of each, in any unit; one or more
    """
    counted = sorted(spent)[: max(len(spent) - max(1, len(spent) // _EXCEPTIONS), 1)]
    return sum(counted) / len(counted)
