"""Deliveries that a test waits for, and the deadline of all waiting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from broker_jobs.broker.port import Delivery

PATIENCE: Final = 30.0
"""Seconds until a wait is given up: the machine may be loaded."""

STORY: Final = 100.0
"""Seconds for a whole test."""


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run a test on an event loop of its own."""
    asyncio.run(asyncio.wait_for(story, STORY))


class Inbox:
    """Receives deliveries and hands them to the test one after the other."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Delivery] = asyncio.Queue()

    def __call__(self, delivery: Delivery) -> None:
        self._waiting.put_nowait(delivery)

    def __len__(self) -> int:
        return self._waiting.qsize()

    async def next(self, patience: float = PATIENCE) -> Delivery:
        """The next delivery; TimeoutError after the deadline."""
        return await asyncio.wait_for(self._waiting.get(), patience)

    async def take(self, count: int) -> list[Delivery]:
        """That many deliveries, in order."""
        taken: list[Delivery] = []
        try:
            while len(taken) < count:
                taken.append(await self.next())
        except TimeoutError:
            raise TimeoutError(f"{len(taken)} of {count} deliveries came: {[each.body[:40] for each in taken]}") from None
        return taken


async def until(condition: Callable[[], Awaitable[bool]], what: str, patience: float = PATIENCE) -> None:
    """Ask again and again, across a process boundary, until it is so."""
    deadline = asyncio.get_running_loop().time() + patience
    while not await condition():
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"not within {patience:.0f} s: {what}")
        await asyncio.sleep(0.02)
