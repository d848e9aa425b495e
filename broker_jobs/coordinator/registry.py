"""The registry of steps: what workers have announced, of which any version may be called as long as the ledger lives; pure."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from broker_jobs.wire.messages import KnownStep, StepList

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.coordinator.workers import Worker
    from broker_jobs.core.step import StepSpec
    from broker_jobs.core.versions import Version
    from broker_jobs.wire.messages import ListSteps

MOST_ANSWER: Final = 512 * 1024
"""Characters of an answer, about; at least one step is in it."""


@dataclass(frozen=True, slots=True)
class Announced:
    """A step, and when it was announced first in this form, in milliseconds since 1970."""

    spec: StepSpec
    since_ms: int


class Registry:
    """All steps.

    Args:
        known: from the ledger
    """

    def __init__(self, known: Iterable[Announced] = ()) -> None:
        self._known: dict[tuple[str, Version], Announced] = {(one.spec.name, one.spec.version): one for one in known}

    def announce(self, specs: Iterable[StepSpec], now_ms: int) -> list[Announced]:
        """A worker says what it serves; what is new or has changed of it.

        The latest word counts: the same version with another schema is an oversight of its author, of which the workers that are
        started last know best.
        """
        news = []
        for spec in specs:
            key = spec.name, spec.version
            known = self._known.get(key)
            if known is None or known.spec != spec:
                self._known[key] = Announced(spec, now_ms)
                news.append(self._known[key])
        return news

    def list(self, question: ListSteps, workers: Iterable[Worker]) -> StepList:
        """Those that fit, and which of these workers serve them."""
        there = list(workers)
        steps: list[KnownStep] = []
        size = 0
        for (name, version), known in sorted(self._known.items(), key=lambda item: item[0][1], reverse=True):
            if not fnmatch.fnmatchcase(name, question.name) or not set(question.tags) <= set(known.spec.tags):
                continue
            spec = known.spec if question.schemas else replace(known.spec, description="", parameters="{}", returns="{}")
            serving = tuple(sorted(worker.name for worker in there if (name, version) in worker.steps))
            steps.append(KnownStep(spec, serving, known.since_ms))
        steps.sort(key=lambda step: step.spec.name)
        del steps[: max(0, question.skip)]
        for count, step in enumerate(steps):
            size += sum(map(len, (step.spec.description, step.spec.parameters, step.spec.returns, *step.spec.tags, *step.workers))) + 200
            if size > MOST_ANSWER and count:
                return StepList(tuple(steps[:count]), more=True)
        return StepList(tuple(steps))
