"""How long after a fault its victim was at work again; pure.

A fault is proven to be over by the first thing that its victim has begun and finished afterwards. Where another fault troubles the
same victim, or what everybody needs, before that proof, the time counts from the end of that one.
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
    """After a fault, and seconds until its victim was at work again; None where no proof has come before the end of the run."""

    done: Done
    seconds: float | None


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
    since = one.ended
    others = [other for other in done if other.fault.target.role in SHARED or other.fault.target == one.fault.target]
    while True:
        proof = next((at for at in proofs if at >= since), None)
        later = [other.ended for other in others if other.ended > since and (proof is None or other.begun < proof)]
        if not later:
            return Recovery(one, None if proof is None else proof - since)
        since = max(later)
