"""Tasks as the user wrote them to tasks of the wire: arguments pickled, results of other tasks as places, large values stored.

This is where the user's objects are pickled, in the thread that submits, and where what cannot be sent is found: before anything is sent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple, assert_never, cast

from broker_jobs.client.entries import ArrayWork, CallWork, MapWork, StepWork
from broker_jobs.client.placeholders import ArrayOutput, JobValue, Placeholder, TaskOutput
from broker_jobs.core.graph import check_acyclic
from broker_jobs.core.many import many
from broker_jobs.core.resource_class import class_name, rounded
from broker_jobs.core.value import INLINE_LIMIT, INLINE_LIMIT_WITHOUT_STORE, Inline, Pieces, Stored, Value
from broker_jobs.errors import UnpicklableError, ValidationError, ValueTooLarge
from broker_jobs.ids import partition_of, short
from broker_jobs.wire import payload
from broker_jobs.wire.inputs import outside_key
from broker_jobs.wire.messages import Call, Fill, Function, Outside, Program, StepCall, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

    from broker_jobs.client import authoring
    from broker_jobs.client.authoring import Job
    from broker_jobs.client.entries import Entry
    from broker_jobs.client.placeholders import EarlierTask
    from broker_jobs.core.spec import TaskOptions
    from broker_jobs.data.store import ValueStore

_OVERHEAD = 40
"""Bytes of a task on the wire besides its payload, roughly."""
_DATA = 300
"""Bytes of a piece of data in a task on the wire, roughly."""


_MOST_STDIN = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a task may run: its options with rounded resources, and the name of their class."""

    options: TaskOptions
    resource_class: str


@dataclass(frozen=True, slots=True)
class Callee:
    """What a call needs of functions, each with its hash.

    Attributes:
        setup: what runs before it, once in each process
    """

    digest: str
    function: Function
    setup: tuple[str, Function] | None = None

    @property
    def functions(self) -> tuple[tuple[str, Function], ...]:
        """All that has to travel."""
        own = (self.digest, self.function)
        return (own,) if self.setup is None else (own, self.setup)

    def call(self, args: Value, inputs: tuple[str, ...]) -> Call:
        """The call with these arguments."""
        return Call(self.digest, args, inputs, None if self.setup is None else self.setup[0])


class Encoded(NamedTuple):
    """A task of the wire, and what has to be in its chunk.

    Attributes:
        callee: of a call
        values: values of the job that are among its inputs
        size: bytes of the task on the wire, roughly; without function and values
        stored: bytes of its arguments in the value store
    """

    task: Task
    placement: Placement
    size: int
    callee: Callee | None = None
    values: tuple[tuple[str, Value], ...] = ()
    stored: int = 0

    def numbered(self, number: int) -> Encoded:
        """The same task with another number."""
        task = self.task
        return self if task.number == number else self._replace(task=replace(task, number=number))


@lru_cache(maxsize=256)
def _placement(options: TaskOptions, home: str | None) -> Placement:
    resources = rounded(options.resources)
    return Placement(replace(options, resources=resources, home=home), class_name(resources))


class Encoder:
    """Turns the tasks of one job into tasks of the wire.

    Args:
        job_id: the job that large values are stored for
        store: where values over 64 KiB go; None sends up to 8 MiB in messages
        by_value: modules whose functions and classes travel whole
        home: the submitter's folder
    """

    def __init__(
        self, job_id: str, *, store: ValueStore | None = None, by_value: Sequence[ModuleType] = (), home: str | None = None
    ) -> None:
        self._job_id = job_id
        self._partition = partition_of(job_id)
        self._store = store
        self._by_value = tuple(by_value)
        self._home = home
        self._values: dict[JobValue, tuple[str, Value]] = {}
        self._placed: tuple[TaskOptions, Placement] | None = None
        self._last_callee: tuple[Callable[..., object], Callable[[], object] | None, Callee] | None = None

    def place(self, options: TaskOptions) -> Placement:
        """The placement of tasks with these options.

        Raises:
            ValidationError: they ask for several nodes, which the partition of the job does not have
        """
        if self._partition and options.resources.nodes:
            raise ValidationError(
                f"tasks of several nodes run in partition 0 of the ledger alone, not in {self._partition}: submit them there"
            )
        if self._placed is None or self._placed[0] is not options:
            # One after another they are the same object, as a rule, and to hash it takes longer than all else.
            self._placed = options, _placement(options, self._home)
        return self._placed[1]

    def callee(self, fn: Callable[..., object], setup: Callable[[], object] | None = None) -> Callee:
        """A function, with what runs before it once in each process.

        Raises:
            UnpicklableError: one of them holds something that cannot be sent
            ValueTooLarge: what it holds is too large
        """
        return Callee(*self._function(fn), None if setup is None else self._function(setup))

    def _callee(self, fn: Callable[..., object], setup: Callable[[], object] | None) -> Callee:
        """The same for the tasks of one job: nothing that a function holds changes while these are encoded."""
        known = self._last_callee
        if known is None or known[0] is not fn or known[1] is not setup:
            known = self._last_callee = fn, setup, self.callee(fn, setup)
        return known[2]

    def _function(self, fn: Callable[..., object]) -> tuple[str, Function]:
        """A function and its hash.

        Raises:
            UnpicklableError: it holds something that cannot be sent
            ValueTooLarge: what it holds is too large
        """
        digest, function = payload.dump_function(fn, self._by_value)
        if len(function.data) > INLINE_LIMIT_WITHOUT_STORE:
            raise ValueTooLarge(
                f"function {function.name!r} takes {_mebibytes(len(function.data))} with what it encloses, and at most "
                f"{_mebibytes(INLINE_LIMIT_WITHOUT_STORE)} can be sent: pass large objects as arguments, or with job.value()"
            )
        return digest, function

    def tasks(self, job: Job) -> Iterator[Encoded]:
        """All tasks of a job, the most urgent first, else in order.

        Raises:
            ValidationError: there is none, one cannot be sent, or they wait for each other in a circle; the text says which
        """
        if not len(job):
            raise ValidationError(f"{job!r} is empty: add a task with function(), program() or map()")
        forward = False
        for entry in sorted(job.entries, key=_urgency):
            for encoded in self._entry(job, entry):
                task = encoded.task
                if task.outside:
                    self._check_links(task)
                if (task.deps and max(task.deps) >= task.number) or (task.after and max(task.after) >= task.number):
                    forward = True
                yield encoded
        if forward:
            # Only a list that was changed after it was given to a task can do this.
            check_acyclic(
                (
                    (encoded.task.number, encoded.task.deps, encoded.task.after)
                    for entry in job.entries
                    for encoded in self._entry(job, entry)
                ),
                lambda number: f"{number} {job.entry(number).label(number)!r}",
            )

    def _check_links(self, task: Task) -> None:
        """What a task waits for in other jobs is in the same ledger, which alone hears of its end."""
        for other in task.outside:
            if (its := partition_of(other.job)) != self._partition:
                raise ValidationError(
                    f"task {task.number} {task.name!r} of a job in partition {self._partition} of the ledger cannot wait for job "
                    f"{short(other.job)}, which is in partition {its}: submit it with Client(partition={its})"
                )

    def arguments(self, callee: Callee, args: Sequence[object], kwargs: dict[str, object]) -> Value:
        """The arguments of a call that waits for nothing."""
        name = callee.function.name
        try:
            pickled = payload.dump_call_pieces(args, kwargs, None, self._by_value)
        except UnpicklableError as error:
            raise UnpicklableError(f"{name!r}: {error}") from error
        small = isinstance(pickled, Inline) and len(pickled.data) <= INLINE_LIMIT
        return cast("Inline", pickled) if small else self._value(pickled, f"the arguments of {name!r}")

    @staticmethod
    def calls(callee: Callee, arguments: Sequence[Value], placement: Placement) -> list[Encoded]:
        """Calls with these arguments, numbered from 0."""
        setup = None if callee.setup is None else callee.setup[0]
        calls = many(Call, repeat(callee.digest), arguments, repeat(()), repeat(setup))
        tasks = many(Task, range(len(calls)), calls, repeat(0), repeat(callee.function.name))
        return [
            Encoded(task, placement, size_of_call(value), callee, (), value.size if isinstance(value, Stored) else 0)
            for task, value in zip(tasks, arguments, strict=True)
        ]

    def _entry(self, job: Job, entry: Entry) -> Iterator[Encoded]:
        placement = self.place(entry.options)
        match entry.work:
            case Program() as program:
                yield _program(entry, entry.first, placement, program)
            case ArrayWork() as array:
                _check_stdin(entry, array.program)
                for index in range(entry.count):
                    yield _program(entry, entry.first + index, placement, array.of(index))
            case CallWork(function=fn, args=args, kwargs=kwargs, setup=setup):
                yield self._call(job, entry, entry.first, placement, self._callee(fn, setup), args, kwargs)
            case MapWork(function=fn, columns=columns, setup=setup):
                callee = self.callee(fn, setup)
                for index, row in enumerate(zip(*columns, strict=False)):
                    yield self._call(job, entry, entry.first + index, placement, callee, row, {})
            case StepWork() as work:
                yield self._step(job, entry, placement, work)
            case _:
                assert_never(entry.work)

    def _call(  # noqa: PLR0917 (each is another thing)
        self,
        job: Job,
        entry: Entry,
        number: int,
        placement: Placement,
        callee: Callee,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> Encoded:
        places = _Places(job, self._job_value)
        try:
            pair = payload.dump_call_pieces(args, kwargs, places, self._by_value)
        except UnpicklableError as error:
            raise places.problem or UnpicklableError(f"{_label(entry, number)}: {error}") from error
        small = isinstance(pair, Inline) and pair.size <= INLINE_LIMIT
        value = cast("Inline", pair) if small else self._value(pair, f"the arguments of {_label(entry, number)}")
        deps = tuple(dict.fromkeys((*entry.deps, *places.deps))) if places.deps else entry.deps
        call = callee.call(value, tuple(places.inputs))
        outside = tuple(dict.fromkeys((*entry.outside, *places.outside))) if places.outside else entry.outside
        task = Task(number, call, name=entry.label(number), deps=deps, after=entry.after, outside=outside)
        size = _OVERHEAD + _inline_size(value) + sum(map(len, places.inputs)) + _links(task)
        return Encoded(task, placement, size, callee, tuple(places.values.items()))

    def _step(self, job: Job, entry: Entry, placement: Placement, work: StepWork) -> Encoded:
        places = _Places(job, self._job_value)
        fills = tuple(
            Fill(name, place.index, place.count, cast("tuple[int | str, ...]", place.path))
            for name, value in work.places.items()
            if (place := places(value)) is not None
        )
        value = self._value(payload.dump_plain(work.parameters), f"the parameters of {_label(entry, entry.first)}")
        call = StepCall(work.spec.name, work.spec.version, value, tuple(places.inputs), fills, work.slots)
        deps = tuple(dict.fromkeys((*entry.deps, *places.deps)))
        outside = tuple(dict.fromkeys((*entry.outside, *places.outside)))
        task = Task(entry.first, call, name=entry.name, deps=deps, after=entry.after, outside=outside)
        size = _OVERHEAD + _inline_size(value) + sum(map(len, places.inputs)) + _links(task) + _DATA * len(call.data)
        return Encoded(task, placement, size)

    def _job_value(self, marked: JobValue) -> tuple[str, Value]:
        """The key and the bytes of a value of the job, made once."""
        known = self._values.get(marked)
        if known is None:
            value = self._value(payload.dump_pieces(marked.value, self._by_value), repr(marked))
            # What is stored has been hashed.
            digest = hashlib.sha256(value.data).digest() if isinstance(value, Inline) else value.digest
            known = self._values[marked] = digest.hex(), value
        return known

    def _value(self, value: Inline | Pieces, what: str) -> Value:
        """The value as it travels."""
        if self._store and value.size > INLINE_LIMIT:
            return self._store.put(self._job_id, value.encoding, *value.pieces)
        if value.size > INLINE_LIMIT_WITHOUT_STORE:
            raise ValueTooLarge(
                f"{what} take {_mebibytes(value.size)}, and at most {_mebibytes(INLINE_LIMIT_WITHOUT_STORE)} without a value store: "
                "name a folder that all hosts see, with value_store in broker-jobs.toml or BROKER_JOBS_VALUE_STORE"
            )
        return value.joined()


class _Places:
    """The places in the arguments of one task, and so what it depends on."""

    __slots__ = ("_index", "_job", "_job_value", "deps", "inputs", "outside", "problem", "values")

    def __init__(self, job: Job, job_value: Callable[[JobValue], tuple[str, Value]]) -> None:
        self._job = job
        self._job_value = job_value
        self._index: dict[str, int] = {}
        self.inputs: list[str] = []
        self.deps: list[int] = []
        self.outside: list[Outside] = []
        self.values: dict[str, Value] = {}
        self.problem: ValidationError | None = None

    def __call__(self, value: object) -> payload.Place | None:
        if not isinstance(value, Placeholder):
            return None
        try:
            self._job.check_placeholder(value)
            return self._place(value)
        except ValidationError as problem:
            # It passes through pickle, which knows nothing of it; whoever called pickle asks for it.
            self.problem = problem
            raise

    def _place(self, value: Placeholder) -> payload.Place | None:
        match value:
            case TaskOutput(task=task, path=path):
                return payload.Place(self._result(task, task.number), None, path)
            case ArrayOutput(array=array):
                first = len(self.inputs)
                if self._job.elsewhere(array, "an argument") is None:
                    self.inputs += map(str, array.numbers)
                    self.deps += array.numbers
                else:
                    for number in array.numbers:
                        self.inputs.append(self._elsewhere(array, number))
                return payload.Place(first, len(array))
            case JobValue():
                key, encoded = self._job_value(value)
                self.values[key] = encoded
                return payload.Place(self._input(key, None))
            case _:
                return None

    def _result(self, task: authoring.Task | EarlierTask, number: int) -> int:
        if self._job.elsewhere(task, "an argument") is None:
            return self._input(str(number), number)
        return self._input(self._elsewhere(task, number), None)

    def _elsewhere(self, task: authoring.Task | authoring.TaskArray | EarlierTask, number: int) -> str:
        """The key of the result of a task of another job, which becomes a need."""
        job, first = self._job.elsewhere(task, "an argument") or ("", 0)
        self.outside.append(Outside(job, first + number, value=True))
        return outside_key(job, first + number)

    def _input(self, key: str, dep: int | None) -> int:
        known = self._index.get(key)
        if known is None:
            known = self._index[key] = len(self.inputs)
            self.inputs.append(key)
            if dep is not None:
                self.deps.append(dep)
        return known


def _program(entry: Entry, number: int, placement: Placement, program: Program) -> Encoded:
    size = (
        _OVERHEAD
        + _DATA * len(program.files)
        + sum(map(len, program.argv))
        + len(program.stdin or b"")
        + sum(len(name) + len(value) for name, value in program.env)
    )
    if size > INLINE_LIMIT_WITHOUT_STORE:
        raise ValueTooLarge(
            f"{_label(entry, number)}: its arguments and standard input take {_mebibytes(size)}, and at most "
            f"{_mebibytes(INLINE_LIMIT_WITHOUT_STORE)} can be sent: let the program read a file"
        )
    task = Task(number, program, name=entry.label(number), deps=entry.deps, after=entry.after, outside=entry.outside)
    return Encoded(task, placement, size + _links(task))


def _check_stdin(entry: Entry, program: Program) -> None:
    """Each task of an array carries a copy of its standard input."""
    size = len(program.stdin or b"") * entry.count
    if size > _MOST_STDIN:
        raise ValueTooLarge(
            f"{entry.name!r}: the standard input of its {entry.count} tasks takes {_mebibytes(size)} together, and at most "
            f"{_mebibytes(_MOST_STDIN)} are sent: let the program read a file"
        )


def size_of_call(args: Value) -> int:
    """Bytes on the wire of one that waits for nothing, roughly; without function."""
    return _OVERHEAD + _inline_size(args)


def _urgency(entry: Entry) -> int:
    return -entry.options.priority


def _label(entry: Entry, number: int) -> str:
    return f"task {number} {entry.label(number)!r}"


def _links(task: Task) -> int:
    """Bytes of name and dependencies, roughly."""
    return len(task.name) + 4 * (len(task.deps) + len(task.after)) + 50 * len(task.outside)


def _inline_size(value: Value) -> int:
    return len(value.data) if isinstance(value, Inline) else 200


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
