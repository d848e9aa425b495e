"""The bare flow over RabbitMQ: the same messages, queues and confirms as broker-jobs, and nothing else.

Three processes, each with one pika connection, as short as it can be written: a submitter, a worker and a ledger.
A *call* is: chunk to class queue and ledger (one publish), reply to ledger and submitter (one publish, confirmed), then the ack.
A *step* of a chain is: ready chunk from the ledger to the class queue (confirmed), and a reply as for a call.
No signature, no store, no child process: what is left is the broker.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pika

from benchmarks.bare.roles import play

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

CHUNK = b"c" * 600
REPLY = b"r" * 250
QUORUM = {"x-queue-type": "quorum"}


class Peer:
    """One process's connection: confirms on, every message persistent and mandatory."""

    def __init__(
        self, url: str, consume: str, prefetch: int, receive: Callable[[Peer, Any, bytes], None], ready: Callable[[Peer], None]
    ) -> None:
        self._queue, self._prefetch, self._receive, self._ready = consume, prefetch, receive, ready
        self._confirmed: dict[int, Callable[[], None]] = {}
        self._sent = 0
        self.connection = pika.SelectConnection(pika.URLParameters(url), on_open_callback=self._opened)

    def _opened(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._channel)

    def _channel(self, channel: Any) -> None:
        self.channel = channel
        channel.confirm_delivery(self._answered, callback=lambda _: channel.basic_qos(prefetch_count=self._prefetch, callback=self._qos))

    def _qos(self, _: Any) -> None:
        self.channel.basic_consume(
            self._queue,
            lambda _channel, method, _properties, body: self._receive(self, method, body),
            callback=lambda _: self._ready(self),
        )

    def _answered(self, frame: Any) -> None:
        last = frame.method.delivery_tag
        for number in range(min(self._confirmed, default=last + 1), last + 1) if frame.method.multiple else (last,):
            then = self._confirmed.pop(number, None)
            if then:
                then()

    def publish(self, exchange: str, key: str, body: bytes, then: Callable[[], None] = lambda: None) -> None:
        """Publish a message; `then` is called when it is confirmed."""
        self._sent += 1
        self._confirmed[self._sent] = then
        self.channel.basic_publish(exchange, key, body, pika.BasicProperties(delivery_mode=2), mandatory=True)

    def ack(self, method: Any) -> None:
        """Settle a delivery."""
        self.channel.basic_ack(method.delivery_tag)

    def run(self) -> None:
        """Serve for ever."""
        self.connection.ioloop.start()


def _declare(url: str, arguments: dict[str, str]) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for exchange in ("bare.tasks", "bare.replies"):
            channel.exchange_declare(exchange, "topic", durable=True)
        for queue, bindings in {
            "bare.class": [("bare.tasks", "class.#"), ("bare.tasks", "ready")],
            "bare.ledger": [("bare.tasks", "class.*"), ("bare.replies", "#")],
        }.items():
            channel.queue_declare(queue, durable=True, arguments=arguments)
            for exchange, key in bindings:
                channel.queue_bind(queue, exchange, key)
        channel.queue_declare("bare.reply", durable=True, arguments={"x-queue-type": "classic"})
        channel.queue_bind("bare.reply", "bare.replies", "#")


def _worker(url: str, up: Connection) -> None:
    def receive(peer: Peer, method: Any, _: bytes) -> None:
        key = "call" if method.routing_key == "class.call" else "step"
        peer.publish("bare.replies", key, REPLY, lambda: peer.ack(method))

    Peer(url, "bare.class", 4, receive, lambda _: up.send("up")).run()


def _ledger(url: str, up: Connection, steps: int) -> None:
    begun = [0.0]
    taken: list[float] = []

    def receive(peer: Peer, method: Any, _: bytes) -> None:
        if method.routing_key == "step":
            taken.append(time.perf_counter() - begun[0])
            if len(taken) == steps:
                up.send(taken)
            else:
                begun[0] = time.perf_counter()
                peer.publish("bare.tasks", "ready", CHUNK)
        elif method.routing_key == "class.step":
            begun[0] = time.perf_counter()
        peer.ack(method)

    Peer(url, "bare.ledger", 500, receive, lambda _: up.send("up")).run()


def _submitter(url: str, up: Connection, calls: int) -> None:
    begun = [0.0]
    taken: list[float] = []

    def call(peer: Peer) -> None:
        begun[0] = time.perf_counter()
        peer.publish("bare.tasks", "class.call", CHUNK)

    def receive(peer: Peer, method: Any, _: bytes) -> None:
        if method.routing_key == "call":
            taken.append(time.perf_counter() - begun[0])
        peer.ack(method)
        if method.routing_key == "step":
            return
        if len(taken) < calls:
            call(peer)
        else:
            up.send(taken)
            peer.publish("bare.tasks", "class.step", CHUNK)

    Peer(url, "bare.reply", 1, receive, call).run()


def measure(url: str, *, calls: int, steps: int, quorum: bool = True) -> tuple[list[float], list[float]]:
    """Seconds of each call, and of each step of a chain."""
    _declare(url, QUORUM if quorum else {})
    return play(url, _worker, _ledger, _submitter, calls=calls, steps=steps)
