"""The messages that travel, one frozen class each; what writes and reads them is `codec`.

Each class has a `tag`, its name on the wire. Field names are part of the wire too. A field with a default may be missing,
and one that is not known is ignored: so fields can be added, and only added. `TOP_LEVEL` is what may stand alone in a
message; every other class is a part of one.

Who sends what: submitters send `Chunk` and `Request`; workers send `Hello`, `Heartbeat`, `Reply` and, through their lease
queue, `Token`; coordinators send `Chunk` (ready ones), `Response`, `Welcome`, `ClassOpened`, `Revoked`, `DrainAsked`,
`OutputAsked`, `JobsForgotten` and `JobNews`. To an `OutputAsked` the worker gives the `Response` itself.
Times are milliseconds since 1970 (``*_ms``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final

from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Outcome
from broker_jobs.core.request import Request as ResourceNeed
from broker_jobs.core.resources import Resources
from broker_jobs.core.spec import Lane, TaskOptions
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.core.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = 1
"""Major version of the wire; a process understands its own and the one before."""

DEFAULT_GROUP: Final = "default"
"""Workers that were not told where they belong."""


class Role(StrEnum):
    """What a sender is, signed with the message."""

    submitter = "submitter"
    coordinator = "coordinator"
    worker = "worker"


# --- tasks ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Program:
    """An external program: its arguments exactly as execve takes them, no shell.

    Attributes:
        task_dir: make a fresh folder for it, removed at its end, and run there unless a folder is given
        env: variables of this task alone; those that tasks share are options
    """

    tag: ClassVar[str] = "program"
    argv: tuple[bytes, ...]
    stdin: bytes | None = None
    task_dir: bool = False
    env: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A Python function with its arguments.

    Attributes:
        function: hash of the function, a key of `Chunk.functions`
        args: the pair (positional, keyword) arguments; holds places for `inputs`
        inputs: keys of values that belong into the places, by position: the number of a task in decimal for its result,
            else 64 hexadecimal digits: the sha256 of a value that came with the job, or the name of the result of another job's task
        setup: hash of the function that runs once in each process before it, a key of `Chunk.functions` too
    """

    tag: ClassVar[str] = "call"
    function: str
    args: Value
    inputs: tuple[str, ...] = ()
    setup: str | None = None

    @property
    def functions(self) -> tuple[str, ...]:
        """All hashes that it needs."""
        return (self.function,) if self.setup is None else (self.function, self.setup)


Work = Program | Call


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
        ephemeral: it belongs to its client and is dropped once delivered (``call``, ``map``, ``executor``)
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
        values: results of other tasks (key: number in decimal) and values of the job (key: sha256 in hex)
        direct: it goes to the class queue and to the ledger with one publish
        isolated: a chunk of one, whose start must be confirmed before it starts
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
    header: JobHeader | None = None
    seal: Seal | None = None


# --- replies of workers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """An execution has begun."""

    tag: ClassVar[str] = "started"
    task: int
    attempt: int
    execution: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What the task says of its progress.

    Attributes:
        fraction: 0 to 1
    """

    tag: ClassVar[str] = "progress"
    task: int
    attempt: int
    fraction: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """One standard stream of an execution.

    Attributes:
        tail: its last bytes, 64 KiB at most
        size: bytes in all
        path: file with the whole on the worker's host, where it is longer than the tail or was asked for
    """

    tag: ClassVar[str] = "output"
    tail: bytes = b""
    size: int = 0
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """An execution has ended."""

    tag: ClassVar[str] = "ended"
    task: int
    attempt: int
    execution: str
    outcome: Outcome
    started_ms: int
    ended_ms: int
    stdout: Output = Output()
    stderr: Output = Output()


@dataclass(frozen=True, slots=True)
class Returned:
    """An attempt goes back without an outcome.

    Attributes:
        reason: for people, where `why` alone does not say it
    """

    tag: ClassVar[str] = "returned"
    task: int
    attempt: int
    why: Return
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """The worker keeps this attempt although its message will be acknowledged now."""

    tag: ClassVar[str] = "taken"
    task: int
    attempt: int
    execution: str


ReplyItem = Started | Progress | Ended | Returned | Taken


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker says of attempts of one job, in the order in which it happened."""

    tag: ClassVar[str] = "reply"
    job: str
    worker: str
    boot: str
    items: tuple[ReplyItem, ...]
    resource_class: str = ""


# --- workers and coordinators ----------------------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker has and does, every few seconds; feeds the reconciler and ``worker list``."""

    tag: ClassVar[str] = "heartbeat"
    worker: str
    boot: str
    free: Resources
    held: tuple[Held, ...] = ()
    draining: bool = False


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
        attempt: and those before it; None means every attempt
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
    """

    tag: ClassVar[str] = "welcome"
    worker: str
    boot: str
    classes: tuple[ResourceClass, ...] = ()
    revoked: tuple[Revocation, ...] = ()
    forgotten: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClassOpened:
    """To all workers: there are queues for this class now."""

    tag: ClassVar[str] = "class opened"
    resource_class: ResourceClass


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


# --- questions to the ledger ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FindJob:
    """Which job is meant by ``last``, a whole id, or the unique ending of one. Answer: `JobInfo`."""

    tag: ClassVar[str] = "find job"
    text: str


@dataclass(frozen=True, slots=True)
class ListJobs:
    """Jobs, the newest first. `name` is a shell pattern; all of `tags` must be there. Answer: `JobList`.

    Attributes:
        states: any of these
        ended_before_ms: only those that had ended then
        skip: so many of them are left out, for the next part of a long list
    """

    tag: ClassVar[str] = "list jobs"
    state: JobState | None = None
    tags: tuple[str, ...] = ()
    name: str | None = None
    limit: int = 20
    ephemeral: bool = False
    states: tuple[JobState, ...] = ()
    ended_before_ms: int | None = None
    skip: int = 0


@dataclass(frozen=True, slots=True)
class GetChanges:
    """Tasks that changed after version `since` of the job; waits up to `wait_ms` until there is one. Answer: `Changes`.

    Attributes:
        values: send outcomes with values too
        tasks: only these
        options: send what was asked for of each task too
    """

    tag: ClassVar[str] = "get changes"
    job: str
    since: int = 0
    wait_ms: int = 0
    limit: int = 1000
    values: bool = False
    tasks: tuple[int, ...] | None = None
    options: bool = False


@dataclass(frozen=True, slots=True)
class GetOutput:
    """What a task printed. Answer: `TaskOutput`."""

    tag: ClassVar[str] = "get output"
    job: str
    task: int


@dataclass(frozen=True, slots=True)
class GetOutputs:
    """What several tasks printed. Answer: `Outputs`, of the first of them at least; tasks that the job does not have are left out."""

    tag: ClassVar[str] = "get outputs"
    job: str
    tasks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReadOutput:
    """A part of what a task prints, while it runs or later. Answer: a `Piece` of its worker; where no worker has more, a `TaskOutput`.

    Attributes:
        execution: to which `start` belongs; of any other one, reading begins at its first byte
        start: first byte that is wanted
        most: bytes at most
        wait_ms: where there is nothing new yet, wait so long for it
    """

    tag: ClassVar[str] = "read output"
    job: str
    task: int
    stderr: bool = False
    execution: str = ""
    start: int = 0
    most: int = 0
    wait_ms: int = 0


@dataclass(frozen=True, slots=True)
class CancelTasks:
    """End a job, or some of its tasks. Answer: `CancelResult`."""

    tag: ClassVar[str] = "cancel"
    job: str
    tasks: tuple[int, ...] | None = None
    reason: str = ""
    unstarted_only: bool = False


@dataclass(frozen=True, slots=True)
class PauseTasks:
    """Hold a job, or some of its tasks, back; what runs goes on. Answer: `PauseResult`."""

    tag: ClassVar[str] = "pause"
    job: str
    tasks: tuple[int, ...] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ResumeTasks:
    """Let go on what is paused of a job. Answer: `ResumeResult`."""

    tag: ClassVar[str] = "resume"
    job: str
    tasks: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class ResubmitJob:
    """Run again what did not succeed of a job that has ended: a new job, with the other tasks as they ended. Answer: `JobInfo` of that.

    Attributes:
        new: the id that the new job gets; asked twice, there is one
        tasks: only these
        everything: what succeeded, too
    """

    tag: ClassVar[str] = "resubmit"
    job: str
    new: str
    tasks: tuple[int, ...] | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True)
class ForgetJobs:
    """Drop jobs that have ended; refused where one still runs, unless it is ephemeral. Answer: `Forgotten`."""

    tag: ClassVar[str] = "forget"
    jobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenJob:
    """Make a job without tasks, to which tasks may be submitted until it is closed. Answer: `JobInfo`.

    Attributes:
        job: its id, chosen by the client: twice is once
        store: folder of the value store
    """

    tag: ClassVar[str] = "open job"
    job: str
    header: JobHeader
    store: str | None = None


@dataclass(frozen=True, slots=True)
class ReserveTasks:
    """Numbers for the tasks of a submission to an open job; the same key gets the same ones. Answer: `Reserved`."""

    tag: ClassVar[str] = "reserve"
    job: str
    key: str
    tasks: int


@dataclass(frozen=True, slots=True)
class CloseJob:
    """No more tasks will be submitted to an open job. Answer: `JobInfo`."""

    tag: ClassVar[str] = "close job"
    job: str


@dataclass(frozen=True, slots=True)
class GetWorkers:
    """The workers, classes and coordinators that are known. Answer: `Cluster`.

    Attributes:
        workers: only these: names, unique beginnings or ends of names, or ``last``; empty means all
        group: only those of this group
        held: with the attempts that they have
    """

    tag: ClassVar[str] = "get workers"
    workers: tuple[str, ...] = ()
    group: str | None = None
    held: bool = False


@dataclass(frozen=True, slots=True)
class ExplainTask:
    """Why a task has not started. Answer: `Explanation`."""

    tag: ClassVar[str] = "explain"
    job: str
    task: int


@dataclass(frozen=True, slots=True)
class EndWorkers:
    """Let workers end. Answer: `EndingWorkers`.

    Attributes:
        workers: as for `GetWorkers`; empty means all
        group: only those of this group
        stop: at once, giving back what runs; else they finish it
        reason: for people
    """

    tag: ClassVar[str] = "end workers"
    workers: tuple[str, ...] = ()
    group: str | None = None
    stop: bool = False
    reason: str = ""


Question = (
    OpenJob
    | ReserveTasks
    | CloseJob
    | FindJob
    | ListJobs
    | GetChanges
    | GetOutput
    | GetOutputs
    | ReadOutput
    | CancelTasks
    | PauseTasks
    | ResumeTasks
    | ResubmitJob
    | ForgetJobs
    | GetWorkers
    | ExplainTask
    | EndWorkers
)


@dataclass(frozen=True, slots=True)
class Request:
    """A question to the ledger.

    Attributes:
        reply_to: the client that asks
        deadline_ms: later than this nobody waits for the answer
    """

    tag: ClassVar[str] = "request"
    request: str
    reply_to: str
    question: Question
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A job at a glance.

    Attributes:
        counts: tasks by state; those of sealed jobs that are still on their way are not among them
        version: grows with every change
        total: tasks in all; of an open job, those that were submitted so far
        requests: the different resource requests of its tasks, the first ones; where a single job was asked for
        notes: what a person should know, such as why it waits
        open: more tasks may be submitted to it
    """

    tag: ClassVar[str] = "job info"
    job: str
    name: str
    state: JobState
    version: int
    submitted_ms: int
    counts: Mapping[str, int] = field(default_factory=dict)
    total: int | None = None
    tags: tuple[str, ...] = ()
    user: str = ""
    ended_ms: int | None = None
    started_ms: int | None = None
    reason: str = ""
    incomplete: bool = False
    ephemeral: bool = False
    notes: tuple[str, ...] = ()
    open: bool = False
    requests: tuple[ResourceNeed, ...] = ()


@dataclass(frozen=True, slots=True)
class Reserved:
    """Task numbers from `first` on belong to a submission; so do the names of chunks from that number on."""

    tag: ClassVar[str] = "reserved"
    job: str
    first: int


@dataclass(frozen=True, slots=True)
class JobList:
    """Jobs at a glance."""

    tag: ClassVar[str] = "job list"
    jobs: tuple[JobInfo, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task at a glance, with its outcome once it has one.

    Attributes:
        options: what was asked for, where the question wants it
    """

    tag: ClassVar[str] = "task info"
    number: int
    state: TaskState
    name: str = ""
    attempt: int = 0
    crashes: int = 0
    reason: str = ""
    worker: str = ""
    resource_class: str = ""
    kind: str = ""
    outcome: Outcome | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    progress: float | None = None
    progress_text: str = ""
    options: TaskOptions | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """Tasks that changed, oldest change first.

    Attributes:
        info: the job as it is now
        upto: ask with ``since=upto`` for what comes next
    """

    tag: ClassVar[str] = "changes"
    info: JobInfo
    upto: int
    tasks: tuple[TaskInfo, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class TaskOutput:
    """What a task printed, as far as the ledger has it: nothing before its end.

    Attributes:
        execution: the one that runs, or whose outcome counts
    """

    tag: ClassVar[str] = "task output"
    state: TaskState
    stdout: Output = Output()
    stderr: Output = Output()
    host: str = ""
    task: int = 0
    attempt: int = 0
    execution: str = ""
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What tasks printed: of the tasks that were asked for the first `answered` ones."""

    tag: ClassVar[str] = "outputs"
    outputs: tuple[TaskOutput, ...] = ()
    answered: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a standard stream, from the worker.

    Attributes:
        start: offset of `data`; later than was asked for where what lay before is dropped
        size: bytes that the stream has by now
        ended: it will not have more
        missing: the worker has nothing of this execution
    """

    tag: ClassVar[str] = "piece"
    execution: str
    start: int = 0
    data: bytes = b""
    size: int = 0
    ended: bool = False
    missing: bool = False


@dataclass(frozen=True, slots=True)
class CancelResult:
    """What a cancel did: numbers of tasks."""

    tag: ClassVar[str] = "cancel result"
    before_start: int = 0
    while_running: int = 0
    ended_already: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class PauseResult:
    """What a pause did: numbers of tasks.

    Attributes:
        paused: held back now, or before
        running: started already; they go on
        waiting: wait for other tasks, and are held back when those are done
    """

    tag: ClassVar[str] = "pause result"
    paused: int = 0
    running: int = 0
    waiting: int = 0
    ended_already: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class ResumeResult:
    """What a resume did: numbers of tasks.

    Attributes:
        resumed: were paused
        not_paused: went on all the time
    """

    tag: ClassVar[str] = "resume result"
    resumed: int = 0
    not_paused: int = 0
    ended_already: int = 0
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many jobs were dropped."""

    tag: ClassVar[str] = "forgotten"
    jobs: int = 0


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker at a glance; `lost` ones are kept for a day.

    Attributes:
        held: how many attempts it has
        ends_ms: when its time is over
        reason: why it is gone
        attempts: what it has, where that was asked for
    """

    tag: ClassVar[str] = "worker info"
    worker: str
    host: str
    pid: int
    state: str
    resources: Resources
    free: Resources
    seen_ms: int
    version: str = ""
    held: int = 0
    group: str = DEFAULT_GROUP
    started_ms: int = 0
    ends_ms: int | None = None
    attempts: tuple[Held, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EndingWorkers:
    """Names of the workers that end, and how many attempts they had when they were heard last."""

    tag: ClassVar[str] = "ending workers"
    workers: tuple[str, ...] = ()
    held: int = 0


@dataclass(frozen=True, slots=True)
class Cluster:
    """Workers and classes that are known.

    Attributes:
        now_ms: the coordinator's clock
        active_jobs: jobs that have not ended
    """

    tag: ClassVar[str] = "cluster"
    coordinator: str = ""
    version: str = ""
    now_ms: int = 0
    workers: tuple[WorkerInfo, ...] = ()
    classes: tuple[ResourceClass, ...] = ()
    active_jobs: int = 0


@dataclass(frozen=True, slots=True)
class Shortage:
    """A resource of which a worker has too little for a task, now or for ever.

    Attributes:
        wanted: 0 for all that the worker has; ``memory`` in bytes, ``lifetime`` in milliseconds, everything else in 1/10,000
        has: at most, of one kind
        free: when it was last heard
    """

    tag: ClassVar[str] = "shortage"
    resource: str
    wanted: int
    has: int
    free: int


@dataclass(frozen=True, slots=True)
class VariantFit:
    """Whether a worker could run a variant of a task: `ever`, if it had nothing else, and `now`."""

    tag: ClassVar[str] = "variant fit"
    ever: bool
    now: bool
    short: tuple[Shortage, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerFit:
    """What a worker has for a task.

    Attributes:
        variants: in the order of the request
        holds: the task is there
    """

    tag: ClassVar[str] = "worker fit"
    worker: str
    state: str
    variants: tuple[VariantFit, ...] = ()
    group: str = DEFAULT_GROUP
    holds: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task has not started, or where it is.

    Attributes:
        reasons: for people
        waits_for: tasks of its job that must end first
        due_ms: when its next attempt is due
        asks: its resource request, for people
        workers: those that are there
    """

    tag: ClassVar[str] = "explanation"
    state: TaskState
    reasons: tuple[str, ...] = ()
    waits_for: tuple[int, ...] = ()
    due_ms: int | None = None
    asks: str = ""
    workers: tuple[WorkerFit, ...] = ()


class Refusal(StrEnum):
    """Kinds of answers that are none."""

    job_not_found = "job not found"
    task_not_found = "task not found"
    ambiguous = "ambiguous"
    job_active = "job active"
    worker_not_found = "worker not found"
    invalid = "invalid"


@dataclass(frozen=True, slots=True)
class Refused:
    """The question has no answer."""

    tag: ClassVar[str] = "refused"
    kind: Refusal
    message: str
    candidates: tuple[str, ...] = ()


Answer = (
    JobInfo
    | Reserved
    | JobList
    | Changes
    | TaskOutput
    | Outputs
    | Piece
    | CancelResult
    | PauseResult
    | ResumeResult
    | Forgotten
    | Cluster
    | Explanation
    | EndingWorkers
    | Refused
)


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a `Request`."""

    tag: ClassVar[str] = "response"
    request: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class JobNews:
    """On the exchange `events`, and to the submitter: a job has changed its state."""

    tag: ClassVar[str] = "job news"
    info: JobInfo


Message = (
    Chunk
    | Reply
    | Hello
    | Heartbeat
    | Goodbye
    | Token
    | Welcome
    | ClassOpened
    | Revoked
    | DrainAsked
    | HelloAsked
    | JobsForgotten
    | OutputAsked
    | Request
    | Response
    | JobNews
)
