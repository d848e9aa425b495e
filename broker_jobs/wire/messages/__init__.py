"""The messages that travel, one frozen class each; what writes and reads them is `codec`.

Each class has a `tag`, its name on the wire. Field names are part of the wire too. A field with a default may be missing,
and one that is not known is ignored: so fields can be added, and only added. `Message` is what may stand alone in a
message; every other class is a part of one.

Who sends what: submitters send `Chunk` and `Request`; workers send `Hello`, `Heartbeat`, `Reply` and, through their lease
queue, `Token`; coordinators send `Chunk` (ready ones), `Response`, `Welcome`, `ClassOpened`, `Revoked`, `TeamAsked`, `DrainAsked`,
`OutputAsked`, `JobsForgotten` and `JobNews`. To an `OutputAsked` the worker gives the `Response` itself.
Times are milliseconds since 1970 (``*_ms``).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from broker_jobs.wire.messages.answers import (
    Answer,
    CancelResult,
    Changes,
    Cluster,
    EndingWorkers,
    Explanation,
    Forgotten,
    JobInfo,
    JobList,
    JobNews,
    KnownStep,
    Outputs,
    PauseResult,
    Piece,
    Refusal,
    Refused,
    Reserved,
    Response,
    ResumeResult,
    Shortage,
    StepList,
    TaskInfo,
    TaskOutput,
    VariantFit,
    WorkerFit,
    WorkerInfo,
)
from broker_jobs.wire.messages.data import (
    AddData,
    DataDeleted,
    DataInfo,
    DataList,
    DeleteData,
    FindData,
    GetWork,
    ListData,
    ListLog,
    ListUses,
    Log,
    LogEntry,
    LogKind,
    TagData,
    Use,
    UseList,
    WorkInfo,
)
from broker_jobs.wire.messages.questions import (
    CancelTasks,
    CloseJob,
    EndWorkers,
    ExplainTask,
    FindJob,
    ForgetJobs,
    GetChanges,
    GetOutput,
    GetOutputs,
    GetWorkers,
    ListJobs,
    ListSteps,
    OpenJob,
    PauseTasks,
    Question,
    ReadOutput,
    Request,
    ReserveTasks,
    ResubmitJob,
    ResumeTasks,
)
from broker_jobs.wire.messages.replies import Ended, Output, Progress, Reply, ReplyItem, Returned, Started, Taken
from broker_jobs.wire.messages.tasks import (
    Call,
    Chunk,
    Fill,
    Function,
    JobHeader,
    Origin,
    Outside,
    Program,
    Seal,
    StepCall,
    Task,
    Work,
)
from broker_jobs.wire.messages.teams import Member, Seat, SeatState, Team, TeamAsked
from broker_jobs.wire.messages.workers import (
    DEFAULT_GROUP,
    ClassOpened,
    DrainAsked,
    Goodbye,
    Heartbeat,
    Held,
    Hello,
    HelloAsked,
    JobsForgotten,
    OutputAsked,
    ResourceClass,
    Revocation,
    Revoked,
    Token,
    Welcome,
)

VERSION: Final = 1
"""Major version of the wire; a process understands its own and the one before."""


class Role(StrEnum):
    """What a sender is, signed with the message."""

    submitter = "submitter"
    coordinator = "coordinator"
    worker = "worker"


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
    | TeamAsked
    | DrainAsked
    | HelloAsked
    | JobsForgotten
    | OutputAsked
    | Request
    | Response
    | JobNews
)

__all__ = [
    "DEFAULT_GROUP",
    "VERSION",
    "AddData",
    "Answer",
    "Call",
    "CancelResult",
    "CancelTasks",
    "Changes",
    "Chunk",
    "ClassOpened",
    "CloseJob",
    "Cluster",
    "DataDeleted",
    "DataInfo",
    "DataList",
    "DeleteData",
    "DrainAsked",
    "EndWorkers",
    "Ended",
    "EndingWorkers",
    "ExplainTask",
    "Explanation",
    "Fill",
    "FindData",
    "FindJob",
    "ForgetJobs",
    "Forgotten",
    "Function",
    "GetChanges",
    "GetOutput",
    "GetOutputs",
    "GetWork",
    "GetWorkers",
    "Goodbye",
    "Heartbeat",
    "Held",
    "Hello",
    "HelloAsked",
    "JobHeader",
    "JobInfo",
    "JobList",
    "JobNews",
    "JobsForgotten",
    "KnownStep",
    "ListData",
    "ListJobs",
    "ListLog",
    "ListSteps",
    "ListUses",
    "Log",
    "LogEntry",
    "LogKind",
    "Member",
    "Message",
    "OpenJob",
    "Origin",
    "Output",
    "OutputAsked",
    "Outputs",
    "Outside",
    "PauseResult",
    "PauseTasks",
    "Piece",
    "Program",
    "Progress",
    "Question",
    "ReadOutput",
    "Refusal",
    "Refused",
    "Reply",
    "ReplyItem",
    "Request",
    "ReserveTasks",
    "Reserved",
    "ResourceClass",
    "Response",
    "ResubmitJob",
    "ResumeResult",
    "ResumeTasks",
    "Returned",
    "Revocation",
    "Revoked",
    "Role",
    "Seal",
    "Seat",
    "SeatState",
    "Shortage",
    "Started",
    "StepCall",
    "StepList",
    "TagData",
    "Taken",
    "Task",
    "TaskInfo",
    "TaskOutput",
    "Team",
    "TeamAsked",
    "Token",
    "Use",
    "UseList",
    "VariantFit",
    "Welcome",
    "Work",
    "WorkInfo",
    "WorkerFit",
    "WorkerInfo",
]
