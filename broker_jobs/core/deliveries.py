"""Which deliveries are still to be settled, so that each is settled once, and never another message in its place.

Delivery tags start again at 1 with every connection. A tag of an older connection names nothing any more, or, worse,
somebody else's message: the generation of the connection is therefore part of the tag, and the ledger refuses all but
the present one. Ask it at the moment of writing to the connection, not before.
"""

from __future__ import annotations

from typing import NamedTuple

from broker_jobs.errors import IllegalTransition


class Tag(NamedTuple):
    """Names a delivery: tags start again with every connection, so the generation of the connection belongs to them."""

    generation: int
    number: int


class DeliveryLedger:
    """The deliveries of the present connection that nobody has settled.

    Attributes:
        generation: of the present connection; 0 before the first
    """

    def __init__(self) -> None:
        self.generation = 0
        self._owed: dict[int, None] = {}
        self._received = 0
        self._settled = 0

    def connected(self, generation: int) -> None:
        """Begin with a new connection: what was owed on the old one is the broker's again.

        Raises:
            IllegalTransition: generations do not grow
        """
        if generation <= self.generation:
            raise IllegalTransition(f"connection {generation} cannot follow connection {self.generation}")
        self.generation = generation
        self._owed.clear()
        self._received = self._settled = 0

    def received(self, tag: Tag) -> None:
        """Note a delivery.

        Raises:
            IllegalTransition: it belongs to another connection, or came before
        """
        if tag.generation != self.generation:
            raise IllegalTransition(f"a delivery of connection {tag.generation} cannot come on connection {self.generation}")
        if tag.number in self._owed:
            raise IllegalTransition(f"delivery {tag.number} of connection {tag.generation} came twice")
        self._owed[tag.number] = None
        self._received += 1

    def settle(self, tag: Tag) -> bool:
        """Whether this delivery may be settled now, which is then done: False where it is stale or settled already."""
        if tag.generation != self.generation or tag.number not in self._owed:
            return False
        del self._owed[tag.number]
        self._settled += 1
        return True

    def owed(self) -> tuple[Tag, ...]:
        """What is still to be settled, in the order in which it came."""
        return tuple(Tag(self.generation, number) for number in self._owed)

    def check(self) -> None:
        """What must always be true; `AssertionError` where it is not."""
        assert len(self._owed) == self._received - self._settled, "each delivery is owed until it is settled, once"
        assert self.generation > 0 or not self._owed, "nothing comes before the first connection"
