"""Which queues say nothing, where the broker ends the connection for one of them. See tests/system/chaos/test_named_faults.py."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest
from pika import exceptions
from pika.adapters.utils import connection_workflow as workflow

from broker_jobs.broker.amqp.consumer import Consumer, Unsettled
from broker_jobs.broker.amqp.errors import INTERNAL_ERROR, NOT_FOUND
from broker_jobs.broker.amqp.looking import Suspects, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs.broker.amqp.link import Link


class Node:
    """A broker with queues: `mute` ones never answer, `half` there is a record of, `deadly` ones end the connection."""

    def __init__(self) -> None:
        self.mute: set[str] = set()
        self.half: set[str] = set()
        self.deadly: set[str] = set()
        self.code = INTERNAL_ERROR
        self.asked: list[str] = []
        self.links: list[Connection] = []

    async def connect(self) -> Link:
        self.links.append(Connection(self))
        return cast("Link", self.links[-1])


class Connection:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.cut = asyncio.Event()
        self.closed = False

    async def channel(self) -> Connection:
        return self

    async def hear(self, queue: str) -> None:
        self.node.asked.append(queue)
        if queue in self.node.deadly:
            self.cut.set()
        await asyncio.sleep(0)
        if self.cut.is_set():
            raise exceptions.ConnectionClosedByBroker(self.node.code, "INTERNAL_ERROR")
        if queue in self.node.half:
            raise exceptions.ChannelClosedByBroker(NOT_FOUND, "NOT_FOUND")
        if queue in self.node.mute:
            raise TimeoutError

    def discard(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True


def test_what_does_not_answer_in_time_or_is_not_found_is_silent() -> None:
    node = Node()
    node.mute, node.half = {"b"}, {"c"}
    assert asyncio.run(silent(node.connect, ["a", "b", "c"])) == {"b", "c"}
    assert len(node.links) == 1
    assert asyncio.run(silent(node.connect, [])) == frozenset()
    assert len(node.links) == 1


@pytest.mark.parametrize("deadly", [{"a"}, {"h"}, {"c", "d"}, set("abcdefgh")], ids=sorted)
def test_the_end_of_the_connection_is_put_down_to_the_queue_that_is_to_blame(deadly: set[str]) -> None:
    node = Node()
    node.deadly, node.mute = deadly, {"b"}
    assert asyncio.run(silent(node.connect, list("abcdefgh"))) == deadly | {"b"}
    assert all(link.closed for link in node.links)


def test_another_end_of_the_connection_says_nothing_of_a_queue() -> None:
    node = Node()
    node.deadly, node.code = {"a"}, 320
    with pytest.raises(exceptions.ConnectionClosedByBroker):
        asyncio.run(silent(node.connect, ["a", "b"]))


def test_a_suspect_is_asked_until_it_answers_and_others_never_are() -> None:
    node = Node()
    suspects = Suspects(node.connect)

    async def story() -> None:
        assert await suspects.clear("a")
        assert node.asked == []
        node.deadly = {"a"}
        suspects.add("a")
        assert not await suspects.clear("a")
        assert not await suspects.clear("a")
        assert await suspects.clear("b")
        node.deadly = set()
        assert await suspects.clear("a")
        assert await suspects.clear("a")
        assert node.asked == ["a"] * 3

    asyncio.run(story())


class Working(asyncio.Future[Exception]):
    """A connection that is up, with channels on which everything can be consumed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed, self.is_open, self.consumed = self, True, 0

    async def channel(self) -> Working:
        return self

    async def consume(self, *_: object, **__: object) -> str:
        self.consumed += 1
        return "tag"


def test_a_suspect_is_asked_less_and_less_often_until_it_can_be_consumed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is no connection for the question."""
    node, begun = Node(), []

    async def connect() -> Link:
        if len(node.links) == 1:
            node.links.append(Connection(node))
            raise workflow.AMQPConnectorAborted
        return await node.connect()

    def delays() -> Iterator[float]:
        begun.append("delays")
        yield from [0.0] * 3
        node.deadly.clear()
        yield 0.0

    monkeypatch.setattr("broker_jobs.broker.amqp.consumer.delays", delays)

    async def story() -> None:
        node.deadly = {"q"}
        link, suspects = Working(), Suspects(connect)
        suspects.add("q")
        consumer = Consumer("q", 1, lambda _: None, Unsettled(), lambda _: None, suspects=suspects)
        await consumer.attach(cast("Link", link))
        assert link.consumed == 0
        async with asyncio.timeout(10):
            while not link.consumed:
                await asyncio.sleep(0)
        assert (begun, len(node.links)) == (["delays"], 5)

    asyncio.run(story())
