"""Coroutines of the user: run to their end, and stopped by an exception where they wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator


class Awaited:
    """A coroutine between its event loop and us.

    A signal interrupts whatever Python code runs. While a coroutine waits, that is the event loop, and an exception raised there would
    end the loop instead of reaching the coroutine. So its asyncio task is canceled then, which also cancels what it waits for, and what
    comes out of that at its `await` is the exception.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._error: Exception | None = None

    async def run(self) -> Any:
        """What it returns; the main coroutine of an event loop."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        try:
            return await self
        finally:
            self._task = None

    def interrupt(self, error: Exception) -> bool:
        """Have the exception raised where it waits; False where it does not, so that it can be raised at once. For a signal handler."""
        if self._loop is None or self._task is None or asyncio.current_task(self._loop) is self._task:
            return False
        self._error = error
        self._loop.call_soon_threadsafe(self._task.cancel)
        return True

    def __await__(self) -> Generator[Any, Any, Any]:
        advance, given = self._coroutine.send, None
        while True:
            try:
                waits_for = advance(given)
            except StopIteration as end:
                return end.value
            try:
                given = yield waits_for
                advance = self._coroutine.send
            except BaseException as error:  # noqa: BLE001 (it is for the coroutine)
                given, advance = self._meant(error), self._coroutine.throw

    def _meant(self, error: BaseException) -> BaseException:
        if self._error is None or self._task is None or not isinstance(error, asyncio.CancelledError):
            return error
        self._task.uncancel()
        error, self._error = self._error, None
        return error
