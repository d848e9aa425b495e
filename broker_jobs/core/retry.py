"""Whether a failed attempt is followed by another, and after how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker_jobs.core.outcome import Failed
    from broker_jobs.core.spec import Retry


@dataclass(frozen=True, slots=True)
class RetryIn:
    """Try again after so many seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The failure is final."""


Decision = RetryIn | GiveUp


def decide(policy: Retry | None, failures: int, outcome: Failed, noise: float) -> Decision:
    """Decide about a failure.

    Args:
        policy: None grants one attempt
        failures: how often the task has failed, this time included
        outcome: the failure
        noise: a random number, 0 ≤ noise < 1

    The delay is ``backoff × factor ** (failures − 1)``, capped, then spread by the jitter; it never exceeds ``max_backoff``.
    """
    if policy is None or failures >= policy.max_attempts or not _selected(policy, outcome):
        return GiveUp()
    delay = policy.backoff
    # A product that stops at the cap, because a power overflows at the ten-thousandth attempt.
    for _ in range(failures - 1):
        if delay >= policy.max_backoff or policy.factor == 1 or delay == 0:
            break
        delay *= policy.factor
    delay = min(delay, policy.max_backoff)
    return RetryIn(min(delay * (1 + policy.jitter * (2 * noise - 1)), policy.max_backoff))


def _selected(policy: Retry, outcome: Failed) -> bool:
    """Whether the filter of the policy names this failure."""
    if policy.on is None:
        return True
    facts = {outcome.cause.value, outcome.exit_code, *outcome.exception_types}
    facts |= {name.removeprefix("builtins.") for name in outcome.exception_types}
    return any(wanted in facts for wanted in policy.on)
