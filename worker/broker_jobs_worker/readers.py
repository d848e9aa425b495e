"""Who reads what tasks print: questions are answered from the executor, straight to the client that asks.

Nothing is sent unless somebody asks, and nobody is told more often than every `GATHER` seconds unless there is a whole answer's worth.
A reader says from which byte on, so that nothing is lost or doubled, whatever becomes of a connection.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker_jobs.wire.messages import OutputAsked, Piece
    from broker_jobs_worker.executors.port import Executor

MOST_BYTES: Final = 2**20
"""Of output in one answer."""
GATHER: Final = 0.1
"""Seconds between two looks for those who wait for more."""
MOST_WAITING: Final = 500
"""Of more readers the latest are answered at once."""


class Readers:
    """All who wait for output.

    Args:
        executor: runs the tasks
        answer: sends an answer
    """

    def __init__(self, executor: Executor, answer: Callable[[OutputAsked, Piece], None]) -> None:
        self._executor = executor
        self._answer = answer
        self._waiting = 0

    async def serve(self, asked: OutputAsked) -> None:
        """Answer a question: when there is a whole answer's worth, else after gathering for a while, at the latest when it has waited."""
        loop = asyncio.get_running_loop()
        wait = asked.wait_ms / 1000 if self._waiting < MOST_WAITING else 0.0
        due = loop.time() + wait
        gathered = wait == 0
        most = max(1, min(asked.most, MOST_BYTES))
        self._waiting += 1
        try:
            while True:
                piece = await self._executor.read(asked.execution, stderr=asked.stderr, path=asked.path, start=asked.start, most=most)
                enough = piece.ended or piece.missing or len(piece.data) == most or (gathered and piece.data)
                if enough or loop.time() >= due:
                    self._answer(asked, piece)
                    return
                gathered = bool(piece.data)
                await asyncio.sleep(GATHER)
        finally:
            self._waiting -= 1
