"""pinexQ's client for jobs: a program moves by importing from here instead of from ``pinexq.client.job_management``.

Names are those of its documentation and of version 2.7 of its client; docs/faces.md says what differs. Where it has a fault, ours is right:
waits end with canceled jobs, and count once; a group names who is late; several versions are an error that lists them; errors keep type,
text and traceback; a killed worker loses nothing.
"""

from __future__ import annotations

from broker_jobs import Client
from broker_jobs.compat.pinexq.data import WorkData, tag_list_update
from broker_jobs.compat.pinexq.exceptions import ApiException, NotAvailableException, PollingException
from broker_jobs.compat.pinexq.job import Job, JobStates, ProcessingStep
from broker_jobs.compat.pinexq.several import JobGroup, JobQuery

__all__ = [
    "ApiException",
    "Job",
    "JobGroup",
    "JobQuery",
    "JobStates",
    "NotAvailableException",
    "PollingException",
    "ProcessingStep",
    "WorkData",
    "create_pinexq_client",
    "tag_list_update",
]


def create_pinexq_client(pinexq_api_endpoint: str | None = None, api_key: str | None = None, timeout: float = 30.0) -> Client:
    """A client of broker-jobs in place of one of httpx: address of the broker, signing key, seconds to wait for an answer."""
    return Client(pinexq_api_endpoint, signing_key=api_key, timeout=timeout)
