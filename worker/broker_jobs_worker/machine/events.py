"""What the worker's machine hears. Control messages and the news of executors are events as they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker_jobs.wire.messages import ClassOpened, DrainAsked, HelloAsked, Revoked, TeamAsked, Welcome
from broker_jobs_worker.executors.port import ExecutionEnded, ExecutionProgressed, ExecutionsRecalled, ExecutionsSucceeded

if TYPE_CHECKING:
    from broker_jobs.broker.port import Delivery
    from broker_jobs.core.spec import Lane
    from broker_jobs.wire.messages import Chunk


@dataclass(frozen=True, slots=True)
class Connected:
    """There is a connection to the broker; what was delivered over an older one is stale."""

    generation: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone, and with it every unsettled delivery."""

    reason: str


@dataclass(frozen=True, slots=True)
class ChunkArrived:
    """A chunk that was checked: signed, well formed, and in the queue where it belongs.

    Attributes:
        delivery: what to settle later; its body is left out
    """

    delivery: Delivery
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class PublishConfirmed:
    """The broker has the message of this `Publish` safely."""

    number: int


@dataclass(frozen=True, slots=True)
class PublishFailed:
    """The broker refused the message of this `Publish`, or did not say: it must go out again."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class SubscribeFailed:
    """A queue could not be consumed: it does not exist any more, or may not be read."""

    resource_class: str
    lane: Lane
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; comes every 50 ms or so.

    Attributes:
        unix_ms: the wall clock, for times in messages
    """

    unix_ms: int


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """Start nothing more, finish what runs, and exit (SIGTERM)."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Exit soon: what runs is ended (a second SIGTERM)."""


@dataclass(frozen=True, slots=True)
class ExecutionsEnded:
    """Several are over: what was heard at one moment."""

    ends: tuple[ExecutionEnded | ExecutionsSucceeded, ...]


Control = Welcome | ClassOpened | Revoked | TeamAsked | DrainAsked | HelloAsked
"""What a coordinator says to workers."""

Event = (
    Connected
    | Disconnected
    | ChunkArrived
    | PublishConfirmed
    | PublishFailed
    | SubscribeFailed
    | Tick
    | DrainRequested
    | StopRequested
    | ExecutionEnded
    | ExecutionsSucceeded
    | ExecutionsEnded
    | ExecutionProgressed
    | ExecutionsRecalled
    | Control
)
