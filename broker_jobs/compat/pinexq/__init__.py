"""pinexQ's client for jobs: a program moves by importing from here instead of from ``pinexq.client.job_management``.

Names and signatures are those of its documentation and of version 2.7 of its client. What is better on purpose, and what is left out,
is in docs/faces.md.
"""

from __future__ import annotations

from broker_jobs import Client
from broker_jobs.compat.pinexq.exceptions import (
    ApiException,
    ClientException,
    NotAvailableException,
    PollingException,
    TemporarilyNotAvailableException,
)
from broker_jobs.compat.pinexq.group import JobGroup
from broker_jobs.compat.pinexq.job import InputDataSlotParameterFlexible, Job
from broker_jobs.compat.pinexq.queries import JobQuery, ProcessingStepQuery, WorkDataQuery
from broker_jobs.compat.pinexq.states import JobStates
from broker_jobs.compat.pinexq.step import ProcessingStep
from broker_jobs.compat.pinexq.tags import tag_dict_to_list, tag_list_to_dict, tag_list_update
from broker_jobs.compat.pinexq.workdata import WorkData

__all__ = [
    "ApiException",
    "ClientException",
    "InputDataSlotParameterFlexible",
    "Job",
    "JobGroup",
    "JobQuery",
    "JobStates",
    "NotAvailableException",
    "PollingException",
    "ProcessingStep",
    "ProcessingStepQuery",
    "TemporarilyNotAvailableException",
    "WorkData",
    "WorkDataQuery",
    "create_pinexq_client",
    "enter_jma",
    "tag_dict_to_list",
    "tag_list_to_dict",
    "tag_list_update",
]


def create_pinexq_client(pinexq_api_endpoint: str | None = None, api_key: str | None = None, timeout: float = 30.0) -> Client:
    """A client of broker-jobs in place of one of httpx: address of the broker, signing key, seconds to wait for an answer."""
    return Client(pinexq_api_endpoint, signing_key=api_key, timeout=timeout)


def enter_jma(client: Client) -> Client:
    """The client itself: there is no page to enter by."""
    return client
