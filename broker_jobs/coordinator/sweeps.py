"""What becomes of a job in memory when many of its tasks move at once; `store.sweeps` does the same to their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from broker_jobs.coordinator.store import SweepRow
from broker_jobs.coordinator.store.parts import clean
from broker_jobs.core.states import TaskState
from broker_jobs.wire.messages import Revocation

if TYPE_CHECKING:
    from broker_jobs.coordinator.live import LiveJob
    from broker_jobs.core.job import Swept


def sweep(job: LiveJob, swept: Swept, now_ms: int) -> tuple[SweepRow, list[tuple[Revocation, str]]]:
    """Take tasks where they have gone: the statement for their rows, and what of them must be revoked in which class queue."""
    row = SweepRow(swept.after.value, clean(swept.reason), now_ms, job.facts.version, job.facts.key)
    job.facts.version += 1 + max(swept.tasks)
    match swept.after:
        case TaskState.canceled | TaskState.aborted:
            revoked = _out(job, swept, unstarted_only=False)
            _end(job, swept, now_ms)
        case TaskState.paused:
            revoked = _out(job, swept, unstarted_only=True)
            for number in swept.tasks:
                if job.tasks.seen(number).due_ms is not None:
                    job.tasks[number].due_ms = None
            # Those that are out stay with their chunk: if one has begun, and its worker is lost, it must be missed.
            job.window.clear()
        case TaskState.queued:
            revoked = []
            for number in swept.tasks:
                job.go_again(number, now_ms)
        case TaskState.waiting | TaskState.running | TaskState.retrying | TaskState.canceling | TaskState.succeeded | TaskState.failed:
            raise AssertionError(f"no tasks become {swept.after} together")
        case _:
            assert_never(swept.after)
    job.stalled.clear()
    return row, revoked


def _out(job: LiveJob, swept: Swept, *, unstarted_only: bool) -> list[tuple[Revocation, str]]:
    """Those of which a message is out."""
    records, job_id = job.machine.tasks, job.facts.id
    return [
        (Revocation(job_id, number, records.seen(number).attempt, swept.reason, unstarted_only), flight.group.queue)
        for flight in job.window.flights.values()
        for number in sorted(flight.open)
        if records.seen(number).state is swept.after
    ]


def _end(job: LiveJob, swept: Swept, now_ms: int) -> None:
    kept = job.dirty.keys() | job.new.keys()
    for number in [number for flight in job.window.flights.values() for number in flight.open]:
        if job.machine.tasks.seen(number).ended:
            job.land(number)
    job.window.clear()
    for number in swept.tasks:
        if number in kept:
            # Its row is written singly, at the end of the batch.
            facts = job.tasks[number]
            facts.due_ms = None
            facts.ended_ms = now_ms if facts.ended_ms is None else facts.ended_ms
        else:
            job.tasks.drop(number)
