"""Names of exchanges and queues, and what is bound to what. Every name carries the namespace, that of a queue also `VERSION`.

::

    exchange tasks     key <class>.<lane>.<partition>   → class queue (<class>.<lane>.*) and ledger (*.*.<partition>)
                       key _.<what>.<partition>         → ledger alone: chunks that must wait, questions
                       key _.dropped                    → nobody, or who asks for it: what a client was too slow for
    exchange ready     key <class>.<lane>.<partition>   → class queue alone: what the coordinator releases
    exchange replies   key <client>.<partition>         → ledger (*.<partition>) and the client's reply queue (<client>.*)
                       key _.0                          → all ledgers: what a worker says of itself
                       key _.dropped                    → nobody, or who asks for it: what a worker was too slow for
                       key <client>.direct              → the reply queue alone: answers, news
                       key _.dead                       → queue dead: what a worker cannot read, which may publish to nothing else
    exchange control   key <worker> or "all"            → control queues of workers
    exchange lease     key <worker>.0                   → lease queue of the worker
    exchange returned  keys of dead-lettered chunks     → ledger (#.<partition>)
                       key <worker>.0                   → all ledgers: the token of a worker that is lost
    exchange events    key <state>.<job>                → whoever binds a queue of theirs
    exchange dead      any key                          → queue dead

A namespace has a ledger for each partition. What concerns all of them goes the way of partition 0, and the others listen there, too:
so workers need to know of none, nor do permissions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from broker_jobs.core.spec import Lane
from broker_jobs.errors import ValidationError
from broker_jobs.ids import MOST_PARTITIONS

EVERYONE: Final = "all"
DIRECT: Final = "direct"
NOBODY: Final = "_"
NO_CLIENT: Final = "__"
"""Another one than `NOBODY`, with which workers speak of themselves."""
DEAD: Final = "dead"
DROPPED: Final = "dropped"

VERSION: Final = 2
"""Of queues: what kinds there are, their properties and bindings, which cannot be changed while a queue is there.

Version 1, of broker-jobs 0.1.0, stood in no name. Exchanges are all alike, and for programs of every version.
"""

_NAMESPACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable topic exchange."""

    name: str


@dataclass(frozen=True, slots=True)
class Binding:
    """Which messages of an exchange a queue gets: words between dots, ``*`` one word, ``#`` any number of words."""

    exchange: str
    pattern: str


class QueueKind(Enum):
    """What a queue is for; the adapter chooses its properties."""

    ledger = "ledger"
    """Durable, replicated, one active consumer at a time; the others stand by."""
    tasks = "tasks"
    """Durable, replicated, many consumers."""
    dead = "dead"
    """Durable, replicated, without a dead-letter target of its own."""
    lease = "lease"
    """Durable: its one message, held unacknowledged, is dead-lettered when the holder's connection goes."""
    private = "private"
    """For this connection alone, bounded, drops its oldest; declared again after a reconnect."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue and its bindings."""

    name: str
    kind: QueueKind
    bindings: tuple[Binding, ...] = ()
    dead_letter_exchange: str | None = None
    dead_letter_key: str | None = None
    """With which dropped messages go there; None: as they came."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The names of one namespace.

    Raises:
        ValidationError: the namespace has other characters than letters, digits, ``_`` and ``-``, or more than 48
    """

    namespace: str = "bj"

    def __post_init__(self) -> None:
        if not _NAMESPACE.fullmatch(self.namespace):
            raise ValidationError(f"a namespace is up to 48 letters, digits, '_' and '-', not {self.namespace!r}")

    # --- exchanges ---

    @property
    def tasks(self) -> str:
        """Chunks and questions of submitters."""
        return f"{self.namespace}.tasks"

    @property
    def ready(self) -> str:
        """Chunks that the coordinator releases."""
        return f"{self.namespace}.ready"

    @property
    def replies(self) -> str:
        """Replies of workers; answers to clients."""
        return f"{self.namespace}.replies"

    @property
    def control(self) -> str:
        """From coordinators to workers."""
        return f"{self.namespace}.control"

    @property
    def lease(self) -> str:
        """Tokens of workers."""
        return f"{self.namespace}.lease"

    @property
    def returned(self) -> str:
        """What the broker gave up, tokens of lost workers among it."""
        return f"{self.namespace}.returned"

    @property
    def events(self) -> str:
        """News of jobs, for anybody."""
        return f"{self.namespace}.events"

    @property
    def dead(self) -> str:
        """What nobody can read."""
        return f"{self.namespace}.dead"

    def exchanges(self) -> tuple[Exchange, ...]:
        """All of them."""
        topics = (self.tasks, self.ready, self.replies, self.control, self.lease, self.returned, self.events, self.dead)
        return tuple(Exchange(name) for name in topics)

    # --- queues ---

    def queue_name(self, rest: str) -> str:
        """Name of a queue of this version, such as ``bj.v2.ledger.0`` for ``ledger.0``."""
        return f"{self.namespace}.v{VERSION}.{rest}"

    def rest_of(self, queue: str) -> str | None:
        """The name of a queue without namespace and version, of this one or the one before; None for a queue of another namespace."""
        before = f"{self.namespace}."
        return queue.removeprefix(before).removeprefix(f"v{VERSION}.") if queue.startswith(before) else None

    def former_name(self, queue: str) -> str:
        """The name that a queue had in the version before."""
        return f"{self.namespace}.{self.rest_of(queue)}"

    def ledger_name(self, partition: int) -> str:
        """Name of the ledger queue of a partition."""
        return self.queue_name(f"ledger.{partition}")

    def class_name(self, resource_class: str, lane: Lane) -> str:
        """Name of the queue of a class and lane."""
        return self.queue_name(f"task.{resource_class}.{lane.value}")

    @staticmethod
    def class_in(queue: str) -> str:
        """The class in a `class_name`."""
        return queue.split(".")[-2]

    def ledger(self, partition: int) -> Queue:
        """Everything that the coordinator of a partition must hear, with a single active consumer; what the broker drops goes to `dead`."""
        own = (
            Binding(self.tasks, f"*.*.{partition}"),
            Binding(self.replies, f"*.{partition}"),
            Binding(self.returned, f"#.{partition}"),
        )
        # Of what goes the way of partition 0: keys of chunks have three words, those of replies about them another first one.
        of_all = (Binding(self.replies, self.worker_key()), Binding(self.returned, self.token_key("*"))) if partition else ()
        return Queue(self.ledger_name(partition), QueueKind.ledger, (*own, *of_all), dead_letter_exchange=self.dead)

    def keeper_name(self, partition: int) -> str:
        """Name of the queue that says which ledger keeps a partition: the same in all versions, so that no other one ever does."""
        return f"{self.namespace}.ledger.{partition}.keeper"

    def keeper(self, partition: int, ledger: str) -> Queue:
        """Says which ledger keeps a partition: always empty, and cannot be declared for another ledger while it is there.

        Args:
            ledger: id of the ledger, which stands where no message ever goes
        """
        return Queue(self.keeper_name(partition), QueueKind.dead, dead_letter_exchange=f"{self.namespace}.ledger.{partition}.{ledger}")

    @property
    def dead_name(self) -> str:
        """Name of the queue behind the exchange `dead`."""
        return self.queue_name(DEAD)

    def dead_letters(self) -> Queue:
        """Messages that nobody could read, each with a reason."""
        return Queue(self.dead_name, QueueKind.dead, (Binding(self.dead, "#"), Binding(self.replies, self.dead_key())))

    def class_queue(self, resource_class: str, lane: Lane) -> Queue:
        """Tasks of one class and lane; what the broker drops goes to `returned`."""
        key = f"{resource_class}.{lane.value}.*"
        return Queue(
            self.class_name(resource_class, lane),
            QueueKind.tasks,
            (Binding(self.tasks, key), Binding(self.ready, key)),
            dead_letter_exchange=self.returned,
        )

    def control_queue(self, worker: str) -> Queue:
        """What a worker hears from the coordinator; ends with its connection. What it drops, nobody has to hear."""
        return Queue(
            self.queue_name(f"control.{worker}"),
            QueueKind.private,
            (Binding(self.control, worker), Binding(self.control, EVERYONE)),
            dead_letter_exchange=self.replies,  # to which its user may write
            dead_letter_key=self.dropped_key(),
        )

    def reply_queue(self, client: str) -> Queue:
        """What a client hears; ends with its connection, bounded: a shortcut, not the truth. What it drops, the ledger has."""
        return Queue(
            self.queue_name(f"reply.{client}"),
            QueueKind.private,
            (Binding(self.replies, f"{client}.*"),),
            dead_letter_exchange=self.tasks,  # to which its user may write
            dead_letter_key=self.dropped_key(),
        )

    def lease_queue(self, worker: str) -> Queue:
        """Holds the one token of a worker."""
        return Queue(
            self.queue_name(f"lease.{worker}"),
            QueueKind.lease,
            (Binding(self.lease, f"{worker}.*"),),
            dead_letter_exchange=self.returned,
        )

    def kept(self, name: str) -> Queue | None:
        """The queue of this name, where it is one that is kept for all: a ledger, one of a class and lane, the dead letters."""
        if name == self.dead_name:
            return self.dead_letters()
        before = self.queue_name("")
        if not name.startswith(before):
            return None
        kind, _, rest = name.removeprefix(before).partition(".")
        resource_class, _, lane = rest.rpartition(".")
        if kind == "ledger" and rest in map(str, range(MOST_PARTITIONS)):
            return self.ledger(int(rest))
        if kind == "task" and resource_class and "." not in resource_class and lane in {each.value for each in Lane}:
            return self.class_queue(resource_class, Lane(lane))
        return None

    # --- routing keys ---

    @staticmethod
    def task_key(resource_class: str, lane: Lane, partition: int) -> str:
        """On `tasks` and `ready`: to a class queue, on `tasks` to the ledger too."""
        return f"{resource_class}.{lane.value}.{partition}"

    def is_direct(self, exchange: str, key: str) -> bool:
        """Whether a message that came with this key to the ledger went to a class queue, too."""
        return exchange == self.tasks and not key.startswith(f"{NOBODY}.")

    def is_heard(self, exchange: str, key: str) -> bool:
        """Whether a message that came with this key to the ledger went to a client, too."""
        return exchange == self.replies and not key.startswith((f"{NOBODY}.", f"{NO_CLIENT}."))

    @staticmethod
    def ledger_key(partition: int) -> str:
        """On `tasks`: to the ledger alone."""
        return f"{NOBODY}.{NOBODY}.{partition}"

    @staticmethod
    def reply_key(client: str, partition: int) -> str:
        """On `replies`: to the ledger and to the client; without a client to the ledger alone."""
        return f"{client or NO_CLIENT}.{partition}"

    @staticmethod
    def worker_key() -> str:
        """On `replies`: to all ledgers."""
        return f"{NOBODY}.0"

    @staticmethod
    def answer_key(client: str) -> str:
        """On `replies`: to the client alone."""
        return f"{client}.{DIRECT}"

    @staticmethod
    def dead_key() -> str:
        """On `replies`: to the dead letters alone."""
        return f"{NOBODY}.{DEAD}"

    @staticmethod
    def dropped_key() -> str:
        """On `tasks` and `replies`: to nobody of ours."""
        return f"{NOBODY}.{DROPPED}"

    @staticmethod
    def token_key(worker: str) -> str:
        """On `lease`: to the worker's lease queue, and from there to all ledgers."""
        return f"{worker}.0"
