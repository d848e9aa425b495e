"""Chunks of submitters become tasks of a job: in any order, any number of times, before or after the replies to them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from broker_jobs.coordinator.datasets import job_log
from broker_jobs.coordinator.kept import TaskFacts
from broker_jobs.coordinator.live import LiveJob, Shared
from broker_jobs.coordinator.release import FUNCTION, VALUE
from broker_jobs.coordinator.resubmission import Resubmission
from broker_jobs.coordinator.store import JobFacts, LinkRow, Needs, NewTaskRow, OptionsRow, PackRow, dump_tasks
from broker_jobs.coordinator.store.parts import clean, dump_value
from broker_jobs.core.job import (
    AttemptEnded,
    AttemptReturned,
    DirectAdded,
    JobMachine,
    JobSealed,
    JobVoided,
    NewTask,
    Return,
    TasksAdded,
    WaitingAdded,
)
from broker_jobs.core.outcome import Cause, Failed
from broker_jobs.core.spec import NEVER_START_TWICE
from broker_jobs.core.states import TaskState
from broker_jobs.wire.codec import encode_part
from broker_jobs.wire.messages import LogKind, Revocation

if TYPE_CHECKING:
    from broker_jobs.coordinator.classes import Classes
    from broker_jobs.coordinator.effects import Batch
    from broker_jobs.coordinator.jobs import Jobs
    from broker_jobs.coordinator.store import LedgerStore
    from broker_jobs.core.spec import TaskOptions
    from broker_jobs.wire.messages import Chunk, JobHeader, OpenJob, Refused, ResubmitJob, Task
    from broker_jobs.wire.topology import Topology


class Intake:
    """Takes chunks.

    Args:
        next_key: a key that no job has
    """

    def __init__(self, jobs: Jobs, store: LedgerStore, classes: Classes, topology: Topology, next_key: int) -> None:
        self._jobs = jobs
        self._store = store
        self._classes = classes
        self._topology = topology
        self._next_key = next_key

    def take(self, batch: Batch, chunk: Chunk) -> LiveJob | None:
        """A chunk has come: the job with its new tasks, or None where it brings nothing new."""
        if self._jobs.forgotten(chunk.job):
            batch.effects.counted.dropped["forgotten job"] += 1
            return None
        job = self._jobs.live.get(chunk.job) or self._jobs.changed.get(chunk.job) or self._find(batch, chunk)
        if job is None or chunk.chunk in job.chunks:
            return None
        job.chunks.add(chunk.chunk)
        batch.writes.chunks.append((job.facts.key, chunk.chunk))
        job.facts.heard_ms = batch.now_ms
        duplicate_of = self._header(batch, job, chunk.header) if chunk.header is not None else None
        if chunk.seal is not None:
            job.facts.chunks = chunk.seal.chunks
            self._jobs.apply(batch, job, JobSealed(chunk.seal.tasks))
            # A job that has ended takes no events of this kind, and is complete all the same.
            job.machine.total = chunk.seal.tasks if job.machine.total is None else job.machine.total
        indices = [self._options(batch, job, options, chunk) for options in chunk.options]
        self._payloads(batch, job, chunk)
        if packable(job, chunk):
            new = self._pack(batch, job, chunk, indices[chunk.tasks[0].options])
        else:
            new = self._tasks(batch, job, chunk, indices)
        self._fly(batch, job, chunk, new=new)
        if duplicate_of is not None:
            self._jobs.apply(batch, job, JobVoided(f"the idempotency key {job_key(chunk)!r} belongs to job {duplicate_of}"))
        for ready in job.stalled:
            job.make_ready(ready.number, ready.attempt)
        job.stalled.clear()
        return job

    def open(self, batch: Batch, wish: OpenJob) -> LiveJob | str:
        """Make a job without tasks; or the id of the one that has its idempotency key already."""
        facts = JobFacts(
            self._next_key, wish.job, wish.header.origin, wish.header.submitter, batch.now_ms, batch.now_ms, store=wish.store, reserved=0
        )
        job = LiveJob(facts, JobMachine(), fresh=True)
        owner = self._header(batch, job, wish.header)
        if owner is not None:
            return owner
        self._next_key += 1
        self._jobs.add(job)
        self._jobs.changed[wish.job] = job
        return job

    def again(self, batch: Batch, wish: ResubmitJob, old: JobFacts, submitter: str) -> LiveJob | Refused:
        """Run a job again that has ended, as a new one."""
        resubmission = Resubmission(self._jobs, self._store, self._topology, old, wish)
        refused = resubmission.refused()
        if refused is not None:
            return refused
        self._next_key += 1
        return resubmission.perform(batch, self._next_key - 1, submitter)

    def returned(self, batch: Batch, chunk: Chunk) -> None:
        """A class queue gave a chunk up."""
        job = self._jobs.live.get(chunk.job)
        if job is not None:
            for task in chunk.tasks:
                self._jobs.apply(batch, job, AttemptReturned(task.number, task.attempt, Return.unrouted))

    def _find(self, batch: Batch, chunk: Chunk) -> LiveJob | None:
        """A job that is not live: a new one, or one that has ended and gets late tasks; None where the chunk came before."""
        facts = self._store.look.job(chunk.job)
        if facts is not None:
            return None if chunk.chunk in self._store.look.chunk_names(facts.key) else self._jobs.restore(facts, batch.now)
        facts = JobFacts(self._next_key, chunk.job, chunk.origin, chunk.submitter, batch.now_ms, batch.now_ms, store=chunk.store)
        self._next_key += 1
        job = LiveJob(facts, JobMachine(), fresh=True)
        self._jobs.add(job)
        return job

    def _header(self, batch: Batch, job: LiveJob, header: JobHeader) -> str | None:
        """Note what the header says; the job that has its idempotency key already, if there is one."""
        facts = job.facts
        facts.headed = True
        facts.name, facts.user, facts.tags = header.name, header.user, tuple(clean(tag) for tag in header.tags)
        facts.submitter, facts.submitted_ms, facts.parent = header.submitter, header.submitted_ms, header.parent
        facts.ephemeral, facts.max_fails, job.machine.max_fails = header.ephemeral, header.max_fails, header.max_fails
        if header.idempotency_key is None:
            self._note(batch, facts)
            return None
        key = clean(header.idempotency_key)
        # Rows are written at the end of the batch; until then a key is with its job.
        owners = [other.facts.id for other in self._jobs.changed.values() if other.facts.idempotency_key == key]
        owner = self._store.look.job_with_key(key) or next(iter(owners), facts.id)
        if owner != facts.id:
            return owner
        facts.idempotency_key = key
        self._note(batch, facts)
        return None

    @staticmethod
    def _note(batch: Batch, facts: JobFacts) -> None:
        if not facts.ephemeral:
            batch.writes.log.append(job_log(facts, batch.now_ms, LogKind.job_submitted))

    def _payloads(self, batch: Batch, job: LiveJob, chunk: Chunk) -> None:
        """What tasks share, and what they take."""
        key = job.facts.key
        batch.writes.blobs.extend((key, FUNCTION + name, encode_part(function)) for name, function in chunk.functions.items())
        batch.writes.blobs.extend((key, VALUE + name, dump_value(value)) for name, value in chunk.values.items())
        for task in chunk.tasks:
            if task.work.data and not job.machine.knows(task.number):
                self._jobs.data.taken(batch, job, task)

    def _pack(self, batch: Batch, job: LiveJob, chunk: Chunk, index: int) -> bool:
        """Take all tasks as a pack; whether there were any."""
        facts, first, options = job.facts, chunk.tasks[0], chunk.options[chunk.tasks[0].options]
        numbers = range(first.number, first.number + len(chunk.tasks))
        deps, after = [task.deps for task in chunk.tasks], [task.after for task in chunk.tasks]
        names = json.dumps([clean(task.name) for task in chunk.tasks]) if any(task.name for task in chunk.tasks) else ""
        needs = encode_part(Needs(tuple(deps), tuple(after) if any(after) else ())) if any(deps) or any(after) else b""
        specs = dump_tasks(chunk.tasks)
        size, place = len(specs) // len(numbers), chunk.chunk if chunk.direct else ""
        head = (facts.key, first.number, len(numbers), place, index, first.work.tag, names, facts.version + 1, size)
        batch.writes.packs.append(PackRow(*head, needs, specs))
        facts.version += len(numbers)
        job.tasks.add_pack(TaskFacts(index, size, ready_ms=batch.now_ms), first.number, len(numbers))
        if chunk.direct:
            self._jobs.apply(batch, job, DirectAdded(numbers, options.retry, options.crash_limit))
        else:
            self._jobs.works.keep(facts.key, chunk.tasks, len(specs))
            self._jobs.apply(batch, job, WaitingAdded(numbers, deps, after, options.retry, options.crash_limit))
        return True

    def _tasks(self, batch: Batch, job: LiveJob, chunk: Chunk, indices: list[int]) -> bool:
        """Take each task that has not come yet; whether there were any."""
        key = job.facts.key
        new = []
        for task in chunk.tasks:
            if job.machine.knows(task.number):
                continue
            spec = encode_part(task)
            index = indices[task.options]
            options = chunk.options[task.options]
            batch.writes.specs.append((key, task.number, spec))
            job.tasks[task.number] = TaskFacts(index, len(spec), ready_ms=batch.now_ms)
            deps, after = ",".join(map(str, task.deps)), ",".join(map(str, task.after))
            job.new[task.number] = NewTaskRow(clean(task.name), task.work.tag, index, deps, after, len(spec))
            outside = [LinkRow(key, task.number, other.job, other.task, other.after, other.value) for other in task.outside]
            needs = frozenset(link.need for link in outside)
            new.append(NewTask(task.number, task.deps, task.after, options.retry, options.crash_limit, direct=chunk.direct, outside=needs))
            for link in {link.need: link for link in sorted(outside)}.values():
                self._jobs.links.add(job, link)
        self._jobs.apply(batch, job, TasksAdded(tuple(new)))
        for added in new:
            if not job.machine.knows(added.number):
                # More tasks than the job was sealed with.
                job.tasks.drop(added.number)
                del job.new[added.number]
        return bool(new)

    def _options(self, batch: Batch, job: LiveJob, options: TaskOptions, chunk: Chunk) -> int:
        """The index of these options in the job."""
        origin = None if chunk.origin == job.facts.origin else chunk.origin
        index = job.index(options, origin)
        if index is None:
            index = job.share(Shared(options, chunk.resource_class, self._topology.class_name(chunk.resource_class, chunk.lane), origin))
            batch.writes.options.append(OptionsRow(job.facts.key, index, options, chunk.resource_class, origin))
        return index

    def _fly(self, batch: Batch, job: LiveJob, chunk: Chunk, *, new: bool) -> None:
        """A chunk that its submitter put into the class queue too is under way."""
        if not chunk.direct:
            return
        flying: list[Task] = []
        queue = self._topology.class_name(chunk.resource_class, chunk.lane)
        for task in chunk.tasks:
            record = job.machine.tasks.get(task.number)
            if record is None:
                continue
            paused, queued = record.state is TaskState.paused, record.state is TaskState.queued
            if (paused or queued) and record.attempt == task.attempt:
                flying.append(task)
            if queued:
                continue
            if paused or record.ended:
                self._jobs.revoke(batch, Revocation(job.facts.id, task.number, task.attempt, record.reason, unstarted_only=paused), queue)
        if flying and new:
            # Where the class is new, its queue may be missing: opening it tells.
            refused = self._classes.use(batch, chunk.resource_class, chunk.options[flying[0].options].resources)
            if refused:
                for task in flying:
                    self._jobs.apply(batch, job, AttemptEnded(task.number, task.attempt, "", Failed(Cause.rejected, refused)))
                return
            numbers = [task.number for task in flying]
            job.window.take_off(chunk.chunk, job.group(numbers[0]), numbers, batch.now)
            job.tasks.put_into(chunk.chunk, numbers)


def packable(job: LiveJob, chunk: Chunk) -> bool:
    """Whether all tasks of a chunk are so much alike that they can be one row as long as they do nothing but what they do together.

    They have numbers in a row and the same options and kind of work, wait for no other job, and are all new. Those that stand in a class
    queue wait for nothing.
    """
    first, count, machine = chunk.tasks[0], len(chunk.tasks), job.machine
    if chunk.options[first.options].crash_limit == NEVER_START_TWICE:
        return False
    if machine.total is not None and len(machine.tasks) + count > machine.total:
        return False
    if machine.knows_any(range(first.number, first.number + count)):
        return False
    waits = not chunk.direct
    return all(
        task.number == number
        and task.options == first.options
        and task.work.tag == first.work.tag
        and not task.outside
        and (waits or not (task.deps or task.after))
        for number, task in enumerate(chunk.tasks, first.number)
    )


def job_key(chunk: Chunk) -> str | None:
    """The idempotency key that a chunk brings."""
    return chunk.header.idempotency_key if chunk.header is not None else None
