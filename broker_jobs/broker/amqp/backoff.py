"""How long to wait before the next try."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST: Final = 0.1
_LONGEST: Final = 10.0


def delays() -> Iterator[float]:
    """Seconds, for ever: doubling from 0.1 to 10, each between half and the whole of it, so that many clients do not come at once."""
    delay = _FIRST
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
        delay = min(2 * delay, _LONGEST)
