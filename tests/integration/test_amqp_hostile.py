"""Messages of strangers: whatever RabbitMQ carries is delivered, and harms nobody."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pika
import pytest
from pika import spec

from tests.support.inbox import Inbox, run
from tests.support.station import CLASS, DEAD, NAMES, connected, drain, put, ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.rabbitmq import RabbitMQ


class Raw(spec.BasicProperties):  # type: ignore[misc] # pika has no types
    """Properties of one header, written as these bytes."""

    def __init__(self, header: bytes) -> None:
        super().__init__(headers={})
        self._header = header

    def encode(self) -> list[bytes]:
        return [struct.pack(">HI", self.FLAG_HEADERS, len(self._header)), self._header]


def header(value: bytes) -> bytes:
    return b"\x01h" + value


def nested(depth: int) -> bytes:
    value = b"V"
    for _ in range(depth):
        value = b"F" + struct.pack(">I", len(header(value))) + header(value)
    return header(value)


def send(url: str, publish: Callable[[Any], None]) -> None:
    """Publish something with a client that lets everything pass."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    publish(channel)
    connection.close()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(header(b"T" + struct.pack(">Q", 253402300800)), id="the year 10000"),
        pytest.param(header(b"T" + struct.pack(">Q", 2**64 - 1)), id="the end of time"),
        pytest.param(nested(2000), id="nested deeply"),
        pytest.param(header(b"S" + struct.pack(">I", 4) + b"\xff\xfe\x00\x01"), id="no text"),
        pytest.param(header(b"D\xff" + struct.pack(">i", 1)), id="a decimal of 255 places"),
    ],
)
def test_headers_that_pika_cannot_read(rabbitmq: RabbitMQ, raw: bytes) -> None:
    async def story() -> None:
        url = rabbitmq.fresh_vhost()
        async with connected(url) as broker:
            send(url, lambda channel: channel.basic_publish("", CLASS.name, b"strange", Raw(raw), mandatory=True))
            await put(broker, ready(b"next"))
            inbox = Inbox()
            await broker.consume(CLASS.name, 5, inbox)
            strange, following = await inbox.take(2)
            assert (strange.body, following.body) == (b"strange", b"next")
            assert await broker.dead_letter(strange, NAMES.dead, "decode: not ours")
            assert broker.done(following)
            assert broker.generation == 1
            assert await drain(broker, DEAD.name, 1) == [b"strange"]

    run(story())


@pytest.mark.parametrize("key", [b"\xff" * 255, b"a.\x00.b", "ü".encode() * 127, b""])
def test_routing_keys_that_are_no_text(rabbitmq: RabbitMQ, key: bytes) -> None:
    async def story() -> None:
        url = rabbitmq.fresh_vhost()
        async with connected(url) as broker:
            send(url, lambda channel: channel.queue_bind(CLASS.name, NAMES.events, "#"))
            send(url, lambda channel: channel.basic_publish(NAMES.events, key, b"strange", mandatory=True))
            inbox = Inbox()
            await broker.consume(CLASS.name, 5, inbox)
            strange = await inbox.next()
            assert strange.body == b"strange"
            assert await broker.dead_letter(strange, NAMES.dead, "decode: not ours")
            assert await drain(broker, DEAD.name, 1) == [b"strange"]

    run(story())
