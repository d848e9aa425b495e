"""What a client says once, where a job does not start: that no worker is there, or none that could run it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from broker_jobs.core.resources import Pool
from broker_jobs.errors import BrokerJobsError, CoordinatorUnavailable
from broker_jobs.ids import short
from broker_jobs.wire.messages import Cluster, GetWorkers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.client.core import Core
    from broker_jobs.client.encoding import Placement
    from broker_jobs.client.followed import Followed

_PATIENCE: Final = 3.0
_log = logging.getLogger("broker_jobs")


async def advise(core: Core, job: Followed, placements: Iterable[Placement], said: set[str], *, embedded: bool) -> None:
    """Look at the workers, if the job has not moved after a while.

    Args:
        placements: what its tasks ask for
        said: what was said before, and is not said again
        embedded: the node is our own, so its absence is reported by others
    """
    await asyncio.sleep(_PATIENCE)
    if _moves(job):
        return
    try:
        advice = _of_workers(await core.ask(GetWorkers(), Cluster), job, placements, embedded=embedded)
    except CoordinatorUnavailable:
        if _moves(job) or not job.flat:
            return  # whoever waits for the job hears of it
        # Work that needs no coordinator is waited for without one. To have another key than everybody else looks just like that.
        advice = [f"nothing is heard of job {short(job.id)}, and no coordinator answers; to find out why: broker-jobs doctor"]
    except BrokerJobsError:
        return
    for text in advice:
        if text not in said:
            said.add(text)
            _log.warning("broker-jobs: %s", text)


def _moves(job: Followed) -> bool:
    return bool(job.view.progress.get("running")) or job.view.ended


def _of_workers(cluster: Cluster, job: Followed, placements: Iterable[Placement], *, embedded: bool) -> list[str]:
    """Why those workers do not run the job."""
    workers = [worker for worker in cluster.workers if worker.state not in {"lost", "gone"}]
    if not workers:
        return [] if embedded else ["no worker has been seen, so nothing runs yet; start one with: broker-jobs worker start"]
    pools = [Pool(worker.resources) for worker in workers]
    return [
        f"no worker seen so far could meet the request {placement.resource_class} of job {short(job.id)}; it waits"
        for placement in placements
        if not any(pool.could_ever_fit(placement.options.resources) for pool in pools)
    ]
