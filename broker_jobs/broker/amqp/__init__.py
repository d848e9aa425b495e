"""The broker port over RabbitMQ, on pika: the only package that knows pika.

Upwards: `address` and `arguments` (plain values), `errors` (pika's exceptions into ours), `link` (pika's callbacks as
coroutines), `publisher`, `consumer` and `token` on top of it, and `adapter`, which reconnects and puts it all back.
"""

from __future__ import annotations

from broker_jobs.broker.amqp.adapter import AmqpBroker
from broker_jobs.broker.amqp.address import Address

__all__ = ["Address", "AmqpBroker"]
