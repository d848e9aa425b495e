"""Single calls: cut into small jobs that belong to their client, sent, and their endings handed out."""

from __future__ import annotations

import getpass
import os
import platform
import sys
import time
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from broker_jobs.client.chunking import MOST_WORTH, Chunker, cut
from broker_jobs.client.encoding import Encoder
from broker_jobs.client.followed import Batch
from broker_jobs.client.jobview import Layout, Row
from broker_jobs.client.results import stored_bytes, value_of
from broker_jobs.current import current
from broker_jobs.data.store import ValueStore
from broker_jobs.host import host_identity
from broker_jobs.ids import new_job_id
from broker_jobs.wire.messages import JobHeader, Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

    from broker_jobs.client.chunking import OpenClasses
    from broker_jobs.client.encoding import Callee, Encoded, Placement
    from broker_jobs.client.jobview import Ending
    from broker_jobs.client.runtime import Runtime
    from broker_jobs.core.spec import TaskOptions
    from broker_jobs.errors import BrokerJobsError


IN_THE_CHUNK: Final = Origin("", "", "")
"""Half of the bytes of a call would be its origin a second time, which nobody reads."""


def origin() -> Origin:
    """Where the functions of this process come from."""
    return _origin(folder() or "/", sys.executable, tuple([entry for entry in sys.path if isinstance(entry, str)]))


@lru_cache(maxsize=16)
def _origin(here: str, executable: str, entries: tuple[str, ...]) -> Origin:
    path = tuple(os.path.join(here, entry) for entry in entries)  # noqa: PTH118 (an entry may be empty)
    return Origin(host_identity(), executable, platform.python_version(), path)


def folder() -> str | None:
    """The current folder, where there still is one."""
    try:
        return os.getcwd()  # noqa: PTH109 (a text is what travels)
    except FileNotFoundError:
        return None


@cache
def user() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name in the environment, and none for the number
        return str(os.getuid())


@dataclass(frozen=True)
class Caller:
    """Sends calls with the same options; made once for many of them.

    Attributes:
        store: folder of the value store
        timeout: seconds in which the broker must confirm
        setup: runs before them, once in each process
        partition: of the ledger
    """

    runtime: Runtime
    options: TaskOptions
    store: str | None
    by_value: tuple[ModuleType, ...]
    timeout: float
    setup: Callable[[], object] | None = None
    partition: int = 0

    def new_job(self) -> str:
        """The id of the next job."""
        return new_job_id(self.partition)

    def encoder(self, job: str) -> Encoder:
        """What turns arguments into messages."""
        return Encoder(job, store=self._values, by_value=self.by_value, home=folder())

    @cached_property
    def _values(self) -> ValueStore | None:
        return ValueStore(self.store) if self.store else None

    def encode(self, encoder: Encoder, fn: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]) -> Encoded:
        """One call; `UnpicklableError` or `ValueTooLarge` where it cannot be sent."""
        callee = self.callee(encoder, fn)
        [call] = encoder.calls(callee, (encoder.arguments(callee, args, dict(kwargs)),), encoder.place(self.options))
        return call

    def callee(self, encoder: Encoder, fn: Callable[..., object]) -> Callee:
        """A function as it travels, with the setup of these calls."""
        return encoder.callee(fn, self.setup)

    @cached_property
    def placement(self) -> Placement:
        """Where these calls may run."""
        return self.encoder(self.new_job()).place(self.options)

    @cached_property
    def wanted(self) -> OpenClasses:
        """The class of these calls."""
        return frozenset({(self.placement.resource_class, self.options.lane)})

    def known_open(self) -> OpenClasses:
        """The class of these calls, where it is known to have a queue."""
        return self.runtime.connect().opened(self.wanted)

    def open_classes(self) -> OpenClasses:
        """The class of these calls, where it has a queue; asks the broker where that is not known."""
        return self.known_open() or self.runtime.run(lambda core: core.open_classes(self.wanted))

    def batch(
        self,
        job: str,
        calls: Sequence[Encoded],
        is_open: OpenClasses,
        deliver: Callable[[Sequence[Ending]], object],
        fail: Callable[[BrokerJobsError], object],
        *,
        most: int = 1,
    ) -> Batch:
        """A job of these calls, signed and ready to be sent, in chunks of at most so many."""
        link = self.runtime.connect().link
        callee = calls[0].callee
        header = header_of(link.client, callee.function.name if callee else "call", ephemeral=True)
        chunker = Chunker(job, header, origin(), is_open, most=most, store=self.store)
        chunks = list(cut(chunker, (call.numbered(number) for number, call in enumerate(calls))))
        alike = callee is not None and all(call.callee is callee or call.callee == callee for call in calls)
        layout = Layout(
            self._rows(calls), len(calls), flat=all(chunk.direct for chunk in chunks), sort=callee.digest if callee and alike else None
        )
        return Batch(job, layout, [link.seal(chunk) for chunk in chunks], deliver, fail, self.timeout)

    def _rows(self, calls: Sequence[Encoded]) -> tuple[Row, ...]:
        """Calls of one name after the other make a row."""
        rows: list[Row] = []
        first = 0
        for name, same in groupby(calls, attrgetter("task.name")):
            count = len(list(same))
            rows.append(Row(first, count, name, None, program=False, retry=self.options.retry))
            first += count
        return tuple(rows)

    def worth(self, callee: Callee | None) -> int:
        """How many calls of a function are worth a message, as far as is known."""
        return min(self.runtime.connect().pace.fitting(callee.digest if callee else None), MOST_WORTH)

    def launch(self, batch: Batch) -> None:
        """Send it."""
        self.runtime.post(self.runtime.connect().launch, batch)

    def withdraw(self, job: str, reason: str) -> None:
        """Cancel it: nobody wants its results any more."""
        self.runtime.post(self.runtime.connect().withdraw, job, reason)

    def forget(self, job: str, stored: int = 0) -> None:
        """Drop it: its values were read, of which so many bytes are in the value store."""
        self.runtime.post(self.runtime.connect().forget, job, stored)

    def start(self, job: str, call: Encoded, is_open: OpenClasses) -> Future[Ending]:
        """Send a job of one call; how it ends, to be given to `read`."""
        core = self.runtime.connect()
        done: Future[Ending] = Future()

        def deliver(endings: Sequence[Ending]) -> None:
            [ending] = endings
            if not done.cancelled():
                done.set_result(ending)
            if not stored_bytes(ending):
                core.forget(job)  # here, where it wakes no thread

        self.launch(self.batch(job, [call], is_open, deliver, done.set_exception))
        return done

    def read(self, ending: Ending, job: str) -> object:
        """The value of the only call of a job, which is dropped."""
        try:
            return value_of(ending, job)
        finally:
            if stored_bytes(ending):
                self.forget(job)


def header_of(
    submitter: str,
    name: str,
    *,
    origin: Origin = IN_THE_CHUNK,
    tags: tuple[str, ...] = (),
    max_fails: int | None = None,
    idempotency_key: str | None = None,
    ephemeral: bool = False,
) -> JobHeader:
    """What goes with the first chunk of a job, or opens one without: then with the origin of its functions."""
    return JobHeader(
        name=name,
        submitter=submitter,
        submitted_ms=time.time_ns() // 1_000_000,
        origin=origin,
        user=user(),
        tags=tags,
        max_fails=max_fails,
        idempotency_key=idempotency_key,
        ephemeral=ephemeral,
        parent=current.job if current and not ephemeral else None,
    )
