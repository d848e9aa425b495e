"""Python's cyclic garbage in the daemons: looked for less often, since hardly any is made."""

from __future__ import annotations

import gc
from typing import Final

_THRESHOLDS: Final = (20_000, 20, 100)
"""New objects until a look at those (Python's default is 700), and such looks until one at older ones, and at all."""


def collect_rarely() -> None:
    """Leave what is loaded at the start alone, and look less often: messages are many small objects without cycles.

    Measured with a worker's machine and lines of calls: a fifth less time for each task.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
