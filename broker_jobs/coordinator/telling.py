"""What plugins of a coordinator are told: found while a batch is made, handed on after its commit.

Jobs of ``call`` and ``map`` concern their client alone, and are left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from broker_jobs.hooks.facts import JobNow, Moment, TaskNow
from broker_jobs.hooks.order import COMPLETE, FAILED, KILLED, STARTED, SUCCEEDED, Order

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from broker_jobs.coordinator.live import LiveJob
    from broker_jobs.coordinator.store import Lookups
    from broker_jobs.hooks.facts import Told

MOST: Final = 10_000
"""Moments of one batch; of a million tasks that are canceled at once, nobody keeps the ledger waiting to hear of each."""


class Telling:
    """The moments of the present batch, and what was told of the jobs that have not ended.

    Attributes:
        dropped: moments that were too many
    """

    def __init__(self, told: Told) -> None:
        self.dropped = 0
        self._wanted = frozenset(hook for hook in (STARTED, KILLED, FAILED, SUCCEEDED, COMPLETE) if told.wants(hook))
        self._orders: dict[str, Order] = {}
        self._keys: dict[str, int] = {}
        self._moments: list[Moment] = []

    def load(self, job: LiveJob) -> None:
        """Take up a job of an earlier run: of what had begun or ended then, plugins were told then."""
        if not job.facts.ephemeral:
            order = self._orders[job.facts.id] = Order()
            for record in job.machine.tasks.values():
                order.was(record.number, record.state, record.attempt)

    def changed(self, job: LiveJob, numbers: Collection[int]) -> None:
        """These tasks have another state."""
        facts = job.facts
        if facts.ephemeral:
            return
        order = self._orders.setdefault(facts.id, Order())
        room = MOST - len(self._moments)
        self.dropped += max(0, len(numbers) - max(0, room))
        for number, _ in zip(numbers, range(room), strict=False):
            record, task = job.machine.tasks.seen(number), job.tasks.find(number)
            order.expect((number,))
            worker = task.worker if task else ""
            now = TaskNow(facts.id, number, "", record.state, record.attempt, worker, record.reason)
            fresh = [moment for moment in order.news(now) if moment.hook in self._wanted]
            if fresh:
                self._keys[facts.id] = facts.key
                self._moments += fresh

    def ended(self, job: LiveJob) -> None:
        """The job has ended."""
        facts = job.facts
        self._orders.pop(facts.id, None)
        if not facts.ephemeral and COMPLETE in self._wanted:
            counts = {state.value: count for state, count in facts.counts.items() if count}
            reason = facts.cancel_reason or facts.void_reason or ""
            self._moments.append(Moment(COMPLETE, JobNow(facts.id, facts.name, facts.state, counts, reason)))

    def take(self, look: Lookups) -> list[Moment]:
        """What to tell of the batch, once its rows are written: the names of tasks are there, and nowhere else."""
        moments, self._moments = self._moments, []
        keys, self._keys = self._keys, {}
        numbers: dict[str, set[int]] = {job: set() for job in keys}
        for moment in moments:
            if isinstance(moment.of, TaskNow):
                numbers[moment.of.job].add(moment.of.number)
        names = {job: look.names(keys[job], chosen) for job, chosen in numbers.items()}
        return [_named(moment, moment.of, names) if isinstance(moment.of, TaskNow) else moment for moment in moments]


def _named(moment: Moment, task: TaskNow, names: Mapping[str, Mapping[int, str]]) -> Moment:
    name = names[task.job].get(task.number)
    return replace(moment, of=replace(task, name=name)) if name else moment
