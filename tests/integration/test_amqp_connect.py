"""Connecting to RabbitMQ, and being refused."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING

import pytest

from broker_jobs.broker import open_broker
from broker_jobs.broker.amqp.session import Session
from broker_jobs.errors import AccessRefused, BrokerError, BrokerUnavailable, VirtualHostNotFound
from tests.support.inbox import PATIENCE, run, until
from tests.support.proxy import Proxy
from tests.support.station import NAMES

if TYPE_CHECKING:
    from tests.support.rabbitmq import RabbitMQ, RabbitMQNode


async def refusal(url: str, kind: type[BrokerError], timeout: float = PATIENCE) -> str:
    """Text of the error that opening this address gives."""
    with pytest.raises(BrokerError) as caught:
        await open_broker(url, name="test", timeout=timeout)
    assert type(caught.value) is kind, repr(caught.value)
    return str(caught.value)


def with_login(url: str, login: str) -> str:
    return f"amqp://{login}@{url.rpartition('@')[2]}"


@pytest.mark.parametrize("login", ["guest:wr0ng", "nobody:wr0ng"])
def test_a_wrong_password_is_refused_at_once(rabbitmq: RabbitMQ, login: str) -> None:
    async def story() -> None:
        url = with_login(rabbitmq.fresh_vhost(), login)
        text = await refusal(url, AccessRefused)
        assert "user and password" in text
        assert "wr0ng" not in text

    run(story())


def test_a_virtual_host_that_is_not_there(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        text = await refusal(f"{rabbitmq.fresh_vhost()}-not", VirtualHostNotFound)
        assert "-not not found" in text

    run(story())


@pytest.mark.owns_node
def test_a_user_without_permissions(owned_node: RabbitMQNode) -> None:
    owned_node.management.request("PUT", "users/ann", {"password": "secret", "tags": ""})
    vhost = owned_node.management.make_vhost()

    async def story() -> None:
        url = owned_node.url(vhost, user="ann", password="secret")
        assert "ann" in await refusal(url, AccessRefused)
        permissions = {"configure": "^t\\.mine$", "write": "^$", "read": "^$"}
        owned_node.management.request("PUT", f"permissions/{vhost}/ann", permissions)
        broker = await open_broker(url, name="test", timeout=PATIENCE)
        try:
            with pytest.raises(AccessRefused, match=r"exchange t\.tasks"):
                await broker.declare(NAMES.exchanges(), [])
        finally:
            await broker.close()

    run(story())


def test_nothing_listens() -> None:
    async def story() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, and not listening
            port = taken.getsockname()[1]
            text = await refusal(f"amqp://127.0.0.1:{port}", BrokerUnavailable, timeout=0.5)
        assert f"127.0.0.1:{port}" in text
        assert "Connection refused" in text

    run(story())


def test_a_try_that_was_cut_short_does_not_hide_why_the_one_before_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = iter([ConnectionRefusedError(errno.ECONNREFUSED, "refused"), None])

    async def attempt(*_: object) -> None:
        if (error := next(tries)) is not None:
            raise error
        await asyncio.sleep(PATIENCE)

    monkeypatch.setattr(Session, "open", attempt)

    async def story() -> None:
        assert "Connection refused" in await refusal("amqp://127.0.0.1:1", BrokerUnavailable, timeout=0.5)

    run(story())


def test_a_listener_that_never_speaks() -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            text = await refusal(f"amqp://127.0.0.1:{port}", BrokerUnavailable, timeout=0.5)
            assert "no answer in time" in text
            text = await refusal(f"amqp://127.0.0.1:{port}?connection_timeout=1", BrokerUnavailable, timeout=1.5)
            assert "no answer in time" in text

    run(story())


def test_a_listener_that_speaks_something_else() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            text = await refusal(f"amqp://127.0.0.1:{port}", BrokerUnavailable)
            assert "does not speak AMQP" in text

    run(story())


def test_a_node_that_refuses_does_not_stand_for_the_others(rabbitmq: RabbitMQ) -> None:
    """Whoever stands in front of a node that is down takes connections and resets them."""

    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def story() -> None:
        server = await asyncio.start_server(reset, "127.0.0.1", 0)
        async with server:
            here = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            url = rabbitmq.fresh_vhost().replace("@", f"@{here},")
            broker = await open_broker(url, name="test", timeout=PATIENCE)
            await broker.close()
            text = await refusal(url.replace("guest:guest", "guest:wr0ng"), AccessRefused)
            assert "user and password" in text

    run(story())


def test_a_host_that_is_not_there() -> None:
    async def story() -> None:
        text = await refusal("amqp://nowhere.invalid", BrokerUnavailable, timeout=5)
        assert "nowhere.invalid:5672" in text

    run(story())


def test_tls_to_a_port_without_it(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        url = rabbitmq.fresh_vhost().replace("amqp://", "amqps://", 1)
        await refusal(url, BrokerUnavailable, timeout=5)

    run(story())


def test_a_broker_that_comes_up_in_time(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        async with Proxy(rabbitmq.fresh_vhost()) as proxy:
            await proxy.cut()
            opening = asyncio.ensure_future(open_broker(proxy.url, name="test", timeout=PATIENCE))
            done, _ = await asyncio.wait((opening,), timeout=0.5)
            assert not done
            await proxy.mend()
            broker = await opening
            assert broker.connected
            await broker.close()

    run(story())


def test_giving_up_leaves_nothing_behind(rabbitmq: RabbitMQ) -> None:
    async def story() -> None:
        async with Proxy(rabbitmq.fresh_vhost()) as proxy:
            proxy.silence()
            for _ in range(3):
                await refusal(proxy.url, BrokerUnavailable, timeout=0.2)
            opening = asyncio.ensure_future(open_broker(proxy.url, name="test", timeout=PATIENCE))
            await asyncio.wait((opening,), timeout=0.2)
            opening.cancel()
            await asyncio.wait((opening,))
            assert opening.cancelled()

            async def gone() -> bool:
                return not proxy.tasks

            await until(gone, "the connections that were given up are closed", patience=5)

    run(story())
