"""How a message gets back to the queue where it was, and to nobody else where that is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker_jobs.wire.topology import DEAD, EVERYONE

if TYPE_CHECKING:
    from broker_jobs.wire.topology import Topology


def way_back(topology: Topology, queue: str, exchange: str, key: str) -> tuple[str, str] | None:
    """Exchange and key by which a message gets back.

    The ledger asks how a message came, so it comes in the same way again: a chunk that went to a class queue, too, goes there once
    more, and a reply to its client. Both know what comes twice. What all ledgers hear comes back to this one alone.

    Args:
        queue: in which it was
        exchange: through which it came there
        key: with which it came there

    Returns:
        None where the queue is none of this namespace that is kept
    """
    kind, _, rest = (topology.rest_of(queue) or "").partition(".")
    match kind, rest.rpartition("."):
        case str(only), ("", "", "") if only == DEAD:
            return topology.dead, key
        case "ledger", ("", "", str(partition)) if exchange in {topology.tasks, topology.replies, topology.returned}:
            for_all = (exchange, key) == (topology.replies, topology.worker_key()) or (
                exchange == topology.returned and key.count(".") == 1
            )
            return exchange, f"{key.rpartition('.')[0]}.{partition}" if for_all else key
        case "task", (str(resource_class), ".", str(lane)):
            return topology.ready, f"{resource_class}.{lane}.{_partition(key)}"
        case "control", ("", "", str(worker)) if worker not in ("", EVERYONE):
            return topology.control, worker
        case "reply", ("", "", str(client)) if client:
            return topology.replies, topology.answer_key(client)
        case _:
            return None


def _partition(key: str) -> str:
    """Of a key that ends with one; of any other the first, for whoever takes tasks does not ask."""
    last = key.rpartition(".")[2]
    return last if last.isdecimal() else "0"
