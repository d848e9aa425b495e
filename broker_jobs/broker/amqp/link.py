"""Pika's callbacks as coroutines: `Link` is one connection, `Channel` one channel of it.

This is the boundary to pika, which has no types: what enters and leaves here is typed, and errors are pika's own
(`errors.translate` makes them ours). Everything runs on the event loop on which the link was opened; nothing blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import pika
from pika import compat, exceptions, frame, spec

from broker_jobs.broker.amqp import transport
from broker_jobs.broker.port import Depth
from broker_jobs.errors import AddressError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from broker_jobs.broker.amqp.address import Address, Endpoint
    from broker_jobs.broker.amqp.arguments import Declaration

# Pika logs whatever happens to a connection as errors, with tracebacks. What matters is logged by us; a program that
# configures logging still gets them, but nothing is printed for want of a handler.
logging.getLogger("pika").addHandler(logging.NullHandler())

_CLOSE_SECONDS: Final = 2.0
_HOLD_SECONDS: Final = 5.0
_PERSISTENT: Final = 2
_NO_CREDIT: Final = {"credit": compat.long(0), "drain": False}
_HEADER_FRAME: Final = spec.FRAME_HEADER.to_bytes()


class _Connection(transport.Connection):
    """Pika's connection, which does not fall over the properties of a message.

    Pika decodes the headers of each message, and raises for some that RabbitMQ carries (a timestamp in the year 10000). The
    connection would end, the message come back, and so on for ever. We read no headers, so such a message just has none.
    """

    def _read_frame(self) -> tuple[int, object]:
        try:
            read: tuple[int, object] = super()._read_frame()
        except (ValueError, OverflowError, OSError, RecursionError, struct.error, exceptions.InvalidFieldTypeException):
            if not self._frame_buffer.startswith(_HEADER_FRAME):
                raise
            _, channel, length, _, _, body_size = struct.unpack_from(">BHIHHQ", self._frame_buffer)
            return spec.FRAME_HEADER_SIZE + length + spec.FRAME_END_SIZE, frame.Header(channel, body_size, spec.BasicProperties())
        return read


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message as it came: `tag` counts on its channel."""

    tag: int
    exchange: str
    key: str
    redelivered: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """A message that was asked for, with its headers as pika reads them."""

    arrival: Arrival
    headers: Mapping[str, Any]


class Channel:
    """One channel, open until `closed` has a result: the reason.

    Attributes:
        on_closed: called with the reason, before anything else can be asked of the channel
    """

    def __init__(self) -> None:
        self.closed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.on_closed: Callable[[Exception], None] = lambda _: None
        self._waiting: set[asyncio.Future[Any]] = set()
        self._raw: Any = None

    @classmethod
    async def open(cls, connection: Any) -> Self:
        """Open one on a connection of pika's."""
        channel = cls()
        opened = channel._answer()
        channel._raw = connection.channel(on_open_callback=partial(_resolve, opened))
        channel._raw.add_on_close_callback(channel._on_close)
        await channel._wait(opened)
        return channel

    @property
    def is_open(self) -> bool:
        """Whether anything can be asked of it: it is neither closed nor closing."""
        return bool(self._raw.is_open)

    async def declare_exchange(self, name: str) -> None:
        """Make a durable topic exchange."""
        await self._call(self._raw.exchange_declare, name, "topic", durable=True)

    async def declare_queue(self, name: str, how: Declaration) -> None:
        """Make a queue."""
        arguments = dict(how.arguments)
        await self._call(self._raw.queue_declare, name, durable=not how.exclusive, exclusive=how.exclusive, arguments=arguments)

    async def bind(self, queue: str, exchange: str, pattern: str) -> None:
        """Bind a queue to an exchange."""
        await self._call(self._raw.queue_bind, queue, exchange, pattern)

    async def depth(self, queue: str) -> Depth:
        """How full a queue is."""
        answer = await self._call(self._raw.queue_declare, queue, passive=True)
        return Depth(answer.method.message_count, answer.method.consumer_count)

    async def unbind(self, queue: str, exchange: str, pattern: str) -> None:
        """Undo a binding, or nothing."""
        await self._call(self._raw.queue_unbind, queue, exchange, pattern)

    async def exists(self, *, exchange: str = "", queue: str = "") -> None:
        """Ask for an exchange or a queue, for which no permission is needed; the channel ends where there is none."""
        if exchange:
            await self._call(self._raw.exchange_declare, exchange, passive=True)
        if queue:
            await self._call(self._raw.queue_declare, queue, passive=True)

    async def purge(self, queue: str) -> int:
        """Remove what waits in a queue; how much that was."""
        answer = await self._call(self._raw.queue_purge, queue)
        return int(answer.method.message_count)

    async def hold(self, queue: str, most: int) -> list[Found]:
        """The oldest messages that wait in a queue, held until the channel ends: once for each channel.

        By a consumer: a queue with a single active one knows no other way, and only what a consumer had is put back in order.
        """
        wanted = min(most, (await self.depth(queue)).ready)
        found: list[Found] = []
        if not wanted:
            return found
        came = asyncio.Event()

        def on_message(_channel: object, method: Any, properties: Any, body: bytes) -> None:
            found.append(Found(_arrival(method, body), properties.headers or {}))
            came.set()

        await self._call(self._raw.basic_qos, prefetch_count=wanted, global_qos=False)
        consumer = await self._call(self._raw.basic_consume, queue, on_message)
        with contextlib.suppress(TimeoutError):  # others were faster
            while len(found) < wanted and self.is_open:
                came.clear()
                await asyncio.wait_for(came.wait(), _HOLD_SECONDS)
        await self.cancel(consumer.method.consumer_tag)  # nothing comes in place of what is acknowledged
        return found

    async def delete_queue(self, queue: str) -> None:
        """Delete a queue, or nothing."""
        await self._call(self._raw.queue_delete, queue)

    async def consume(
        self, queue: str, credit: int, arrived: Callable[[Arrival], None], lost: Callable[[], None], priority: int = 0
    ) -> str:
        """Start a consumer; its tag. `lost` is called when the broker ends it. Consumers of higher priority get messages first."""
        await self._call(self._raw.basic_qos, prefetch_count=credit, global_qos=False)
        self._raw.add_on_cancel_callback(lambda _: lost())
        arguments = {"x-priority": priority} if priority else None
        answer = await self._call(self._raw.basic_consume, queue, partial(_on_message, arrived), arguments=arguments)
        tag: str = answer.method.consumer_tag
        return tag

    async def cancel(self, consumer: str) -> None:
        """End a consumer; what is on its way still arrives."""
        answer = self._answer()
        self._raw.basic_cancel(consumer, callback=partial(_resolve, answer))
        # Pika would put back what arrives from here on, one by one, which is at the tail of a quorum queue.
        self._raw._cancelled.discard(consumer)  # noqa: SLF001
        await self._wait(answer)

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        """Acknowledge a delivery, or all up to it."""
        self._raw.basic_ack(tag, multiple=multiple)

    def requeue(self, tag: int) -> None:
        """Put a delivery back."""
        self._raw.basic_nack(tag, requeue=True)

    def reject(self, tag: int) -> None:
        """Let a delivery go to the dead-letter exchange of its queue."""
        self._raw.basic_nack(tag, requeue=False)

    async def settle_to(self, queue: str, last: int) -> None:
        """Acknowledge everything up to a delivery; returns when the queue knows it."""
        self._raw.basic_ack(last, multiple=True)
        await self.flush(queue)

    async def flush(self, queue: str) -> None:
        """Return when a queue knows what was acknowledged here.

        A channel keeps back acknowledgements beyond the first 32 that a quorum queue has not answered, and forgets them when it is
        closed. To make a consumer is a request that the queue answers after them.
        """
        await self._call(self._raw.basic_qos, prefetch_count=1, global_qos=False)
        answer = await self._call(self._raw.basic_consume, queue, lambda *_: None)
        await self.cancel(answer.method.consumer_tag)

    async def nothing_left(self, queue: str) -> bool:
        """Whether nothing is in a queue, nor held by anybody, which comes back when its holder ends; once for each channel.

        Who holds something counts as a consumer of a quorum queue even without one (`rabbit_fifo:query_stat`). A queue that does not
        answer is said to have neither messages nor consumers, so it has to show ours first.
        """
        came = asyncio.Event()
        await self._call(self._raw.basic_qos, prefetch_count=1, global_qos=False)
        answer = await self._call(self._raw.basic_consume, queue, lambda *_: came.set())
        ours = (await self.depth(queue)).consumers
        await self.cancel(answer.method.consumer_tag)
        return ours > 0 and not came.is_set() and await self.depth(queue) == Depth(0, 0)

    async def hear(self, queue: str) -> None:
        """Return when a queue has said something.

        A queue that is not empty gets a consumer without credit, which takes nothing. RabbitMQ 4 has no such consumers: there a message
        may be taken, and goes back when the channel ends, as does one that has come to an empty queue meanwhile. An empty queue with a
        single active consumer refuses, which is an answer, too.
        """
        if (await self.depth(queue)).ready:
            await self._call(self._raw.basic_qos, prefetch_count=1, global_qos=False)
            await self._call(self._raw.basic_consume, queue, lambda *_: None, arguments={"x-credit": _NO_CREDIT})
            return
        answer = self._answer()
        self._raw.add_callback(partial(_resolve, answer), [spec.Basic.GetEmpty])
        self._raw.basic_get(queue, lambda *_: _resolve(answer, None))
        await self._wait(answer)

    async def confirm(self, answered: Callable[[int, bool, bool], None], returned: Callable[[str], None]) -> None:
        """Let the broker answer for each message.

        Args:
            answered: gets the number of a message, whether it speaks for all before it too, and whether it is a yes
            returned: gets the message id of one that no queue took, before its answer
        """
        self._raw.add_on_return_callback(lambda _channel, _method, properties, _body: returned(properties.message_id))
        await self._call(self._raw.confirm_delivery, partial(_on_answer, answered))

    def publish(self, exchange: str, key: str, body: bytes, headers: Mapping[str, str], message_id: str, *, mandatory: bool) -> None:
        """Publish a persistent message."""
        properties = spec.BasicProperties(delivery_mode=_PERSISTENT, message_id=message_id, headers=dict(headers) or None)
        self._raw.basic_publish(exchange, key, body, properties, mandatory=mandatory)

    def discard(self) -> None:
        """Close it without waiting; the broker takes back what is unsettled on it."""
        if self.is_open:
            self._raw.close()

    async def close(self) -> None:
        """Close it; returns when the broker has taken back what is unsettled on it."""
        self.discard()
        await asyncio.wait((self.closed,))

    async def _call(self, method: Callable[..., object], *arguments: object, **named: object) -> Any:
        answer = self._answer()
        method(*arguments, callback=partial(_resolve, answer), **named)
        return await self._wait(answer)

    def _answer(self) -> asyncio.Future[Any]:
        return self.closed.get_loop().create_future()

    async def _wait(self, answer: asyncio.Future[Any]) -> Any:
        self._waiting.add(answer)
        try:
            return await answer
        finally:
            self._waiting.discard(answer)

    def _on_close(self, _raw: object, reason: Exception) -> None:
        self.closed.set_result(reason)
        self.on_closed(reason)
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(reason)


class Link:
    """One connection, up until `closed` has a result: the reason.

    Attributes:
        blocked: why the broker takes no messages now, or None
        on_unblocked: called when it takes them again
        server: name and version of the broker
    """

    def __init__(self, raw: Any) -> None:
        self.closed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.blocked: str | None = None
        self.on_unblocked: Callable[[], None] = lambda: None
        self.server = " ".join(str(raw.server_properties.get(name, "unknown")) for name in ("product", "version"))
        self._raw = raw
        raw.add_on_close_callback(lambda _raw, reason: self.closed.set_result(reason))
        raw.add_on_connection_blocked_callback(self._on_blocked)
        raw.add_on_connection_unblocked_callback(self._on_unblocked)

    @classmethod
    async def open(cls, address: Address, endpoint: Endpoint, name: str) -> Self:
        """Connect to one of the nodes; `name` is shown by the broker's tools."""
        ended: asyncio.Future[Self | Exception] = asyncio.get_running_loop().create_future()
        attempt = _Connection.create_connection(
            [_parameters(address, endpoint, name)],
            # Made at once: a connection may be lost before whoever waits for it has its turn.
            lambda result: ended.set_result(result if isinstance(result, Exception) else cls(result)),
        )
        try:
            await asyncio.wait((ended,))
        except asyncio.CancelledError:
            if not ended.done():
                _abort(attempt)
                await asyncio.wait((ended,), timeout=_CLOSE_SECONDS)
            elif isinstance(link := ended.result(), Link):
                await link.close()
            raise
        if isinstance(result := ended.result(), Exception):
            raise result
        return result

    async def channel(self) -> Channel:
        """Open a channel."""
        return await Channel.open(self._raw)

    @contextlib.asynccontextmanager
    async def scratch(self) -> AsyncIterator[Channel]:
        """A channel for requests that may fail: the broker ends the channel on which one failed."""
        channel = await self.channel()
        try:
            yield channel
        finally:
            channel.discard()

    def rest(self, seconds: float) -> None:
        """Read nothing for so long, unless it rests already."""
        transport = self._raw._transport  # noqa: SLF001 (one of asyncio's, or None once it is lost)
        if transport is not None and transport.is_reading():
            transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, transport.resume_reading)

    async def close(self) -> None:
        """Close in order, or after two seconds anyhow."""
        if self._raw.is_open:
            self._raw.close()
        await asyncio.wait((self.closed,), timeout=_CLOSE_SECONDS)
        if not self.closed.done():
            # Pika has no other way to give up on a peer that does not answer.
            self._raw._terminate_stream(exceptions.StreamLostError("the broker did not answer the request to close"))  # noqa: SLF001
            await asyncio.wait((self.closed,), timeout=_CLOSE_SECONDS)

    def _on_blocked(self, _raw: object, method_frame: Any) -> None:
        self.blocked = str(method_frame.method.reason)

    def _on_unblocked(self, _raw: object, _frame: object) -> None:
        self.blocked = None
        self.on_unblocked()


def _parameters(address: Address, endpoint: Endpoint, name: str) -> Any:
    return pika.ConnectionParameters(
        endpoint.host,
        endpoint.port,
        address.vhost,
        pika.PlainCredentials(address.user, address.password),
        heartbeat=address.heartbeat,
        ssl_options=pika.SSLOptions(_encryption(address), endpoint.host) if address.tls else None,
        connection_attempts=1,
        socket_timeout=address.connection_timeout,
        stack_timeout=address.connection_timeout,
        client_properties={"connection_name": name, "product": "broker-jobs"},
    )


def _encryption(address: Address) -> ssl.SSLContext:
    """How a connection is encrypted: certificate and name of the broker are always checked.

    Raises:
        AddressError: a file that the address names cannot be used
    """
    named = address.cacertfile
    try:
        context = ssl.create_default_context(cafile=named)
        if address.certfile is not None:
            named = address.certfile
            # A key with a password would be asked for at the terminal.
            context.load_cert_chain(named, address.keyfile, password=lambda: b"")
    except OSError as error:  # an SSLError is one
        also = f" (with the key {address.keyfile})" if named == address.certfile and address.keyfile else ""
        why = error.reason if isinstance(error, ssl.SSLError) and error.reason else error.strerror or str(error)
        raise AddressError(f"{named}{also}, which the broker's address names, cannot be used: {why}") from None
    return context


def _abort(attempt: Any) -> None:
    """Give up on a connection that is being opened."""
    handshake = attempt._connector and attempt._connector._amqp_conn  # noqa: SLF001
    with contextlib.suppress(AssertionError):  # pika asserts that no handshake is under way; the one that is, is closed below
        attempt.abort()
    if handshake is not None and not handshake.is_closing and not handshake.is_closed:
        handshake.close()


def _resolve(answer: asyncio.Future[Any], result: object) -> None:
    if not answer.done():
        answer.set_result(result)


def _on_answer(answered: Callable[[int, bool, bool], None], method_frame: Any) -> None:
    method = method_frame.method
    answered(method.delivery_tag, method.multiple, method.NAME == "Basic.Ack")


def _on_message(arrived: Callable[[Arrival], None], _channel: object, method: Any, _properties: object, body: bytes) -> None:
    arrived(_arrival(method, body))


def _arrival(method: Any, body: bytes) -> Arrival:
    key = method.routing_key
    if isinstance(key, bytes):  # not UTF-8: as readable as possible, and not longer
        key = key.decode(errors="replace").replace("\ufffd", "?")
    return Arrival(method.delivery_tag, method.exchange, key, method.redelivered, body)
