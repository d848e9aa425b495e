"""What broker-jobs needs of a broker: the one interface, in the terms of the system.

Two adapters implement it: `amqp` (RabbitMQ, on pika) and `embedded` (one SQLite file). What is promised here is what
``tests/conformance`` asks of both; nothing above may rely on more. In particular:

- *Confirmed* means that every queue which took the message has it safely, and that at least one did. It does not mean
  that every bound queue has it. `Receipt.unknown` means just that: it may be there.
- Deliveries are at least once. A delivery belongs to one connection; after a reconnect it is stale, and settling it does nothing.
- A private queue ends with the connection. Messages sent to it in between are gone.

A broker object belongs to the event loop on which it was opened; every method and every callback runs there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from broker_jobs.core.confirms import Receipt
from broker_jobs.core.deliveries import Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from broker_jobs.wire.topology import Exchange, Queue

__all__ = ["Broker", "Browsing", "Delivery", "Depth", "Letter", "OperatedBroker", "Outgoing", "Receipt", "Subscription", "Tag"]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish, persistent.

    Attributes:
        mandatory: a message that no queue takes is `Receipt.unroutable`; else it counts as confirmed
        headers: where and why a dead letter became one, for those who look into the queue; no daemon reads them
        apart: it goes to a class queue, which may be dead and hold up what is published behind it (see `Broker.dead`): nothing but its
            like goes through the same channel, and its order with other messages is open
        leisurely: nobody waits for the copy that a ledger gets besides others, which an adapter may tell it of a moment later
    """

    exchange: str
    key: str
    body: bytes
    mandatory: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    apart: bool = False
    leisurely: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message for us, to be settled once.

    Attributes:
        exchange: where it was published, or the dead-letter exchange through which it came
        key: its routing key
        redelivered: somebody had it before and did not settle it
    """

    queue: str
    exchange: str
    key: str
    body: bytes
    tag: Tag
    redelivered: bool = False

    def __hash__(self) -> int:
        # Its tag names it; the rest, the body above all, would be hashed at each look into a table.
        return hash(self.tag)


@dataclass(frozen=True, slots=True)
class Depth:
    """How full a queue is. A queue that is down may say 0: never trust one reading."""

    ready: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that waits in a queue, as somebody sees it who only looks.

    Attributes:
        number: tells it from the others that were found with it
        headers: those that are texts; of a message that the broker itself gave up, in the terms of `Broker.dead_letter`
    """

    number: int
    exchange: str
    key: str
    body: bytes
    headers: Mapping[str, str]


class Browsing(Protocol):
    """A look into a queue.

    Attributes:
        letters: the oldest messages that wait there, in order
    """

    letters: Sequence[Letter]

    async def remove(self, letter: Letter) -> bool:
        """Remove a message for good; False where it was taken by somebody meanwhile."""


class Subscription(Protocol):
    """One consumer of one queue; it comes back by itself after a reconnect."""

    @property
    def queue(self) -> str:
        """Name of the queue."""

    @property
    def credit(self) -> int:
        """Most deliveries that may be unsettled at once."""

    async def cancel(self, *, requeue: bool = False) -> None:
        """Stop deliveries. What is unsettled stays ours; with `requeue`, it goes back to the head of the queue in order."""


class Broker(Protocol):
    """A connection to a broker, which reconnects for ever until it is closed."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""

    @property
    def generation(self) -> int:
        """Number of the present connection, from 1."""

    @property
    def blocked(self) -> str | None:
        """Why the broker takes no messages now (an alarm of memory or disk), or None."""

    @property
    def denied(self) -> str | None:
        """Which permission was missing when a message was `Receipt.refused` last, or None; with the name of the exchange in quotes."""

    @property
    def server(self) -> str:
        """Name and version of what the present connection, or the last one, leads to, such as ``RabbitMQ 3.10.8``."""

    def watch(self, up: Callable[[int], None], down: Callable[[str], None]) -> None:
        """Call `up(generation)` after each reconnect, when subscriptions and private queues are back, and `down(reason)` after each loss.

        The first connection is not reported: `open_broker` returns when it is there.
        """

    async def declare(self, exchanges: Sequence[Exchange], queues: Sequence[Queue]) -> None:
        """Make exchanges and queues that are missing, with their bindings. Private ones are made again after a reconnect.

        Raises:
            TopologyMismatch: one exists with other properties
            AccessRefused: not permitted
            BrokerUnavailable: the connection went meanwhile
        """

    async def delete(self, queue: str) -> None:
        """Delete a queue with what is in it; one that does not exist is no error."""

    async def depth(self, queue: str) -> Depth | None:
        """How full a queue is; None where it does not exist."""

    async def dead(self, queues: Sequence[str]) -> frozenset[str]:
        """Those of these queues that are there and will never work: RabbitMQ has such ones, which must be deleted and made again.

        Takes 5 s where there is one. RabbitMQ 3 touches nothing that is in them, but for what comes to an empty one just then; 4 may take
        a message of each, and put it back at its head, marked as redelivered.
        """

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        """Publish all of them, in order, and wait until the broker has answered for each. Calls may overlap.

        Never raises for what the broker does: the connection's end is `Receipt.unknown`. Without a connection it waits for the next one.
        """

    async def consume(self, queue: str, credit: int, receive: Callable[[Delivery], None], *, behind: bool = False) -> Subscription:
        """Receive up to `credit` unsettled messages of a queue.

        Args:
            behind: leave messages to other consumers of the queue that have credit for them

        Raises:
            BrokerError: there is no such queue, or it may not be read
        """

    def rest(self, seconds: float) -> None:
        """Nobody waits for what comes next: deliveries, and answers to requests, may come so much later.

        The processor is left to those for whom somebody waits. An adapter that is told of such messages late (`Outgoing.leisurely`) need
        do nothing.
        """

    def done(self, delivery: Delivery) -> bool:
        """Acknowledge a delivery; False where it is stale (another connection) or settled already."""

    def release(self, delivery: Delivery) -> bool:
        """Put a delivery back into its queue, for anybody; False as for `done`."""

    async def dead_letter(self, delivery: Delivery, exchange: str, reason: str, *, key: str | None = None) -> bool:
        """Publish the message to `exchange`, and acknowledge it once that is confirmed; False as for `done`.

        Its headers say the ``reason``, with ``queue``, ``exchange`` and ``key`` where it was, and ``at`` when that was (ms since 1970).

        Args:
            key: routing key (default: that of the message)
        """

    async def hold_token(self, lease: Queue, token: Outgoing) -> None:
        """Declare the lease queue, put the token into it and hold it, from now on and after each reconnect (before `up` is called).

        When this connection goes, the token is routed to the queue's dead-letter exchange within a second, with its key and body.
        """

    async def drop_token(self) -> None:
        """Settle the token: this process ends in order, and nobody has to be told."""

    async def close(self) -> None:
        """End the connection; what is unsettled goes back."""


class OperatedBroker(Broker, Protocol):
    """What operators need besides: both adapters have it, and no daemon uses it."""

    async def purge(self, queue: str) -> int:
        """Remove what waits in a queue; how many messages that were. What somebody holds stays.

        Raises:
            BrokerError: there is no such queue, or it may not be read
        """

    def browse(self, queue: str, most: int) -> AbstractAsyncContextManager[Browsing]:
        """Look at the oldest `most` messages that wait in a queue, which has no consumers. At the end what was not removed is where it was.

        Raises:
            BrokerError: there is no such queue, or it may not be read
        """

    async def migrate(self, queue: Queue, former: str, back: Callable[[str, str], tuple[str, str]]) -> bool:
        """Give a queue the properties that it should have, with all that waits in it and in the one before; False where all is done.

        Nobody may consume them. Where this is interrupted, it goes on when it is called again. Messages may come twice.

        Args:
            former: name of the queue that an earlier version had in its place; its bindings are the same, and it is deleted
            back: exchange and key by which a message that came with these gets back into this queue, and into no other where possible

        Raises:
            BrokerError: it has consumers, or may not be changed
        """
