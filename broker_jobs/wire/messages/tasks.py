"""Tasks as they travel: what to run, with which options, in chunks of one job, class and lane."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from broker_jobs.core.data import DataRef
from broker_jobs.core.spec import Lane, TaskOptions
from broker_jobs.core.step import step_feature
from broker_jobs.core.value import Value
from broker_jobs.core.versions import Version

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Program:
    """An external program: its arguments exactly as execve takes them, no shell.

    Attributes:
        task_dir: make a fresh folder for it, removed at its end, and run there unless a folder is given
        env: variables of this task alone; those that tasks share are options
        files: data that is put into its folder before it starts, by relative path
        collects: patterns of the files that are kept as data when it has succeeded, relative to its folder
    """

    tag: ClassVar[str] = "program"
    inputs: ClassVar[tuple[str, ...]] = ()
    functions: ClassVar[tuple[str, ...]] = ()
    argv: tuple[bytes, ...]
    stdin: bytes | None = None
    task_dir: bool = False
    env: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, DataRef], ...] = ()
    collects: tuple[str, ...] = ()

    @property
    def data(self) -> tuple[DataRef, ...]:
        """All data that it takes."""
        return tuple(each for _, each in self.files)


@dataclass(frozen=True, slots=True)
class Call:
    """A Python function with its arguments.

    Attributes:
        function: hash of the function, a key of `Chunk.functions`
        args: the pair (positional, keyword) arguments; holds places for `inputs`
        inputs: keys of values that belong into the places, by position: the number of a task in decimal for its result,
            else 64 hexadecimal digits: the digest of a value that came with the job, or the name of the result of another job's task
        setup: hash of the function that runs once in each process before it, a key of `Chunk.functions` too
    """

    tag: ClassVar[str] = "call"
    data: ClassVar[tuple[DataRef, ...]] = ()
    function: str
    args: Value
    inputs: tuple[str, ...] = ()
    setup: str | None = None

    @property
    def functions(self) -> tuple[str, ...]:
        """All hashes that it needs."""
        return (self.function,) if self.setup is None else (self.function, self.setup)


@dataclass(frozen=True, slots=True)
class Fill:
    """A parameter of a step that is the result of another task, or a part of it.

    Attributes:
        parameter: its name
        input: which of the inputs, from 0
        count: a list of so many inputs from `input` on, instead of one
        path: keys and indices to go down into that
    """

    tag: ClassVar[str] = "fill"
    parameter: str
    input: int
    count: int | None = None
    path: tuple[int | str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepCall:
    """A named, versioned step with its parameters; its code is the worker's, and nothing of it is pickled.

    Attributes:
        parameters: plain data: a dictionary
        inputs: keys of results of other tasks, as in `Call`
        fills: the parameters that come from them
        slots: the data in its slots, by name; of a slot for one, one
    """

    tag: ClassVar[str] = "step"
    functions: ClassVar[tuple[str, ...]] = ()
    name: str
    version: Version
    parameters: Value
    inputs: tuple[str, ...] = ()
    fills: tuple[Fill, ...] = ()
    slots: tuple[tuple[str, tuple[DataRef, ...]], ...] = ()

    @property
    def data(self) -> tuple[DataRef, ...]:
        """All data that it takes."""
        return tuple(each for _, held in self.slots for each in held)

    @property
    def filled(self) -> bool:
        """Whether each fill has its inputs."""
        return all(0 <= fill.input <= fill.input + (1 if fill.count is None else fill.count) <= len(self.inputs) for fill in self.fills)

    @property
    def step(self) -> str:
        """Name and version, as in ``simulate 1.2.0``."""
        return f"{self.name} {self.version}"

    @property
    def feature(self) -> str:
        """What a worker must offer to run it."""
        return step_feature(self.name, self.version)


Work = Program | Call | StepCall


@dataclass(frozen=True, slots=True)
class Function:
    """A pickled function, and what it is called, for messages to people."""

    tag: ClassVar[str] = "function"
    name: str
    module: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Outside:
    """A task of another job, for which a task waits.

    Attributes:
        after: any end will do, not success alone
        value: its result is an argument
    """

    tag: ClassVar[str] = "outside"
    job: str
    task: int
    after: bool = False
    value: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a chunk.

    Attributes:
        options: index into `Chunk.options`
        deps: tasks whose success it waits for, those of its inputs included
        after: tasks whose end it waits for
        outside: tasks of other jobs that it waits for
    """

    tag: ClassVar[str] = "task"
    number: int
    work: Work
    options: int = 0
    name: str = ""
    attempt: int = 1
    deps: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    outside: tuple[Outside, ...] = ()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where functions come from: on the submitter's own host they run under its interpreter and import path.

    Attributes:
        host: identity of the host (machine id and name)
        python: absolute path of the interpreter
        version: of the interpreter, such as ``3.11.7``
        path: its sys.path
    """

    tag: ClassVar[str] = "origin"
    host: str
    python: str
    version: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class JobHeader:
    """What is known of a job when its first chunk is sent.

    Attributes:
        submitter: the client to which shortcuts and news go
        origin: where its functions come from; in a chunk, which has one of its own, this one is not read
        ephemeral: it belongs to its client and is dropped once delivered (``call``, ``map``, ``executor``)
        parent: the job inside a task of which it was submitted
    """

    tag: ClassVar[str] = "header"
    name: str
    submitter: str
    submitted_ms: int
    origin: Origin
    user: str = ""
    tags: tuple[str, ...] = ()
    max_fails: int | None = None
    idempotency_key: str | None = None
    ephemeral: bool = False
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Seal:
    """How many tasks and chunks the job has in all."""

    tag: ClassVar[str] = "seal"
    tasks: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tasks of one job, class and lane, with what they share sent once.

    Attributes:
        chunk: name of the chunk inside its job: decimal from 0 for a submitter's, ``r<n>`` for a ready one
        resource_class: canonical class name
        submitter: the client that wants copies of the replies
        functions: by hash
        values: results of other tasks (key: number in decimal) and values of the job (key: digest in hex)
        direct: it goes to the class queue and to the ledger with one publish
        isolated: a chunk of one, whose start must be confirmed before it starts
        chain: tasks that a worker may run after the only one of the chunk, each where the one before has succeeded, with the value of that
            in place of the one that the chunk does not have. A hint: what the worker takes up of it, it says in the same reply as that
            success, and what it does not, the coordinator sends
        header: with chunk 0 of a submitter
        seal: with the last chunk of a submitter
    """

    tag: ClassVar[str] = "chunk"
    job: str
    chunk: str
    resource_class: str
    lane: Lane
    submitter: str
    tasks: tuple[Task, ...]
    options: tuple[TaskOptions, ...]
    origin: Origin
    functions: Mapping[str, Function] = field(default_factory=dict)
    values: Mapping[str, Value] = field(default_factory=dict)
    store: str | None = None
    direct: bool = False
    isolated: bool = False
    chain: tuple[Task, ...] = ()
    header: JobHeader | None = None
    seal: Seal | None = None
