"""The publisher library: jobs, clients, a cluster on this machine. The names are those of `broker_jobs`, which loads them as needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker_jobs import AsyncClient, AsyncSubmittedJob, Client, Job, LocalCluster, SubmittedJob, Task, TaskArray

__all__ = ["AsyncClient", "AsyncSubmittedJob", "Client", "Job", "LocalCluster", "SubmittedJob", "Task", "TaskArray"]


def __getattr__(name: str) -> object:
    """A public name, loaded now."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import broker_jobs

    value: object = getattr(broker_jobs, name)
    globals()[name] = value
    return value
