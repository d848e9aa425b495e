"""What the worker's machine knows of attempts and deliveries.

An attempt goes one way::

    Waiting ──► Announced (isolated ones) ──► Running ──► Closing ──► forgotten, its key is remembered
       └──────────────┴──── given back, or revoked ──────────┘

What is in the chain of another attempt is none yet; it begins as *Running* when that one has succeeded.

*Closing* means that its last word is on the way to the ledger. A delivery is settled when the last word of each of its
attempts is confirmed, or the attempt is confirmed as taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from broker_jobs.core.spec import Lane
from broker_jobs.wire.messages import DEFAULT_GROUP

if TYPE_CHECKING:
    from collections import deque

    from broker_jobs.broker.port import Delivery
    from broker_jobs.core.request import Request
    from broker_jobs.core.resources import Allocation, Resources
    from broker_jobs.core.step import StepSpec
    from broker_jobs.wire.messages import Chunk, Ended, Returned, Task
    from broker_jobs_worker.executors.port import Execution


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this worker is; it does not change while it lives.

    Attributes:
        boot: drawn at each start, so that a name can be used again
        total: what it may give to tasks
        group: workers that belong together
        ends_ms: when its time is over, in milliseconds since 1970 as `started_ms`
        steps: what it serves
        life: how many processes have gone on with what others of this boot began, with this one
        away_ms: what it runs goes on without it for so long
    """

    worker: str
    boot: str
    host: str
    pid: int
    version: str
    total: Resources
    group: str = DEFAULT_GROUP
    started_ms: int = 0
    ends_ms: int | None = None
    steps: tuple[StepSpec, ...] = ()
    life: int = 0
    away_ms: int = 0


class OnBrokerLost(StrEnum):
    """What a worker does with long tasks when the broker stays away; it tries to come back in any case."""

    stop = "stop"
    """End them: others may be running them by now."""
    finish = "finish"
    """Let them finish, and report them when the broker is back."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a worker ends by itself.

    Attributes:
        idle_timeout: it has had no task for so many seconds; None: never
        ends_at: its time is over, in seconds of the clock of events; None: never
        on_broker_lost: what becomes of long tasks without a broker
    """

    idle_timeout: float | None = None
    ends_at: float | None = None
    on_broker_lost: OnBrokerLost = OnBrokerLost.stop


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient a worker is; all in seconds.

    Attributes:
        flush: an ended task is reported after this long at the latest
        patience: what has not started after this long goes back
        lane_patience: the same for what waits for tasks of lower lanes to end
        warm_up: the same until the first execution has ended, since the first children of a worker take a while
        taken_after: a task that runs longer is taken, and its message acknowledged
        heartbeat: between two reports of what is held here
        hello_again: without a welcome, hello is said again
        alone_after: without a welcome, work on classes that are known goes on
        grace: without a connection for longer, taken attempts are ended, since others run them by now
        settle_down: a change of what is free counts after this long
        publish_again: a reply that was refused goes out again
        stop_within: a stop does not wait longer than this
        kill_within: what runs when the worker stops has this long between being asked to end and being killed, at most
        line_patience: when none of a line has ended for so long, those that have not begun are taken back
    """

    flush: float = 0.1
    patience: float = 0.5
    lane_patience: float = 5.0
    warm_up: float = 2.0
    taken_after: float = 10.0
    heartbeat: float = 5.0
    hello_again: float = 5.0
    alone_after: float = 10.0
    grace: float = 30.0
    settle_down: float = 0.05
    publish_again: float = 0.5
    stop_within: float = 10.0
    kill_within: float = 5.0
    line_patience: float = 0.1


DEFAULT_TIMING: Final = Timing()
ENDLESS: Final = Lifetime()


LANES: Final = (Lane.high, Lane.normal, Lane.low)
"""The most urgent first."""


def below(lane: Lane) -> tuple[Lane, ...]:
    """The lanes that are less urgent."""
    return LANES[LANES.index(lane) + 1 :]


class AttemptKey(NamedTuple):
    """One try of a task."""

    job: str
    task: int
    attempt: int


class Source(NamedTuple):
    """A queue of tasks."""

    resource_class: str
    lane: Lane


class Group(NamedTuple):
    """What travels in one reply.

    Attributes:
        called: it is of calls, for which no other task waits
    """

    job: str
    submitter: str
    resource_class: str
    called: bool = False


@dataclass(slots=True, eq=False)
class Bundle:
    """A chunk with tasks that wait for resources.

    Attributes:
        request: what each of its tasks needs
        since: when it came
    """

    chunk: Chunk
    source: Source
    request: Request
    since: float
    waiting: dict[AttemptKey, Task] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Waiting:
    """It waits here for resources."""

    bundle: Bundle


@dataclass(frozen=True, slots=True)
class Announced:
    """It has its resources and starts as soon as the ledger has its `Started`.

    Attributes:
        notice: number of the `Publish` with the `Started`
        since: when it came
    """

    execution: Execution
    allocation: Allocation
    notice: int
    since: float


class Ending(Enum):
    """Why we stop an execution; it says what its `Canceled` means."""

    revoked = "revoked"
    """Somebody asked: it is the outcome."""
    stopping = "stopping"
    """The worker stops: the attempt goes back uncharged."""
    abandoned = "abandoned"
    """The worker was cut off for too long: the attempt counts as lost."""


class Taking(Enum):
    """How far the taking of a long task has come."""

    not_yet = "not yet"
    said = "said"
    confirmed = "confirmed"


@dataclass(slots=True, eq=False)
class Line:
    """Attempts that run one after the other in one process, with the resources of one.

    Attributes:
        left: those that have not ended, by execution, in their order
        moved: when it began, or the last of them ended
        begun: when it began
        asked: when it was asked for those that have not begun
    """

    bundle: Bundle
    begun: float
    moved: float
    left: dict[str, tuple[Attempt, Task]] = field(default_factory=dict)
    asked: float = float("-inf")


@dataclass(slots=True, eq=False)
class Chain:
    """Tasks that follow one that runs, each where the one before has succeeded, with what that held.

    Attributes:
        chunk: in which they came
        left: those that have not begun
        begun: when the first began
    """

    chunk: Chunk
    left: deque[Task]
    begun: float


@dataclass(slots=True)
class Running:
    """It runs, or is the next but few in the line of one that does.

    Attributes:
        announced: the ledger was told, or is being told
        ending: why we stop it, if we do
        line: in which it runs, and which shares its allocation
        sort: of the task, for what is expected of it
        chain: what may follow it
        after: the execution that it follows
    """

    execution: str
    allocation: Allocation
    since: float
    announced: bool
    taking: Taking = Taking.not_yet
    ending: Ending | None = None
    line: Line | None = None
    sort: str = ""
    chain: Chain | None = None
    after: str = ""

    @property
    def alone(self) -> bool:
        """Whether it is known that this is what runs: nothing else is left of its line."""
        return self.line is None or len(self.line.left) == 1


@dataclass(frozen=True, slots=True)
class Closing:
    """It is over, and its last word is not confirmed yet."""

    word: Ended | Returned


@dataclass(slots=True, eq=False)
class Attempt:
    """An attempt that this worker has.

    Attributes:
        chained: it came in the chain of another one, and may come by itself as well
        dues: unsettled messages that it came with
    """

    key: AttemptKey
    group: Group
    source: Source
    state: Waiting | Announced | Running | Closing
    chained: bool = False
    dues: set[Due] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Due:
    """An unsettled delivery, and what it still waits for.

    Attributes:
        unfinished: attempts without a last word
        unconfirmed: attempts whose last word is not confirmed; contains `unfinished`
    """

    delivery: Delivery
    group: Group
    unfinished: set[AttemptKey] = field(default_factory=set)
    unconfirmed: set[AttemptKey] = field(default_factory=set)
