"""Data for programs with an event loop: the same, awaited; files are read and written in threads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from broker_jobs.client.data import Lineage, WorkData


class AsyncWorkData:
    """A piece of data: `WorkData`, awaited.

    Attributes:
        data: the same, for code without an event loop: name, media type, size, digest and tags are there
    """

    def __init__(self, data: WorkData) -> None:
        self.data = data

    @property
    def id(self) -> str:
        """The whole id."""
        return self.data.id

    async def read(self) -> bytes:
        """All of it, as `WorkData.read`."""
        return await asyncio.to_thread(self.data.read)

    async def text(self, encoding: str = "utf-8") -> str:
        """All of it, as a text."""
        return await asyncio.to_thread(self.data.text, encoding)

    async def json(self) -> Any:
        """All of it, read as JSON."""
        return await asyncio.to_thread(self.data.json)

    async def download(self, path: str | Path) -> Path:
        """Write it into a file or a folder, as `WorkData.download`."""
        return await asyncio.to_thread(self.data.download, path)

    async def set_tags(self, tags: Iterable[str]) -> Self:
        """Give it these tags."""
        await asyncio.to_thread(self.data.set_tags, tags)
        return self

    async def used_by(self) -> list[str]:
        """Ids of the jobs that take it."""
        return await asyncio.to_thread(self.data.used_by)

    async def lineage(self) -> Lineage:
        """Where it comes from, as `WorkData.lineage`."""
        return await asyncio.to_thread(self.data.lineage)

    async def delete(self) -> None:
        """Drop it, as `WorkData.delete`."""
        await asyncio.to_thread(self.data.delete)

    def __repr__(self) -> str:
        return f"<Async{repr(self.data)[1:]}"
