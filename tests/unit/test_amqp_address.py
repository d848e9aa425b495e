"""Addresses of RabbitMQ."""

from __future__ import annotations

import asyncio

import pytest

from broker_jobs.broker import open_broker
from broker_jobs.broker.amqp.address import Address, Endpoint, QueueStyle
from broker_jobs.errors import AddressError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("amqp://host", Address((Endpoint("host", 5672),), "guest", "guest", "/")),
        ("amqp://host/", Address((Endpoint("host", 5672),), "guest", "guest", "/")),
        ("amqp://host/%2F", Address((Endpoint("host", 5672),), "guest", "guest", "/")),
        ("amqps://host", Address((Endpoint("host", 5671),), "guest", "guest", "/", tls=True)),
        ("amqp://ann:s%40cr%2Ft@host:5673/team%2Fa", Address((Endpoint("host", 5673),), "ann", "s@cr/t", "team/a")),
        ("amqp://ann:@host", Address((Endpoint("host", 5672),), "ann", "", "/")),
        ("amqp://[::1]:5672/v", Address((Endpoint("::1", 5672),), "guest", "guest", "v")),
        (
            "amqp://ann:s%2Cc@one,two:5673,[::1],one:5672/v",
            Address((Endpoint("one", 5672), Endpoint("two", 5673), Endpoint("::1", 5672)), "ann", "s,c", "v"),
        ),
        (
            "amqps://host?cacertfile=/ca.pem&certfile=/me.pem&keyfile=/me.key",
            Address(
                (Endpoint("host", 5671),), "guest", "guest", "/", tls=True, cacertfile="/ca.pem", certfile="/me.pem", keyfile="/me.key"
            ),
        ),
        ("amqps://one,two", Address((Endpoint("one", 5671), Endpoint("two", 5671)), "guest", "guest", "/", tls=True)),
        (
            "amqp://host/v?queues=classic&heartbeat=30&connection_timeout=3",
            Address((Endpoint("host", 5672),), "guest", "guest", "v", queues=QueueStyle.classic, heartbeat=30, connection_timeout=3),
        ),
    ],
)
def test_what_is_read(url: str, address: Address) -> None:
    assert Address.parse(url) == address


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("amqp://", "no host"),
        ("amqp:///vhost", "no host"),
        ("amqp://ann:secret@:5672", "no host"),
        ("amqp://ann:secret@one,,two", "no host"),
        ("amqp://ann:secret@one,two:port", "port"),
        ("amqp://ann:secret@host:port", "port"),
        ("amqp://ann:secret@host:0", "port"),
        ("amqp://ann:secret@host:65536", "port"),
        ("amqp://ann:secret@[::1", "IPv6"),
        ("amqp://ann:secret@[::1,::2]", "IPv6"),
        ("http://ann:secret@host", "amqps://"),
        (f"amqp://ann:secret@host?heartbeat={'9' * 5000}", "heartbeat="),
        ("amqp://ann@host", "password"),
        ("amqp://:secret@host", "user"),
        ("amqp://ann:secret@host/a/b", "virtual host"),
        ("amqp://ann:secret@host/v#x", "'#'"),
        ("amqp://ann:secret@host?queue=classic", "'queue'"),
        ("amqp://ann:secret@host?queues=fast", "'fast'"),
        ("amqp://ann:secret@host?heartbeat=0", "heartbeat='0'"),
        ("amqp://ann:secret@host?heartbeat=ten", "heartbeat='ten'"),
        ("amqp://ann:secret@host?heartbeat=1&heartbeat=2", "twice"),
        ("amqp://ann:secret@host?heartbeat", "name=value"),
        ("amqps://host?cacertfile=ca.pem", "absolute path"),
        ("amqp://ann:secret@host?cacertfile=/ca.pem", "amqps://"),
        ("amqps://ann:secret@host?keyfile=/key.pem", "certfile"),
        # a password that was not encoded
        ("amqp://ann:secret/x@host", "%2F"),
        ("amqp://ann:secret?x@host", "%3F"),
        ("amqp://ann:secret#x@host", "%23"),
        ("amqp://ann:secret", "port"),
    ],
)
def test_what_is_refused(url: str, named: str) -> None:
    with pytest.raises(AddressError) as caught:
        Address.parse(url)
    assert named in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_password_is_not_shown() -> None:
    address = Address.parse("amqp://ann:secret@host/v")
    assert "secret" not in repr(address)
    assert str(address) == "host:5672"
    assert str(Address.parse("amqp://[::1],host")) == "[::1]:5672,host:5672"


@pytest.mark.parametrize("url", ["", "host:5672", "redis://host", "AMQP", "file:///queue.db"])
def test_other_addresses_name_the_two_forms(url: str) -> None:
    with pytest.raises(AddressError, match=r"amqp://.*sqlite:"):
        asyncio.run(open_broker(url, name="test", timeout=1))
