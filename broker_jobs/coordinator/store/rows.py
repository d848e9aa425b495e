"""The rows of the ledger as the coordinator sees them. Fields stand in the order of the columns.

`JobFacts` is the one that changes in place: it is the row of a live job, kept in memory and written when it changed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from broker_jobs.coordinator.store.parts import clean
from broker_jobs.core.states import JOB_ENDED, JobState, TaskState
from broker_jobs.wire.codec import encode_part

if TYPE_CHECKING:
    from broker_jobs.wire.messages import Origin


@dataclass(slots=True)
class JobFacts:
    """What is known of a job besides its tasks.

    Attributes:
        headed: its header has come
        heard_ms: when its last chunk came
        reserved: of a job that was opened: task numbers that were given out; None for every other
        released: number of the next ready chunk
        parent: the job inside a task of which it was submitted
    """

    key: int
    id: str
    origin: Origin
    submitter: str
    submitted_ms: int
    heard_ms: int
    name: str = ""
    user: str = ""
    tags: tuple[str, ...] = ()
    max_fails: int | None = None
    idempotency_key: str | None = None
    ephemeral: bool = False
    headed: bool = False
    store: str | None = None
    total: int | None = None
    chunks: int | None = None
    state: JobState = JobState.waiting
    version: int = 0
    counts: dict[TaskState, int] = field(default_factory=dict)
    cancel_reason: str | None = None
    void_reason: str | None = None
    pause_reason: str | None = None
    reserved: int | None = None
    released: int = 0
    started_ms: int | None = None
    ended_ms: int | None = None
    parent: str | None = None

    @property
    def open(self) -> bool:
        """Whether more tasks may be submitted to it."""
        return self.reserved is not None and self.total is None and self.state not in JOB_ENDED


ALL_TASKS: Final = -1
"""Stands for every task of a job."""


class JobRow(NamedTuple):
    """`JobFacts` as it is written."""

    key: int
    id: str
    name: str
    submitter: str
    user: str
    tags: str
    max_fails: int | None
    idempotency_key: str | None
    ephemeral: bool
    headed: bool
    origin: bytes
    store: str | None
    total: int | None
    chunks: int | None
    state: str
    version: int
    counts: str
    cancel_reason: str | None
    void_reason: str | None
    pause_reason: str | None
    reserved: int | None
    released: int
    submitted_ms: int
    heard_ms: int
    started_ms: int | None
    ended_ms: int | None
    parent: str | None


class TaskRow(NamedTuple):
    """What changes about a task, and at the end which task."""

    state: str
    attempt: int
    failures: int
    crashes: int
    isolated: bool
    execution: str
    reason: str
    chunk: str | None
    worker: str
    boot: str
    taken: bool
    due_ms: int | None
    started_ms: int | None
    ended_ms: int | None
    changed: int
    job: int
    number: int


class NewTaskRow(NamedTuple):
    """What never changes about a task."""

    name: str
    kind: str
    options: int
    deps: str
    after: str
    size: int


class TaskView(NamedTuple):
    """A task as queries show it."""

    number: int
    name: str
    kind: str
    options: int
    state: str
    attempt: int
    crashes: int
    execution: str
    reason: str
    worker: str
    started_ms: int | None
    ended_ms: int | None
    progress: float | None
    progress_text: str
    changed: int


class ProgressRow(NamedTuple):
    """What a task says of its progress."""

    progress: float | None
    progress_text: str
    job: int
    number: int


class OutcomeRow(NamedTuple):
    """How a task, or its last attempt, ended, and what it printed; three encoded parts."""

    job: int
    number: int
    outcome: bytes
    stdout: bytes
    stderr: bytes
    host: str


class OptionsRow(NamedTuple):
    """Options that tasks of a job share."""

    job: int
    number: int
    options: Any  # TaskOptions; bytes in the database
    resource_class: str
    origin: Any = None  # Origin; bytes in the database


class PackRow(NamedTuple):
    """Tasks of one chunk that have done nothing yet that they could not do together; see `packs`.

    Attributes:
        length: how many tasks it has
        chunk: in which they came into a class queue; empty where they came to wait in the ledger
        names: a JSON list; empty where no task has a name
        changed: the job's version that the first task made; those of the others follow
        size: bytes of the spec of each, on average
        needs: encoded `Needs`; empty where they wait for nothing
        specs: msgpack list of encoded blocks of tasks
    """

    job: int
    first: int
    length: int
    chunk: str
    options: int
    kind: str
    names: str
    changed: int
    size: int
    needs: bytes
    specs: bytes


class MoveRow(NamedTuple):
    """Tasks in packs that have come into a state together.

    Attributes:
        changed: the job's version that the first one made; those of the others follow, by number
        length: how many there are
        low: the lowest number of a task
        high: the highest
        numbers: msgpack list of all, in order; empty where these are all from the lowest to the highest
    """

    job: int
    changed: int
    length: int
    low: int
    high: int
    state: str
    attempt: int
    chunk: str | None
    reason: str
    ended_ms: int | None
    numbers: bytes


class SuccessesRow(NamedTuple):
    """Successes of tasks in packs.

    Attributes:
        changed: the job's version that the first one made; those of the others follow
        length: how many there are
        low: the lowest number of a task
        high: the highest
        reply: an encoded message
    """

    job: int
    changed: int
    length: int
    low: int
    high: int
    host: str
    reply: bytes


class ReservationRow(NamedTuple):
    """Numbers that one submission to an open job got."""

    job: int
    key: str
    first: int
    tasks: int


class LinkRow(NamedTuple):
    """A task that waits for one of another job."""

    job: int
    number: int
    other: str
    other_number: int
    after: bool
    value: bool

    @property
    def need(self) -> str:
        """What the job machine knows it by."""
        return f"{self.other}:{self.other_number}{':after' if self.after else ''}"


class EarlyRow(NamedTuple):
    """A reply about one task that came before its task; the reply is an encoded message."""

    id: int
    job_id: str
    task: int
    reply: bytes
    heard_ms: int


class OutboxRow(NamedTuple):
    """A message that must be published, until the broker has confirmed it."""

    id: int
    exchange: str
    key: str
    body: bytes
    mandatory: bool


class WorkerRow(NamedTuple):
    """A worker, as it was last seen."""

    name: str
    boot: str
    state: str
    host: str
    pid: int
    version: str
    resources: Any  # Resources; bytes in the database, `free` too
    free: Any
    seen_ms: int
    asked: Any  # DrainAsked, or None; bytes in the database
    reason: str


class RevocationRow(NamedTuple):
    """What must not start although a message of it may stand in a class queue; `ALL_TASKS` and None are every task and attempt."""

    job_id: str
    task: int
    queue: str
    attempt: int | None
    reason: str
    unstarted_only: bool


class SweepRow(NamedTuple):
    """Tasks of a job that move together: every one in a state that `after` is reached from.

    Attributes:
        version: the job's, before; each task gets one of its own, by its number
    """

    after: str
    reason: str
    ms: int
    version: int
    job: int


class ClassRow(NamedTuple):
    """A resource class that has queues."""

    name: str
    needs: Any  # Request; bytes in the database
    used_ms: int


class StepRow(NamedTuple):
    """A step that workers have announced, and when first in this form."""

    name: str
    version: str
    spec: Any  # StepSpec; bytes in the database
    since_ms: int


class DataRow(NamedTuple):
    """Data, and where it comes from."""

    id: str
    ref: Any  # DataRef; bytes in the database
    name: str
    tags: str
    user: str
    created_ms: int
    job: str | None
    task: int
    slot: str
    step: str


class UseRow(NamedTuple):
    """A task that takes data."""

    job: int
    number: int
    place: int
    slot: str
    data: str
    job_id: str


class LogRow(NamedTuple):
    """Something that has happened."""

    at_ms: int
    kind: str
    subject: str
    name: str
    text: str
    job: str | None = None


def job_row(job: JobFacts) -> JobRow:
    """The row of a job as it is written."""
    return JobRow(
        job.key,
        job.id,
        clean(job.name),
        job.submitter,
        clean(job.user),
        json.dumps(job.tags),
        job.max_fails,
        None if job.idempotency_key is None else clean(job.idempotency_key),
        job.ephemeral,
        job.headed,
        _origin(job.origin),
        None if job.store is None else clean(job.store),
        job.total,
        job.chunks,
        job.state.value,
        job.version,
        json.dumps({state.value: count for state, count in job.counts.items() if count}),
        None if job.cancel_reason is None else clean(job.cancel_reason),
        None if job.void_reason is None else clean(job.void_reason),
        None if job.pause_reason is None else clean(job.pause_reason),
        job.reserved,
        job.released,
        job.submitted_ms,
        job.heard_ms,
        job.started_ms,
        job.ended_ms,
        job.parent,
    )


@lru_cache(maxsize=64)
def _origin(origin: Origin) -> bytes:
    """Written with each change of a job, and the same for most."""
    return encode_part(origin)
