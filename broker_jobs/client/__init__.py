"""The publisher library: jobs, clients, a cluster on this machine, and what they answer with. Names load where they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from broker_jobs.client.aio import AsyncClient, AsyncSubmittedJob
    from broker_jobs.client.authoring import Job, Task, TaskArray
    from broker_jobs.client.client import Client
    from broker_jobs.client.cluster import LocalCluster
    from broker_jobs.client.inquiry import JobChanged, TaskChanged
    from broker_jobs.client.placeholders import TaskOutput
    from broker_jobs.client.results import TaskError
    from broker_jobs.client.submitted import SubmittedJob
    from broker_jobs.client.worker import LocalWorker

__all__ = [
    "AsyncClient",
    "AsyncStepRun",
    "AsyncSubmittedJob",
    "Client",
    "Job",
    "JobChanged",
    "LocalCluster",
    "LocalWorker",
    "StepRun",
    "StepState",
    "SubmittedJob",
    "Task",
    "TaskArray",
    "TaskChanged",
    "TaskError",
    "TaskOutput",
]

_HOME: Final = {
    "AsyncClient": "aio",
    "AsyncStepRun": "aiosteps",
    "AsyncSubmittedJob": "aio",
    "Client": "client",
    "Job": "authoring",
    "JobChanged": "inquiry",
    "LocalCluster": "cluster",
    "LocalWorker": "worker",
    "StepRun": "steps",
    "StepState": "steps",
    "SubmittedJob": "submitted",
    "Task": "authoring",
    "TaskArray": "authoring",
    "TaskChanged": "inquiry",
    "TaskError": "results",
    "TaskOutput": "authoring",
}


def __getattr__(name: str) -> object:
    """A public name, loaded now."""
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
