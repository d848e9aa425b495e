"""What is asked of the ledger, mostly by clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from broker_jobs.core.choice import Choice
from broker_jobs.core.states import JobState
from broker_jobs.wire.messages.data import AddData, DeleteData, FindData, GetWork, ListData, ListLog, ListUses, TagData
from broker_jobs.wire.messages.tasks import JobHeader


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
        parent: only those that were submitted inside a task of this job
        choice: more about tags, and when they were submitted
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
    parent: str | None = None
    choice: Choice = Choice()


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
class ListSteps:
    """The steps that workers have announced, by name and version. Answer: `StepList`.

    Attributes:
        name: a shell pattern
        tags: all of these must be there
        schemas: with descriptions and schemas, which are left empty otherwise
        skip: so many of them are left out, for the next part of a long list
    """

    tag: ClassVar[str] = "list steps"
    name: str = "*"
    tags: tuple[str, ...] = ()
    schemas: bool = False
    skip: int = 0


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
    | ListSteps
    | ExplainTask
    | EndWorkers
    | AddData
    | FindData
    | ListData
    | TagData
    | DeleteData
    | ListUses
    | GetWork
    | ListLog
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
