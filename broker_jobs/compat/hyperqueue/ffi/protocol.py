"""What a task asks of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import broker_jobs

if TYPE_CHECKING:
    import datetime

_MEBIBYTE: Final = 2**20


class ResourceRequest:
    """What a task needs: whole nodes, or amounts of resources.

    Args:
        n_nodes: whole workers, all at once
        cpus: a number, or a text with a policy, such as ``"4 scatter"`` or ``"all"``
        resources: further resources by name; ``mem`` is in MiB, as HyperQueue detects it
        min_time: lifetime that the worker has left at least
    """

    def __init__(
        self,
        *,
        n_nodes: int = 0,
        cpus: float | str = 1,
        resources: dict[str, float | str] | None = None,
        min_time: datetime.timedelta | None = None,
    ) -> None:
        self.n_nodes = n_nodes
        self.resources: dict[str, float | str] = {**(resources or {}), "cpus": cpus}
        self.min_time = min_time

    def native(self) -> broker_jobs.ResourceRequest:
        """The same for broker-jobs; `ValidationError` where it cannot be met by any worker."""
        further: dict[str, Any] = dict(self.resources)
        given: dict[str, Any] = {"cpus": further.pop("cpus")}
        if "mem" in further:
            given["memory"] = round(float(further.pop("mem")) * _MEBIBYTE)
        if "gpus" in further:
            given["gpus"] = further.pop("gpus")
        if self.n_nodes:
            given["nodes"] = self.n_nodes
        if self.min_time is not None:
            given["min_time"] = self.min_time
        return broker_jobs.ResourceRequest(resources=further, **given)

    def __repr__(self) -> str:
        return f"<ResourceRequest n_nodes={self.n_nodes} resources={self.resources} min_time={self.min_time}>"
