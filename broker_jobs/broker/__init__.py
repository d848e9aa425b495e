"""The broker: one interface (`broker_jobs.broker.port`), two adapters, and the way to open one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker_jobs.errors import AddressError

if TYPE_CHECKING:
    from broker_jobs.broker.port import OperatedBroker

__all__ = ["open_broker"]


async def open_broker(url: str, *, name: str, timeout: float) -> OperatedBroker:
    """Connect to the broker at an address; the object belongs to the running event loop.

    Args:
        url: ``amqp://user:password@host:5672/vhost`` (``amqps`` for TLS; ``?queues=classic``), or ``sqlite:////path/queue.db``
        name: of this process, for people who look at the broker
        timeout: seconds to wait for a broker that does not answer

    Raises:
        AddressError: the address cannot be understood
        BrokerUnavailable: nothing answers there, or not in time
        AccessRefused: wrong user or password, or no permission
        VirtualHostNotFound: there is no such virtual host
    """
    scheme = url.partition("://")[0]
    if scheme in ("amqp", "amqps"):
        from broker_jobs.broker.amqp import Address, AmqpBroker

        return await AmqpBroker.open(Address.parse(url), name=name, timeout=timeout)
    if scheme == "sqlite":
        from broker_jobs.broker.embedded import EmbeddedBroker

        return await EmbeddedBroker.open(url, name=name, timeout=timeout)
    raise AddressError
