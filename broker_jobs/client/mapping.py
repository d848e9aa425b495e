"""`Client.map`: calls sent as their results are taken, a bounded number ahead, results in order.

How many rows make a job (one chunk) is found out: it begins with what `share` gives where nobody knows how long a call takes, and
becomes as many as are taken in `_PACE` seconds, so that quick calls cost few messages. Who takes slowly gets small jobs again.
"""

from __future__ import annotations

import contextlib
import operator
import queue
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar, cast

from broker_jobs.client.chunking import MOST_READY, MOST_WAITING, WINDOW, share
from broker_jobs.client.encoding import size_of_call
from broker_jobs.client.results import stored_bytes, value_of
from broker_jobs.core.value import Stored
from broker_jobs.errors import BrokerJobsError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from broker_jobs.client.calls import Caller
    from broker_jobs.client.chunking import OpenClasses
    from broker_jobs.client.jobview import Ending
    from broker_jobs.core.value import Value

_Result = TypeVar("_Result")

REASON: Final = "nobody takes further results of this map"
_FULL: Final = 2**20
_PACE: Final = 0.1
_HEAVY: Final = 32 * 2**20
"""Bytes of arguments in the value store from which on results are taken before more is sent. A store takes no more room than is of use
then, and its files lie in memory that is at hand."""

News = tuple[int, "Sequence[Ending]"] | BrokerJobsError
"""What comes back: the number of the first row of a job, and endings of its rows; or the reason why none will come."""


class Rows:
    """The rows of a map: sent in small jobs, at most a window of them ahead of what was taken.

    Args:
        caller: sends
        fn: the function
        iterables: its arguments
        put: takes what comes back, from another thread
        clock: seconds from anywhere on
    """

    def __init__(
        self,
        caller: Caller,
        fn: Callable[..., object],
        iterables: tuple[Iterable[object], ...],
        put: Callable[[News], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not iterables:
            raise ValidationError("map needs at least one iterable with arguments")
        self.taken = 0
        self._caller = caller
        self._fn = fn
        self._rows = zip(*iterables, strict=False)
        self._hint = min(operator.length_hint(iterable, 0) for iterable in iterables)
        self._put = put
        self._clock = clock
        self._known: dict[int, Ending] = {}
        self._jobs: deque[tuple[str, int, int]] = deque()
        self._stored = self._results = 0
        self._paces: deque[tuple[float, int]] = deque(maxlen=WINDOW)
        self._sent = 0
        self._exhausted = False

    @property
    def done(self) -> bool:
        """Whether the result of every row was taken."""
        return self._exhausted and self.taken == self._sent

    @property
    def wanting(self) -> bool:
        """Whether there is something to send ahead."""
        return len(self._jobs) < WINDOW and not self._exhausted and not self._enough

    @property
    def _enough(self) -> bool:
        """Whether much lies in the store, and there is more to take than workers have before them: to send can wait, they will not."""
        return self._stored > _HEAVY and self.ready and 2 * len(self._known) > self._sent - self.taken

    def send_ahead(self, is_open: OpenClasses) -> None:
        """Send rows until the window is full. While much lies in the store it is one job: note what has come back, and ask again."""
        while self.wanting:
            self._send(is_open)
            if self._stored > _HEAVY:
                break

    def note(self, news: News) -> None:
        """Take what was `put`; raises the reason why nothing more comes."""
        if isinstance(news, BrokerJobsError):
            raise news
        first, endings = news
        for ending in endings:
            self._known[first + ending.number] = ending

    @property
    def ready(self) -> bool:
        """Whether the next result is there."""
        return self.taken in self._known

    def take(self) -> object:
        """The next result, which is ready; raises what `value_of` does."""
        ending = self._known.pop(self.taken)
        job, end, stored = self._jobs[0]
        value = value_of(ending, job)
        self.taken += 1
        self._results += stored_bytes(ending)
        if self.taken == end:
            self._jobs.popleft()
            self._caller.forget(job, stored + self._results)
            self._stored -= stored
            self._results = 0
            self._paces.append((self._clock(), end))
        return value

    def close(self) -> None:
        """Cancel what was sent and not taken."""
        self._exhausted = True
        self.taken = self._sent
        jobs = [job for job, _, _ in self._jobs]
        self._jobs.clear()
        self._known.clear()
        for job in jobs:
            self._caller.withdraw(job, REASON)

    def _most(self, worth: int) -> int:
        """How many rows a job may have: as many as were taken in `_PACE` seconds while the results of a window of jobs were."""
        if len(self._paces) < WINDOW:
            return max(MOST_READY, worth)
        (begun, before), (now, taken) = self._paces[0], self._paces[-1]
        return min(max(MOST_READY, int(_PACE * (taken - before) / max(now - begun, 1e-6))), MOST_WAITING)

    def _send(self, is_open: OpenClasses) -> None:
        """Send the next rows as one job."""
        job = self._caller.new_job()
        encoder = self._caller.encoder(job)
        callee = self._caller.callee(encoder, self._fn)
        # Where nobody knows how many will come, jobs grow with what has come.
        worth = self._caller.worth(callee)
        most = self._most(worth)
        most = min(share(self._hint or 4 * self._sent, most, worth), most)
        placement = encoder.place(self._caller.options)
        arguments: list[Value] = []
        size = stored = 0
        # Arguments that are too large for a message are worth one of their own.
        while len(arguments) < most and size < _FULL and not stored:
            row = next(self._rows, None)
            if row is None:
                self._exhausted = True
                break
            value = encoder.arguments(callee, row, {})
            arguments.append(value)
            size += size_of_call(value)
            stored = value.size if isinstance(value, Stored) else 0
        if arguments:
            calls = encoder.calls(callee, arguments, placement)
            first, put = self._sent, self._put
            batch = self._caller.batch(job, calls, is_open, lambda endings: put((first, endings)), put, most=most)
            self._sent += len(calls)
            self._jobs.append((job, self._sent, stored))
            self._stored += stored
            self._caller.launch(batch)


class MappedResults(Generic[_Result]):
    """The values of a function for many rows of arguments, in their order. The first failure ends it."""

    def __init__(self, caller: Caller, fn: Callable[..., _Result], iterables: tuple[Iterable[object], ...], timeout: float | None) -> None:
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._caller = caller
        self._rows = Rows(caller, fn, iterables, self._news.put)
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._rows.send_ahead(caller.open_classes())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> _Result:
        try:
            while self._rows.wanting:
                self._rows.send_ahead(self._caller.open_classes())
                self._hear()
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

    def _hear(self) -> None:
        """Note what has come back. Why nothing more will come is told to who waits for it: results that are there come first."""
        with contextlib.suppress(queue.Empty):
            while not isinstance(news := self._news.get_nowait(), BrokerJobsError):
                self._rows.note(news)
            self._news.put(news)

    def _await_next(self) -> None:
        while not self._rows.ready:
            remaining = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
            try:
                self._rows.note(self._news.get(timeout=remaining))
            except queue.Empty:
                raise TimeoutError(f"call {self._rows.taken} of this map was not done within {self._timeout:g} s") from None
