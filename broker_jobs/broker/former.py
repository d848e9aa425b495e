"""Queues that an earlier version of broker-jobs has left at the broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker_jobs.errors import TopologyMismatch
from broker_jobs.wire.topology import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.broker.port import Broker
    from broker_jobs.wire.topology import Queue, Topology


async def refuse_former(broker: Broker, topology: Topology, queues: Iterable[Queue]) -> None:
    """See that none of these queues is there as the version before has made it: nobody would read what comes to it.

    Raises:
        TopologyMismatch: some are; the text says what moves them
    """
    found = []
    for queue in queues:
        former = topology.former_name(queue.name)
        if (depth := await broker.depth(former)) is not None:
            found.append((former, depth.ready))
    if found:
        there = " and ".join(f"{name} ({ready:,} waiting)" for name, ready in found)
        command = " ".join(["broker-jobs queue migrate", *(name.removeprefix(f"{topology.namespace}.") for name, _ in found)])
        raise TopologyMismatch(
            f"an earlier version of broker-jobs has left {there}; stop its coordinators, and move what waits: {command}",
            argument="version",
            wanted=str(VERSION),
            found=str(VERSION - 1),
        )
