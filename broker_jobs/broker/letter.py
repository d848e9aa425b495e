"""A dead letter: a message that nobody could use, with the reason, and where it was."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from broker_jobs.broker.port import Outgoing

if TYPE_CHECKING:
    from broker_jobs.broker.port import Delivery

REASON: Final = "reason"
"""Headers of a dead letter: why it is one, and where it was."""
QUEUE: Final = "queue"
EXCHANGE: Final = "exchange"
KEY: Final = "key"
AT: Final = "at"
"""When it became one, in milliseconds since 1970."""


def dead(delivery: Delivery, exchange: str, reason: str, key: str | None) -> Outgoing:
    """A delivery as a dead letter, which says why and since when it is one, and where it was.

    Args:
        key: with which it goes to `exchange`; None is its own
    """
    headers = {
        REASON: reason,
        QUEUE: delivery.queue,
        EXCHANGE: delivery.exchange,
        KEY: delivery.key,
        AT: str(time.time_ns() // 1_000_000),
    }
    return Outgoing(exchange, delivery.key if key is None else key, delivery.body, headers=headers)
