"""Waiting for what a job does, without a broker."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, cast

from broker_jobs.client.core import Core
from broker_jobs.errors import JobNotFound

if TYPE_CHECKING:
    from broker_jobs.client.core import Followed


class Forgotten:
    """What is followed by a client that is asked to wait no more just when its question is refused."""

    id = "1"

    def __init__(self) -> None:
        self.known = False

    def changed(self) -> asyncio.Future[None]:
        async def news() -> None:
            self.known = True

        return asyncio.ensure_future(news())

    async def poll(self, *_: object, **__: object) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            # As `asyncio.wait_for` has it when the answer has come already.
            raise JobNotFound("there is no job 1") from None


def test_a_question_that_is_refused_when_nobody_waits_any_more_is_no_news() -> None:
    complaints: list[dict[str, Any]] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        followed = Forgotten()
        assert not await Core._until(cast("Core", followed), cast("Followed", followed), lambda: followed.known)  # noqa: SLF001 (what all waits are made of)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()

    asyncio.run(story())
    assert complaints == []
