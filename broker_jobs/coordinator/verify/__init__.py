"""Whether a ledger agrees with itself: `broker-jobs ledger verify`.

Looked at is one moment of the ledger, in a transaction that only reads, so it may be at work meanwhile. What follows from other rows
with certainty can be derived anew (`repair`); everything else is said and left alone.
"""

from __future__ import annotations

from broker_jobs.coordinator.verify.job import Problem, Recount
from broker_jobs.coordinator.verify.whole import Report, repair, verify

__all__ = ["Problem", "Recount", "Report", "repair", "verify"]
