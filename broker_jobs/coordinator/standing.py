"""Revocations that still stand: a message of what was canceled or paused may lie in a class queue, for a worker that was not told.

Workers that are there hear of a revocation at once. One that comes later hears of all that stand, in the answer to its hello and so
before it takes a message. A revocation stands until its class queue was seen empty as the reconciler asks for it; those of single
tasks become one for the whole job when that has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker_jobs.coordinator.reconcile import Published
from broker_jobs.coordinator.store import ALL_TASKS, RevocationRow
from broker_jobs.wire.messages import Revocation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.coordinator.effects import Batch

_MARK: Final = "revoked "
"""What the names of "chunks" begin with that stand for revocations before the reconciler."""

Key = tuple[int, str]
"""Task and class queue."""


class Standing:
    """All revocations that stand.

    Args:
        rows: from the ledger
        now: in seconds
    """

    def __init__(self, rows: Iterable[RevocationRow], now: float = 0.0) -> None:
        self._jobs: dict[str, dict[Key, tuple[RevocationRow, float]]] = {}
        for row in rows:
            self._jobs.setdefault(row.job_id, {})[row.task, row.queue] = row, now

    def add(self, batch: Batch, revocation: Revocation, queue: str) -> None:
        """A message of this may stand in a class queue."""
        task = ALL_TASKS if revocation.task is None else revocation.task
        row = RevocationRow(revocation.job, task, queue, revocation.attempt, revocation.reason, revocation.unstarted_only)
        if task == ALL_TASKS:
            self._drop(batch, revocation.job, [key for key in self._jobs.get(revocation.job, ()) if key[1] == queue])
        self._jobs.setdefault(row.job_id, {})[task, queue] = row, batch.now
        batch.writes.revocations.append(row)

    def job_ended(self, batch: Batch, job: str, reason: str) -> None:
        """None of its messages may start any more: say that once, and not for each task."""
        for queue in {queue for task, queue in self._jobs.get(job, ()) if task != ALL_TASKS}:
            self.add(batch, Revocation(job, reason=reason or "the job has ended"), queue)

    def all(self) -> tuple[Revocation, ...]:
        """For a worker that says hello."""
        return tuple(
            Revocation(row.job_id, None if row.task == ALL_TASKS else row.task, row.attempt, row.reason, row.unstarted_only)
            for rows in self._jobs.values()
            for row, _ in rows.values()
        )

    def published(self, before: float) -> list[Published]:
        """What the reconciler has to look for: messages that may stand since before a time."""
        return [
            Published(job, _MARK + queue, queue, since, ((task, row.attempt or 0),))
            for job, rows in self._jobs.items()
            for (task, queue), (row, since) in rows.items()
            if since <= before
        ]

    def missing(self, batch: Batch, job: str, chunk: str, tasks: Iterable[int]) -> bool:
        """The reconciler misses these messages: their revocations stand no longer; False where the chunk is none of them."""
        if chunk.startswith(_MARK):
            self._drop(batch, job, [(task, chunk.removeprefix(_MARK)) for task in tasks])
        return chunk.startswith(_MARK)

    def _drop(self, batch: Batch, job: str, keys: Iterable[Key]) -> None:
        rows = self._jobs.get(job, {})
        for task, queue in keys:
            if rows.pop((task, queue), None) is not None:
                batch.writes.revocations_done.append((job, task, queue))
                batch.writes.revocations = [row for row in batch.writes.revocations if row[:3] != (job, task, queue)]
        if not rows:
            self._jobs.pop(job, None)
