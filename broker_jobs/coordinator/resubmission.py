"""Running a job again that has ended: a new job, a copy of the old one in which some tasks have not started yet.

The others stand in it as they ended, with their results, so that what runs again finds those of its predecessors. The old job stays
as it is, and may be forgotten: the new one needs nothing of it. docs/decisions/0016 says why it is a new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker_jobs.coordinator.datasets import job_log
from broker_jobs.coordinator.kept import TaskFacts
from broker_jobs.coordinator.live import LiveJob, Shared
from broker_jobs.coordinator.release import VALUE
from broker_jobs.coordinator.store import JobFacts, LinkRow
from broker_jobs.coordinator.store.parts import dump_outcome, dump_value, load_outcome, load_value
from broker_jobs.core.job import JobMachine, JobSealed, NewTask, TasksAdded
from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.states import TaskState
from broker_jobs.core.value import Stored
from broker_jobs.data.store import ValueStore
from broker_jobs.ids import short
from broker_jobs.wire.codec import decode_part
from broker_jobs.wire.messages import LogKind, Refusal, Refused, Task

if TYPE_CHECKING:
    from broker_jobs.coordinator.effects import Batch
    from broker_jobs.coordinator.jobs import Jobs
    from broker_jobs.coordinator.store import LedgerStore, NewTaskRow, OutcomeRow, TaskRow
    from broker_jobs.core.job import TaskRecord
    from broker_jobs.core.value import Value
    from broker_jobs.wire.messages import ResubmitJob
    from broker_jobs.wire.topology import Topology

TAG: Final = "resubmit="
"""What the tag of a resubmitted job begins with; the short id of the old one follows."""

_Row = tuple["TaskRecord", "NewTaskRow", "TaskRow"]


class Resubmission:
    """One job that is to run again.

    Args:
        old: it has ended
        submitter: who hears of the new one
    """

    def __init__(self, jobs: Jobs, store: LedgerStore, topology: Topology, old: JobFacts, wish: ResubmitJob) -> None:
        self._jobs = jobs
        self._look = store.look
        self._topology = topology
        self._old = old
        self._wish = wish
        self._options = store.look.options(old.key)
        self._rows: dict[int, _Row] = {row[0].number: row for row in store.look.tasks(old.key, self._options)}

    def refused(self) -> Refused | None:
        """Why it cannot be."""
        name = short(self._old.id)
        unknown = set(self._wish.tasks or ()) - self._rows.keys()
        if self._old.ephemeral or self._old.total is None or len(self._rows) < self._old.total:
            return Refused(Refusal.invalid, f"job {name} did not come whole, or belongs to a client's calls: submit it again")
        if unknown:
            return Refused(Refusal.task_not_found, f"job {name} has no task {min(unknown)}")
        if not self._again():
            return Refused(Refusal.invalid, f"what was chosen of job {name} has succeeded; to run that again too: --all (everything=True)")
        return None

    def perform(self, batch: Batch, key: int, submitter: str) -> LiveJob:
        """Make the new job."""
        old, again = self._old, self._again()
        tags = (*(tag for tag in old.tags if not tag.startswith(TAG)), TAG + short(old.id))
        facts = JobFacts(key, self._wish.new, old.origin, submitter, batch.now_ms, batch.now_ms, old.name, old.user, tags, old.max_fails)
        facts.store, facts.headed, facts.chunks, facts.parent = old.store, True, 0, old.parent
        kept = [record for record, _, _ in self._rows.values() if record.number not in again]
        job = LiveJob(facts, JobMachine.restore(kept, max_fails=old.max_fails), fresh=True)
        for shared in self._options:
            queue = self._topology.class_name(shared.resource_class, shared.options.lane)
            job.share(Shared(shared.options, shared.resource_class, queue, shared.origin))
            batch.writes.options.append(shared._replace(job=key))
        batch.writes.uses.extend(use._replace(job=key, job_id=facts.id) for use in self._look.data.taken_by(old.key))
        batch.writes.log.append(job_log(facts, batch.now_ms, LogKind.job_submitted))
        for name, data in self._look.all_blobs(old.key):
            batch.writes.blobs.append((key, name, self._value_row(job, data) if name.startswith(VALUE) else data))
        specs = self._look.specs(old.key, self._rows)
        new = [self._again_row(job, batch, row[0], row[1].options, specs[number]) for number, row in self._rows.items() if number in again]
        found = self._look.outputs(old.key, self._rows.keys() - again)
        for number, (_, static, row) in self._rows.items():
            batch.writes.specs.append((key, number, specs[number]))
            job.new[number] = static._replace(size=len(specs[number]))
            if number not in again:
                self._keep(job, batch, job.new[number], row, found.get(number))
        self._jobs.add(job)
        self._jobs.apply(batch, job, TasksAdded(tuple(new)))
        self._jobs.apply(batch, job, JobSealed(len(self._rows)))
        return job

    def _again(self) -> set[int]:
        chosen = self._rows.keys() if self._wish.tasks is None else set(self._wish.tasks)
        return {number for number in chosen if self._wish.everything or self._rows[number][0].state is not TaskState.succeeded}

    def _again_row(self, job: LiveJob, batch: Batch, record: TaskRecord, options: int, spec: bytes) -> NewTask:
        """A task that has not started yet."""
        job.tasks[record.number] = TaskFacts(options, len(spec), ready_ms=batch.now_ms)
        links: dict[str, LinkRow] = {}
        if not record.attempt:
            # What has gone out before has all that it waited for in other jobs.
            task = decode_part(Task, spec)
            rows = (LinkRow(job.facts.key, record.number, other.job, other.task, other.after, other.value) for other in task.outside)
            links = {row.need: row for row in sorted(rows)}
            for row in links.values():
                self._jobs.links.add(job, row)
        return NewTask(record.number, record.deps, record.after, record.retry, record.crash_limit, outside=frozenset(links))

    def _keep(self, job: LiveJob, batch: Batch, static: NewTaskRow, row: TaskRow, found: OutcomeRow | None) -> None:
        """A task as it ended."""
        job.tasks[row.number] = TaskFacts(
            static.options, static.size, None, row.worker, row.boot, None, row.started_ms, row.ended_ms, ready_ms=batch.now_ms
        )
        job.dirty[row.number] = None
        if found is not None:
            outcome = load_outcome(found.outcome)
            if isinstance(outcome, Succeeded) and isinstance(outcome.value, Stored):
                outcome = Succeeded(self._own(job, outcome.value))
            batch.writes.outcomes.append(found._replace(job=job.facts.key, outcome=dump_outcome(outcome)))

    def _value_row(self, job: LiveJob, data: bytes) -> bytes:
        value = load_value(data)
        return dump_value(self._own(job, value)) if isinstance(value, Stored) else data

    def _own(self, job: LiveJob, value: Stored) -> Value:
        """The value in the folder of the new job, where its store can be reached from here."""
        return ValueStore(value.store).adopt(job.facts.id, value)
