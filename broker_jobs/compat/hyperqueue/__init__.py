"""The Python interface of HyperQueue 0.27: a program moves by importing from here instead of from ``hyperqueue``.

Modules, names, signatures and defaults are HyperQueue's. What is different is better on purpose; docs/hyperqueue.md lists it.
"""

from __future__ import annotations

from broker_jobs.compat.hyperqueue.client import Client, FailedJobsException
from broker_jobs.compat.hyperqueue.cluster import LocalCluster, WorkerConfig
from broker_jobs.compat.hyperqueue.ffi import JobId, TaskId, get_version
from broker_jobs.compat.hyperqueue.ffi.client import FailedTaskContext
from broker_jobs.compat.hyperqueue.ffi.protocol import ResourceRequest
from broker_jobs.compat.hyperqueue.job import Job, SubmittedJob
from broker_jobs.compat.hyperqueue.output import StdioDef, default_stderr, default_stdout
from broker_jobs.compat.hyperqueue.task.function import PythonEnv, PythonFunction
from broker_jobs.compat.hyperqueue.task.program import ExternalProgram
from broker_jobs.compat.hyperqueue.task.task import Task
from broker_jobs.compat.hyperqueue.validation import ValidationException
from broker_jobs.compat.hyperqueue.visualization import visualize_job

__all__ = [
    "Client",
    "ExternalProgram",
    "FailedJobsException",
    "FailedTaskContext",
    "Job",
    "JobId",
    "LocalCluster",
    "PythonEnv",
    "PythonFunction",
    "ResourceRequest",
    "StdioDef",
    "SubmittedJob",
    "Task",
    "TaskId",
    "ValidationException",
    "WorkerConfig",
    "default_stderr",
    "default_stdout",
    "get_version",
    "visualize_job",
]
