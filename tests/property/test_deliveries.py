"""The delivery ledger between a broker that loses connections and somebody who settles late, twice, or never."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker_jobs.core.deliveries import DeliveryLedger, Tag
from tests.support.fake_broker import ConsumedQueue

index = st.integers(0, 1_000_000)


class DeliveryStory(RuleBasedStateMachine):
    """Deliveries, settlements and reconnects in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = ConsumedQueue()
        self.ledger = DeliveryLedger()
        self.received: list[tuple[Tag, str]] = []
        self.published = 0
        self.reconnect()

    @rule(count=st.integers(1, 4))
    def publish(self, count: int) -> None:
        for _ in range(count):
            self.queue.waiting.append(f"message {self.published}")
            self.published += 1

    @precondition(lambda self: self.queue.waiting)
    @rule()
    def deliver(self) -> None:
        tag, message = self.queue.deliver()
        self.ledger.received(tag)
        self.received.append((tag, message))

    @rule()
    def reconnect(self) -> None:
        self.ledger.connected(self.queue.connect())
        assert self.ledger.owed() == ()

    @precondition(lambda self: self.received)
    @rule(pick=index)
    def settle(self, pick: int) -> None:
        tag, message = self.received[-1 - pick % len(self.received)]
        owed = self.ledger.owed()
        wanted = self.queue.unacknowledged.get(tag.number) == message and tag.generation == self.queue.generation
        assert self.ledger.settle(tag) is wanted
        if wanted:
            assert self.queue.acknowledge(tag.number) == message, "never another message"
        else:
            assert self.ledger.owed() == owed
        assert not self.ledger.settle(tag), "never twice"

    @invariant()
    def owes_what_the_broker_waits_for(self) -> None:
        self.ledger.check()
        assert [(tag.generation, tag.number) for tag in self.ledger.owed()] == [
            (self.queue.generation, number) for number in self.queue.unacknowledged
        ]
        assert len(self.queue.done) == len(set(self.queue.done))


TestDeliveryStory = DeliveryStory.TestCase
