"""A job: one call of a step, configured, started and followed as in pinexQ."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import broker_jobs
from broker_jobs import StepRun, SubmittedJob, ValidationError, current
from broker_jobs.compat.pinexq.exceptions import ApiException, NotAvailableException, PollingException, PollingTimeout, translated
from broker_jobs.compat.pinexq.states import ENDED, STATES, JobStates, current_state, known_state
from broker_jobs.compat.pinexq.step import ProcessingStep, find
from broker_jobs.compat.pinexq.tags import HIDDEN, labels, link, linked
from broker_jobs.compat.pinexq.workdata import WorkData

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from broker_jobs import Client
    from broker_jobs.compat.pinexq.step import ProcessingView

_ORDER: Final = (JobStates.created, JobStates.ready_for_processing, JobStates.pending, JobStates.processing)


@dataclass(frozen=True, slots=True)
class InputDataSlotParameterFlexible:
    """The data of one slot."""

    index: int
    data: Sequence[WorkData | str]

    @classmethod
    def create(
        cls, *, index: int, work_data_urls: Sequence[str] | None = None, work_data_instances: Sequence[WorkData] | None = None
    ) -> Self:
        """Of links, or of data."""
        return cls(index, _one_of(work_data_urls=work_data_urls, work_data_instances=work_data_instances))


@dataclass(frozen=True, slots=True)
class DataSlot:
    """A slot of a job for data, with what is in it; while the job runs, what was written so far, with `read` alone."""

    name: str
    title: str
    description: str
    media_type: str
    workdatas: list[Any]

    @property
    def is_configured(self) -> bool:
        """Whether something is in it."""
        return bool(self.workdatas)

    @property
    def selected_workdatas(self) -> list[Any]:
        """What it takes."""
        return self.workdatas

    assigned_workdatas = selected_workdatas


class Job:
    """A call of a step; what configures it returns it, so that calls can be chained.

    Before `start` it lives in the process that has made it. A job that is made inside a step is a sub-job of the step's own.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.name: str | None = None
        self._tags: list[str] = []
        self._call: StepRun | None = None
        self._slots: dict[str, list[broker_jobs.WorkData]] = {}
        self._native: SubmittedJob | None = None

    # --- made and found ---

    def create(self, name: str) -> Self:
        """Give it a name; nothing is sent before `start`."""
        self.name = name
        return self

    @classmethod
    def over(cls, client: Client, native: SubmittedJob) -> Self:
        """The face of a job that was submitted."""
        job = cls(client).create(native.name or native.info().name)
        job._native = native  # noqa: SLF001 (of its own class)
        return job

    @classmethod
    @translated()
    def from_url(cls, client: Client, job_url: str) -> Self:
        """The started job that a link names; inside a step, ``Job.from_url(client, "broker-jobs:job/" + current.job)`` is its own."""
        return cls.over(client, client.job(*linked("job", job_url)))

    def create_sub_job(self, name: str) -> Job:
        """Make a job below this one; `NotAvailableException` anywhere but inside the step that this job runs."""
        if not current or current.job != self.native.id:
            raise NotAvailableException("sub-jobs are made inside the step whose job is their parent")
        return Job(self.client).create(name)

    @translated()
    def create_and_configure_rapidly(
        self,
        *,
        name: str,
        parent_job_url: str | None = None,
        parent_job_instance: Job | None = None,
        tags: list[str] | None = None,
        processing_step_url: str | None = None,
        processing_step_instance: ProcessingStep | None = None,
        start: bool = True,
        parameters: str | None = None,
        input_data_slots: Sequence[InputDataSlotParameterFlexible] = (),
    ) -> Self:
        """All of it at once; `parameters` is a JSON text. With an instance of the step nothing is asked before the job is sent."""
        if parent_job_url is not None or parent_job_instance is not None:
            parent = _one_of(parent_job_url=parent_job_url, parent_job_instance=parent_job_instance)
            (Job.from_url(self.client, parent) if isinstance(parent, str) else parent).create_sub_job(name)
        self.create(name).select_processing(processing_step_link=processing_step_url, processing_step_instance=processing_step_instance)
        self.set_tags(tags or []).configure_parameters(**json.loads(parameters or "{}"))
        for slot in input_data_slots:
            self._assign(slot.index, slot.data)
        return self.start() if start else self

    # --- before it starts ---

    @translated()
    def select_processing(
        self,
        function_name: str | None = None,
        function_version: str | None = None,
        *,
        version: str | None = None,
        processing_step_link: str | None = None,
        processing_step_instance: ProcessingStep | None = None,
    ) -> Self:
        """Choose the step, by exactly one of name, link and instance; parameters and data that were given before are dropped.

        Of several versions one must be named, by `function_version` or `version`, as pinexQ's document says; its client takes any.

        Raises:
            ValueError: not exactly one was given
            UnknownStep: there is none, or several versions fit (a `NameError`); the text lists what there is
        """
        self._unstarted()
        _one_of(function_name=function_name, processing_step_link=processing_step_link, processing_step_instance=processing_step_instance)
        if function_version is not None and version is not None:
            raise ValueError("give function_version or version, which are the same")
        if processing_step_instance is not None:
            if not isinstance(processing_step_instance, ProcessingStep):
                raise TypeError(f"processing_step_instance must be a ProcessingStep, not {processing_step_instance!r:.100}")
            spec = processing_step_instance.call.spec
        elif processing_step_link is not None:
            spec = ProcessingStep.from_url(self.client, processing_step_link).call.spec
        else:
            spec = find(self.client, str(function_name), function_version or version).spec
        self._call, self._slots = StepRun(self.client, spec), {}
        return self

    @translated()
    def configure_parameters(self, **parameters: Any) -> Self:
        """Set parameters; what does not fit is refused at once, with its place."""
        self._configurable().configure(**parameters)
        return self

    @translated()
    def set_tags(self, tags: list[str]) -> Self:
        """Set its tags, in place of those that it had."""
        self._unstarted()
        self._tags = [*labels(tags), *([HIDDEN] if HIDDEN in self._tags else [])]
        return self

    def hide(self) -> Self:
        """Keep it out of queries that do not ask for what is hidden."""
        self._unstarted()
        self._tags = [*self.tags, HIDDEN]
        return self

    @translated()
    def assign_input_dataslot(self, index: int, *, work_data_link: str | None = None, work_data_instance: WorkData | None = None) -> Self:
        """Put data into a slot."""
        return self._assign(index, [_one_of(work_data_link=work_data_link, work_data_instance=work_data_instance)])

    @translated()
    def assign_collection_input_dataslot(
        self, index: int, *, work_data_links: Sequence[str] | None = None, work_data_instances: Sequence[WorkData] | None = None
    ) -> Self:
        """Put a collection into a slot; its order is kept."""
        return self._assign(index, _one_of(work_data_links=work_data_links, work_data_instances=work_data_instances))

    @translated()
    def clear_input_dataslot(self, index: int) -> Self:
        """Empty a slot; where it is empty, nothing (pinexQ returns None then, which ends a chain)."""
        call = self._configurable()
        self._slots.pop(self._slot(index), None)
        self._call = StepRun(self.client, call.spec).configure(**call.parameters).inputs(**self._inputs(self._slots))
        return self

    @translated()
    def start(self) -> Self:
        """Submit it; `NotAvailableException` where something of it is missing, or it was started."""
        call = self._configurable()
        try:
            self._native = call.named(str(self.name)).tags(self._tags).start().job
        except ValidationError as error:
            raise NotAvailableException(f"job {self.name!r} cannot be started: {error}") from error
        return self

    # --- afterwards ---

    @property
    def native(self) -> SubmittedJob:
        """The job as broker-jobs has it; `NotAvailableException` before it was started."""
        if self._native is None:
            self._there()
            raise NotAvailableException(f"job {self.name!r} was not started: call start()")
        return self._native

    @property
    def job_hco(self) -> Self:
        """Itself: what pinexQ's has as fields are properties here."""
        return self

    @property
    def tags(self) -> list[str]:
        """To find it by."""
        return [tag for tag in (self._tags if self._native is None else self._native.info().tags) if tag != HIDDEN]

    def self_link(self) -> str:
        """The text that finds it again, from any process."""
        return link("job", self.native.id)

    @translated()
    def refresh(self) -> Self:
        """Ask the ledger whether it is there."""
        self.native.info()
        return self

    @translated()
    def get_state(self) -> JobStates:
        """Where it is; asks the ledger, unless it is known here."""
        if self._native is not None:
            return current_state(self._native)
        self._there()
        return STATES[self._call.state] if self._call else JobStates.created

    state = property(get_state)

    def get_name(self) -> str:
        """What it is called."""
        self._there()
        return str(self.name)

    @translated()
    def get_worker_id(self) -> str | None:
        """The worker that runs it, or has run it."""
        return self.native.tasks([0])[0].worker or None

    @translated()
    def get_processing_info(self) -> ProcessingView:
        """What it does."""
        return self._step().view()

    @translated()
    def get_result(self) -> Any:
        """What the step has returned; None before it has completed."""
        return self.native.result(0) if self._native and self.get_state() is JobStates.completed else None

    @property
    def result(self) -> str | None:
        """What the step has returned, as a JSON text; None before it has completed."""
        return json.dumps(self.get_result()) if self.get_state() is JobStates.completed else None

    @property
    def error_description(self) -> str | None:
        """Why it did not complete: type and text of the exception, and the traceback, which pinexQ's worker does not tell."""
        match self.get_state():
            case JobStates.error:
                error = self.native.errors()[0]
                return f"{error.message}\n\n{error.traceback}".rstrip()
            case JobStates.canceled:
                return self.native.info().reason
            case _:
                return None

    @translated()
    def wait_for_state(self, state: JobStates, timeout_s: float | None = None, polling_interval_s: float = 1.0) -> Self:
        """Wait until it is in a state, or past it; ends are pushed, and `polling_interval_s` is for `processing` alone.

        Raises:
            PollingException: it has failed, or was canceled; in pinexQ the wait for a canceled one has no end
            PollingTimeout: it has not come there in time (a `TimeoutError`)
        """
        state, deadline = JobStates(state), time.monotonic() + (float("inf") if timeout_s is None else timeout_s)
        if state in ENDED and not self.native.view.ended:
            try:
                self.native.wait(timeout_s)
            except TimeoutError:
                raise self._late() from None
        while (now := self.get_state()) in (_ORDER[: _ORDER.index(state)] if state in _ORDER else ()):
            self.native  # noqa: B018 (nobody starts what was not started while this waits)
            if (left := deadline - time.monotonic()) <= 0:
                raise self._late()
            time.sleep(min(polling_interval_s, left))
        if now in ENDED and now is not state and (state in ENDED or now is not JobStates.completed):
            raise PollingException(f"Job {self.name!r} failed: it is {now}. Error: {self.error_description}")
        return self

    def wait_for_state_sse(self, state: JobStates, timeout_s: float | None = None, fallback_polling_interval_s: float = 1.0) -> Self:
        """As `wait_for_state`."""
        return self.wait_for_state(state, timeout_s, fallback_polling_interval_s)

    def wait_for_completion(self, timeout_s: float | None = None) -> Self:
        """Wait until it has completed; as `wait_for_state`."""
        return self.wait_for_state(JobStates.completed, timeout_s)

    @translated()
    def get_sub_jobs(self) -> list[Job]:
        """Jobs that its step has started, the newest first; not there in pinexQ."""
        return [Job.over(self.client, native) for native in self.native.sub_jobs()]

    @translated()
    def sub_jobs_in_state(self, state: JobStates) -> int:
        """How many of them are in a state."""
        return sum(known_state(native) == state for native in self.native.sub_jobs())

    @translated()
    def wait_for_sub_jobs_complete(self, timeout_s: float = 60.0) -> Self:
        """Wait until all of them have ended, in this time altogether (in pinexQ it counts twice).

        Raises:
            PollingException: one has not completed
            PollingTimeout: one has not ended in time
        """
        deadline = time.monotonic() + timeout_s
        while left := [native for native in self.native.sub_jobs() if not native.view.ended]:
            try:
                self.client.wait_for_jobs(left, timeout=max(deadline - time.monotonic(), 0), raise_on_error=False, progress=False)
            except TimeoutError:
                raise PollingTimeout(f"Timeout waiting for {len(left)} sub-jobs of {self.name!r}") from None
        failed = [f"{native.name} is {known_state(native)}" for native in self.native.sub_jobs() if native.view.state != "succeeded"]
        if failed:
            raise PollingException(f"sub-jobs of {self.name!r} have not completed: {', '.join(failed)}")
        return self

    @translated()
    def get_input_data_slots(self) -> list[DataSlot]:
        """Its slots for data; of a job of another process without the data in them, which `WorkDataQuery` finds."""
        return self._filled(self._step().call.spec.inputs, self._slots)

    @translated()
    def get_output_data_slots(self) -> list[DataSlot]:
        """What it has made; while it runs, what was written so far."""
        found: dict[str, Any] = {}
        if self._native and self._call:
            found = self._call.outputs()
        elif self._native:
            for data in reversed(self.client.datasets(job=self._native, limit=None)):
                found.setdefault(data.info.slot, []).append(data)
        return self._filled(self._step().call.spec.outputs, found)

    @translated()
    def delete(self) -> Self:
        """Drop it for good; `NotAvailableException` while it runs, or where it has data that it has made, or sub-jobs."""
        self._there()
        if self._native is not None:
            self._native.forget()
        self._end()
        return self

    def delete_with_associated(
        self, *, delete_output_workdata: bool = True, delete_input_workdata: bool = False, delete_subjobs_with_data: bool = True
    ) -> None:
        """Drop it with what belongs to it, bottom up, as far as the rules allow; what has to stay is warned of, each part with why."""
        if self._native is None:
            self.delete()
            return
        outputs, inputs, sub_jobs = delete_output_workdata, delete_input_workdata, delete_subjobs_with_data
        with translated():
            kept = self._native.delete_with_associated(
                delete_output_data=outputs, delete_input_data=inputs, delete_subjobs_with_data=sub_jobs
            ).kept
        for part in kept:
            warnings.warn(str(part), stacklevel=2)
        if self._native.id not in {part.id for part in kept}:
            self._end()

    # --- inside ---

    def _there(self) -> None:
        if self.name is None:
            raise NotAvailableException("there is no job: create(name) makes it, and delete() ends it")

    def _unstarted(self) -> None:
        self._there()
        if self._native is not None:
            raise NotAvailableException(f"job {self.name!r} was started already, and cannot be configured")

    def _configurable(self) -> StepRun:
        self._unstarted()
        if self._call is None:
            raise NotAvailableException(f"job {self.name!r} has no step: call select_processing()")
        return self._call

    def _filled(self, slots: Sequence[Any], found: Mapping[str, Any]) -> list[DataSlot]:
        made = []
        for spec in slots:
            data = found.get(spec.name, [])
            faces = [WorkData.of(self.client, each) if isinstance(each, broker_jobs.WorkData) else each for each in _several(data)]
            made.append(DataSlot(spec.name, spec.title, spec.description, spec.media_type, faces))
        return made

    def _slot(self, index: int) -> str:
        slots = self._configurable().spec.inputs
        if not 0 <= index < len(slots):
            raise ApiException(f"there is no slot {index}: the step has {len(slots)}")
        return slots[index].name

    def _assign(self, index: int, data: Sequence[WorkData | str]) -> Self:
        call = self._configurable()
        given = [WorkData.from_url(self.client, each) if isinstance(each, str) else each for each in data]
        slots = {**self._slots, self._slot(index): [each.native for each in given]}
        call.inputs(**self._inputs(slots))
        self._slots = slots
        return self

    def _inputs(self, slots: Mapping[str, list[broker_jobs.WorkData]]) -> dict[str, Any]:
        several = {spec.name for spec in self._configurable().spec.inputs if spec.collection}
        return {name: data if name in several or len(data) != 1 else data[0] for name, data in slots.items()}

    def _step(self) -> ProcessingStep:
        """Its step: of a job of another process, as its task asks for it."""
        if self._call is not None:
            return ProcessingStep(self.client, self._call)
        options = self.native.tasks([0])[0].options
        for feature in [one for variant in (options.resources.alternatives if options else ()) for one in variant.features]:
            if feature.startswith("step "):
                return ProcessingStep(self.client, find(self.client, *feature.split()[1:]))
        raise NotAvailableException(f"job {self.name!r} is no call of a step")

    def _late(self) -> PollingTimeout:
        return PollingTimeout(f"Timeout waiting for Job state. Current state: {self.get_state()} (job {self.name!r})")

    def _end(self) -> None:
        self.name, self._native, self._call = None, None, None


def _several(data: Any) -> Sequence[Any]:
    return data if isinstance(data, list) else [data]


def _one_of(**given: Any) -> Any:
    """The one that is given; `ValueError` where it is not just one."""
    there = [value for value in given.values() if value is not None]
    if len(there) != 1:
        raise ValueError(f"Exactly one parameter must be provided: {', '.join(given)}")
    return there[0]
