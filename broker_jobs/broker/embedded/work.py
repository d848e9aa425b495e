"""What waits for the next transaction."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from broker_jobs.errors import BrokerError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Sequence

    from broker_jobs.broker.embedded.store import Held, Store
    from broker_jobs.broker.port import Outgoing

T = TypeVar("T")

_MOST_MESSAGES: Final = 250
_MOST_BYTES: Final = 2 * 1024 * 1024
"""Bounds of one transaction, so that it stays short."""


@dataclass(slots=True)
class Work(Generic[T]):
    """One change, performed once in a transaction that is committed.

    Attributes:
        perform: does it; may be called again after a rollback, so it changes nothing but the store
        done: gets what it returned
        otherwise: what `done` gets where the connection goes first
        committed: called with the result at once, before anything else can happen
        patient: waits for the next connection, unless it was begun
        alone: has a transaction of its own, because it may raise BrokerError
        size: bytes
    """

    perform: Callable[[Store], T]
    done: asyncio.Future[T]
    otherwise: T | BrokerError
    committed: Callable[[T], None] | None = None
    patient: bool = False
    alone: bool = False
    size: int = 0

    def succeed(self, result: T) -> None:
        """It was committed."""
        if self.committed:
            self.committed(result)
        if not self.done.done():
            self.done.set_result(result)

    def fail(self, error: BrokerError) -> None:
        """It raised, and nothing was changed."""
        if not self.done.done():
            self.done.set_exception(error)

    def lose(self) -> None:
        """The connection went."""
        if isinstance(self.otherwise, BrokerError):
            self.fail(self.otherwise)
        elif not self.done.done():
            self.done.set_result(self.otherwise)


@dataclass(slots=True)
class Batch:
    """What one transaction does."""

    settled: list[Held] = field(default_factory=list)
    released: list[Held] = field(default_factory=list)
    work: list[Work[Any]] = field(default_factory=list)

    def lose(self) -> None:
        """The connection went in the middle."""
        for each in self.work:
            each.lose()


class Pending:
    """Settlements and works, in the order in which they came."""

    def __init__(self) -> None:
        self.settled: list[Held] = []
        self.released: list[Held] = []
        self.work: deque[Work[Any]] = deque()

    def __bool__(self) -> bool:
        return bool(self.settled or self.released or self.work)

    def take(self) -> Batch:
        """What the next transaction should do."""
        batch = Batch(self.settled, self.released)
        self.settled, self.released = [], []
        size = 0
        while self.work and not (batch.work and self.work[0].alone) and size < _MOST_BYTES and len(batch.work) < _MOST_MESSAGES:
            batch.work.append(self.work.popleft())
            size += batch.work[-1].size
            if batch.work[-1].alone:
                break
        return batch

    def put_back(self, batch: Batch) -> None:
        """The transaction did nothing: this comes next."""
        self.settled[:0] = batch.settled
        self.released[:0] = batch.released
        self.work.extendleft(reversed(batch.work))

    def lose(self, *, closed: bool) -> None:
        """The connection went: only patient work stays, and none where there will be no other."""
        self.settled, self.released = [], []
        work, self.work = self.work, deque()
        for each in work:
            if each.patient and not closed:
                self.work.append(each)
            else:
                each.lose()


def parts(messages: Sequence[Outgoing]) -> Iterator[tuple[list[Outgoing], int]]:
    """Cut messages into parts that a transaction can take, each with its bytes."""
    part: list[Outgoing] = []
    size = 0
    for message in messages:
        part.append(message)
        size += len(message.body)
        if len(part) >= _MOST_MESSAGES or size >= _MOST_BYTES:
            yield part, size
            part, size = [], 0
    if part:
        yield part, size
