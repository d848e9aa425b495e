"""An asynchronous iterator on the client's loop, taken step by step from elsewhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest

from broker_jobs.client.runtime import Steps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from concurrent.futures import Future

    from broker_jobs.client.runtime import Runtime


class Here:
    """A runtime whose loop is the one that runs."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    def start(self, work: Callable[[None], Coroutine[Any, Any, Any]]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work(None), self.loop)


def test_the_end_waits_for_a_step_that_is_canceled() -> None:
    told: list[str] = []

    async def items() -> AsyncIterator[int]:
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            told.append("tidy")

    async def story() -> None:
        steps = Steps(cast("Runtime", Here()), items())
        waiting = asyncio.wrap_future(steps.next())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wrap_future(steps.end())
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(story())
    assert told == ["tidy"]
