"""Which workers somebody means: names, unique beginnings or ends of names, ``last``, a group; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker_jobs.coordinator.workers import ABSENT
from broker_jobs.wire.messages import Refusal, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from broker_jobs.coordinator.workers import Worker

LAST: Final = "last"
_CANDIDATES: Final = 10


def choose(known: Iterable[Worker], wanted: Sequence[str], group: str | None) -> list[Worker] | Refused:
    """The workers that are meant, each once; a refusal where a name fits none, or several.

    Args:
        known: all of them, those that are gone included
        wanted: empty means all
        group: only those of this group
    """
    workers = [worker for worker in known if group is None or worker.group == group]
    if not wanted:
        return workers
    chosen: dict[str, Worker] = {}
    for text in wanted:
        found = _find(workers, text)
        if isinstance(found, Refused):
            return found
        chosen[found.name] = found
    return list(chosen.values())


def _find(workers: list[Worker], text: str) -> Worker | Refused:
    there = [worker for worker in workers if worker.state not in ABSENT]
    if text == LAST:
        return max(there, key=lambda worker: worker.started_ms) if there else Refused(Refusal.worker_not_found, "no worker is there")
    same = [worker for worker in workers if worker.name == text]
    if same:
        return same[0]
    # A name that is not whole means somebody who is there, if it can.
    for candidates in (there, workers):
        found = [worker for worker in candidates if text and (worker.name.startswith(text) or worker.name.endswith(text))]
        if len(found) == 1:
            return found[0]
        if found:
            names = tuple(sorted(worker.name for worker in found)[:_CANDIDATES])
            return Refused(Refusal.ambiguous, f"several workers are called {text!r}: {', '.join(names)}; give more of the name", names)
    return Refused(Refusal.worker_not_found, f"there is no worker {text[:100]!r}; those that are there: broker-jobs worker list")
