"""What a client says once, where work does not start: that no worker is there, or none that could do it, or nobody at all."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from broker_jobs.client.link import PATIENCE
from broker_jobs.core.resources import capacity
from broker_jobs.errors import BrokerJobsError, CoordinatorUnavailable
from broker_jobs.wire.messages import Cluster, GetWorkers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from broker_jobs.client.core import Core
    from broker_jobs.client.encoding import Placement

_FIRST_LOOK: Final = 3.0
"""Seconds after which work that has not begun is worth a look."""
_SLOWEST_INTAKE: Final = 10_000
"""Tasks of large jobs that a coordinator takes in within a second, at least, on any machine that is up to it."""
_log = logging.getLogger("broker_jobs")


async def advise(
    core: Core, stuck: Callable[[], bool], placements: Iterable[Placement], said: set[str], *, embedded: bool, tasks: int = 1
) -> None:
    """Look at the workers, if work has not begun after a while.

    Args:
        core: asks
        stuck: whether nothing of the work has begun, as far as is known
        placements: what its tasks ask for
        said: what was said before, and is not said again
        embedded: the node is our own, so its absence is reported by others
        tasks: how many were sent: a coordinator answers when it has taken them in
    """
    await asyncio.sleep(_FIRST_LOOK)
    if not stuck():
        return
    try:
        advice = _of_workers(await core.ask(GetWorkers(), Cluster, _answer_within(tasks)), placements, embedded=embedded)
    except CoordinatorUnavailable:
        # Work that needs no coordinator is waited for without one. To have another key than everybody else looks just like that.
        advice = ["nothing is heard of the work, and no coordinator answers; to find out why: broker-jobs doctor"] if stuck() else []
    except BrokerJobsError:
        return  # whoever waits for the work hears of it
    for text in advice:
        if text not in said:
            said.add(text)
            _log.warning("broker-jobs: %s", text)


def _answer_within(tasks: int) -> float:
    """Seconds in which a coordinator that is there answers, behind so many tasks in its queue."""
    return PATIENCE + tasks / _SLOWEST_INTAKE


def _of_workers(cluster: Cluster, placements: Iterable[Placement], *, embedded: bool) -> list[str]:
    """Why those workers do not begin."""
    workers = [worker for worker in cluster.workers if worker.state not in {"lost", "gone"}]
    if not workers:
        return [] if embedded else ["no worker has been seen, so nothing runs yet; start one with: broker-jobs worker start"]
    there = [(worker.group, worker.resources) for worker in workers]
    return [
        f"no worker seen so far could meet the request {placement.options.resources}; its tasks wait"
        for placement in placements
        if not capacity(placement.options.resources, there)
    ]
