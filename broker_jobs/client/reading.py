"""How far a stream of a task has been read: what comes becomes parts in order, with nothing lost unsaid and nothing twice. Pure.

Pieces come from the worker, which forgets short output when the task has ended; the end comes from the ledger. A task that is tried
again is read from its beginning again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker_jobs.wire.messages import Output, Piece


@dataclass(frozen=True, slots=True)
class Part:
    """What comes next of a stream.

    Attributes:
        lost: bytes in front of `data` that nobody has any more
        execution: which run of the task has printed it; with another one the stream begins again
    """

    data: bytes
    lost: int = 0
    execution: str = ""


class Cursor:
    """How far one stream of one task has been read.

    Attributes:
        execution: which is being read
        at: bytes of it that have been read, or are lost
    """

    def __init__(self) -> None:
        self.execution = ""
        self.at = 0

    def take(self, piece: Piece) -> Part | None:
        """What is new in a piece."""
        self._turn_to(piece.execution)
        return self._next(piece.start, piece.data)

    def finish(self, output: Output, execution: str) -> Part | None:
        """What is new in the end of a stream."""
        self._turn_to(execution)
        return self._next(output.size - len(output.tail), output.tail)

    def _turn_to(self, execution: str) -> None:
        if execution != self.execution:
            self.execution, self.at = execution, 0

    def _next(self, start: int, data: bytes) -> Part | None:
        lost = max(0, start - self.at)
        fresh = data[max(0, self.at - start) :]
        if not lost and not fresh:
            return None
        self.at += lost + len(fresh)
        return Part(fresh, lost, self.execution)
