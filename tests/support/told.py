"""Somebody who is told of every moment, and what must be true of what they were told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from broker_jobs.core.states import TaskState
from broker_jobs.hooks.facts import JobNow, Moment, TaskNow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ENDINGS = {
    "on_task_succeeded": {TaskState.succeeded},
    "on_task_failed": {TaskState.failed},
    "on_task_killed": {TaskState.canceled, TaskState.aborted},
}


@dataclass
class Everything:
    """Wants all that there is, and remembers it."""

    moments: list[Moment] = field(default_factory=list)

    def wants(self, *hooks: str) -> bool:
        return bool(hooks)

    def begin(self) -> None: ...

    def tell(self, moments: Sequence[Moment]) -> None:
        self.moments += moments

    def close(self, within: float) -> None: ...

    def failures(self) -> Mapping[str, int]:
        return {}

    def dropped(self) -> Mapping[str, int]:
        return {}


def by_task(moments: Iterable[Moment]) -> dict[tuple[str, int], list[Moment]]:
    """What was told of each task, in order."""
    found: dict[tuple[str, int], list[Moment]] = {}
    for moment in moments:
        if isinstance(moment.of, TaskNow):
            found.setdefault((moment.of.job, moment.of.number), []).append(moment)
    return found


def check_order(moments: Sequence[Moment]) -> None:
    """Each moment comes once and in its turn, and says what its hook says."""
    for told in by_task(moments).values():
        hooks = [moment.hook for moment in told]
        assert "on_task_started" not in hooks[1:], hooks
        assert not set(hooks[:-1]) & ENDINGS.keys(), hooks
        for moment in told:
            assert isinstance(moment.of, TaskNow)
            assert moment.hook not in ENDINGS or moment.of.state in ENDINGS[moment.hook]
    jobs = [moment.of.id for moment in moments if isinstance(moment.of, JobNow)]
    assert len(jobs) == len(set(jobs)), "a job ends once"
