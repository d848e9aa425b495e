"""What people want of jobs and their tasks: cancel, pause, resume, resubmit, forget; each with the answer what it did."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from broker_jobs.coordinator import queries
from broker_jobs.coordinator.live import LiveJob
from broker_jobs.core.job import CancelRequested, PauseRequested, ResumeRequested
from broker_jobs.core.states import ENDED, TaskState
from broker_jobs.ids import short
from broker_jobs.wire.messages import (
    CancelResult,
    Forgotten,
    PauseResult,
    Refusal,
    Refused,
    ResumeResult,
)

if TYPE_CHECKING:
    from broker_jobs.coordinator.effects import Batch
    from broker_jobs.coordinator.intake import Intake
    from broker_jobs.coordinator.jobs import Jobs
    from broker_jobs.coordinator.store import JobFacts, LedgerStore
    from broker_jobs.wire.messages import Answer, CancelTasks, ForgetJobs, PauseTasks, ResubmitJob, ResumeTasks

_RUNS: Final = (TaskState.running, TaskState.canceling)


class Control:
    """Performs what is wanted, in the transaction in which it was asked for."""

    def __init__(self, jobs: Jobs, store: LedgerStore, intake: Intake) -> None:
        self._intake = intake
        self._jobs = jobs
        self._store = store

    def cancel(self, batch: Batch, wish: CancelTasks) -> Answer:
        """End a job, or some of its tasks."""
        job = self._find(wish.job)
        if isinstance(job, Refused):
            return job
        states, unknown = self._states(job, wish.tasks)
        if isinstance(job, LiveJob):
            self._jobs.apply(batch, job, CancelRequested(_known(job, wish.tasks), wish.reason, wish.unstarted_only))
        runs, ended = sum(states[state] for state in _RUNS), sum(states[state] for state in ENDED)
        return CancelResult(
            before_start=states.total() - runs - ended,
            while_running=0 if wish.unstarted_only else runs,
            ended_already=ended,
            unknown=unknown,
        )

    def pause(self, batch: Batch, wish: PauseTasks) -> Answer:
        """Hold a job, or some of its tasks, back."""
        job = self._find(wish.job)
        if isinstance(job, Refused):
            return job
        if isinstance(job, LiveJob):
            out = frozenset(number for flight in job.window.flights.values() for number in flight.open)
            self._jobs.apply(batch, job, PauseRequested(_known(job, wish.tasks), wish.reason, out))
        states, unknown = self._states(job, wish.tasks)
        ended = sum(states[state] for state in ENDED)
        return PauseResult(
            paused=states[TaskState.paused],
            running=states.total() - states[TaskState.paused] - states[TaskState.waiting] - ended,
            waiting=states[TaskState.waiting],
            ended_already=ended,
            unknown=unknown,
        )

    def resume(self, batch: Batch, wish: ResumeTasks) -> Answer:
        """Let go on what is paused."""
        job = self._find(wish.job)
        if isinstance(job, Refused):
            return job
        states, unknown = self._states(job, wish.tasks)
        if isinstance(job, LiveJob):
            self._jobs.apply(batch, job, ResumeRequested(_known(job, wish.tasks)))
        ended = sum(states[state] for state in ENDED)
        return ResumeResult(
            resumed=states[TaskState.paused],
            not_paused=states.total() - states[TaskState.paused] - ended,
            ended_already=ended,
            unknown=unknown,
        )

    def resubmit(self, batch: Batch, wish: ResubmitJob, submitter: str) -> Answer:
        """Run again what did not succeed of a job that has ended."""
        known = self._find(wish.new)
        if not isinstance(known, Refused):
            # Asked twice.
            return queries.job_info(known.facts if isinstance(known, LiveJob) else known)
        old = self._find(wish.job)
        if isinstance(old, Refused):
            return old
        if isinstance(old, LiveJob):
            name = short(old.facts.id)
            return Refused(Refusal.job_active, f"job {name} has not ended: cancel it, or wait for its end, before running it again")
        job = self._intake.again(batch, wish, old, submitter)
        if isinstance(job, Refused):
            return job
        job.facts.state, job.facts.counts, job.facts.total = job.machine.state, dict(job.machine.counts), job.machine.total
        return queries.job_info(job.facts)

    def forget(self, batch: Batch, wish: ForgetJobs) -> Answer:
        """Drop jobs that have ended; ephemeral ones whatever they do."""
        found: list[JobFacts] = []
        for job_id in dict.fromkeys(wish.jobs):
            job = self._find(job_id)
            if isinstance(job, Refused):
                if job.kind is Refusal.job_not_found:
                    # Somebody else was quicker, or it was never there: it is gone, as asked for.
                    continue
                return job
            facts = job.facts if isinstance(job, LiveJob) else job
            if isinstance(job, LiveJob) and not facts.ephemeral:
                return Refused(
                    Refusal.job_active, f"job {short(facts.id)} has not ended: cancel it, or wait for its end, before forgetting it"
                )
            found.append(facts)
        going = frozenset(facts.id for facts in found)
        for facts in found:
            refused = None if facts.ephemeral else self._jobs.data.kept(batch, facts, self._jobs, going)
            if refused is not None:
                return refused
        for facts in found:
            live = self._jobs.live.get(facts.id)
            if live is not None:
                self._jobs.apply(batch, live, CancelRequested(None, "its client does not wait for it any more"))
        self._jobs.forget(batch, found)
        return Forgotten(len(found))

    def _find(self, text: str) -> LiveJob | JobFacts | Refused:
        """A job that has not ended, the row of one that has, or why there is none."""
        live = self._jobs.live.get(text)
        if live is not None:
            return live
        facts = queries.find(self._store.look, text)
        return facts if isinstance(facts, Refused) else self._jobs.live.get(facts.id, facts)

    def _states(self, job: LiveJob | JobFacts, tasks: tuple[int, ...] | None) -> tuple[Counter[TaskState], int]:
        """How many of these tasks, or of all, are in which state, and how many there are not."""
        if isinstance(job, LiveJob):
            if tasks is None:
                return job.machine.counts.copy(), 0
            records = job.machine.tasks
            states = Counter(record.state for number in set(tasks) if (record := records.get(number)) is not None)
        else:
            if tasks is None:
                return Counter(job.counts), 0
            views = self._store.look.views(job.key, filter(queries.is_number, tasks))
            states = Counter(TaskState(view.state) for view in views.values())
        return states, len(set(tasks)) - states.total()


def _known(job: LiveJob, tasks: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return None if tasks is None else tuple(sorted(filter(job.machine.knows, set(tasks))))
