"""For the tests of users: a client that keeps its jobs in memory and runs their tasks at once, and pytest fixtures.

    # conftest.py
    pytest_plugins = ["broker_jobs.testing"]

    # test_mine.py
    def test_mine(broker_jobs_client):
        assert broker_jobs_client.call(add, 1, 2) == 3

`submit` returns when every task has ended. Functions are called in this process, after the same round trip through pickle and signed
messages as on a real worker; programs are started. Dependencies, values, retries (without their delays), ``max_fails`` and outcomes
are those of the real thing. Limits of functions, crashes, cancellation and anything concurrent are not: for these there is the fixture
``broker_jobs_cluster``, a `LocalCluster` with real processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import io
import os
import platform
import subprocess
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, assert_never

from broker_jobs.client.client import Client
from broker_jobs.client.link import Frame, refusal
from broker_jobs.client.runtime import Runtime
from broker_jobs.config import Settings
from broker_jobs.coordinator.registry import Registry
from broker_jobs.core.job import (
    AttemptEnded,
    AttemptStarted,
    Changed,
    Delay,
    Duplicate,
    Finished,
    JobMachine,
    JobSealed,
    NewTask,
    OutsideEnded,
    Queue,
    QueueAll,
    Recorded,
    RetryDue,
    Revoke,
    Swept,
    TasksAdded,
    Together,
    Withdraw,
)
from broker_jobs.core.outcome import Cause, Failed, Outcome, Succeeded
from broker_jobs.core.placeholders import CWD, expand, of_attempt
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import Request, Variant
from broker_jobs.core.resources import Pool, Resources
from broker_jobs.core.spec import Keep
from broker_jobs.core.states import TaskState
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.current import Surrounding, current
from broker_jobs.ids import short
from broker_jobs.steps import steps_in
from broker_jobs.wire.codec import pack
from broker_jobs.wire.inputs import outside_key
from broker_jobs.wire.messages import (
    AddData,
    Call,
    CancelResult,
    CancelTasks,
    Changes,
    Chunk,
    CloseJob,
    Cluster,
    DeleteData,
    EndingWorkers,
    EndWorkers,
    ExplainTask,
    Explanation,
    FindData,
    FindJob,
    ForgetJobs,
    Forgotten,
    GetChanges,
    GetOutput,
    GetOutputs,
    GetWork,
    GetWorkers,
    JobInfo,
    JobList,
    ListData,
    ListJobs,
    ListLog,
    ListSteps,
    ListUses,
    OpenJob,
    Output,
    Outputs,
    Outside,
    PauseResult,
    PauseTasks,
    Program,
    ReadOutput,
    Refusal,
    Refused,
    ReserveTasks,
    ResubmitJob,
    ResumeResult,
    ResumeTasks,
    Role,
    StepCall,
    TagData,
    Task,
    TaskInfo,
    TaskOutput,
)
from broker_jobs.wire.signing import Signer, SigningKey, new_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType

    from broker_jobs.client.chunking import OpenClasses
    from broker_jobs.client.cluster import LocalCluster
    from broker_jobs.client.link import Listener
    from broker_jobs.core.job import JobCommand, JobEvent
    from broker_jobs.core.spec import Lane, TaskOptions
    from broker_jobs.core.step import StepSpec
    from broker_jobs.core.value import Value
    from broker_jobs.wire.messages import Answer, JobHeader, Question
    from broker_jobs_worker.runners.preparation import Preparation

NAMESPACE: Final = "testing"
WORKER: Final = "in-memory"


class InMemoryClient(Client):
    """A `Client` without broker, coordinator and workers; see the module.

    Args:
        by_value: as for `Client`
        steps: modules whose steps it serves
        plugins: as for `Client`

    Raises:
        ValidationError: a module contradicts itself
    """

    def __init__(self, *, by_value: Iterable[ModuleType] = (), steps: Iterable[ModuleType] = (), plugins: Iterable[object] = ()) -> None:
        key = SigningKey.parse(new_key())
        settings = Settings("memory://", NAMESPACE, key, Path(tempfile.gettempdir()), value_store=None, embedded=True)

        served = {step.spec: module.__name__ for module in steps for step in steps_in(module)}

        async def open_link() -> InMemoryLink:
            return InMemoryLink(Signer(NAMESPACE, key), served)

        self._begin(settings, Runtime(open_link), by_value, 30.0, plugins)


@dataclass(frozen=True, slots=True)
class _Process:
    """What tasks share that run in this process.

    Attributes:
        modules: those of its steps, by name and version
        prepared: what setups have returned, by their hash
    """

    modules: Mapping[str, str]
    prepared: dict[str, Preparation] = field(default_factory=dict)


@dataclass(slots=True)
class _Job:
    """A job, and what its tasks have left."""

    header: JobHeader
    machine: JobMachine
    tasks: dict[int, tuple[Task, Chunk]] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    outputs: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    ended_ms: int = 0

    def info(self, job: str) -> JobInfo:
        machine, header = self.machine, self.header
        counts = {state.value: count for state, count in machine.counts.items() if count}
        return JobInfo(
            job,
            header.name,
            machine.state,
            1,
            header.submitted_ms,
            counts,
            machine.total,
            header.tags,
            header.user,
            ended_ms=self.ended_ms,
            reason=machine.void_reason or "",
            ephemeral=header.ephemeral,
            parent=header.parent,
        )

    def task(self, number: int, *, values: bool) -> TaskInfo:
        record, (task, chunk) = self.machine.tasks[number], self.tasks[number]
        outcome = self.outcomes.get(number) if values and record.state in {TaskState.succeeded, TaskState.failed} else None
        return TaskInfo(
            number,
            record.state,
            task.name,
            record.attempt,
            reason=record.reason,
            worker=WORKER if record.attempt else "",
            resource_class=chunk.resource_class,
            kind=task.work.tag,
            outcome=outcome,
        )

    def output(self, number: int) -> TaskOutput:
        """All that a task has printed."""
        stdout, stderr = self.outputs.get(number, (b"", b""))
        record = self.machine.tasks[number]
        whole = Output(stdout, len(stdout)), Output(stderr, len(stderr))
        return TaskOutput(record.state, *whole, task=number, attempt=record.attempt, worker=WORKER)


class InMemoryLink:
    """Ledger and worker of an `InMemoryClient`: takes signed chunks, runs them when their job is whole, answers questions."""

    client = "client-in-memory"

    def __init__(self, signer: Signer, steps: Mapping[StepSpec, str]) -> None:
        self._signer = signer
        self._jobs: dict[str, _Job] = {}
        self._process = _Process({str(spec): module for spec, module in steps.items()})
        self._registry = Registry()
        self._registry.announce(steps, 0)

    def listen(self, listener: Listener) -> None:
        """Nothing comes by itself: the client asks."""

    def seal(self, chunk: Chunk) -> Frame:
        """The signed frame of a chunk."""
        return Frame("", self._signer.seal(chunk, Role.submitter))

    async def open_classes(self, wanted: Iterable[tuple[str, Lane]]) -> OpenClasses:  # noqa: ARG002 (of the protocol)
        """None: every chunk goes to the ledger."""
        return frozenset()

    async def send(self, job: str, frames: Iterable[Frame], timeout: float) -> None:  # noqa: ARG002 (of the protocol)
        """Run a whole job."""
        chunks = [message for frame in frames if isinstance(message := self._signer.open(frame.body).message, Chunk)]
        await asyncio.to_thread(self._run, job, chunks)

    async def ask(self, question: Question, timeout: float = 0.0) -> Answer:  # noqa: ARG002 (of the protocol)
        """The answer, at once."""
        answer = self._answer(question)
        if isinstance(answer, Refused):
            raise refusal(answer)
        return answer

    async def tell(self, question: Question) -> None:
        """Ask, and forget the answer."""
        self._answer(question)

    async def close(self) -> None:
        """There is nothing to close."""

    def _run(self, job_id: str, chunks: list[Chunk]) -> None:
        header = next(chunk.header for chunk in chunks if chunk.header)
        job = self._jobs[job_id] = _Job(header, JobMachine(header.max_fails))
        added: list[NewTask] = []
        for chunk in chunks:
            for task in chunk.tasks:
                options = chunk.options[task.options]
                job.tasks[task.number] = task, chunk
                needs = frozenset(map(str, task.outside))
                added.append(NewTask(task.number, task.deps, task.after, options.retry, options.crash_limit, outside=needs))
        events: deque[JobEvent] = deque([TasksAdded(tuple(added)), JobSealed(len(added))])
        events += [
            OutsideEnded(number, str(other), self._problem(other)) for number, (task, _) in job.tasks.items() for other in task.outside
        ]
        self._drive(job_id, job, events)

    def _drive(self, job_id: str, job: _Job, events: deque[JobEvent]) -> None:
        """Do what follows from these events, until nothing does."""
        while events:
            for command in job.machine.handle(events.popleft()):
                events.extend(self._perform(job_id, job, command))
        job.ended_ms = time.time_ns() // 1_000_000

    def _again(self, wish: ResubmitJob) -> JobInfo | Refused:
        """Run again what did not succeed of a job, as a new one."""
        if wish.job not in self._jobs:
            return _missing(wish.job)
        old = self._jobs[wish.job]
        records = old.machine.tasks
        chosen = set(records) if wish.tasks is None else set(wish.tasks) & set(records)
        again = {number for number in chosen if wish.everything or records[number].state is not TaskState.succeeded}
        if not again:
            return Refused(Refusal.invalid, "what was chosen has succeeded")
        kept = [replace(record) for record in records.values() if record.number not in again]
        header = replace(old.header, tags=(*old.header.tags, f"resubmit={short(wish.job)}"))
        machine = JobMachine.restore(kept, max_fails=header.max_fails)
        stay = {number: outcome for number, outcome in old.outcomes.items() if number not in again}
        job = self._jobs[wish.new] = _Job(header, machine, dict(old.tasks), stay, dict(old.outputs))
        new = (records[number] for number in sorted(again))
        added = tuple(NewTask(one.number, one.deps, one.after, one.retry, one.crash_limit) for one in new)
        self._drive(wish.new, job, deque([TasksAdded(added), JobSealed(len(records))]))
        return job.info(wish.new)

    def _problem(self, other: Outside) -> str:
        """Why a task of another job, which has ended, keeps others from starting; empty where it does not."""
        record = self._jobs[other.job].machine.tasks.get(other.task) if other.job in self._jobs else None
        if record is None:
            return f"task {other.task} of job {short(other.job)} is not known"
        fine = other.after or record.state is TaskState.succeeded
        return "" if fine else f"task {other.task} of job {short(other.job)} {record.state.value}"

    def _value(self, other: Outside) -> Value:
        """The result of a task of another job."""
        outcome = self._jobs[other.job].outcomes.get(other.task)
        value = outcome.value if isinstance(outcome, Succeeded) else None
        return value or Inline(Encoding.msgpack, pack(None))

    def _perform(self, job_id: str, job: _Job, command: JobCommand) -> Iterator[JobEvent]:
        match command:
            case Queue(task=number, attempt=attempt):
                task, chunk = job.tasks[number]
                yield AttemptStarted(number, attempt, str(attempt))
                values = {
                    **chunk.values,
                    **{outside_key(other.job, other.task): self._value(other) for other in task.outside if other.value},
                }
                inputs = {key: _input(job, values, key) for key in task.work.inputs}
                outcome, job.outputs[number] = _execute(job_id, task, chunk, attempt, inputs, self._process)
                yield AttemptEnded(number, attempt, str(attempt), outcome)
            case QueueAll(tasks=numbers):
                for number in numbers:
                    yield from self._perform(job_id, job, Queue(number, 1))
            case Delay(task=number, attempt=attempt):
                yield RetryDue(number, attempt)
            case Recorded(task=number, outcome=outcome):
                job.outcomes[number] = outcome
            case Revoke() | Withdraw() | Swept() | Changed() | Together() | Duplicate() | Finished():
                pass
            case _:
                assert_never(command)

    def _answer(self, question: Question) -> Answer:
        match question:
            case FindJob(text=text):
                found = [job for job in self._jobs if job.endswith(text) or text == "last"][-1:]
                return self._jobs[found[0]].info(found[0]) if found else _missing(text)
            case ListJobs() as wanted:
                infos = [job.info(name) for name, job in reversed(self._jobs.items()) if not job.header.ephemeral]
                fitting = [info for info in infos if _fits(info, wanted)][wanted.skip :]
                return JobList(tuple(fitting[: wanted.limit]), more=len(fitting) > wanted.limit)
            case ForgetJobs(jobs=names):
                return Forgotten(sum(self._jobs.pop(name, None) is not None for name in names))
            case ResubmitJob() as wish:
                return self._again(wish)
            case GetWorkers():
                return Cluster(WORKER)
            case ListSteps() as wanted:
                return self._registry.list(wanted, ())
            case OpenJob() | ReserveTasks() | CloseJob():
                return Refused(Refusal.invalid, "jobs in memory are never open: use a cluster, such as the fixture broker_jobs_cluster")
            case EndWorkers():
                return EndingWorkers()
            case AddData() | FindData() | ListData() | TagData() | DeleteData() | ListUses() | GetWork() | ListLog():
                return Refused(Refusal.invalid, "there is no store in memory: use a cluster, such as the fixture broker_jobs_cluster")
            case GetChanges() | GetOutput() | GetOutputs() | ReadOutput() | CancelTasks() | PauseTasks() | ResumeTasks() | ExplainTask():
                return self._about(self._jobs[question.job], question) if question.job in self._jobs else _missing(question.job)
            case _:
                assert_never(question)

    def _about(
        self, job: _Job, question: GetChanges | GetOutput | GetOutputs | ReadOutput | CancelTasks | PauseTasks | ResumeTasks | ExplainTask
    ) -> Answer:
        match question:
            case GetChanges(job=name, tasks=only, values=values):
                numbers = job.tasks if only is None else [number for number in only if number in job.tasks]
                return Changes(job.info(name), 1, tuple(job.task(number, values=values) for number in numbers))
            case GetOutput(task=number) | ReadOutput(task=number):
                return job.output(number)
            case ExplainTask(task=number):
                state = job.machine.tasks[number].state
                return Explanation(state, (f"it has ended: {state.value}",))
            case GetOutputs(tasks=wanted):
                return Outputs(tuple(job.output(number) for number in wanted if number in job.tasks), len(wanted))
            case CancelTasks(tasks=tasks):
                ended, unknown = _ended_of(job, tasks)
                return CancelResult(ended_already=ended, unknown=unknown)
            case PauseTasks(tasks=tasks):
                ended, unknown = _ended_of(job, tasks)
                return PauseResult(ended_already=ended, unknown=unknown)
            case ResumeTasks(tasks=tasks):
                ended, unknown = _ended_of(job, tasks)
                return ResumeResult(ended_already=ended, unknown=unknown)
            case _:
                assert_never(question)


def _ended_of(job: _Job, tasks: tuple[int, ...] | None) -> tuple[int, int]:
    """How many of these tasks have ended, as all have here, and how many there are not."""
    chosen = set(job.tasks if tasks is None else tasks)
    return len(chosen & job.tasks.keys()), len(chosen - job.tasks.keys())


def _missing(job: str) -> Refused:
    return Refused(Refusal.job_not_found, f"there is no job {job}")


def _fits(info: JobInfo, wanted: ListJobs) -> bool:
    return (
        (wanted.state is None or info.state is wanted.state)
        and (not wanted.states or info.state in wanted.states)
        and (wanted.ended_before_ms is None or (info.ended_ms or 0) < wanted.ended_before_ms)
        and set(wanted.tags) <= set(info.tags)
        and wanted.choice.takes(info.tags, info.submitted_ms)
        and (wanted.parent is None or info.parent == wanted.parent)
        and (wanted.name is None or fnmatch.fnmatchcase(info.name, wanted.name))
    )


def _input(job: _Job, values: Mapping[str, Value], key: str) -> Value:
    """A value of the job, or the result of another task."""
    if key in values:
        return values[key]
    outcome = job.outcomes[int(key)]
    if not isinstance(outcome, Succeeded) or outcome.value is None:
        raise LookupError(f"task {key} has no value")
    return outcome.value


def _execute(  # noqa: PLR0917 (each is another thing)
    job: str, task: Task, chunk: Chunk, attempt: int, inputs: dict[str, Value], process: _Process
) -> tuple[Outcome, tuple[bytes, bytes]]:
    """Run one attempt: its outcome and what it has printed."""
    variables = dict(task.work.env) if isinstance(task.work, Program) else {}
    options = _filled_in(chunk.options[task.options], of_attempt(job, task.number, attempt, variables))
    with _folder(options) as folder:
        match task.work:
            case Program() as program:
                return _program(program, _filled_in(options, {CWD: folder}), folder)
            case Call() | StepCall() as call:
                return _call(job, task, call, chunk, attempt, inputs, process, folder)
            case _:
                assert_never(task.work)


def _call(  # noqa: PLR0917 (each is another thing)
    job: str, task: Task, call: Call | StepCall, chunk: Chunk, attempt: int, inputs: dict[str, Value], process: _Process, folder: str
) -> tuple[Outcome, tuple[bytes, bytes]]:
    from broker_jobs_worker.runners.function import Functions, Interrupt, Means
    from broker_jobs_worker.runners.function import call as call_function
    from broker_jobs_worker.runners.inputs import Inputs
    from broker_jobs_worker.runners.preparation import Preparation
    from broker_jobs_worker.runners.protocol import Run
    from broker_jobs_worker.runners.step import Steps
    from broker_jobs_worker.runners.step import call as call_step

    execution, options = f"{job}.{task.number}.{attempt}", chunk.options[task.options]
    run = Run(
        execution,
        job,
        task.number,
        attempt,
        call,
        options,
        folder,
        name=task.name,
        values=inputs,
        version=platform.python_version(),
    )
    setup = call.setup if isinstance(call, Call) else None
    means = Means(Functions(), Inputs(), process.prepared.setdefault(setup or "", Preparation()), Interrupt())
    if isinstance(call, Call):
        run = replace(run, function=chunk.functions[call.function], setup=None if setup is None else chunk.functions[setup])
        means.functions.learn(run, call)
    else:
        run = replace(run, module=process.modules.get(call.step, ""))
    means.inputs.learn(run)
    stdout, stderr = io.StringIO(), io.StringIO()
    allotted = _allotted(options)
    current.enter(Surrounding(job, task.number, attempt, execution, task.name, allotted, lambda _fraction, _text: None))
    try:
        with (
            contextlib.chdir(folder),
            _environment({**allotted, **dict(options.env)}),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            if isinstance(call, Call):
                outcome = call_function(run, call, call.args, means)
            else:
                outcome = call_step(run, call, Steps(), means.inputs, means.interrupt)
    finally:
        current.enter(None)
    return outcome, (stdout.getvalue().encode(errors="surrogateescape"), stderr.getvalue().encode(errors="surrogateescape"))


def _allotted(options: TaskOptions) -> dict[str, str]:
    """What a task is told by a worker that has exactly what its first variant asks for."""
    from broker_jobs_worker.machine.allotment import allotment

    needs = options.resources.alternatives[0].needs
    total = Resources(tuple((need.name, need.amount or UNIT) for need in needs))
    allocation = Pool(total).try_allocate(Request.of([Variant(needs)])) if needs else None
    return {} if allocation is None else allotment(allocation, total, options.pin)


def _program(program: Program, options: TaskOptions, folder: str) -> tuple[Outcome, tuple[bytes, bytes]]:
    limit = None if options.time_limit is None else options.time_limit / 1000
    try:
        done = subprocess.run(
            program.argv,
            input=program.stdin or b"",
            capture_output=True,
            cwd=folder,
            env={**os.environ, **_allotted(options), **dict(options.env), **dict(program.env)},
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Failed(Cause.time_limit, f"it ran for more than {limit:g} s"), (b"", b"")
    except OSError as error:
        return Failed(Cause.error, f"{os.fsdecode(program.argv[0])} cannot be started: {error.strerror}"), (b"", b"")
    output = (
        _written(done.stdout, options.stdout, options.keep_stdout, folder, failed=done.returncode != 0),
        _written(done.stderr, options.stderr, options.keep_stderr, folder, failed=done.returncode != 0),
    )
    if done.returncode < 0:
        return Failed(Cause.signal, f"it was killed by signal {-done.returncode}", signal=-done.returncode), output
    if done.returncode:
        return Failed(Cause.exit_code, f"it ended with exit code {done.returncode}", exit_code=done.returncode), output
    return Succeeded(), output


def _filled_in(options: TaskOptions, values: Mapping[str, str]) -> TaskOptions:
    """The options with placeholders of paths put in."""
    cwd, stdout, stderr = (text and expand(text, values) for text in (options.cwd, options.stdout, options.stderr))
    return replace(options, cwd=cwd, stdout=stdout, stderr=stderr)


def _written(data: bytes, name: str | None, keep: Keep, folder: str, *, failed: bool) -> bytes:
    """What is left of a stream: written into its file, if it has one."""
    if keep is Keep.never or (keep is Keep.on_failure and not failed):
        return b""
    if name:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return data


@contextlib.contextmanager
def _folder(options: TaskOptions) -> Iterator[str]:
    """Where the task runs."""
    if options.cwd:
        Path(options.cwd).mkdir(parents=True, exist_ok=True)
        yield options.cwd
    elif options.home and Path(options.home).is_dir():
        yield options.home
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield folder


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """The variables of the task, as long as it runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


if find_spec("pytest"):
    import pytest

    @pytest.fixture
    def broker_jobs_client() -> Iterator[InMemoryClient]:
        """An `InMemoryClient`."""
        with InMemoryClient() as client:
            yield client

    @pytest.fixture(scope="session")
    def broker_jobs_cluster() -> Iterator[LocalCluster]:
        """A `LocalCluster` with one worker, for all tests of the session."""
        from broker_jobs.client.cluster import LocalCluster

        with LocalCluster() as cluster:
            yield cluster
