"""A job that somebody in this process is interested in, and the calls that belong to their client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker_jobs.core.states import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from broker_jobs.client.jobview import Ending, JobView, Layout
    from broker_jobs.client.link import Frame
    from broker_jobs.client.watching import Watch
    from broker_jobs.errors import BrokerJobsError


class Followed:
    """The replica of a job, and who waits for its news; everything but reading happens on the event loop.

    Args:
        view: the replica
        grace: seconds for which replies are waited for before the ledger is asked

    Attributes:
        fed: its replies come to this connection, and none was missed
        urgent: set when the ledger knows more than the replies tell
        watch: tells plugins of its tasks, where there are some
    """

    def __init__(self, view: JobView, *, grace: float) -> None:
        self.view = view
        self.grace = grace
        self.fed = view.layout is not None
        self.urgent = asyncio.Event()
        self.watch: Watch | None = None
        self._changed: asyncio.Future[None] | None = None
        self._subscribers: list[Callable[[Sequence[Ending]], None]] = []

    @property
    def id(self) -> str:
        """Id of the job."""
        return self.view.job

    @property
    def flat(self) -> bool:
        """Whether it gets along without a coordinator."""
        return self.fed and self.view.layout is not None and self.view.layout.flat

    @property
    def stuck(self) -> bool:
        """Whether nothing of it has begun, as far as is known."""
        return self.view.state is JobState.waiting

    def changed(self) -> asyncio.Future[None]:
        """Done at the next news."""
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        return self._changed

    def notify(self, endings: Sequence[Ending] = ()) -> None:
        """There is news."""
        if endings:
            for subscriber in tuple(self._subscribers):
                subscriber(endings)
        if self._changed and not self._changed.done():
            self._changed.set_result(None)

    def interrupted(self) -> None:
        """Replies may have been missed: only the ledger knows now."""
        self.fed = False
        self.urgent.set()
        self.notify()

    @contextlib.contextmanager
    def subscribed(self, subscriber: Callable[[Sequence[Ending]], None]) -> Iterator[None]:
        """Hand the endings that become known to this callable."""
        self._subscribers.append(subscriber)
        try:
            yield
        finally:
            self._subscribers.remove(subscriber)


@dataclass(slots=True)
class Batch:
    """Calls that belong to their client: one job, to be forgotten when its values were read.

    Attributes:
        layout: of the job
        frames: its chunks
        deliver: takes the endings as they become known, each once, on the event loop
        fail: takes the reason why nothing more will come
        timeout: seconds in which the broker must confirm the chunks
        open: tasks that are not delivered
        sent: set when the broker has the chunks
        minder: asks the ledger, where replies stay away
    """

    job: str
    layout: Layout
    frames: Sequence[Frame]
    deliver: Callable[[Sequence[Ending]], object]
    fail: Callable[[BrokerJobsError], object]
    timeout: float
    open: set[int] = field(init=False)
    begun: float = field(default_factory=time.monotonic)
    sent: asyncio.Event = field(default_factory=asyncio.Event)
    minder: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.open = set(range(self.layout.total))


def leave(task: asyncio.Future[None]) -> None:
    """End something for whose result nobody waits any more: how it ends, or has ended just now, is no news."""
    task.cancel()
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
