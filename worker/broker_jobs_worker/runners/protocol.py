"""What the worker's parent and the children of its forkservers say to each other; what it says to those is in `guarding`.

Each child has a stream of its own; there, a message is its length in four bytes, and its bytes. What tasks of a line have come to is
*noted* in a pipe that the parent reads when something comes by the stream, or when it wants to know; a task that has said something by the
stream ends there, too, so that the order is known. The parent takes nothing on trust that comes from a child: whatever is no message of
this kind ends the child.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from broker_jobs.core.outcome import Outcome
from broker_jobs.core.spec import TaskOptions
from broker_jobs.core.value import Encoding, Inline, Value
from broker_jobs.errors import DecodeError
from broker_jobs.wire.codec import decode_part, encode_part
from broker_jobs.wire.messages import Call, Function, Output, Program, Work

if TYPE_CHECKING:
    import socket

LARGEST: Final = 256 * 1024 * 1024
"""No message to a child is longer than this many bytes."""
LARGEST_ANSWER: Final = 32 * 1024 * 1024
"""No message of a child is longer than this many bytes."""
PROGRESS_INTERVAL: Final = 0.1
"""Seconds between two reports of a task's progress."""
PROGRESS_TEXT: Final = 1000
"""Characters of the text of a progress."""
_DIGEST: Final = 64
HEADER: Final = struct.Struct("<I")
_ENCODINGS: Final = {encoding.value: encoding for encoding in Encoding}


# --- parent ↔ child ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Followers:
    """Tasks that follow another one in the same child: what differs, by position. Each begins with a ticket, else not at all.

    Attributes:
        names: empty where none has one
        encodings: of `args`, one letter each
        args: of calls of the same function
        programs: other runs of the program
    """

    tag: ClassVar[str] = "followers"
    executions: tuple[str, ...]
    tasks: tuple[int, ...]
    attempts: tuple[int, ...]
    names: tuple[str, ...] = ()
    encodings: str = ""
    args: tuple[bytes, ...] = ()
    programs: tuple[Program, ...] = ()

    def work(self, place: int, leader: Work) -> Work:
        """What the one at this place is to do; `DecodeError` where that is not said."""
        return self.call(place, leader) if isinstance(leader, Call) else self.program(place, leader)

    def program(self, place: int, leader: Work) -> Program:
        """The same, after a program."""
        try:
            return self.programs[place]
        except IndexError:
            raise DecodeError(f"nothing follows a {leader.tag} without saying what") from None

    def call(self, place: int, leader: Call) -> Call:
        """The same, after a call."""
        return Call(leader.function, self.arguments(place), leader.inputs, leader.setup)

    def arguments(self, place: int) -> Inline:
        """All in which it differs from the call before."""
        try:
            return Inline(_ENCODINGS[self.encodings[place]], self.args[place])
        except (IndexError, KeyError):
            raise DecodeError("nothing follows a call without saying what") from None


@dataclass(frozen=True, slots=True)
class Run:
    """Run one attempt, and then those that follow it.

    Attributes:
        folder: to run in where the options name none and the submitter's does not exist
        allocation: variables that the daemon adds
        values: for the inputs of a call; values of the job only where the child does not have them yet
        function: of a call, where the child does not know it yet
        setup: what runs before a call, once in this child; the same holds
        forget: drop the functions known so far
        forget_values: drop the values of jobs known so far
        version: of the submitter's interpreter
        module: that holds the step
        spool: files for standard output and error, when they are new
        groups: where to enter the control group of this task, and where to leave it
        hosts: of the workers of a task of several nodes, this one first
    """

    tag: ClassVar[str] = "run"
    execution: str
    job: str
    task: int
    attempt: int
    work: Work
    options: TaskOptions
    folder: str
    name: str = ""
    allocation: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)
    store: str | None = None
    function: Function | None = None
    setup: Function | None = None
    forget: bool = False
    forget_values: bool = False
    version: str = ""
    module: str = ""
    spool: tuple[str, str] | None = None
    groups: tuple[str, str] | None = None
    hosts: tuple[str, ...] = ()
    then: Followers | None = None

    def followed_by(self, then: Followers, place: int) -> Run:
        """The order to run the follower at this place; the child knows functions and values by now."""
        return Run(
            then.executions[place],
            self.job,
            then.tasks[place],
            then.attempts[place],
            then.work(place, self.work),
            self.options,
            self.folder,
            then.names[place] if then.names else "",
            self.allocation,
            self.values,
            self.store,
            version=self.version,
            module=self.module,
            groups=self.groups,
            hosts=self.hosts,
        )


@dataclass(frozen=True, slots=True)
class Tidy:
    """What was left of the last task is killed: take note of it. Answer: `Tidied`."""

    tag: ClassVar[str] = "tidy"


@dataclass(frozen=True, slots=True)
class ToChild:
    """One message to a child."""

    order: Run | Tidy


@dataclass(frozen=True, slots=True)
class Ready:
    """A child waits for work."""

    tag: ClassVar[str] = "ready"


@dataclass(frozen=True, slots=True)
class Prepared:
    """The setup has run, and the function begins."""

    tag: ClassVar[str] = "prepared"


@dataclass(frozen=True, slots=True)
class Redirected:
    """Before the start: the files that the output goes to instead of the spool."""

    tag: ClassVar[str] = "redirected"
    stdout: str | None
    stderr: str | None


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far the task says it is."""

    tag: ClassVar[str] = "progressed"
    fraction: float
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The task has ended.

    Attributes:
        clean: the runner has no children left
        stdout: where it went to a file of the user
        spent: the runner can take no further task: the last one changed it for good
        explained: the message of the failure is the program's own
        more: it has printed nothing, and the child begins what follows if there is a ticket for it, or says `Halted`
    """

    tag: ClassVar[str] = "done"
    outcome: Outcome
    clean: bool
    stdout: Output | None = None
    stderr: Output | None = None
    spent: bool = False
    explained: bool = False
    more: bool = False


@dataclass(frozen=True, slots=True)
class Tidied:
    """The answer to `Tidy`.

    Attributes:
        clean: the runner has no children left
    """

    tag: ClassVar[str] = "tidied"
    clean: bool


@dataclass(frozen=True, slots=True)
class Stale:
    """This child has old modules, or what a task has left: it takes no more tasks, and has not begun this one."""

    tag: ClassVar[str] = "stale"


@dataclass(frozen=True, slots=True)
class Halted:
    """There was no ticket for what follows: nothing has begun, and the child waits for work."""

    tag: ClassVar[str] = "halted"


@dataclass(frozen=True, slots=True)
class Noted:
    """There are notes that should be read now."""

    tag: ClassVar[str] = "noted"


News = Ready | Prepared | Redirected | Progressed | Done | Tidied | Stale | Halted | Noted


@dataclass(frozen=True, slots=True)
class FromChild:
    """One message of a child."""

    news: News


# --- child → parent, without waking it --------------------------------------------------------------------------------

NOTE: Final = struct.Struct("<IIqc")
"""Size of the value, place in the line, time, and encoding; the value follows."""
NO_VALUE: Final = b"-"
_LETTERS: Final[Mapping[bytes, Encoding | None]] = {NO_VALUE: None, **{encoding.value.encode(): encoding for encoding in Encoding}}


class Note(NamedTuple):
    """A task of a line has succeeded as `Done` says it with `clean` and `more`, and has said nothing by the stream before.

    Attributes:
        place: in the line, 0 for the one that leads it
        encoding: of its value; None where it has none
    """

    place: int
    ended_ms: int
    encoding: Encoding | None
    data: bytes

    @property
    def value(self) -> Inline | None:
        """What the task returned."""
        return None if self.encoding is None else Inline(self.encoding, self.data)


def note_of(data: bytes, start: int, largest: int) -> tuple[Note, int]:
    """The note that begins here, and where it ends; it is not whole where that is beyond the data.

    Raises:
        DecodeError: it is none
    """
    size, place, ended_ms, letter = NOTE.unpack_from(data, start)
    if size > largest or letter not in _LETTERS:
        raise DecodeError(f"a note of {size} bytes and the encoding {letter!r}")
    begin = start + NOTE.size
    return Note(place, ended_ms, _LETTERS[letter], data[begin : begin + size]), begin + size


def is_shared(key: str) -> bool:
    """Whether a key of `Run.values` is that of a value of the job, the digest of its bytes; else it is the number of a task."""
    return len(key) == _DIGEST


def warm_up() -> None:
    """Prepare the codecs, so that no child has to."""
    encode_part(FromChild(Ready()))
    decode_part(ToChild, encode_part(ToChild(Tidy())))


def framed(part: object) -> bytes:
    """A message as it goes through a child's stream."""
    data = encode_part(part)
    return HEADER.pack(len(data)) + data


def receive(link: socket.socket) -> bytes | None:
    """Wait for the next message of a stream; None at its end."""
    head = _exactly(link, HEADER.size)
    if head is None:
        return None
    size = HEADER.unpack(head)[0]
    if size > LARGEST:
        raise DecodeError(f"a message of {size} bytes")
    return _exactly(link, size)


def _exactly(link: socket.socket, size: int) -> bytes | None:
    data = link.recv(size)
    if len(data) == size:
        return data
    parts = [data]
    missing = size - len(data)
    while missing:
        if not parts[-1]:
            return None
        parts.append(link.recv(missing))
        missing -= len(parts[-1])
    return b"".join(parts)
