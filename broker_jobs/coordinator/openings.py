"""Open jobs: made without tasks, added to by any process, closed by any process. Each wish may come twice."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from broker_jobs.coordinator import queries
from broker_jobs.coordinator.store import ReservationRow
from broker_jobs.coordinator.store.parts import clean
from broker_jobs.core.job import JobSealed
from broker_jobs.ids import short
from broker_jobs.wire.messages import Refusal, Refused, Reserved

if TYPE_CHECKING:
    from broker_jobs.coordinator.effects import Batch
    from broker_jobs.coordinator.intake import Intake
    from broker_jobs.coordinator.jobs import Jobs
    from broker_jobs.coordinator.live import LiveJob
    from broker_jobs.coordinator.store import JobFacts, LedgerStore
    from broker_jobs.wire.messages import Answer, CloseJob, OpenJob, ReserveTasks


class Openings:
    """Performs what is wished of open jobs."""

    def __init__(self, jobs: Jobs, store: LedgerStore, intake: Intake) -> None:
        self._jobs = jobs
        self._store = store
        self._intake = intake

    def open(self, batch: Batch, wish: OpenJob) -> Answer:
        """Make a job without tasks; one that is there already stays as it is."""
        facts = self._known(wish.job)
        if facts is None:
            made = self._intake.open(batch, wish)
            facts = self._known(made) if isinstance(made, str) else made.facts
        return queries.job_info(facts) if facts is not None else Refused(Refusal.job_not_found, f"there is no job {short(wish.job)}")

    def reserve(self, batch: Batch, wish: ReserveTasks) -> Answer:
        """Numbers for a submission."""
        found = self._live(wish.job)
        if isinstance(found, Refused):
            return found
        key = clean(wish.key)
        known = found.reservations.get(key)
        if known is None and (not found.facts.open or found.machine.closed):
            return _not_open(found.facts)
        try:
            numbers = found.reservations.reserve(key, wish.tasks)
        except ValueError as error:
            return Refused(Refusal.invalid, f"the idempotency key {wish.key!r} was used for other tasks: {error}")
        if known is None:
            found.facts.reserved, found.facts.heard_ms = found.reservations.total, batch.now_ms
            batch.writes.reservations.append(ReservationRow(found.facts.key, key, numbers.start, wish.tasks))
            self._jobs.changed[found.facts.id] = found
        return Reserved(found.facts.id, numbers.start)

    def close(self, batch: Batch, wish: CloseJob) -> Answer:
        """Let a job end with the tasks that were submitted; one that is closed already stays as it is."""
        found = self._live(wish.job)
        if isinstance(found, Refused):
            return found
        if found.facts.reserved is None:
            return _not_open(found.facts)
        if found.facts.open:
            self._jobs.apply(batch, found, JobSealed(found.reservations.total))
            found.facts.total = found.machine.total
        return queries.job_info(replace(found.facts, state=found.machine.state))

    def _live(self, text: str) -> LiveJob | Refused:
        facts = self._known(text) or queries.find(self._store.look, text)
        if isinstance(facts, Refused):
            return facts
        return self._jobs.live.get(facts.id) or self._jobs.changed.get(facts.id) or self._jobs.restore(facts, 0.0)

    def _known(self, job: str) -> JobFacts | None:
        live = self._jobs.live.get(job) or self._jobs.changed.get(job)
        return live.facts if live is not None else self._store.look.job(job)


def _not_open(facts: JobFacts) -> Refused:
    name = f"job {short(facts.id)}"
    if facts.reserved is None:
        return Refused(Refusal.invalid, f"{name} is not open: only a job that was opened (broker-jobs job open) takes more tasks")
    return Refused(Refusal.invalid, f"{name} is not open any more: it was closed, or has ended ({facts.state.value}); open another one")
