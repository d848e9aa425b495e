"""A job and its states, and the step that it calls, as pinexQ names them."""

from __future__ import annotations

import json
import warnings
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from broker_jobs import StepRun, StepState, current
from broker_jobs.compat.pinexq.data import WorkData, labels
from broker_jobs.compat.pinexq.exceptions import ApiException, NotAvailableException, PollingException, Translating

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs import Client, SubmittedJob


class JobStates(StrEnum):
    """Where a job is; never `undefined` or `data_missing`, since data that a job takes cannot be deleted."""

    undefined = "Undefined"
    created = "Created"
    ready_for_processing = "ReadyForProcessing"
    pending = "Pending"
    processing = "Processing"
    completed = "Completed"
    error = "Error"
    canceled = "Canceled"
    data_missing = "DataMissing"


_OURS: Final = {
    JobStates.created: ("created",),
    JobStates.ready_for_processing: ("ready",),
    JobStates.pending: ("waiting", "queued", "paused"),
    JobStates.processing: ("running", "retrying", "canceling"),
    JobStates.completed: ("succeeded",),
    JobStates.error: ("failed",),
    JobStates.canceled: ("canceled", "aborted"),
}
STATES: Final = {StepState(ours): theirs for theirs, several in _OURS.items() for ours in several}
HIDDEN: Final = "pinexq-hidden"  # the tag of jobs that queries leave out
ENDED: Final = frozenset({JobStates.completed, JobStates.error, JobStates.canceled, JobStates.data_missing})


class ProcessingStep(Translating):
    """One version of a step, as workers have announced it; `spec` has its title, tags, schemas and slots."""

    def __init__(self, call: StepRun) -> None:
        self.spec = call.spec
        self.version = str(call.spec.version)

    @classmethod
    def from_name(cls, client: Client, step_name: str, version: str = "*") -> Self:
        """The version, or the latest of a range (``*``, ``^1.2``) that is neither deprecated nor a pre-release."""
        return cls(client.step(step_name, version))

    def self_link(self) -> str:
        """The text that finds it again: name and version."""
        return str(self.spec)


class OutputDataSlot(NamedTuple):
    """A slot of a job, with what it has made; while the job runs, with what was written so far, which can only be downloaded."""

    name: str
    assigned_workdatas: list[WorkData]


class Job(Translating):
    """A call of a step, which only this process knows before `start`; one that is made inside a step is a sub-job of the step's own."""

    def __init__(self, client: Client, native: SubmittedJob | None = None) -> None:
        self.client = client
        self.name = None if native is None else native.name or native.info().name
        self._tags: list[str] = []
        self._run: StepRun | None = None
        self._native = native

    @classmethod
    def from_url(cls, client: Client, job_url: str) -> Self:
        """The started job that a link names; inside a step, ``Job.from_url(client, current.job)`` is its own."""
        return cls(client, client.job(job_url))

    def create(self, name: str) -> Self:
        """Give it a name; nothing is sent before `start`."""
        self.name = name
        return self

    def create_sub_job(self, name: str) -> Job:
        """Make a job below this one; `NotAvailableException` anywhere but inside the step that this job runs."""
        if not current or current.job != self.native.id:
            raise NotAvailableException("sub-jobs are made inside the step whose job is their parent")
        return Job(self.client).create(name)

    def create_and_configure_rapidly(
        self,
        *,
        name: str,
        tags: list[str] | None = None,
        processing_step_url: str | None = None,
        processing_step_instance: ProcessingStep | None = None,
        start: bool = True,
        parameters: str | None = None,
    ) -> Self:
        """All of it at once; `parameters` is a JSON text. With an instance of the step nothing is asked before the job is sent."""
        self.create(name).select_processing(processing_step_link=processing_step_url, processing_step_instance=processing_step_instance)
        self.set_tags(tags or []).configure_parameters(**json.loads(parameters or "{}"))
        return self.start() if start else self

    def select_processing(
        self,
        function_name: str | None = None,
        function_version: str | None = None,
        *,
        version: str | None = None,
        processing_step_link: str | None = None,
        processing_step_instance: ProcessingStep | None = None,
    ) -> Self:
        """Choose the step, by exactly one of name, link and instance; what was given before is dropped. Of several versions name one."""
        self._unstarted()
        _one_of(function_name=function_name, processing_step_link=processing_step_link, processing_step_instance=processing_step_instance)
        if function_version is not None and version is not None:
            raise ValueError("give function_version or version, which are the same")
        if not isinstance(processing_step_instance, ProcessingStep | None):
            raise TypeError(f"processing_step_instance must be a ProcessingStep, not {processing_step_instance!r:.100}")
        if processing_step_instance is not None:
            self._run = StepRun(self.client, processing_step_instance.spec)
        else:
            name, _, linked = (function_name or processing_step_link or "").partition(" ")
            self._run = self.client.step(name, linked or function_version or version)
        return self

    def configure_parameters(self, **parameters: Any) -> Self:
        """Set parameters; what does not fit is refused at once, with its place."""
        self._call().configure(**parameters)
        return self

    def set_tags(self, tags: list[str]) -> Self:
        """Set its tags, in place of those that it had."""
        self._unstarted()
        self._tags = list(dict.fromkeys([*labels(tags), *(tag for tag in self._tags if tag == HIDDEN)]))
        return self

    def hide(self) -> Self:
        """Keep it out of queries that do not ask for what is hidden."""
        return self.set_tags([*self.tags, HIDDEN])

    def assign_input_dataslot(self, index: int, *, work_data_link: str | None = None, work_data_instance: WorkData | None = None) -> Self:
        """Put data into a slot."""
        return self._put(index, [_one_of(work_data_link=work_data_link, work_data_instance=work_data_instance)])

    def assign_collection_input_dataslot(
        self, index: int, *, work_data_links: Sequence[str] | None = None, work_data_instances: Sequence[WorkData] | None = None
    ) -> Self:
        """Put a collection into a slot; its order is kept."""
        return self._put(index, _one_of(work_data_links=work_data_links, work_data_instances=work_data_instances))

    def start(self) -> Self:
        """Submit it; `NotAvailableException` where something of it is missing, or it was started."""
        self._native = self._call().named(self.get_name()).tags(self._tags).start().job
        return self

    @property
    def native(self) -> SubmittedJob:
        """The job as broker-jobs has it; `NotAvailableException` before it was started."""
        if self._native is None:
            raise NotAvailableException(f"job {self.get_name()!r} was not started: call start()")
        return self._native

    @property
    def tags(self) -> list[str]:
        """To find it by."""
        return [tag for tag in (self._tags if self._native is None else self._native.info().tags) if tag != HIDDEN]

    def self_link(self) -> str:
        """The text that finds it again, from any process: its id."""
        return self.native.id

    def get_name(self) -> str:
        """What it is called."""
        if self.name is None:
            raise NotAvailableException("there is no job: create(name) makes it, and delete() ends it")
        return self.name

    def get_state(self) -> JobStates:
        """Where it is; asks the ledger, unless it is known here."""
        self.get_name()
        if self._native is None:
            return STATES[self._run.state] if self._run else JobStates.created
        return STATES[StepState(self._native.state)]

    def get_result(self) -> Any:
        """What the step has returned; None before it has completed."""
        return self.native.result(0) if self.get_state() is JobStates.completed else None

    @property
    def result(self) -> str | None:
        """What the step has returned, as a JSON text; None before it has completed."""
        return json.dumps(self.get_result()) if self.get_state() is JobStates.completed else None

    @property
    def error_description(self) -> str | None:
        """Why it did not complete: type and text of the exception, and the traceback, which pinexQ's worker does not tell."""
        state = self.get_state()
        if state is JobStates.error:
            return str(self.native.errors()[0])
        return self.native.info().reason if state is JobStates.canceled else None

    def wait_for_state(self, state: JobStates, timeout_s: float | None = None, polling_interval_s: float = 1.0) -> Self:  # noqa: ARG002 (nothing polls)
        """Wait until it is in a state, or past it; `PollingException` where it ends otherwise, `PollingTimeout` where it takes too long."""
        if self.get_state() != state:
            (self.native.wait if state in ENDED else self.native.wait_for_start)(timeout_s)
            now = self.get_state()
            if now in ENDED - {state} and (state in ENDED or now is not JobStates.completed):
                raise PollingException(f"Job {self.name!r} failed: it is {now}. Error: {self.error_description}")
        return self

    def wait_for_completion(self, timeout_s: float | None = None) -> Self:
        """Wait until it has completed; as `wait_for_state`."""
        return self.wait_for_state(JobStates.completed, timeout_s)

    def wait_for_sub_jobs_complete(self, timeout_s: float = 60.0) -> Self:
        """Wait until all of them have ended, in this time altogether; `PollingException` where one has not completed."""
        self.native.wait_for_sub_jobs(timeout_s)
        return self

    def get_output_data_slots(self) -> list[OutputDataSlot]:
        """What it has made, by slot; while it runs, what was written so far."""
        run, slots = self._call(), []
        made = run.outputs() if self._native else {}
        for slot in run.spec.outputs:
            data = made.get(slot.name, [])
            slots.append(OutputDataSlot(slot.name, [WorkData(self.client, each) for each in (data if isinstance(data, list) else [data])]))
        return slots

    def delete(self) -> Self:
        """Drop it for good; `NotAvailableException` while it runs, or where it has data that it has made, or sub-jobs."""
        self.get_name()
        if self._native is not None:
            self._native.forget()
        self.name = self._native = self._run = None
        return self

    def delete_with_associated(
        self, *, delete_output_workdata: bool = True, delete_input_workdata: bool = False, delete_subjobs_with_data: bool = True
    ) -> None:
        """Drop it with what belongs to it, bottom up, as far as the rules allow; what has to stay is warned of, each part with why."""
        if self._native is None:
            self.delete()
            return
        deletion = self._native.delete_with_associated(
            delete_output_data=delete_output_workdata,
            delete_input_data=delete_input_workdata,
            delete_subjobs_with_data=delete_subjobs_with_data,
        )
        for part in deletion.kept:
            warnings.warn(str(part), stacklevel=3)
        if self._native.id not in {part.id for part in deletion.kept}:
            self.name = self._native = self._run = None

    def _unstarted(self) -> None:
        if self._native is not None:
            raise NotAvailableException(f"job {self.name!r} was started already, and cannot be configured")

    def _call(self) -> StepRun:
        """Its call of a step; of a job that another process has started, as the ledger has it."""
        if self._run is None and self._native is not None:
            self._run = self.client.step_run(self._native)
        if self._run is None:
            raise NotAvailableException(f"job {self.get_name()!r} has no step: call select_processing()")
        return self._run

    def _put(self, index: int, given: Sequence[WorkData | str]) -> Self:
        run = self._call()
        if not 0 <= index < len(run.spec.inputs):
            raise ApiException(f"there is no slot {index}: the step has {len(run.spec.inputs)}")
        slot = run.spec.inputs[index]
        data = [self.client.data(each) if isinstance(each, str) else each.native for each in given]
        run.inputs(**{slot.name: data if slot.collection or len(data) != 1 else data[0]})
        return self


def _one_of(**given: Any) -> Any:
    """The one that is given; `ValueError` where it is not just one."""
    there = [value for value in given.values() if value is not None]
    if len(there) != 1:
        raise ValueError(f"Exactly one parameter must be provided: {', '.join(given)}")
    return there[0]
