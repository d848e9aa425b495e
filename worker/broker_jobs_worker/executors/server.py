"""What the parent knows of an environment, of its forkserver, and of each child."""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from broker_jobs_worker.executors.notes import Notes
from broker_jobs_worker.executors.tickets import Tickets
from broker_jobs_worker.runners.protocol import ToChild

if TYPE_CHECKING:
    from pathlib import Path

    from broker_jobs_worker.executors.links import Packets, Stream
    from broker_jobs_worker.executors.spool import Capture
    from broker_jobs_worker.runners.protocol import News, Run, Tidy


@dataclass(frozen=True, slots=True)
class Environment:
    """An interpreter and an import path.

    Attributes:
        python: absolute path of the interpreter
        path: the whole import path; None is the interpreter's own
        front: folders in front of it
        programs: its children start programs and never run user code
        prologue: shell text that is run before the interpreter
    """

    python: str = sys.executable
    path: tuple[str, ...] | None = None
    front: tuple[str, ...] = ()
    programs: bool = False
    prologue: str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """That somebody waits for a child.

    Attributes:
        ticket: who
        setup: hash of what has run in the child before its tasks, or is the first to run in it
        fresh: nothing ran in the child before, and nothing will run in it after
    """

    ticket: str
    setup: str | None = None
    fresh: bool = False


class Listener(Protocol):
    """Who uses the children."""

    def on_child(self, child: Child, ticket: str) -> None:
        """A child is there for this ticket; give it back with `release` or `kill`."""

    def on_denied(self, ticket: str, reason: str) -> None:
        """There will be no child for this ticket."""

    def on_news(self, child: Child, news: News) -> None:
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
        setup: hash of what has run in it before its tasks
        tasks: how many it was given
        last: it gets no further task
        retired: it is killed with nothing below it, and only what comes up after its death has to be looked for
        born: when it became ready, on the loop's clock
        known: hashes of the functions that it has; for the listener
        values: keys of the values that it has; for the listener
        held: bytes of these values
    """

    server: Server
    capture: Capture
    stream: Stream = field(init=False)
    tickets: Tickets = field(default_factory=Tickets)
    notes: Notes = field(default_factory=Notes)
    pid: int | None = None
    ready: bool = False
    given: bool = False
    ticket: str = ""
    dying: bool = False
    gone: bool = False
    ended: bool = False
    status: int | None = None
    setup: str | None = None
    tasks: int = 0
    last: bool = False
    retired: bool = False
    born: float = 0.0
    known: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    held: int = 0

    def send(self, order: Run | Tidy) -> None:
        """Have it do something."""
        self.stream.send(ToChild(order))


@dataclass(slots=True, eq=False)
class Server:
    """The forkserver of one environment.

    Attributes:
        report: file of its standard error
        forking: children asked for whose pid is not yet known
        idle: children that wait for a task; the one that did so last is the last
        waiting: wishes without a child
        bad_starts: children in a row that ended before they were ready
        used: when somebody wanted or returned one of its children, on the loop's clock
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
    waiting: deque[Wish] = field(default_factory=deque)
    bad_starts: int = 0
    used: float = 0.0

    @property
    def starting(self) -> int:
        """Children that will be ready soon."""
        return sum((not child.ready or child.pid is None) and not child.dying for child in self.children)

    @property
    def missing(self) -> int:
        """Children that have to be made for those who wait."""
        return max(0, len(self.waiting) - self.starting)

    @property
    def unused(self) -> bool:
        """Whether nobody has or wants a child of it."""
        return not self.waiting and len(self.idle) == len(self.children)

    @property
    def lacks_successor(self) -> bool:
        """Whether fewer new children are there or on their way than will be missing when those with their last task end."""
        new = self.starting + sum(child.tasks == 0 for child in self.idle)
        return sum(child.given and child.last for child in self.children) > new - len(self.waiting)

    def match(self) -> tuple[Child, Wish] | None:
        """Take an idle child for the first who can use one; None where nobody who waits can use any that is idle."""
        for index, wish in enumerate(self.waiting):
            child = self._fitting(wish)
            if child is not None:
                del self.waiting[index]
                self.idle.remove(child)
                return child, wish
        return None

    def _fitting(self, wish: Wish) -> Child | None:
        """The child that was used last of those that fit best: one that ran such tasks, else a new one, else one that ran others.

        A child with a setup runs nothing else: tasks of others would find what it has changed.
        """
        other = None
        for child in reversed(self.idle):
            new = child.tasks == 0
            if wish.fresh:
                if new:
                    return child
            elif not new and child.setup == wish.setup:
                return child
            elif child.setup is None and (other is None or new):
                other = child
        return other
