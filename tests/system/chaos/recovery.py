"""How long after a fault its victim was at work again; pure.

A fault is proven to be over by the first thing that its victim has begun and finished afterwards. Faults overlap: the time from the end
of the last one that troubled the same victim, or what everybody needs, before that proof, is told beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.system.chaos.faults import SHARED, Role, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.system.chaos.performing import Done

EVERYBODY: Final = Target(Role.store)
"""Stands for all of `SHARED`: its proof is work that needs the broker, the ledger and a worker."""


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


def prover(target: Target) -> Target:
    """Whose work proves that this one has recovered."""
    return EVERYBODY if target.role in SHARED else target


def recoveries(done: Sequence[Done], proofs: Mapping[Target, Iterable[float]]) -> list[Recovery]:
    """Of each fault.

    Args:
        proofs: when something was begun that was finished, by whom
    """
    return [_recovery(each, done, sorted(proofs.get(prover(each.fault.target), ()))) for each in done]


def _recovery(one: Done, done: Sequence[Done], proofs: Sequence[float]) -> Recovery:
    first = next((at for at in proofs if at >= one.ended), None)
    since = one.ended
    others = [other for other in done if other.fault.target.role in SHARED or other.fault.target == one.fault.target]
    while True:
        proof = next((at for at in proofs if at >= since), None)
        later = [other.ended for other in others if other.ended > since and (proof is None or other.begun < proof)]
        if not later:
            return Recovery(one, None if first is None else first - one.ended, None if proof is None else proof - since)
        since = max(later)
