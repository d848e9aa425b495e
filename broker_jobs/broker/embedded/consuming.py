"""The subscriptions of a connection and the deliveries that are not settled; no loop, no clock."""

from __future__ import annotations

import bisect
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from broker_jobs.broker.port import Delivery, Tag
from broker_jobs.core.deliveries import DeliveryLedger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from broker_jobs.broker.embedded.directory import KnownQueue
    from broker_jobs.broker.embedded.store import Claimed, Held, Store

_MOST: Final = 100
"""Messages that a subscription gets in one transaction."""

LEFT_TO_OTHERS: Final = 0.03
"""Seconds for which a message waits before a subscription behind others takes it."""


@dataclass(eq=False, slots=True)
class EmbeddedSubscription:
    """A consumer.

    Attributes:
        urgency: of two consumers of a connection, the one with the lower number is served first
        private: nobody else may have what is there, so it is read, and not held in the file
        queue_id: of the queue in the file in which `consumer` is entered; 0 where it is not
        unsettled: deliveries that count against the credit
        behind: messages are left to others for a moment
        ripe: the message that waits at the head of the queue, and when this one takes it; None where nothing waits
    """

    queue: str
    credit: int
    receive: Callable[[Delivery], None]
    stop: Callable[[EmbeddedSubscription, bool], Awaitable[None]]
    urgency: int = 0
    private: bool = False
    queue_id: int = 0
    consumer: int = 0
    unsettled: int = 0
    behind: bool = False
    ripe: tuple[int, float] | None = None

    async def cancel(self, *, requeue: bool = False) -> None:
        """Stop deliveries; with `requeue`, what is unsettled goes back to the head of the queue."""
        await self.stop(self, requeue)


class Entry(NamedTuple):
    """Where a subscription stands in the file."""

    subscription: EmbeddedSubscription
    queue_id: int
    consumer: int


class Haul(NamedTuple):
    """What one subscription has claimed."""

    subscription: EmbeddedSubscription
    claimed: Sequence[Claimed]

    @property
    def may_be_more(self) -> bool:
        """Whether the next transaction may find more at once."""
        return len(self.claimed) == _MOST


@dataclass(slots=True)
class _Bookmark:
    """How far a private queue was read.

    Attributes:
        last: the last message
        back: messages before it that were put back
    """

    last: int = 0
    back: set[int] = field(default_factory=set)

    def read(self, store: Store, queue: int, most: int, held: int) -> list[Claimed]:
        """What is there behind it, and what was put back; `held` are not settled."""
        if not self.back:
            return store.read(queue, self.last, most)
        limit = most + held
        found = store.read(queue, min(self.back) - 1, limit)
        there = {each.held.message for each in found}
        # Of what was put back, that is gone which would stand among these; further on, nothing is known.
        self.back -= {message for message in self.back - there if len(found) < limit or message < max(there)}
        return [each for each in found if each.held.message > self.last or each.held.message in self.back][:most]

    def received(self, claimed: Iterable[Claimed]) -> None:
        """These were handed out."""
        for each in claimed:
            self.back.discard(each.held.message)
            self.last = max(self.last, each.held.message)


class Consuming:
    """Subscriptions, which outlive connections, and deliveries, which do not.

    What is done in a transaction (`enter`, `claim`) is noted once it is committed (`entered`, `received`).
    """

    def __init__(self) -> None:
        self._subscriptions: list[EmbeddedSubscription] = []
        self._ledger = DeliveryLedger()
        self._held: dict[int, tuple[Held, EmbeddedSubscription]] = {}
        self._bookmarks: defaultdict[int, _Bookmark] = defaultdict(_Bookmark)
        self._received = 0

    @property
    def generation(self) -> int:
        """Number of the present connection, or of the last."""
        return self._ledger.generation

    def connected(self) -> None:
        """Begin with a new connection."""
        self._ledger.connected(self._ledger.generation + 1)
        self._received = 0

    def lost(self) -> None:
        """Forget what belonged to the connection: no delivery can be settled."""
        self._held.clear()
        self._bookmarks.clear()
        for each in self._subscriptions:
            each.queue_id = each.consumer = each.unsettled = 0

    # --- subscriptions ---

    def add(self, entry: Entry) -> None:
        """Begin with a subscription."""
        bisect.insort(self._subscriptions, entry.subscription, key=lambda each: each.urgency)
        self.entered((entry,))

    def remove(self, subscription: EmbeddedSubscription) -> bool:
        """End a subscription; False where it has ended."""
        if subscription not in self._subscriptions:
            return False
        self._subscriptions.remove(subscription)
        return True

    def enter(self, store: Store) -> list[Entry]:
        """Enter the subscriptions that have no place in the file: after a reconnect, or where a queue was deleted and declared again."""
        found = [(each, _missing(store, each)) for each in self._subscriptions]
        return [Entry(each, queue.id, store.subscribe(queue)) for each, queue in found if queue]

    def entered(self, entries: Sequence[Entry]) -> None:
        """Note their places."""
        for subscription, queue_id, consumer in entries:
            subscription.queue_id, subscription.consumer = queue_id, consumer

    # --- deliveries ---

    def has_reason(self, store: Store, now: float) -> bool:
        """Whether a transaction would bring anything."""
        self._ripen(store, now)
        return any(_missing(store, each) for each in self._subscriptions) or any(
            store.head(each.queue_id) is not None for each in self._open(store, now) if not each.private
        )

    def claim(self, store: Store, now: float) -> list[Haul]:
        """Hold what there is, as far as credit goes."""
        self._ripen(store, now)
        return [Haul(each, self._take(store, each)) for each in self._open(store, now)]

    def read(self, store: Store, now: float) -> list[Haul]:
        """The same for private queues alone, which takes no transaction."""
        return [Haul(each, self._take(store, each)) for each in self._open(store, now) if each.private]

    def _take(self, store: Store, each: EmbeddedSubscription) -> list[Claimed]:
        most = min(each.credit - each.unsettled, _MOST)
        if each.private:
            return self._bookmarks[each.queue_id].read(store, each.queue_id, most, len(self._held))
        return store.claim(each.queue_id, most)

    def ripe_in(self, now: float) -> float | None:
        """Seconds until a subscription that stands behind others may take what waits; None where nothing does."""
        return min((at - now for each in self._subscriptions if each.ripe is not None and (at := each.ripe[1]) > now), default=None)

    def _ripen(self, store: Store, now: float) -> None:
        for each in self._subscriptions:
            if each.behind:
                head = store.head(each.queue_id) if each.unsettled < each.credit else None
                if head is None:
                    each.ripe = None
                elif each.ripe is None or each.ripe[0] != head:
                    each.ripe = head, now + LEFT_TO_OTHERS

    def received(self, haul: Haul) -> list[Delivery]:
        """Turn what was claimed into deliveries."""
        subscription, claimed = haul
        deliveries = []
        for each in claimed:
            self._received += 1
            tag = Tag(self.generation, self._received)
            self._ledger.received(tag)
            self._held[tag.number] = each.held, subscription
            deliveries.append(Delivery(subscription.queue, each.exchange, each.key, each.body, tag, each.redelivered))
        if subscription.private:
            self._bookmarks[subscription.queue_id].received(claimed)
        subscription.unsettled += len(deliveries)
        subscription.ripe = None
        return deliveries

    def holds(self, tag: Tag) -> bool:
        """Whether a delivery is ours to settle."""
        return tag.generation == self.generation and tag.number in self._held

    def throttled(self, tag: Tag) -> bool:
        """Whether the subscription of a delivery has used up its credit."""
        held = self._held.get(tag.number)
        return held is not None and held[1].unsettled >= held[1].credit

    def settle(self, tag: Tag) -> Held | None:
        """Settle a delivery, once: the message, or None where it is stale or settled already."""
        if not self.holds(tag) or not self._ledger.settle(tag):
            return None
        held, subscription = self._held.pop(tag.number)
        subscription.unsettled -= 1
        return held

    def put_back(self, held: Held) -> None:
        """Receive a settled message once more."""
        if held.queue in self._bookmarks:
            self._bookmarks[held.queue].back.add(held.message)

    def settle_all(self, subscription: EmbeddedSubscription) -> list[Held]:
        """Settle everything that a subscription has received."""
        mine = [number for number, (_, owner) in self._held.items() if owner is subscription]
        return [held for number in mine if (held := self.settle(Tag(self.generation, number)))]

    def _open(self, store: Store, now: float) -> list[EmbeddedSubscription]:
        return [
            each
            for each in self._subscriptions
            if each.unsettled < each.credit
            and store.directory.active(each.queue_id, each.consumer)
            and (not each.behind or (each.ripe is not None and each.ripe[1] <= now))
        ]


def _missing(store: Store, subscription: EmbeddedSubscription) -> KnownQueue | None:
    queue = store.directory.queues.get(subscription.queue)
    return queue if queue and queue.id != subscription.queue_id and queue.owner in (None, store.connection) else None
