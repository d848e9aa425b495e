"""What workers and coordinators say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from broker_jobs.core.request import Request as ResourceNeed
from broker_jobs.core.resources import Resources
from broker_jobs.core.step import StepSpec
from broker_jobs.wire.messages.teams import Seat

DEFAULT_GROUP: Final = "default"
"""Workers that were not told where they belong."""


@dataclass(frozen=True, slots=True)
class Held:
    """An attempt that a worker has: waiting there, running, taken, or ended but not yet confirmed."""

    tag: ClassVar[str] = "held"
    job: str
    task: int
    attempt: int
    taken: bool = False


@dataclass(frozen=True, slots=True)
class Hello:
    """A worker introduces itself, at its start and after every reconnect; it consumes when `Welcome` has come.

    Attributes:
        group: workers that belong together, by what somebody called them
        ends_ms: when its time is over: it stops then, and what it has not finished goes back
        kept: jobs of which output lies on its host, the latest ones
        teams: whether it can be in a team
        seat: its place in one
        steps: what it serves
        away_ms: what it has taken goes on without it for so long, so that it is not lost before
    """

    tag: ClassVar[str] = "hello"
    worker: str
    boot: str
    host: str
    pid: int
    version: str
    resources: Resources
    free: Resources
    held: tuple[Held, ...] = ()
    draining: bool = False
    group: str = DEFAULT_GROUP
    started_ms: int = 0
    ends_ms: int | None = None
    kept: tuple[str, ...] = ()
    teams: bool = False
    seat: Seat | None = None
    steps: tuple[StepSpec, ...] = ()
    away_ms: int = 0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker has and does, every few seconds, and when its place in a team changes; feeds the reconciler and ``worker list``.

    Attributes:
        used: resource classes of which something has come since the last one
    """

    tag: ClassVar[str] = "heartbeat"
    worker: str
    boot: str
    free: Resources
    held: tuple[Held, ...] = ()
    draining: bool = False
    seat: Seat | None = None
    used: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Goodbye:
    """A worker has stopped, in order: it holds nothing any more.

    Attributes:
        reason: why, for people
    """

    tag: ClassVar[str] = "goodbye"
    worker: str
    boot: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Token:
    """Lies in the worker's lease queue; comes to the ledger through the exchange `returned` when its connection is gone."""

    tag: ClassVar[str] = "token"
    worker: str
    boot: str


@dataclass(frozen=True, slots=True)
class ResourceClass:
    """A class of requests that has queues."""

    tag: ClassVar[str] = "class"
    name: str
    needs: ResourceNeed


@dataclass(frozen=True, slots=True)
class Revocation:
    """An attempt that must stop, or not start. A task of None means every task of the job.

    Attributes:
        attempt: and those before it; None means every attempt. 0, which none has: it was not released, and must not follow another one
        unstarted_only: one that runs goes on
    """

    tag: ClassVar[str] = "revocation"
    job: str
    task: int | None = None
    attempt: int | None = None
    reason: str = ""
    unstarted_only: bool = False


@dataclass(frozen=True, slots=True)
class Welcome:
    """The coordinator's answer to `Hello`.

    Attributes:
        classes: all that have queues
        revoked: of what the worker holds: attempts that are canceled, or that belong to others now; and everything that was canceled
            or paused of which a message may still stand in a class queue
        forgotten: of the jobs whose output it keeps: those that the ledger does not have any more
        partition: of the ledger; each that there is answers
    """

    tag: ClassVar[str] = "welcome"
    worker: str
    boot: str
    classes: tuple[ResourceClass, ...] = ()
    revoked: tuple[Revocation, ...] = ()
    forgotten: tuple[str, ...] = ()
    partition: int = 0


@dataclass(frozen=True, slots=True)
class ClassOpened:
    """To all workers: there are queues for this class now.

    Attributes:
        anew: some were lost, and made again: whoever has consumed one of them gets nothing from it any more
    """

    tag: ClassVar[str] = "class opened"
    resource_class: ResourceClass
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Revoked:
    """To all workers: stop these, or do not start them."""

    tag: ClassVar[str] = "revoked"
    revocations: tuple[Revocation, ...]


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """To one worker: take nothing more, and end.

    Attributes:
        stop: at once: what runs is given back; else it may finish
        reason: for people
    """

    tag: ClassVar[str] = "drain asked"
    worker: str
    boot: str
    stop: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HelloAsked:
    """To all workers: a coordinator has come up; say hello again."""

    tag: ClassVar[str] = "hello asked"
    coordinator: str


@dataclass(frozen=True, slots=True)
class JobsForgotten:
    """To all workers: nobody will ask for the output of these jobs any more."""

    tag: ClassVar[str] = "jobs forgotten"
    jobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OutputAsked:
    """To a worker: somebody wants to read output that is with it. Answer: `Response` with a `Piece`, to the client itself.

    Attributes:
        path: the file where the ledger knows one, for an execution that has ended
        start: first byte that is wanted
        most: bytes at most
        wait_ms: where there is nothing new yet, wait so long for it
    """

    tag: ClassVar[str] = "output asked"
    request: str
    reply_to: str
    execution: str
    stderr: bool = False
    path: str | None = None
    start: int = 0
    most: int = 0
    wait_ms: int = 0
