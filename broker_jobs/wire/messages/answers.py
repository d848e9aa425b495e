"""What the ledger answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from broker_jobs.core.outcome import Outcome
from broker_jobs.core.request import Request as ResourceNeed
from broker_jobs.core.resources import Resources
from broker_jobs.core.spec import TaskOptions
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.core.step import StepSpec
from broker_jobs.wire.messages.data import DataDeleted, DataInfo, DataList, Log, UseList, WorkInfo
from broker_jobs.wire.messages.replies import Output
from broker_jobs.wire.messages.workers import DEFAULT_GROUP, Held, ResourceClass

if TYPE_CHECKING:
    from collections.abc import Mapping


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
        parent: the job inside a task of which it was submitted
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
    parent: str | None = None


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
        team: workers with which it runs a task of several nodes, or is about to; the task runs on the first
        steps: what it serves, such as ``simulate 1.2.0``
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
    team: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownStep:
    """A step of which the ledger knows.

    Attributes:
        workers: names of those that are there and serve it
        announced_ms: when it was announced first, in just this form
    """

    tag: ClassVar[str] = "known step"
    spec: StepSpec
    workers: tuple[str, ...] = ()
    announced_ms: int = 0


@dataclass(frozen=True, slots=True)
class StepList:
    """Steps that fit, by name, the latest version of each first.

    Attributes:
        more: there are further ones, and the answer would have been too long
    """

    tag: ClassVar[str] = "step list"
    steps: tuple[KnownStep, ...] = ()
    more: bool = False


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
    data_not_found = "data not found"
    in_use = "in use"
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
    | StepList
    | Explanation
    | EndingWorkers
    | DataInfo
    | DataList
    | DataDeleted
    | UseList
    | WorkInfo
    | Log
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
