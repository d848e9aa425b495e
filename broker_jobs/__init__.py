"""A distributed task system over RabbitMQ: graphs of programs and Python functions, embedded by default.

Names load where they are first used, so that ``import broker_jobs`` costs next to nothing in the processes that run tasks.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

# Now, since its module has the same name: whoever imports that module first would put it in place of the object.
from broker_jobs.current import current

if TYPE_CHECKING:
    from broker_jobs.client.aio import AsyncClient, AsyncSubmittedJob
    from broker_jobs.client.aiodata import AsyncWorkData
    from broker_jobs.client.aiosteps import AsyncStepRun
    from broker_jobs.client.authoring import Job, Task, TaskArray
    from broker_jobs.client.client import Client
    from broker_jobs.client.cluster import LocalCluster
    from broker_jobs.client.data import WorkData
    from broker_jobs.client.inquiry import JobChanged, TaskChanged
    from broker_jobs.client.options import Stdio
    from broker_jobs.client.placeholders import TaskOutput
    from broker_jobs.client.results import TaskError
    from broker_jobs.client.steps import StepRun, StepState
    from broker_jobs.client.submitted import SubmittedJob
    from broker_jobs.client.worker import LocalWorker
    from broker_jobs.core.request import ResourceRequest
    from broker_jobs.core.spec import Retry
    from broker_jobs.core.states import JobState, TaskState
    from broker_jobs.errors import (
        BrokerJobsError,
        FailedJobsError,
        TaskAborted,
        TaskCanceled,
        TaskFailed,
        TimeLimitReached,
        ValidationError,
    )
    from broker_jobs.steps import InputData, OutputCollection, OutputData, Slot, step

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "AsyncStepRun",
    "AsyncSubmittedJob",
    "AsyncWorkData",
    "BrokerJobsError",
    "Client",
    "FailedJobsError",
    "InputData",
    "Job",
    "JobChanged",
    "JobState",
    "LocalCluster",
    "LocalWorker",
    "OutputCollection",
    "OutputData",
    "ResourceRequest",
    "Retry",
    "Slot",
    "Stdio",
    "StepRun",
    "StepState",
    "SubmittedJob",
    "Task",
    "TaskAborted",
    "TaskArray",
    "TaskCanceled",
    "TaskChanged",
    "TaskError",
    "TaskFailed",
    "TaskOutput",
    "TaskState",
    "TimeLimitReached",
    "ValidationError",
    "WorkData",
    "__version__",
    "current",
    "step",
]

_MODULES: Final = {
    "client.aio": ("AsyncClient", "AsyncSubmittedJob"),
    "client.aiodata": ("AsyncWorkData",),
    "client.aiosteps": ("AsyncStepRun",),
    "client.data": ("WorkData",),
    "client.steps": ("StepRun", "StepState"),
    "client.authoring": ("Job", "Task", "TaskArray"),
    "client.placeholders": ("TaskOutput",),
    "client.client": ("Client",),
    "client.cluster": ("LocalCluster",),
    "client.options": ("Stdio",),
    "client.inquiry": ("JobChanged", "TaskChanged"),
    "client.results": ("TaskError",),
    "client.submitted": ("SubmittedJob",),
    "client.worker": ("LocalWorker",),
    "core.request": ("ResourceRequest",),
    "core.spec": ("Retry",),
    "core.states": ("JobState", "TaskState"),
    "steps": ("InputData", "OutputCollection", "OutputData", "Slot", "step"),
    "errors": (
        "BrokerJobsError",
        "FailedJobsError",
        "TaskAborted",
        "TaskCanceled",
        "TaskFailed",
        "TimeLimitReached",
        "ValidationError",
    ),
}
_HOME: Final = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """A public name, loaded now."""
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    # Kept, also over a submodule of the same name, which the import has just put here.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All public names, loaded or not."""
    return sorted({*globals(), *__all__})
