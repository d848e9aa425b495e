"""What a task is told of its allocation, as environment variables."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from broker_jobs.core.spec import Pin

if TYPE_CHECKING:
    from broker_jobs.core.request import Need
    from broker_jobs.core.resources import Allocation, Resources

CUDA: Final = "CUDA_VISIBLE_DEVICES"
ROCR: Final = "ROCR_VISIBLE_DEVICES"

_VISIBLE: Final = {"gpus": CUDA, "gpus/amd": ROCR, "gpus/nvidia": CUDA}
"""Which variable tells the libraries which of a resource a task may use."""


def allotment(allocation: Allocation, total: Resources, pin: Pin | None) -> dict[str, str]:
    """The variables of an allocation.

    Args:
        allocation: of the task
        total: what the worker has
        pin: how the task is held to its processors
    """
    cpus = allocation.labels("cpus")
    listed = ",".join(cpus)
    env = {"BROKER_JOBS_CPUS": listed}
    if cpus:
        env["OMP_NUM_THREADS"] = str(len(cpus))
    for grant in allocation.grants:
        name = _variable(grant.need.name)
        env[f"BROKER_JOBS_RESOURCE_REQUEST_{name}"] = _asked(grant.need)
        if grant.labels:
            values = ",".join(grant.labels)
            env[f"BROKER_JOBS_RESOURCE_VALUES_{name}"] = values
            if grant.resource != grant.need.name:
                env[f"BROKER_JOBS_RESOURCE_VALUES_{_variable(grant.resource)}"] = values
    if len(allocation.request.variants) > 1:
        env["BROKER_JOBS_RESOURCE_VARIANT"] = str(allocation.variant)
    for name, _ in total.amounts:
        visible = _VISIBLE.get(name)
        if visible is not None and not env.get(visible):
            # Where the worker gives out graphics processors, a task without any shall see none.
            env[visible] = ",".join(allocation.labels(name))
    if env.get(CUDA):
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if pin is not None and cpus:
        env["BROKER_JOBS_PIN"] = pin.value
        if pin is Pin.omp:
            env |= {"OMP_PLACES": f"{{{listed}}}", "OMP_PROC_BIND": "close"}
    return env


@lru_cache(maxsize=1000)
def _asked(need: Need) -> str:
    return str(need)


@lru_cache(maxsize=1000)
def _variable(name: str) -> str:
    """The name of a resource as a part of the name of a variable."""
    return re.sub("[^A-Za-z0-9]", "_", name)
