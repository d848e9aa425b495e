"""What the parent knows of an environment, of its forkserver, and of each child."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from broker_jobs_worker.runners.protocol import ToChild

if TYPE_CHECKING:
    from pathlib import Path

    from broker_jobs_worker.executors.links import Packets, Stream
    from broker_jobs_worker.executors.spool import Capture
    from broker_jobs_worker.runners.protocol import Done, Progressed, Redirected, Run, Stale, Tidied, Tidy


@dataclass(frozen=True, slots=True)
class Environment:
    """An interpreter and an import path.

    Attributes:
        python: absolute path of the interpreter
        path: the whole import path; None is the interpreter's own
        front: folders in front of it
        programs: its children start programs and never run user code
    """

    python: str = sys.executable
    path: tuple[str, ...] | None = None
    front: tuple[str, ...] = ()
    programs: bool = False


class Listener(Protocol):
    """Who uses the children."""

    def on_child(self, child: Child, ticket: str) -> None:
        """A child is there for this ticket; give it back with `release` or `kill`."""

    def on_denied(self, ticket: str, reason: str) -> None:
        """There will be no child for this ticket."""

    def on_news(self, child: Child, news: Redirected | Progressed | Done | Tidied | Stale) -> None:
        """A child that has been given out said something."""

    def on_swept(self, child: Child) -> None:
        """Nothing is left below the child."""

    def on_over(self, child: Child, used: int) -> None:
        """The child's tree takes more memory than allowed: bytes."""

    def on_ended(self, child: Child, status: int | None) -> None:
        """A child that has been given out has ended with this wait status, and nothing of its tree is left."""


@dataclass(slots=True, eq=False)
class Child:
    """One child.

    Attributes:
        given: it was given out, and not taken back
        ticket: for which it was given out last
        known: hashes of the functions that it has; for the listener
    """

    server: Server
    capture: Capture
    stream: Stream = field(init=False)
    pid: int | None = None
    ready: bool = False
    given: bool = False
    ticket: str = ""
    dying: bool = False
    gone: bool = False
    ended: bool = False
    status: int | None = None
    known: set[str] = field(default_factory=set)

    def send(self, order: Run | Tidy) -> None:
        """Have it do something."""
        self.stream.send(ToChild(order))


@dataclass(slots=True, eq=False)
class Server:
    """The forkserver of one environment.

    Attributes:
        report: file of its standard error
        forking: children asked for whose pid is not yet known
        waiting: tickets without a child
        bad_starts: children in a row that ended before they were ready
    """

    key: int
    environment: Environment
    report: Path
    packets: Packets = field(init=False)
    pid: int | None = None
    up: bool = False
    dead: bool = False
    children: set[Child] = field(default_factory=set)
    forking: deque[Child] = field(default_factory=deque)
    idle: list[Child] = field(default_factory=list)
    waiting: deque[str] = field(default_factory=deque)
    bad_starts: int = 0

    @property
    def starting(self) -> int:
        """Children that will be ready soon."""
        return sum(not child.ready and not child.dying for child in self.children)
