"""Jobs in which one task starts after the other: each waits for the coordinator, so they show whether one is at work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from broker_jobs import Client, Job

if TYPE_CHECKING:
    from broker_jobs import SubmittedJob, Task


def step(before: int) -> int:
    """One of a chain: the next one starts when the coordinator has heard of this one."""
    time.sleep(0.05)
    return before + 1


def chain(client: Client, length: int) -> tuple[SubmittedJob, Task]:
    """A chain, and its last task."""
    job = Job()
    last = job.function(step, args=(0,))
    for _ in range(length - 1):
        last = job.function(step, args=(last.output,))
    return client.submit(job), last


def succeeded(job: SubmittedJob) -> int:
    """How many tasks have, as the ledger says."""
    return job.info().counts.get("succeeded", 0)
