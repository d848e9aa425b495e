"""What the broker has said of the messages that were published on one channel, each exactly once.

The broker answers by sequence number, one number at a time or all up to one (*multiple*), in any order. Numbers start
again at 1 with every channel. What is pending when the channel closes is unknown: it may be safe, and must be sent again.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import StrEnum
from typing import Generic, TypeVar

from broker_jobs.errors import IllegalTransition

Item = TypeVar("Item")


class Receipt(StrEnum):
    """What the broker said of one message."""

    confirmed = "confirmed"
    unroutable = "unroutable"
    """It was mandatory, and no queue took it."""
    refused = "refused"
    """The broker said no; some of several queues may have it all the same."""
    unknown = "unknown"
    """The broker has not said anything: the connection went, or it was silent for too long."""


class Confirms(Generic[Item]):
    """The messages that the broker has not answered for, in the order in which they were sent.

    Every method that answers gives pairs of item and receipt, in the order of sending. A message that came back
    (`returned`) is unroutable, whatever is said of its number afterwards.
    """

    def __init__(self) -> None:
        self._last = 0
        self._answered = 0
        # Not a plain dict: finding its first key again after many deletions at the front takes ever longer.
        self._pending: OrderedDict[int, Item] = OrderedDict()
        self._returned: set[int] = set()

    def __len__(self) -> int:
        """How many messages are pending."""
        return len(self._pending)

    @property
    def oldest(self) -> int:
        """Number of the message that has waited longest for its answer, or 0."""
        return next(iter(self._pending), 0)

    def sent(self, item: Item) -> int:
        """Note that an item is published; its sequence number."""
        self._last += 1
        self._pending[self._last] = item
        return self._last

    def acked(self, number: int, *, multiple: bool = False) -> tuple[tuple[Item, Receipt], ...]:
        """The broker has this message safely, or all up to this one (0: all); answers that came before are left out.

        Raises:
            IllegalTransition: no message of this number was sent
        """
        return self._answer(number, Receipt.confirmed, multiple=multiple)

    def nacked(self, number: int, *, multiple: bool = False) -> tuple[tuple[Item, Receipt], ...]:
        """The broker refuses this message, or all up to this one (0: all); answers that came before are left out.

        Raises:
            IllegalTransition: no message of this number was sent
        """
        return self._answer(number, Receipt.refused, multiple=multiple)

    def returned(self, number: int) -> None:
        """A mandatory message came back, since no queue took it: the answer that is still to come is `Receipt.unroutable`."""
        if number in self._pending:
            self._returned.add(number)

    def channel_closed(self) -> tuple[tuple[Item, Receipt], ...]:
        """Everything that is pending, now unknown; the next channel counts from 1."""
        answers = tuple(self._resolve(number, item, Receipt.unknown) for number, item in self._pending.items())
        self._pending.clear()
        self._last = self._answered = 0
        return answers

    def check(self) -> None:
        """What must always be true; `AssertionError` where it is not."""
        assert len(self._pending) == self._last - self._answered, "each message is pending until it is answered, once"
        assert all(0 < number <= self._last for number in self._pending), "what is pending was sent"
        assert list(self._pending) == sorted(self._pending), "pending messages stand in the order of sending"
        assert self._returned <= self._pending.keys(), "what came back is still pending"

    def _answer(self, number: int, receipt: Receipt, *, multiple: bool) -> tuple[tuple[Item, Receipt], ...]:
        if not (0 if multiple else 1) <= number <= self._last:
            # Taken for granted, it would confirm what was never safe.
            raise IllegalTransition(f"the broker answers for message {number}, but {self._last} were sent on this channel")
        if not multiple:
            if number not in self._pending:
                return ()
            return (self._resolve(number, self._pending.pop(number), receipt),)
        answers: list[tuple[Item, Receipt]] = []
        upto = number or self._last
        while self._pending and next(iter(self._pending)) <= upto:
            first, item = self._pending.popitem(last=False)
            answers.append(self._resolve(first, item, receipt))
        return tuple(answers)

    def _resolve(self, number: int, item: Item, receipt: Receipt) -> tuple[Item, Receipt]:
        self._answered += 1
        if number in self._returned:
            self._returned.discard(number)
            return item, Receipt.unroutable
        return item, receipt
