"""Who and what is there: queues, routes, connections and consumers, as last read from the file."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from broker_jobs.broker.embedded.routes import Routes
from broker_jobs.wire.topology import QueueKind

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet


URGENCY: Final = (QueueKind.tasks, QueueKind.private, QueueKind.ledger, QueueKind.lease, QueueKind.dead)
"""Who is woken first, and what a connection handles first: a task can start, somebody waits for an answer, the ledger keeps."""


@dataclass(frozen=True, slots=True)
class KnownQueue:
    """A queue as it stands in the file.

    Attributes:
        dead_letter_exchange, dead_letter_key: as in `Queue`
        owner: the connection of a private queue
    """

    id: int
    kind: QueueKind
    dead_letter_exchange: str | None
    dead_letter_key: str | None
    owner: int | None


class Directory:
    """What is read again only when its version has changed.

    Attributes:
        registered: whether the connection asked for is entered
        queues: all queues by name
        routes: where a message goes
        peers: processes of the other connections
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._execute = database.execute
        self._topology = self._presence = 0
        self._known: dict[int, KnownQueue] = {}
        self._addresses: dict[int, str] = {}
        self._consumers: dict[int, list[tuple[int, int]]] = {}
        self.registered = False
        self.queues: Mapping[str, KnownQueue] = {}
        self.routes = Routes((), ())
        self.peers: Mapping[int, int] = {}

    def refresh(self, connection: int) -> None:
        """Read what has changed, as this connection sees it."""
        topology, presence, registered = self._execute(
            "SELECT topology, presence, EXISTS (SELECT 1 FROM connections WHERE id = ?) FROM state", (connection,)
        ).fetchone()
        self.registered = bool(registered)
        if topology != self._topology:
            self._read_topology()
            self._topology = topology
        if presence != self._presence:
            self._read_presence(connection)
            self._presence = presence

    def doubt(self) -> None:
        """Read everything next time: what was read may have been undone since."""
        self._topology = self._presence = 0

    def _read_topology(self) -> None:
        rows = self._execute("SELECT name, id, kind, dead_letter_exchange, dead_letter_key, owner FROM queues").fetchall()
        self.queues = {name: KnownQueue(number, QueueKind(kind), *rest) for name, number, kind, *rest in rows}
        self._known = {queue.id: queue for queue in self.queues.values()}
        exchanges = [name for (name,) in self._execute("SELECT name FROM exchanges")]
        self.routes = Routes(exchanges, self._execute("SELECT exchange, pattern, queue FROM bindings"))

    def _read_presence(self, connection: int) -> None:
        rows = self._execute("SELECT id, pid, address FROM connections").fetchall()
        self._addresses = {peer: address for peer, _, address in rows}
        self.peers = {peer: pid for peer, pid, _ in rows if peer != connection}
        consumers: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for consumer, queue, owner in self._execute("SELECT id, queue, connection FROM consumers ORDER BY id"):
            consumers[queue].append((consumer, owner))
        self._consumers = dict(consumers)

    def known(self, queue: int) -> KnownQueue | None:
        """A queue; None where it is gone."""
        return self._known.get(queue)

    def consumers(self, queue: int) -> int:
        """How many consume a queue."""
        return len(self._consumers.get(queue, ()))

    def active(self, queue: int, consumer: int) -> bool:
        """Whether a consumer has its turn: always, but on a ledger, where the oldest is the only one."""
        consumers = self._consumers.get(queue)
        if not consumers or queue not in self._known:
            return False
        return self._known[queue].kind is not QueueKind.ledger or consumers[0][0] == consumer

    def listeners(self, queues: AbstractSet[int]) -> list[str]:
        """Addresses of the connections that consume any of these queues, the most urgent first."""
        # A queue that the transaction has dropped has no kind any more, and no consumers.
        urgent = sorted(self._known.keys() & queues, key=lambda queue: URGENCY.index(self._known[queue].kind))
        owners = dict.fromkeys(owner for queue in urgent for _, owner in self._consumers.get(queue, ()))
        return [self._addresses[owner] for owner in owners if owner in self._addresses]

    def everybody(self) -> set[str]:
        """Addresses of the other connections."""
        return {self._addresses[peer] for peer in self.peers}
