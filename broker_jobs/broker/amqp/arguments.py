"""How each kind of queue is declared on RabbitMQ.

What is never given, and why (measured on 3.10.8): ``x-delivery-limit`` (-1 drops at the first redelivery; the limit that 4.x
sets by itself ends in the exchange `returned`), and ``x-expires`` on queues that hold work (it drops what waits in them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.broker.amqp.address import QueueStyle
from broker_jobs.wire.topology import QueueKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker_jobs.wire.topology import Queue

TOKEN_TTL: Final = 10
"""Milliseconds: a token that nobody holds is dead-lettered after them, one that was held for longer at once."""

_LEASE_EXPIRES: Final = 7 * 24 * 3600 * 1000
_PRIVATE_MESSAGES: Final = 10_000
_PRIVATE_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is said to the broker about a queue; all but exclusive ones are durable."""

    exclusive: bool
    arguments: Mapping[str, str | int | bool]


def declaration(queue: Queue, style: QueueStyle) -> Declaration:
    """Properties of a queue."""
    dead_letter: dict[str, str] = {}
    if queue.dead_letter_exchange is not None:
        dead_letter["x-dead-letter-exchange"] = queue.dead_letter_exchange
    if queue.dead_letter_key is not None:
        dead_letter["x-dead-letter-routing-key"] = queue.dead_letter_key
    match queue.kind:
        case QueueKind.ledger:
            return Declaration(False, {"x-queue-type": style.value, "x-single-active-consumer": True, **dead_letter})
        case QueueKind.tasks | QueueKind.dead:
            return Declaration(False, {"x-queue-type": style.value, **dead_letter})
        case QueueKind.lease:
            # Quorum whatever the style: a classic queue loses the token when the ledger cannot take it at that moment.
            return Declaration(
                False,
                {
                    "x-queue-type": QueueStyle.quorum.value,
                    "x-message-ttl": TOKEN_TTL,
                    "x-expires": _LEASE_EXPIRES,
                    "x-overflow": "reject-publish",
                    "x-dead-letter-strategy": "at-least-once",
                    **dead_letter,
                },
            )
        case QueueKind.private:
            # Never reject-publish: one slow client would nack the replies of workers.
            bounds = {"x-max-length": _PRIVATE_MESSAGES, "x-max-length-bytes": _PRIVATE_BYTES}
            return Declaration(True, {"x-queue-type": "classic", "x-overflow": "drop-head", **bounds, **dead_letter})
    assert_never(queue.kind)
