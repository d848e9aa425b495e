"""What the commands share that work at the broker itself, without coordinator or worker."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from broker_jobs.errors import BrokerUnavailable, LookupFailed, ValidationError
from broker_jobs.ids import new_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from broker_jobs.broker.port import OperatedBroker, Outgoing, Receipt
    from broker_jobs.config import Settings
    from broker_jobs.wire.topology import Topology

T = TypeVar("T")

PATIENCE: Final = 10.0

YesOption = Annotated[bool, typer.Option("--yes", metavar="", help="Do not ask.")]


def operate(settings: Settings, work: Callable[[OperatedBroker], Awaitable[T]]) -> T:
    """Connect to the broker, and do this there; `BrokerError` where it cannot be reached."""
    from broker_jobs.broker import open_broker

    async def story() -> T:
        broker = await open_broker(settings.url, name=new_name("operator"), timeout=PATIENCE)
        try:
            return await work(broker)
        finally:
            await broker.close()

    return asyncio.run(story())


async def publish(broker: OperatedBroker, messages: Sequence[Outgoing]) -> list[Receipt]:
    """Publish these; `BrokerUnavailable` where the broker does not answer in time."""
    try:
        return await asyncio.wait_for(broker.publish(messages), PATIENCE)
    except TimeoutError:
        why = f": it takes no messages now ({broker.blocked})" if broker.blocked else ""
        raise BrokerUnavailable(f"the broker has confirmed nothing within {PATIENCE:g} s{why}") from None


def whole_name(names: Topology, name: str) -> str:
    """The name of a queue, of which namespace and version may be left out."""
    return name if names.rest_of(name) is not None else names.queue_name(name)


def no_queue(name: str) -> LookupFailed:
    """For a queue that is not there."""
    return LookupFailed(f"there is no queue {name}; broker-jobs queue list shows those that are there")


def be_sure(question: str, *, yes: bool) -> None:
    """Ask; ends the command where the answer is no.

    Raises:
        ValidationError: there is nobody who could answer
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise ValidationError(f"{question} Say --yes where nobody can be asked")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)
