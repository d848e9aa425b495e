"""The pair of connections that the adapter works with at one time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, TypeVar

from broker_jobs.broker.amqp.link import Link

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from broker_jobs.broker.amqp.address import Address, Endpoint

Result = TypeVar("Result")


class Session:
    """Two connections that end together.

    Attributes:
        publishing: for messages alone: the broker stops reading from it when it is short of memory or disk
        consuming: for everything else
    """

    def __init__(self, publishing: Link, consuming: Link) -> None:
        self.publishing = publishing
        self.consuming = consuming

    @classmethod
    async def open(cls, address: Address, endpoint: Endpoint, name: str) -> Self:
        """Connect twice, to the same node."""
        publishing = await Link.open(address, endpoint, f"{name} (publishing)")
        try:
            return cls(publishing, await Link.open(address, endpoint, f"{name} (consuming)"))
        except BaseException:
            await publishing.close()
            raise

    @property
    def lost(self) -> bool:
        """Whether one of the connections has gone."""
        return self.publishing.closed.done() or self.consuming.closed.done()

    async def end_of(self) -> Exception:
        """Wait until one of the connections has gone; why."""
        ended, _ = await asyncio.wait((self.publishing.closed, self.consuming.closed), return_when=asyncio.FIRST_COMPLETED)
        return ended.pop().result()

    async def close(self) -> None:
        """Close both."""
        await asyncio.gather(self.publishing.close(), self.consuming.close())

    async def during(self, work: Coroutine[None, None, Result]) -> Result:
        """Do something that makes no sense once the session has gone, and give it up then."""
        working, end = asyncio.ensure_future(work), asyncio.ensure_future(self.end_of())
        try:
            await asyncio.wait((working, end), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise end.result()
            return working.result()
        finally:
            working.cancel()
            end.cancel()
            await asyncio.gather(working, end, return_exceptions=True)
