"""How long after a fault its victim was at work again; pure.

A fault is proven to be over by the first thing that its victim has begun and finished afterwards, where all need it by such work in each
partition of the ledger. Faults overlap: the time from the end of the last one that troubled the same victim, or what it needs, before that
proof, is told beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from tests.system.chaos.faults import SHARED, Target, concerned

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.system.chaos.performing import Done

Witness: TypeAlias = Target | int
"""Who has worked: a worker, a submitter, or by its number a partition of the ledger, whose work needs all of `SHARED` and a worker."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """How a victim came back.

    Attributes:
        seconds: from the end of the fault until it was at work again; None where no proof has come before the end of the run
        undisturbed: from the end of the last fault that was in its way meanwhile
    """

    done: Done
    seconds: float | None
    undisturbed: float | None


def witnesses(target: Target, partitions: int) -> set[Witness]:
    """Those whose work together proves that this one has recovered."""
    return {*concerned(target, partitions)} if target.role in SHARED else {target}


def recoveries(done: Sequence[Done], proofs: Mapping[Witness, Iterable[float]], partitions: int = 1) -> list[Recovery]:
    """Of each fault.

    Args:
        proofs: when something was begun that was finished, by whom
        partitions: how many the ledger has
    """
    times = {witness: sorted(found) for witness, found in proofs.items()}
    return [_recovery(each, done, times, partitions) for each in done]


def _recovery(one: Done, done: Sequence[Done], proofs: Mapping[Witness, Sequence[float]], partitions: int) -> Recovery:
    target = one.fault.target
    mine = concerned(target, partitions)
    others = [
        other
        for other in done
        if other.fault.target == target or (other.fault.target.role in SHARED and mine & concerned(other.fault.target, partitions))
    ]

    def proof(since: float) -> float:
        """When all witnesses have been at work since then; for ever in the future, if one has not."""
        return max(next((at for at in proofs.get(each, ()) if at >= since), math.inf) for each in witnesses(target, partitions))

    since = one.ended
    first = last = proof(since)
    while later := [other.ended for other in others if other.ended > since and other.begun < last]:
        since = max(later)
        last = proof(since)
    return Recovery(one, _finite(first - one.ended), _finite(last - since))


def _finite(seconds: float) -> float | None:
    return None if math.isinf(seconds) else seconds
