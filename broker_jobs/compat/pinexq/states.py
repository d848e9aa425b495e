"""The states of a job, and the one table from ours to them."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from broker_jobs import StepState

if TYPE_CHECKING:
    from broker_jobs import SubmittedJob


class JobStates(StrEnum):
    """Where a job is."""

    undefined = "Undefined"
    """Never here."""
    created = "Created"
    ready_for_processing = "ReadyForProcessing"
    pending = "Pending"
    processing = "Processing"
    completed = "Completed"
    error = "Error"
    canceled = "Canceled"
    data_missing = "DataMissing"
    """Never here: data that a job takes cannot be deleted."""


STATES: Final = {
    StepState.created: JobStates.created,
    StepState.ready: JobStates.ready_for_processing,
    StepState.waiting: JobStates.pending,
    StepState.queued: JobStates.pending,
    StepState.paused: JobStates.pending,
    StepState.running: JobStates.processing,
    StepState.retrying: JobStates.processing,
    StepState.canceling: JobStates.processing,
    StepState.succeeded: JobStates.completed,
    StepState.failed: JobStates.error,
    StepState.canceled: JobStates.canceled,
    StepState.aborted: JobStates.canceled,
}
ENDED: Final = frozenset(STATES[state] for state in StepState if state.ended) | {JobStates.data_missing}


def known_state(job: SubmittedJob) -> JobStates:
    """The state of a job, as far as it is known here."""
    return STATES[StepState(job.view.state.value)]


def current_state(job: SubmittedJob) -> JobStates:
    """The state of a job; asks the ledger, unless its end is known here."""
    return known_state(job) if job.view.ended else STATES[StepState(job.info().state.value)]
