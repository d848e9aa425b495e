"""A job as the user writes it: tasks, what they wait for, and the values that go from one to another.

Nothing is pickled or sent here. `broker_jobs.client.encoding` turns a job into tasks of the wire when it is submitted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Union, Unpack, cast, overload

from broker_jobs.client.entries import ArrayWork, CallWork, Entry, MapWork, StepWork, Work
from broker_jobs.client.options import (
    Argument,
    FunctionOptions,
    RunOptions,
    StrPath,
    arguments,
    check_executor,
    environment,
    folder,
    lane_named,
    setup_function,
    task_options,
    warn_of_shared_files,
)
from broker_jobs.client.placeholders import ArrayOutput, EarlierTask, JobValue, Placeholder, TaskOutput
from broker_jobs.core.data import inside
from broker_jobs.errors import TaskNotFound, ValidationError
from broker_jobs.wire.messages import Outside, Program

if TYPE_CHECKING:
    from broker_jobs.client.data import WorkData
    from broker_jobs.core.data import DataRef
    from broker_jobs.core.spec import Lane, TaskOptions
    from broker_jobs.core.step import StepSpec

Deps = Union["Task", EarlierTask, Iterable["Deps"]]
"""Tasks to wait for: a task, a task array, or lists of them, one in another too; tasks of jobs that were submitted earlier as well."""


class TaskCommon(RunOptions, total=False):
    """What every task may be given.

    Attributes:
        name: what to call it (default: the name of its function or program)
        deps: tasks whose success it waits for
        after: tasks whose end it waits for, however they end
    """

    name: str | None
    deps: Deps
    after: Deps


class FunctionCommon(TaskCommon, FunctionOptions, total=False):
    """What every task that is a function may be given."""


_OF_TASKS: Final = frozenset(TaskCommon.__annotations__)
_OF_FUNCTIONS: Final = frozenset(FunctionCommon.__annotations__)
_NO_OPTIONS: Final = frozenset({"name", "deps", "after", "setup"})
"""What may be given to a function, and is no option of the wire."""


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A task of a job that is being written.

    Attributes:
        number: inside its job, from 0
        name: as given, else that of its function or program
    """

    job: Job
    number: int
    name: str

    @property
    def output(self) -> TaskOutput:
        """Its future result, to be given to later functions of the same job as an argument, or anywhere inside one."""
        return TaskOutput(self)

    def __repr__(self) -> str:
        return f"<Task {self.number} {self.name!r}>"


class TaskArray(Sequence[Task]):
    """The tasks of one `Job.map` or `Job.array`: a sequence that makes a `Task` when it is asked for one."""

    __slots__ = ("_entry", "job")

    def __init__(self, job: Job, entry: Entry) -> None:
        self.job = job
        self._entry = entry

    @property
    def output(self) -> ArrayOutput:
        """The future list of all their results; ``output[3]`` is that of one."""
        return ArrayOutput(self)

    @property
    def name(self) -> str:
        """What they are called together."""
        return self._entry.name

    @property
    def numbers(self) -> range:
        """Their numbers."""
        return range(self._entry.first, self._entry.first + self._entry.count)

    def __len__(self) -> int:
        return self._entry.count

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | Sequence[Task]:
        if isinstance(index, slice):
            return tuple(self._task(number) for number in self.numbers[index])
        return self._task(self.numbers[index])

    def __iter__(self) -> Iterator[Task]:
        return map(self._task, self.numbers)

    def __contains__(self, task: object) -> bool:
        return isinstance(task, Task) and task.job is self.job and task.number in self.numbers

    def __repr__(self) -> str:
        return f"<TaskArray {self.name!r} of {len(self)} tasks>"

    def _task(self, number: int) -> Task:
        return Task(self.job, number, self._entry.label(number))


class Job:
    """A graph of tasks, to be submitted with `Client.submit`.

    Args:
        name: what to call it
        tags: texts such as ``"nightly"`` or ``"project=alpha"``, to find it by
        max_fails: more failed tasks than this abort the rest; 0 halts at the first, None goes on
        cwd: folder of its tasks, unless they have one of their own
        env: environment variables of its tasks, to which they may add
        lane: ``"high"``, ``"normal"`` or ``"low"``: workers prefer the higher

    Attributes:
        submissions: where it was submitted: id of each job, and the number there of its first task

    Raises:
        ValidationError: one of these is wrong
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        tags: Iterable[str] = (),
        max_fails: int | None = None,
        cwd: StrPath | None = None,
        env: Mapping[str, str | float | StrPath] | None = None,
        lane: str = "normal",
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise ValidationError(f"the name of a job must be a text, not {name!r}")
        labels = (tags,) if isinstance(tags, str) else tuple(tags)
        if isinstance(tags, str) or not all(isinstance(tag, str) for tag in labels):
            raise ValidationError(f"tags must be a list of texts, not {tags!r}")
        if max_fails is not None and (isinstance(max_fails, bool) or not isinstance(max_fails, int) or max_fails < 0):
            raise ValidationError(f"max_fails must be None or an integer that is not negative, not {max_fails!r}")
        self.name = name or "job"
        self.tags = labels
        self.max_fails = max_fails
        self.cwd = folder(cwd)
        self.env = dict(environment(env))
        self.lane = lane_named(lane)
        self.entries: list[Entry] = []
        self.submissions: dict[str, int] = {}
        self._tasks = 0
        self._plain: tuple[tuple[Lane, str | None, dict[str, str]], TaskOptions] | None = None

    def __len__(self) -> int:
        """The number of tasks."""
        return self._tasks

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<Job {self.name!r} of {len(self)} tasks>"

    def function(
        self,
        fn: Callable[..., object],
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **common: Unpack[FunctionCommon],
    ) -> Task:
        """Add a task that calls a Python function; a coroutine is awaited, and a generator is run to its end, into a list.

        Args:
            fn: any callable; of an importable module it travels by name, else (``__main__``, lambda, closure) whole
            args: positional arguments; outputs of earlier tasks may stand anywhere in them, and imply the dependency
            kwargs: keyword arguments; the same holds
            common: see `FunctionOptions` and `TaskCommon`

        Raises:
            ValidationError: something is wrong with it; the text says what
        """
        if isinstance(args, str | bytes) or not isinstance(args, Sequence):
            raise ValidationError(f"args must be a tuple or a list, not {args!r}: one argument is written args=({args!r},)")
        keywords = dict(kwargs) if kwargs else {}
        if not all(isinstance(name, str) for name in keywords):
            raise ValidationError(f"kwargs must have texts as keys, not {list(keywords)!r}")
        for value in (*args, *keywords.values()):
            if isinstance(value, Placeholder):
                self.check_placeholder(value)
        work = CallWork(_callable(fn), tuple(args), keywords, setup_function(common.get("setup")))
        return self._only(self._add(work, 1, _function_name(fn), common))

    def program(
        self,
        argv: Iterable[Argument],
        *,
        stdin: str | bytes | None = None,
        task_dir: bool = False,
        inputs: Mapping[str, WorkData] | None = None,
        outputs: Iterable[str] = (),
        **common: Unpack[TaskCommon],
    ) -> Task:
        """Add a task that runs an external program, without a shell; it succeeds when the program exits with 0.

        Args:
            argv: the program and its arguments: texts, bytes, numbers, paths
            stdin: what it reads from standard input (default: nothing)
            task_dir: make a fresh folder for it, named by ``BROKER_JOBS_TASK_DIR`` and removed when it has ended, however; it runs there
                unless `cwd` says where
            inputs: data that is put into its folder before it starts, by relative path; then, and with outputs, `task_dir` is the default
                where `cwd` is not given
            outputs: the files that are kept as data when it has succeeded: relative paths, or patterns such as ``"plots/*.png"``
            common: see `TaskCommon`

        Raises:
            ValidationError: something is wrong with it; the text says what
        """
        kept = _patterns(outputs)
        files = tuple((inside(path), data.info.data) for path, data in (inputs or {}).items())
        own = task_dir or (bool(files or kept) and common.get("cwd") is None and self.cwd is None)
        program, name = _program(argv, stdin, own)
        if files or kept:
            program = replace(program, files=files, collects=kept)
        return self._only(self._add(program, 1, name, common))

    def step(
        self,
        step: StepSpec,
        parameters: Mapping[str, Any] | None = None,
        *,
        inputs: Mapping[str, WorkData | Sequence[WorkData]] | None = None,
        **common: Unpack[TaskCommon],
    ) -> Task:
        """Add a call of a step, which runs on a worker that serves just this version of it.

        Args:
            step: as `Client.find_step` finds it (``.spec``)
            parameters: plain data by name, or outputs of earlier tasks, each for a whole parameter; what is left out takes its default
            inputs: the data in its slots, by name
            common: see `TaskCommon`

        Raises:
            ValidationError: the parameters do not fit; the text says where
        """
        from broker_jobs.steps.checking import checker

        places = {name: value for name, value in (parameters or {}).items() if isinstance(value, Placeholder)}
        for name, value in places.items():
            self.check_placeholder(value)
            if isinstance(value, JobValue):
                raise ValidationError(f"{name}: give the value as it is: steps are called with plain data")
        given = {name: value for name, value in (parameters or {}).items() if name not in places}
        work = StepWork(step, checker(step).check(given, places), places, slots_of(step, inputs or {}))
        return self._only(self._add(work, 1, step.name, common))

    def map(self, fn: Callable[..., object], *iterables: Iterable[Any], **common: Unpack[FunctionCommon]) -> TaskArray:
        """Add one task for each row of the iterables, as `map` does; the shortest decides.

        Args:
            fn: any callable, called with one item of each iterable
            iterables: sequences are kept as they are, so ``range(1_000_000)`` costs nothing; others are read now
            common: see `FunctionOptions` and `TaskCommon`

        Raises:
            ValidationError: something is wrong with it; the text says what
        """
        if not iterables:
            raise ValidationError("map needs at least one iterable with arguments")
        columns = tuple(iterable if isinstance(iterable, range) else tuple(iterable) for iterable in iterables)
        work = MapWork(_callable(fn), columns, setup_function(common.get("setup")))
        return TaskArray(self, self._add(work, min(map(len, columns)), _function_name(fn), common))

    def array(
        self,
        argv: Iterable[Argument],
        ids: Iterable[int],
        *,
        entries: Iterable[str] | None = None,
        stdin: str | bytes | None = None,
        task_dir: bool = False,
        **common: Unpack[TaskCommon],
    ) -> TaskArray:
        """Add one task for each id, all of which run the same program.

        The program finds its id in ``BROKER_JOBS_ARRAY_ID`` and its entry in ``BROKER_JOBS_ENTRY``. The task is called ``name[id]``.

        Args:
            argv: as for `program`
            ids: chosen freely, each once and not negative, such as ``range(1, 101)``
            entries: a text for each id
            stdin: what each reads from standard input
            task_dir: run each in a fresh folder of its own
            common: see `TaskCommon`

        Raises:
            ValidationError: something is wrong with it; the text says what
        """
        program, name = _program(argv, stdin, task_dir)
        chosen = ids if isinstance(ids, range) else tuple(ids)
        if not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in chosen):
            raise ValidationError("ids must be integers that are not negative")
        if not isinstance(chosen, range) and len(set(chosen)) < len(chosen):
            raise ValidationError("ids must be different from each other")
        texts = None if entries is None else tuple(entries)
        if texts is not None:
            if len(texts) != len(chosen):
                raise ValidationError(f"there must be one entry for each id: {len(texts)} entries for {len(chosen)} ids")
            for one, text in zip(chosen, texts, strict=True):
                if not isinstance(text, str) or "\0" in text:
                    raise ValidationError(f"the entry of id {one} must be a text without NUL characters, not {text!r:.100}")
        return TaskArray(self, self._add(ArrayWork(program, chosen, texts), len(chosen), name, common))

    def value(self, value: object) -> JobValue:
        """Mark a large object, so that it is sent once for many tasks; use the result as an argument, or inside one."""
        return JobValue(self, value)

    # --- for the modules that send jobs ---

    def entry(self, number: int) -> Entry:
        """The entry that a task belongs to; `TaskNotFound` where there is none."""
        if 0 <= number < self._tasks:
            low, high = 0, len(self.entries) - 1
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if self.entries[middle].first <= number else (low, middle - 1)
            return self.entries[low]
        raise TaskNotFound(f"{self!r} has no task {number}")

    def check_placeholder(self, value: object) -> None:
        """`ValidationError` where this stands for something that tasks of this job cannot be given."""
        match value:
            case TaskOutput():
                self.elsewhere(value.task, "an argument")
                if isinstance(value.task, Task):
                    value.task.job.check_result(value.task.number, value.task.name)
            case ArrayOutput():
                self.elsewhere(value.array, "an argument")
                if len(value.array):
                    value.array.job.check_result(value.array.numbers[0], value.array.name)
            case JobValue() if value.job is not self:
                raise ValidationError(f"{value!r} belongs to {value.job!r}: make it again with the value() of this job")
            case _:
                pass

    def check_result(self, number: int, name: str) -> None:
        """`ValidationError` where a task has no result that could be an argument."""
        if isinstance(self.entry(number).work, Program | ArrayWork):
            raise ValidationError(
                f"task {number} {name!r} is a program: its result is its exit code, so its output cannot be "
                "an argument. Let it write a file, name that file as an argument, and use deps=[…]"
            )

    def elsewhere(self, task: Task | TaskArray | EarlierTask, role: str) -> tuple[str, int] | None:
        """The job that was submitted with this task, and what its numbers begin with there; None for a task of this job.

        Raises:
            ValidationError: its job was not submitted
        """
        if isinstance(task, EarlierTask):
            return task.job, 0
        if task.job is self:
            return None
        if not task.job.submissions:
            raise ValidationError(
                f"{task!r} belongs to {task.job!r}, which was not submitted, and cannot be {role} in {self!r}: "
                "put both tasks into one job, or submit the other job first"
            )
        return next(reversed(task.job.submissions.items()))

    def _needs(self, deps: object, what: str) -> Iterator[int | EarlierTask]:
        """Tasks in nested lists: numbers of this job's, and those of other jobs."""
        match deps:
            case Task() | EarlierTask() | TaskArray():
                numbers = deps.numbers if isinstance(deps, TaskArray) else (deps.number,)
                place = self.elsewhere(deps, "a dependency")
                yield from numbers if place is None else (EarlierTask(place[0], place[1] + number) for number in numbers)
            case TaskOutput() | ArrayOutput():
                raise ValidationError(f"{what} takes tasks, not their outputs: {deps!r}")
            case str() | bytes():
                raise ValidationError(f"{what} takes tasks, not {deps!r}")
            case Iterable():
                for dep in deps:
                    yield from self._needs(dep, what)
            case _:
                raise ValidationError(f"{what} takes tasks, task arrays and lists of them, not {deps!r}")

    def _add(self, work: Work, count: int, name: str, common: TaskCommon) -> Entry:
        given = common.get("name")
        if given is not None and (not isinstance(given, str) or not given):
            raise ValidationError(f"the name of a task must be a text, not {given!r}")
        known = _OF_FUNCTIONS if isinstance(work, CallWork | MapWork) else _OF_TASKS
        if not common.keys() <= known:
            raise TypeError(f"unexpected arguments: {', '.join(sorted(common.keys() - known))}")
        options = self._options(work, common)
        deps, outside = self._sorted_needs(common.get("deps", ()), "deps")
        after, outside_after = self._sorted_needs(common.get("after", ()), "after")
        if count > 1:
            warn_of_shared_files(options)
        entry = Entry(self._tasks, count, given or name, work, options, deps, after, (*outside, *outside_after))
        self._tasks += count
        if count:
            self.entries.append(entry)
        return entry

    def _options(self, work: Work, common: TaskCommon) -> TaskOptions:
        """The options of a task; one object for all that are given none, and those of a job are as a rule."""
        here = (self.lane, self.cwd, self.env)
        if not isinstance(work, StepWork) and common.keys() <= _NO_OPTIONS:
            plain = self._plain
            if plain is None or plain[0] != here:
                plain = self._plain = (self.lane, self.cwd, dict(self.env)), self._checked_options(work, common)
            return plain[1]
        return self._checked_options(work, common)

    def _checked_options(self, work: Work, common: TaskCommon) -> TaskOptions:
        if not isinstance(work, Program | ArrayWork):
            check_executor(common.get("executor"))
        options = task_options(cast("FunctionCommon", common), self.lane)  # a program has none of the keys of functions
        options = replace(options, cwd=options.cwd or self.cwd, env=tuple({**self.env, **dict(options.env)}.items()))
        if isinstance(work, StepWork):
            options = replace(options, resources=options.resources.offering(work.spec.feature))
        return options

    def _sorted_needs(self, given: object, what: str) -> tuple[tuple[int, ...], tuple[Outside, ...]]:
        """Tasks in nested lists, each once: numbers of this job's, and those of other jobs."""
        if given == ():
            return (), ()
        if isinstance(given, list | tuple) and all(type(dep) is Task and dep.job is self for dep in given):
            return tuple(dict.fromkeys([dep.number for dep in given])), ()
        needs = dict.fromkeys(self._needs(given, what))
        return _numbers(needs), _outside(needs, after=what == "after")

    def _only(self, entry: Entry) -> Task:
        return Task(self, entry.first, entry.name)


def _program(argv: Iterable[Argument], stdin: object, task_dir: object) -> tuple[Program, str]:
    """A program as it travels, and what its tasks are called by default."""
    if not isinstance(argv, str | bytes | os.PathLike):
        argv = list(argv)
        for item in argv:
            if isinstance(item, Placeholder):
                raise ValidationError(f"{item!r} cannot be an argument of a program: let a function write a file, and name the file")
    encoded = arguments(argv)
    if stdin is not None and not isinstance(stdin, str | bytes):
        raise ValidationError(f"stdin must be a text or bytes, not {stdin!r}")
    data = stdin.encode(errors="surrogateescape") if isinstance(stdin, str) else stdin
    name = os.fsdecode(os.path.basename(encoded[0]))  # noqa: PTH119 (bytes)
    return Program(encoded, data, bool(task_dir)), name


def slots_of(
    step: StepSpec, inputs: Mapping[str, WorkData | Sequence[WorkData] | None], *, partly: bool = False
) -> tuple[tuple[str, tuple[DataRef, ...]], ...]:
    """What goes into the slots of a step.

    Args:
        partly: slots that are not named, or None, are filled later

    Raises:
        ValidationError: it does not fit; the text says where
    """
    known = {slot.name: slot for slot in step.inputs}
    unknown = [name for name in inputs if name not in known]
    if unknown:
        there = f"there are: {', '.join(known)}" if known else "it has none"
        raise ValidationError(f"{step} has no input slot {unknown[0]!r}; {there}")
    held: list[tuple[str, tuple[DataRef, ...]]] = []
    for name, slot in known.items():
        given = inputs.get(name)
        if partly and given is None:
            continue
        several = () if given is None else tuple(given) if isinstance(given, Sequence) else (given,)
        if given is not None and isinstance(given, Sequence) is not slot.collection:
            raise ValidationError(
                f"the slot {name!r} of {step} takes {'a list of data' if slot.collection else 'one piece of data, not a list'}"
            )
        data = tuple(one.info.data for one in several)
        try:
            slot.check(data)
        except ValidationError as error:
            raise ValidationError(f"{step}: {error}") from None
        if data:
            held.append((name, data))
    return tuple(held)


def _patterns(outputs: Iterable[str]) -> tuple[str, ...]:
    if isinstance(outputs, str):
        raise ValidationError(f"outputs must be a list of paths, not {outputs!r}")
    return tuple(map(inside, outputs))


def _numbers(needs: Iterable[int | EarlierTask]) -> tuple[int, ...]:
    return tuple(need for need in needs if isinstance(need, int))


def _outside(needs: Iterable[int | EarlierTask], *, after: bool) -> tuple[Outside, ...]:
    return tuple(Outside(need.job, need.number, after) for need in needs if isinstance(need, EarlierTask))


def _callable(fn: object) -> Callable[..., object]:
    if not callable(fn):
        raise ValidationError(f"a function is needed, not {fn!r}")
    return fn


def _function_name(fn: Callable[..., object]) -> str:
    wrapped = getattr(fn, "func", fn)  # of functools.partial
    return getattr(wrapped, "__name__", None) or type(fn).__name__
