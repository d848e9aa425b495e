"""The socket under pika, on one end of a pair of sockets, and the acknowledgements that wait for each other."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.broker.amqp.consumer import Feed
from broker_jobs.broker.amqp.transport import Connection, _Services
from tests.support.inbox import PATIENCE, run

if TYPE_CHECKING:
    from collections.abc import Iterator


class Listener:
    """A protocol as pika has them; notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.changed = asyncio.Event()

    def note(self, news: object) -> None:
        self.told.append(news)
        self.changed.set()

    def connection_made(self, _transport: object) -> None:
        self.note("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes, "pika keeps it"
        self.note(data)

    def eof_received(self) -> bool:
        self.note("eof")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.note(("lost", error))

    async def until(self, last: object) -> None:
        async with asyncio.timeout(PATIENCE):
            while not self.told or self.told[-1] != last:
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def linked(listener: Listener, ours: socket.socket) -> Any:
    """The transport, when the two are linked."""
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def on_done(result: Any) -> None:
        listener.note("linked")
        done.set_result(result)

    _Services().create_streaming_connection(lambda: listener, ours, on_done)
    transport, protocol = await done
    assert protocol is listener
    return transport


def test_what_comes_is_handed_on_after_the_two_are_linked(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(b"hello")

    async def story() -> None:
        listener = Listener()
        transport = await linked(listener, ours)
        await listener.until(b"hello")
        assert listener.told == ["made", "linked", b"hello"]
        transport.write(b"hello yourself")
        assert theirs.recv(100) == b"hello yourself", "it was sent at once"
        transport.abort()
        await listener.until(("lost", None))

    run(story())


def test_what_is_unsent_holds_nothing_up_when_the_peer_has_ended(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends

    async def story() -> None:
        listener = Listener()
        transport = await linked(listener, ours)
        transport.write(bytes(2**24))
        assert transport.get_write_buffer_size()
        theirs.shutdown(socket.SHUT_WR)
        await listener.until(("lost", None))
        assert listener.told[-2:] == ["eof", ("lost", None)]

    run(story())


def test_who_connects_is_told_what_went_wrong(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(b"this is not TLS\n")

    async def story() -> None:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        _Services().create_streaming_connection(Listener, ours, done.set_result, ssl.create_default_context(), "localhost")
        async with asyncio.timeout(PATIENCE):
            assert isinstance(await done, ssl.SSLError)
        assert ours.fileno() < 0

    run(story())


def test_the_frames_of_a_message_are_sent_together_where_they_are_small() -> None:
    connection = Connection.__new__(Connection)
    connection.bytes_sent = connection.frames_sent = 0
    sent: list[bytes] = []
    connection._adapter_emit_data = sent.append  # noqa: SLF001 (the seam that pika has for this)
    body = bytes(100_000)
    for frames in ([b"alone"], [b"method", b"header", b"body"], [b"method", b"header", body]):
        connection._output_marshaled_frames(frames)  # noqa: SLF001
    assert sent == [b"alone", b"methodheaderbody", b"method", b"header", body]


class Acks:
    """A channel that notes acknowledgements."""

    is_open = True

    def __init__(self) -> None:
        self.sent: list[object] = []
        self.changed = asyncio.Event()

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        self.sent.append((tag, multiple))
        self.changed.set()

    def discard(self) -> None:
        self.sent.append("discarded")


def feed_of(tags: range, gathers: int) -> tuple[Feed, Acks]:
    """A feed on which deliveries have come."""
    channel = Acks()
    feed = Feed(channel, gathers)  # type: ignore[arg-type]
    feed.unsettled = {tag: tag for tag in tags}
    return feed, channel


def settle(feed: Feed, *tags: int) -> None:
    for tag in tags:
        feed.ack(feed.unsettled.pop(tag))
        feed.settled()


def test_acknowledgements_wait_for_each_other() -> None:
    async def story() -> None:
        feed, channel = feed_of(range(1, 7), gathers=4)
        settle(feed, 2, 1, 3)
        assert channel.sent == []
        settle(feed, 5)
        assert channel.sent == [(2, False), (1, False), (3, False), (5, False)], "4 is still held"
        settle(feed, 6, 4)
        async with asyncio.timeout(PATIENCE):
            await channel.changed.wait()
            channel.changed.clear()
            await channel.changed.wait()
        assert channel.sent[4:] == [(6, True)]

    run(story())


def test_acknowledgements_go_out_before_their_channel_is_closed() -> None:
    async def story() -> None:
        feed, channel = feed_of(range(1, 3), gathers=4)
        settle(feed, 1)
        feed.end()
        assert channel.sent == []
        settle(feed, 2)
        assert channel.sent == [(2, True), "discarded"]

    run(story())


def test_nothing_is_acknowledged_on_a_channel_that_has_gone() -> None:
    async def story() -> None:
        feed, channel = feed_of(range(1, 2), gathers=4)
        settle(feed, 1)
        channel.is_open = False
        feed.flush()
        assert channel.sent == []

    run(story())


def test_where_nothing_may_wait_nothing_does() -> None:
    async def story() -> None:
        feed, channel = feed_of(range(1, 3), gathers=1)
        settle(feed, 1)
        assert channel.sent == [(1, False)]

    run(story())
