"""A broker connection in a process of its own, which a test may kill.

Run as ``python -m tests.support.holder <url>``: each line of its input is a call, each line of its output an answer or a
delivery, pickled and in base64.
"""

from __future__ import annotations

import asyncio
import base64
import pickle
import sys
from typing import TYPE_CHECKING, Any, Literal, Self

from broker_jobs.broker import open_broker
from tests.support.inbox import PATIENCE, Inbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.broker.port import Broker, Delivery, Outgoing, Receipt
    from broker_jobs.wire.topology import Exchange, Queue

_LINE_LIMIT = 64 * 1024 * 1024


def _line(value: object) -> bytes:
    return base64.b64encode(pickle.dumps(value)) + b"\n"


def _value(line: bytes) -> Any:
    return pickle.loads(base64.b64decode(line))


class Holder:
    """The test's side: starts the process, calls the broker in it, receives its deliveries in `inbox`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._answers: asyncio.Queue[Any] = asyncio.Queue()
        self.inbox = Inbox()
        self._reader = asyncio.ensure_future(self._read())

    @classmethod
    async def start(cls, url: str) -> Self:
        """Start it; returns when its connection is there."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.holder", url,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_LIMIT,
        )  # fmt: skip
        holder = cls(process)
        try:
            await holder._answer()
        except BaseException:
            await holder.kill()
            raise
        return holder

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def declare(self, exchanges: Sequence[Exchange], queues: Sequence[Queue]) -> None:
        await self._call("declare", exchanges, queues)

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        receipts: list[Receipt] = await self._call("publish", messages)
        return receipts

    async def consume(self, queue: str, credit: int, then: Literal["hold", "done"] = "hold") -> None:
        await self._call("consume", queue, credit, then)

    async def hold_token(self, lease: Queue, token: Outgoing) -> None:
        await self._call("hold_token", lease, token)

    async def drop_token(self) -> None:
        await self._call("drop_token")

    async def close(self) -> None:
        """Close the connection in order, and end the process."""
        await self._call("close")
        await asyncio.wait_for(self._process.wait(), PATIENCE)
        await self._reader

    async def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reader

    async def _call(self, method: str, *arguments: object) -> Any:
        assert self._process.stdin
        self._process.stdin.write(_line((method, arguments)))
        await self._process.stdin.drain()
        return await self._answer()

    async def _answer(self) -> Any:
        answer = await asyncio.wait_for(self._answers.get(), PATIENCE)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def _read(self) -> None:
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            kind, value = _value(line)
            if kind == "delivery":
                self.inbox(value)
            else:
                self._answers.put_nowait(value)
        self._answers.put_nowait(ConnectionError("the holder ended"))


class _Driver:
    """The process's side."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def say(self, kind: str, value: object) -> None:
        sys.stdout.buffer.write(_line((kind, value)))
        sys.stdout.buffer.flush()

    async def serve(self) -> None:
        reader = asyncio.StreamReader(limit=_LINE_LIMIT)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        self.say("answer", None)
        while line := await reader.readline():
            method, arguments = _value(line)
            try:
                self.say("answer", await self._perform(method, arguments))
            except Exception as error:  # noqa: BLE001 (the test gets it)
                self.say("answer", error)
            if method == "close":
                return

    async def _perform(self, method: str, arguments: tuple[Any, ...]) -> object:
        if method == "consume":
            queue, credit, then = arguments
            await self._broker.consume(queue, credit, self._settle if then == "done" else self._keep)
            return None
        return await getattr(self._broker, method)(*arguments)

    def _keep(self, delivery: Delivery) -> None:
        self.say("delivery", delivery)

    def _settle(self, delivery: Delivery) -> None:
        self.say("delivery", delivery)
        self._broker.done(delivery)


async def _main(url: str) -> None:
    await _Driver(await open_broker(url, name="holder", timeout=PATIENCE)).serve()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
