"""Brokers in memory that remember which message a number stands for, and not only how many there are.

To acknowledge the wrong message keeps every count right; only a broker that knows messages by their identity notices.
"""

from __future__ import annotations

from collections import deque

from broker_jobs.core.deliveries import Tag


class ConsumedQueue:
    """A queue with one consumer, whose connection may go at any time; tags start again with each connection."""

    def __init__(self) -> None:
        self.waiting: deque[str] = deque()
        self.unacknowledged: dict[int, str] = {}
        self.done: list[str] = []
        self.generation = 0
        self._last = 0

    def connect(self) -> int:
        """Lose the connection, if there is one, and make the next; its generation."""
        self.waiting.extendleft(reversed(self.unacknowledged.values()))
        self.unacknowledged.clear()
        self.generation += 1
        self._last = 0
        return self.generation

    def deliver(self) -> tuple[Tag, str]:
        """The next message."""
        self._last += 1
        message = self.waiting.popleft()
        self.unacknowledged[self._last] = message
        return Tag(self.generation, self._last), message

    def acknowledge(self, number: int) -> str:
        """What a tag that stands in an acknowledgement means now: an unknown one ends a real connection."""
        assert number in self.unacknowledged, f"PRECONDITION_FAILED: unknown delivery tag {number}"
        message = self.unacknowledged.pop(number)
        self.done.append(message)
        return message


class ConfirmedChannel:
    """A channel that takes messages and answers for them later, in any order, by number; numbers start again with each channel."""

    def __init__(self) -> None:
        self.open: dict[int, str] = {}
        self.last = 0

    def publish(self, message: str) -> int:
        """Take a message; the number that it has here."""
        self.last += 1
        self.open[self.last] = message
        return self.last

    def answer(self, number: int, *, multiple: bool) -> list[str]:
        """Answer for a message, or for all up to it (0: all); those that the answer means, in the order of publishing."""
        upto = number or self.last
        meant = [known for known in self.open if known == number or (multiple and known <= upto)]
        return [self.open.pop(known) for known in meant]

    def close(self) -> list[str]:
        """End the channel; what was never answered for."""
        left = list(self.open.values())
        self.open.clear()
        self.last = 0
        return left
