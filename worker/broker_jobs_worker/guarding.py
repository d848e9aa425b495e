"""What the worker's parent, the guardian and the forkservers say to each other.

Messages are packets (SOCK_SEQPACKET), which may carry file descriptors. For the first one to a forkserver see `runners.environment`; each
further one brings what a child that it is to make needs: its socket, and the pipes of its tickets and notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

# --- parent → guardian ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartServer:
    """Start a process; with it come its socket and its standard error.

    Attributes:
        key: what the parent calls it
    """

    tag: ClassVar[str] = "start"
    key: int
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Register:
    """This process is a runner: not to be taken for a stray."""

    tag: ClassVar[str] = "register"
    pid: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal once: to the runner itself, or to all that descends from it.

    Attributes:
        below: to its descendants, not to itself
    """

    tag: ClassVar[str] = "signal"
    pid: int
    number: int
    below: bool


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill the runner and all that descends from it. Answer: `Gone`."""

    tag: ClassVar[str] = "kill"
    pid: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """Kill all that descends from the runner, but not itself. Answer: `Gone`."""

    tag: ClassVar[str] = "sweep"
    pid: int


@dataclass(frozen=True, slots=True)
class Watch:
    """Say `Over` when the tree of the runner takes more memory than this.

    Attributes:
        limit: bytes
        whole: count what the runner itself grows by, too
    """

    tag: ClassVar[str] = "watch"
    pid: int
    limit: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Unwatch:
    """Stop watching."""

    tag: ClassVar[str] = "unwatch"
    pid: int


@dataclass(frozen=True, slots=True)
class ToGuardian:
    """One request to the guardian."""

    request: StartServer | Register | Signal | Kill | Sweep | Watch | Unwatch


# --- guardian or forkserver → parent ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Up:
    """The guardian or the forkserver is ready."""

    tag: ClassVar[str] = "up"
    pid: int


@dataclass(frozen=True, slots=True)
class ServerStarted:
    """A server runs."""

    tag: ClassVar[str] = "started"
    key: int
    pid: int


@dataclass(frozen=True, slots=True)
class ServerFailed:
    """A server could not be started."""

    tag: ClassVar[str] = "failed"
    key: int
    error: str


@dataclass(frozen=True, slots=True)
class Forked:
    """The forkserver has made the child that was asked for longest ago."""

    tag: ClassVar[str] = "forked"
    pid: int


@dataclass(frozen=True, slots=True)
class Reaped:
    """A child of the sender has ended, with this wait status."""

    tag: ClassVar[str] = "reaped"
    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class Gone:
    """What was to be killed is gone.

    Attributes:
        itself: the runner, too
    """

    tag: ClassVar[str] = "gone"
    pid: int
    itself: bool


@dataclass(frozen=True, slots=True)
class Over:
    """The tree of a runner takes more memory than allowed."""

    tag: ClassVar[str] = "over"
    pid: int
    used: int


@dataclass(frozen=True, slots=True)
class FromServer:
    """One report of the guardian or of a forkserver."""

    report: Up | ServerStarted | ServerFailed | Forked | Reaped | Gone | Over
