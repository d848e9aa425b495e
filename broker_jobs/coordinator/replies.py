"""What workers say of attempts, applied to the jobs: upserts, which may come before, without or long after their chunk."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, TypeGuard, assert_never

from broker_jobs.coordinator.store import EarlyRow, ProgressRow
from broker_jobs.coordinator.store.parts import clean
from broker_jobs.coordinator.successes import Said
from broker_jobs.coordinator.workers import Lose
from broker_jobs.core.job import AttemptEnded, AttemptReturned, AttemptsSucceeded, AttemptStarted, Return
from broker_jobs.core.outcome import Crashed, Succeeded
from broker_jobs.wire.codec import decode, encode
from broker_jobs.wire.messages import Ended, Progress, Reply, Returned, Revocation, Started, Taken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker_jobs.coordinator.effects import Batch
    from broker_jobs.coordinator.jobs import Jobs
    from broker_jobs.coordinator.live import LiveJob
    from broker_jobs.coordinator.mailer import Mailer
    from broker_jobs.coordinator.store import JobFacts, LedgerStore
    from broker_jobs.coordinator.workers import WorkerCommand, Workers
    from broker_jobs.core.job import TaskRecord
    from broker_jobs.core.job.records import Records
    from broker_jobs.wire.messages import ReplyItem

STALE_MS: Final = 86_400_000
"""Replies wait so long for a job that never comes."""


class Replies:
    """Takes replies.

    Attributes:
        mentioned: what must be done about workers that took something, for the caller to perform
    """

    def __init__(self, jobs: Jobs, store: LedgerStore, mailer: Mailer, workers: Workers) -> None:
        self.mentioned: list[WorkerCommand] = []
        self._jobs = jobs
        self._store = store
        self._mailer = mailer
        self._workers = workers
        self._early_jobs, self._next_early = store.look.early_jobs()
        self._new_early: list[EarlyRow] = []

    def take(self, batch: Batch, reply: Reply, patience: float) -> None:
        """A reply has come.

        Args:
            patience: a time before which no worker is lost
        """
        if self._jobs.forgotten(reply.job):
            batch.effects.counted.dropped["forgotten job"] += 1
            return
        job = self._jobs.live.get(reply.job)
        facts = self._store.look.job(reply.job) if job is None else None
        if facts is not None:
            self._too_late(batch, facts, reply)
            return
        if job is not None:
            self._apply(batch, job, reply, patience)
        else:
            for item in reply.items:
                self._keep(batch, reply, item)

    def catch_up(self, batch: Batch, job: LiveJob, tasks: list[int], patience: float) -> None:
        """These tasks have come: apply the replies that came before them."""
        if job.facts.id not in self._early_jobs:
            return
        wanted = set(tasks)
        rows = self._store.look.early(job.facts.id, tasks)
        rows += [row for row in batch.writes.early if row.job_id == job.facts.id and row.task in wanted]
        for row in rows:
            reply = decode(row.reply)
            if isinstance(reply, Reply):
                self._apply(batch, job, reply, patience)
            batch.writes.early_done.append(row.id)

    def expire(self, batch: Batch) -> None:
        """Drop replies whose job never came."""
        old = self._store.look.old_early(batch.now_ms - STALE_MS)
        batch.writes.early_done.extend(old)
        if old:
            batch.effects.counted.dropped["reply without a job"] += len(old)
        self._early_jobs = self._store.look.early_jobs()[0] | {row.job_id for row in batch.writes.early}

    def _keep(self, batch: Batch, reply: Reply, item: ReplyItem) -> None:
        if isinstance(item, Progress):
            return
        alone = encode(Reply(reply.job, reply.worker, reply.boot, (item,)))
        batch.writes.early.append(EarlyRow(self._next_early, reply.job, item.task, alone, batch.now_ms))
        self._next_early += 1
        self._early_jobs.add(reply.job)

    def _too_late(self, batch: Batch, facts: JobFacts, reply: Reply) -> None:
        """The job has ended: outcomes are duplicates, and what begins must stop."""
        revoked = []
        views = self._store.look.views(facts.key, [item.task for item in reply.items if isinstance(item, Ended)])
        for item in reply.items:
            match item:
                case Ended():
                    task = views.get(item.task)
                    # The same news again, from a worker that did not hear of its arrival, is no other outcome.
                    if task is None or (task.attempt, task.execution) != (item.attempt, clean(item.execution)):
                        batch.effects.counted.duplicates[reply.resource_class] += 1
                case Started() | Taken():
                    revoked.append(Revocation(reply.job, item.task, item.attempt, "the job has ended"))
                case Progress() | Returned():
                    pass
                case _:
                    assert_never(item)
        self._mailer.revoke(batch, revoked, reply.worker)

    def _apply(self, batch: Batch, job: LiveJob, reply: Reply, patience: float) -> None:
        """What is said of attempts, in its order; successes that stand side by side are applied together."""
        records = job.machine.tasks
        good: dict[int, Ended] = {}
        for item in reply.items:
            record = records.get(item.task)
            if good and isinstance(item, Started | Ended) and item.after:
                # What came before in this reply may release it.
                self._succeeded(batch, job, good, reply)
                good, record = {}, records.get(item.task)
            if (
                record is not None
                and _plain(item)
                and record.expects(item.attempt)
                and item.task not in good
                and not _stray(records, record, item)
            ):
                good[item.task] = item
                continue
            self._succeeded(batch, job, good, reply)
            good = {}
            if record is None:
                self._keep(batch, reply, item)
            elif _stray(records, record, item):
                batch.effects.counted.duplicates[reply.resource_class] += isinstance(item, Ended)
            else:
                self._item(batch, job, item, reply, patience)
        self._succeeded(batch, job, good, reply)

    def _succeeded(self, batch: Batch, job: LiveJob, good: Mapping[int, Ended], reply: Reply) -> None:
        if good:
            event = AttemptsSucceeded([(item.task, item.attempt, clean(item.execution)) for item in good.values()])
            self._jobs.apply(batch, job, event, self._said(good, reply))

    def _said(self, ends: Mapping[int, Ended], reply: Reply) -> Said:
        worker = self._workers.known.get(reply.worker)
        return Said(ends, reply.worker, reply.boot, worker.host if worker else "")

    def _item(self, batch: Batch, job: LiveJob, item: ReplyItem, reply: Reply, patience: float) -> None:
        record = job.machine.tasks[item.task]
        fresh = record.expects(item.attempt)
        match item:
            case Started(at_ms=at):
                if fresh:
                    self._began(batch, job, item.task, reply, at)
                self._jobs.apply(batch, job, AttemptStarted(item.task, item.attempt, clean(item.execution)))
                if fresh and job.tasks[item.task].chunk is None and item.task not in job.taken:
                    self._jobs.joined(batch, job, item.task)
            case Taken():
                self._taken(batch, job, item, reply, patience, fresh=fresh)
            case Ended():
                self._ended(batch, job, item, reply, fresh=fresh)
            case Returned(why=why, reason=reason):
                task = job.tasks.find(item.task)
                if why is Return.unstarted and fresh and task is not None and task.chunk is not None:
                    job.window.split(task.chunk)
                if why is Return.lost and fresh:
                    batch.effects.counted.crashes[self._jobs.class_of(job, item.task)] += 1
                self._jobs.apply(batch, job, AttemptReturned(item.task, item.attempt, why, clean(reason)))
            case Progress(fraction=fraction, text=text):
                if fresh:
                    self._jobs.touch(batch, job, item.task)
                    self._jobs.changed[job.facts.id] = job
                    batch.writes.progress.append(ProgressRow(fraction, clean(text), job.facts.key, item.task))
            case _:
                assert_never(item)
        if not fresh and isinstance(item, Started | Taken) and (record.ended or record.attempt > item.attempt):
            self._mailer.revoke(batch, [Revocation(job.facts.id, item.task, item.attempt, record.reason)], reply.worker)

    def _began(self, batch: Batch, job: LiveJob, number: int, reply: Reply, at_ms: int | None) -> None:
        """Note where and when the current attempt began."""
        task = job.tasks[number]
        task.worker, task.boot = reply.worker, reply.boot
        if at_ms is not None and task.started_ms is None:
            task.started_ms = at_ms
            if number in job.taken:  # the attempt is known to run, and its row is written already
                self._jobs.touch(batch, job, number)
            batch.effects.counted.queued[self._jobs.class_of(job, number)].append(max(0, at_ms - task.ready_ms))
            if job.facts.started_ms is None:
                job.facts.started_ms = at_ms

    def _taken(self, batch: Batch, job: LiveJob, item: Taken, reply: Reply, patience: float, *, fresh: bool) -> None:
        if not fresh:
            return
        self._began(batch, job, item.task, reply, None)
        self._jobs.apply(batch, job, AttemptStarted(item.task, item.attempt, clean(item.execution)))
        job.taken.add(item.task)
        started_ms = job.tasks[item.task].started_ms
        job.land(item.task, batch.now_ms - started_ms if started_ms is not None else STALE_MS)
        self._jobs.touch(batch, job, item.task)
        for command in self._workers.mention(reply.worker, reply.boot, batch.now, batch.now_ms, patience):
            if isinstance(command, Lose):
                self._jobs.lose_task(batch, job, item.task)
            else:
                self.mentioned.append(command)

    def _ended(self, batch: Batch, job: LiveJob, item: Ended, reply: Reply, *, fresh: bool) -> None:
        if fresh:
            self._began(batch, job, item.task, reply, item.started_ms)
            job.tasks[item.task].ended_ms = item.ended_ms
            if isinstance(item.outcome, Crashed):
                batch.effects.counted.crashes[self._jobs.class_of(job, item.task)] += 1
        noise = random.random()  # noqa: S311 (spreads retries; nothing secret)
        event = AttemptEnded(item.task, item.attempt, clean(item.execution), item.outcome, noise)
        self._jobs.apply(batch, job, event, self._said({item.task: item}, reply))


def _stray(records: Records, record: TaskRecord, item: ReplyItem) -> bool:
    """Whether an execution followed one that does not count, so that it was given another value than its task is to have."""
    if not isinstance(item, Started | Ended) or not item.after:
        return False
    before = [found for number in (*record.deps, *record.after) if (found := records.get(number)) is not None]
    return not any(other.execution == clean(item.after) for other in before)


def _plain(item: ReplyItem) -> TypeGuard[Ended]:
    """Whether this is a success of which nothing has to be recorded but the outcome."""
    return isinstance(item, Ended) and isinstance(item.outcome, Succeeded) and not item.outcome.made
