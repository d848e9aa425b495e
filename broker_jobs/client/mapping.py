"""`Client.map`: calls sent as their results are taken, a bounded number ahead, results in order."""

from __future__ import annotations

import operator
import queue
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar, cast

from broker_jobs.client.chunking import WINDOW, share
from broker_jobs.client.results import value_of
from broker_jobs.errors import BrokerJobsError, ValidationError
from broker_jobs.ids import new_job_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from broker_jobs.client.calls import Caller
    from broker_jobs.client.chunking import OpenClasses
    from broker_jobs.client.encoding import Encoded
    from broker_jobs.client.jobview import Ending

_Result = TypeVar("_Result")

REASON: Final = "nobody takes further results of this map"
_FULL: Final = 2**20


class Rows:
    """The rows of a map: sent in small jobs, at most a window of them ahead of what was taken.

    Args:
        caller: sends
        fn: the function
        iterables: its arguments
        put: takes what comes back, from another thread: pairs of the number of a row and its ending, or the reason why none will come
    """

    def __init__(
        self,
        caller: Caller,
        fn: Callable[..., object],
        iterables: tuple[Iterable[object], ...],
        put: Callable[[tuple[int, Ending] | BrokerJobsError], object],
    ) -> None:
        if not iterables:
            raise ValidationError("map needs at least one iterable with arguments")
        self.taken = 0
        self._caller = caller
        self._fn = fn
        self._rows = zip(*iterables, strict=False)
        self._hint = min(operator.length_hint(iterable, 0) for iterable in iterables)
        self._put = put
        self._known: dict[int, Ending] = {}
        self._jobs: deque[tuple[str, int]] = deque()
        self._sent = 0
        self._exhausted = False

    @property
    def done(self) -> bool:
        """Whether the result of every row was taken."""
        return self._exhausted and self.taken == self._sent

    def send_ahead(self, is_open: OpenClasses) -> None:
        """Send rows until the window is full."""
        while not self._exhausted and len(self._jobs) < WINDOW:
            # Where nobody knows how many will come, jobs grow with what has come.
            self._send(share(self._hint or 4 * self._sent), is_open)

    def note(self, news: tuple[int, Ending] | BrokerJobsError) -> None:
        """Take what was `put`; raises the reason why nothing more comes."""
        if isinstance(news, BrokerJobsError):
            raise news
        number, ending = news
        self._known[number] = ending

    @property
    def ready(self) -> bool:
        """Whether the next result is there."""
        return self.taken in self._known

    def take(self) -> object:
        """The next result, which is ready; raises what `value_of` does."""
        ending = self._known.pop(self.taken)
        job, end = self._jobs[0]
        value = value_of(ending, job)
        self.taken += 1
        if self.taken == end:
            self._jobs.popleft()
            self._caller.forget(job)
        return value

    def close(self) -> None:
        """Cancel what was sent and not taken."""
        self._exhausted = True
        self.taken = self._sent
        jobs = [job for job, _ in self._jobs]
        self._jobs.clear()
        self._known.clear()
        for job in jobs:
            self._caller.withdraw(job, REASON)

    def _send(self, most: int, is_open: OpenClasses) -> None:
        """Send the next rows as one job."""
        job = new_job_id()
        encoder = self._caller.encoder(job)
        callee = self._caller.callee(encoder, self._fn)
        calls: list[Encoded] = []
        size = 0
        while len(calls) < most and size < _FULL:
            row = next(self._rows, None)
            if row is None:
                self._exhausted = True
                break
            calls.append(encoder.call(0, callee, row, {}, self._caller.options))
            size += calls[-1].size
        if calls:
            first, put = self._sent, self._put
            batch = self._caller.batch(job, calls, is_open, lambda ending: put((first + ending.number, ending)), put, most=most)
            self._sent += len(calls)
            self._jobs.append((job, self._sent))
            self._caller.launch(batch)


class MappedResults(Generic[_Result]):
    """The values of a function for many rows of arguments, in their order. The first failure ends it."""

    def __init__(self, caller: Caller, fn: Callable[..., _Result], iterables: tuple[Iterable[object], ...], timeout: float | None) -> None:
        self._news: queue.SimpleQueue[tuple[int, Ending] | BrokerJobsError] = queue.SimpleQueue()
        self._caller = caller
        self._rows = Rows(caller, fn, iterables, self._news.put)
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._rows.send_ahead(caller.open_classes())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Result:
        try:
            self._rows.send_ahead(self._caller.open_classes())
            if not self._rows.done:
                self._await_next()
                return cast("_Result", self._rows.take())
        except BaseException:
            self.close()
            raise
        raise StopIteration

    def close(self) -> None:
        """Cancel what was sent and not taken."""
        self._rows.close()

    def _await_next(self) -> None:
        while not self._rows.ready:
            remaining = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            try:
                self._rows.note(self._news.get(timeout=remaining))
            except queue.Empty:
                raise TimeoutError(f"call {self._rows.taken} of this map was not done within {self._timeout:g} s") from None
