"""The values that go into the arguments of calls.

Values of a job are sent to a child once. They are kept as bytes and decoded anew for each task: what a task does to its copy is not seen
by the next one. What is in the value store is kept from the second time on that it is read, as long as there is room: most arguments are
read once, and to keep them would take new memory for each.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from broker_jobs.core.value import Inline, Stored, Value
from broker_jobs.data.store import fetch
from broker_jobs.wire import payload
from broker_jobs_worker.runners.protocol import is_shared

if TYPE_CHECKING:
    from broker_jobs.core.value import Pieces
    from broker_jobs.wire.messages import Call, StepCall
    from broker_jobs_worker.runners.protocol import Run

MOST_READ: Final = 256 * 1024 * 1024
"""Bytes of values from the store that a child keeps."""

_MOST_ONCE: Final = 1000
"""Values of which it is known that they have been read once."""


class Inputs:
    """The values that this child has."""

    def __init__(self) -> None:
        self._kept: dict[str, Inline] = {}
        self._read: OrderedDict[bytes, Inline | Pieces] = OrderedDict()
        self._size = 0
        self._once: OrderedDict[bytes, None] = OrderedDict()

    def learn(self, run: Run) -> None:
        """Take in what a message says of values."""
        if run.forget_values:
            self._kept.clear()
        for key, value in run.values.items():
            if isinstance(value, Inline) and is_shared(key):
                self._kept[key] = value

    def of(self, run: Run, call: Call | StepCall) -> list[object]:
        """The inputs of a call, each a fresh copy. Raises whatever reading and loading raise."""
        return [payload.load(self._whole(run.values[key] if key in run.values else self._kept[key])) for key in call.inputs]

    def inline(self, value: Value) -> Inline:
        """The value with its bytes, in one piece."""
        return value if isinstance(value, Inline) else self._whole(value).joined()

    def _whole(self, value: Value) -> Inline | Pieces:
        return self._fetched(value) if isinstance(value, Stored) else value

    def _fetched(self, value: Stored) -> Inline | Pieces:
        found = self._read.get(value.digest)
        if found is not None:
            self._read.move_to_end(value.digest)
            return found
        whole = fetch(value)
        if value.digest not in self._once:
            self._once[value.digest] = None
            if len(self._once) > _MOST_ONCE:
                self._once.popitem(last=False)
        elif value.size <= MOST_READ:
            self._read[value.digest] = whole
            self._size += whole.size
            while self._size > MOST_READ:
                self._size -= self._read.popitem(last=False)[1].size
        return whole
