"""A connection on which every call succeeds at once: its value is its arguments, as they were pickled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

from broker_jobs.client.calls import Caller
from broker_jobs.client.link import Frame
from broker_jobs.client.runtime import Runtime
from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.spec import TaskOptions
from broker_jobs.wire.codec import decode, encode
from broker_jobs.wire.messages import Call, Chunk, Ended, Reply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.client.chunking import OpenClasses
    from broker_jobs.client.link import Listener
    from broker_jobs.core.spec import Lane
    from broker_jobs.wire.messages import Question


class AnsweringLink:
    """A `Link` without a broker.

    Attributes:
        chunks: how many tasks each chunk had that was sent
        told: what the coordinator was told
    """

    client = "client-1"

    def __init__(self) -> None:
        self.chunks: list[int] = []
        self.told: list[Question] = []
        self._listener: Listener | None = None

    def seal(self, chunk: Chunk) -> Frame:
        return Frame("", encode(chunk))

    def listen(self, listener: Listener) -> None:
        self._listener = listener

    async def open_classes(self, wanted: Iterable[tuple[str, Lane]]) -> OpenClasses:
        return frozenset(wanted)

    async def send(self, job: str, frames: Iterable[Frame], timeout: float) -> None:
        for frame in frames:
            chunk = decode(frame.body)
            assert isinstance(chunk, Chunk)
            self.chunks.append(len(chunk.tasks))
            items = []
            for task in chunk.tasks:
                assert isinstance(task.work, Call)
                items.append(Ended(task.number, 1, "e", Succeeded(task.work.args), 0, 0))
            if self._listener:
                self._listener.heard(Reply(job, "w", "b", tuple(items)))

    async def ask(self, question: Question, timeout: float = 10.0) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError(question)

    async def tell(self, question: Question) -> None:
        self.told.append(question)

    async def close(self) -> None: ...


def answering_caller(store: str | None = None) -> tuple[Caller, AnsweringLink]:
    """A caller whose calls are answered at once, on a loop of its own; close its `runtime` at the end."""
    link = AnsweringLink()

    async def open_link() -> AnsweringLink:
        return link

    return Caller(Runtime(open_link), TaskOptions(), store, (), 30.0), link
