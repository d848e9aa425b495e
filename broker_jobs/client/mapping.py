"""`Client.map`: calls sent as their results are taken, a bounded number ahead, results in order."""

from __future__ import annotations

import operator
import queue
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar, cast

from broker_jobs.client.calls import MOST_ROWS
from broker_jobs.client.chunking import SHARE, WINDOW
from broker_jobs.client.results import value_of
from broker_jobs.errors import BrokerJobsError, ValidationError
from broker_jobs.ids import new_job_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from broker_jobs.client.calls import Caller
    from broker_jobs.client.encoding import Encoded
    from broker_jobs.client.jobview import Ending

_Result = TypeVar("_Result")

REASON: Final = "nobody takes further results of this map"
_FULL: Final = 2**20


class MappedResults(Generic[_Result]):
    """The values of a function for many rows of arguments, in their order.

    Rows are read, pickled and sent in small jobs, at most a window of them ahead of what was taken. The first failure ends it.
    """

    def __init__(self, caller: Caller, fn: Callable[..., _Result], iterables: tuple[Iterable[object], ...], timeout: float | None) -> None:
        if not iterables:
            raise ValidationError("map needs at least one iterable with arguments")
        self._caller = caller
        self._fn = fn
        self._rows = zip(*iterables, strict=False)
        self._hint = min(operator.length_hint(iterable, 0) for iterable in iterables)
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._timeout = timeout
        self._endings: queue.SimpleQueue[tuple[int, Ending] | BrokerJobsError] = queue.SimpleQueue()
        self._known: dict[int, Ending] = {}
        self._jobs: deque[tuple[str, int]] = deque()
        self._sent = self._taken = 0
        self._exhausted = False
        self._send_ahead()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Result:
        try:
            self._send_ahead()
            found = self._next_ending() if self._taken < self._sent else None
            value = value_of(*found) if found else None
        except BaseException:
            self.close()
            raise
        if found is None:
            raise StopIteration
        return cast("_Result", value)

    def close(self) -> None:
        """Cancel what was sent and not taken."""
        self._exhausted = True
        self._taken = self._sent
        jobs = [job for job, _ in self._jobs]
        self._jobs.clear()
        self._known.clear()
        for job in jobs:
            self._caller.withdraw(job, REASON)

    def _next_ending(self) -> tuple[Ending, str]:
        number = self._taken
        while number not in self._known:
            remaining = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            try:
                news = self._endings.get(timeout=remaining)
            except queue.Empty:
                raise TimeoutError(f"call {number} of this map was not done within {self._timeout:g} s") from None
            if isinstance(news, BrokerJobsError):
                raise news
            position, ending = news
            self._known[position] = ending
        self._taken += 1
        job, end = self._jobs[0]
        if self._taken == end:
            self._jobs.popleft()
        return self._known.pop(number), job

    def _send_ahead(self) -> None:
        while not self._exhausted and len(self._jobs) < WINDOW:
            self._send(min(max((self._hint or 4 * self._sent) // SHARE, 1), MOST_ROWS))

    def _send(self, most: int) -> None:
        """Send the next rows as one job."""
        job = new_job_id()
        encoder = self._caller.encoder(job)
        function = encoder.function(self._fn)
        calls: list[Encoded] = []
        size = 0
        while len(calls) < most and size < _FULL:
            row = next(self._rows, None)
            if row is None:
                self._exhausted = True
                break
            calls.append(encoder.call(0, function, row, {}, self._caller.options))
            size += calls[-1].size
        if not calls:
            return
        first = self._sent
        put = self._endings.put
        batch = self._caller.batch(
            job, calls, self._caller.open_classes(calls[0]), lambda ending: put((first + ending.number, ending)), put
        )
        self._sent += len(calls)
        self._jobs.append((job, self._sent))
        self._caller.launch(batch)
