"""What a worker remembers of attempts that are over or must not start: the latest ones, since memory is bounded."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.wire.messages import Revocation
    from broker_jobs_worker.machine.state import AttemptKey

REMEMBERED: Final = 20_000


class KeyMemory:
    """Attempts whose last word the ledger has. A copy of their message needs no answer."""

    def __init__(self) -> None:
        # The oldest key of an ordinary dictionary is found behind the places of all that were there before.
        self._keys: OrderedDict[AttemptKey, None] = OrderedDict()

    def __contains__(self, key: AttemptKey) -> bool:
        return key in self._keys

    def add(self, keys: Iterable[AttemptKey]) -> None:
        """Remember them, and forget the oldest."""
        self._keys.update(dict.fromkeys(keys))
        while len(self._keys) > REMEMBERED:
            self._keys.popitem(last=False)


class RevocationMemory:
    """What must not run: a message may come long after the news that it is canceled."""

    def __init__(self) -> None:
        self._latest: OrderedDict[tuple[str, int | None], Revocation] = OrderedDict()

    def add(self, revocation: Revocation) -> None:
        """Remember it, and forget the oldest. Of a revoked attempt, the earlier ones are revoked too."""
        key = (revocation.job, revocation.task)
        known = self._latest.pop(key, revocation)
        self._latest[key] = known if _upto(known) > _upto(revocation) else revocation
        if len(self._latest) > REMEMBERED:
            self._latest.popitem(last=False)

    def names(self, job: str, task: int) -> bool:
        """Whether something was said of this very task, if only that it must not follow another one (no attempt is covered then)."""
        return (job, task) in self._latest

    def of(self, key: AttemptKey) -> Revocation | None:
        """Why this attempt must not start, and whether it must stop; None where it may run."""
        if not self._latest:
            return None
        both = (self._latest.get((key.job, task)) for task in (key.task, None))
        covering = [revocation for revocation in both if revocation is not None and key.attempt <= _upto(revocation)]
        # What must stop says more than what must not start.
        return min(covering, key=lambda revocation: revocation.unstarted_only, default=None)


def _upto(revocation: Revocation) -> float:
    """The last attempt that it covers."""
    return float("inf") if revocation.attempt is None else revocation.attempt
