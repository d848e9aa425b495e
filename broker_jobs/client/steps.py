"""A call of a step, from its configuration to its result: made, configured, started, followed."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from broker_jobs.client.authoring import Job, slots_of
from broker_jobs.client.calls import user
from broker_jobs.client.data import PartialData, WorkData, parameters_of
from broker_jobs.core.data import plain_part
from broker_jobs.core.outcome import Succeeded
from broker_jobs.data.files import Files
from broker_jobs.errors import ValidationError, WrongStatus
from broker_jobs.ids import short
from broker_jobs.wire.messages import DataInfo, GetOutput, GetWork, StepCall, TaskOutput, WorkInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from broker_jobs.client.client import Client
    from broker_jobs.client.inquiry import Event
    from broker_jobs.client.results import TaskError
    from broker_jobs.client.submitted import SubmittedJob
    from broker_jobs.core.plain import Plain
    from broker_jobs.core.step import StepSpec
    from broker_jobs.wire.messages import CancelResult, TaskInfo


class StepState(StrEnum):
    """Where a call of a step is: that of its task, and two before it is started."""

    created = "created"
    """A parameter without a default is missing, or the data of a slot."""
    ready = "ready"
    """It can be started."""
    waiting = "waiting"
    queued = "queued"
    running = "running"
    paused = "paused"
    retrying = "retrying"
    canceling = "canceling"
    succeeded = "succeeded"
    failed = "failed"
    canceled = "canceled"
    aborted = "aborted"

    @property
    def ended(self) -> bool:
        """Whether it does not change any more."""
        return self in _ENDED


_ENDED = frozenset({StepState.succeeded, StepState.failed, StepState.canceled, StepState.aborted})


class StepRun:
    """One call of a step; made by `Client.step`, and by `Client.step_run` of one that was started.

    What configures it returns it, so that calls can be chained. Before `start` it is known to this process alone; after, it is a job
    of one task, which any process finds by its id.

    Attributes:
        spec: the step
        parameters: plain data, as far as they are configured
        slots: the data in its input slots; of a collection, a list
    """

    def __init__(self, client: Client, spec: StepSpec) -> None:
        from broker_jobs.steps.checking import checker  # jsonschema takes its time

        self.spec = spec
        self.parameters: dict[str, Plain] = {}
        self._client = client
        self._checker = checker(spec)
        self._name = spec.name
        self._tags: tuple[str, ...] = ()
        self.slots: dict[str, WorkData | Sequence[WorkData]] = {}
        self._job: SubmittedJob | None = None

    @classmethod
    def started(cls, client: Client, job: SubmittedJob) -> Self:
        """The call that a job is, as `Client.step_run`."""
        info = job.info()
        work = client.runtime.run(lambda core: core.ask(GetWork(job.id, 0), WorkInfo)) if info.total == 1 else None
        if work is None or not isinstance(work.work, StepCall):
            raise ValidationError(f"job {short(job.id)} {info.name!r} is no call of a step")
        call = work.work
        run = cls(client, client.find_step(call.name, str(call.version)).spec)
        run.parameters = parameters_of(work) or {}
        if call.slots:
            taken = {data.id: data for data in client.datasets(used_by=job, limit=None)}
            several = {slot.name for slot in run.spec.inputs if slot.collection}
            held = {name: [taken[data.id] for data in each] for name, each in call.slots}
            run.slots = {name: each if name in several else each[0] for name, each in held.items()}
        run._name, run._tags, run._job = info.name, info.tags, job
        return run

    # --- before it starts ---

    def configure(self, **parameters: Any) -> Self:
        """Set parameters; those that were set before and are not named keep their values.

        Args:
            parameters: plain data: None, numbers, texts, lists, dictionaries with texts as keys

        Raises:
            ValidationError: one does not fit the step; the text says where. Then nothing is changed
        """
        self._not_started("configured")
        self.parameters = self._checker.check({**self.parameters, **parameters}, later=self._checker.names)
        return self

    def inputs(self, **slots: WorkData | Sequence[WorkData] | None) -> Self:
        """Put data into input slots; of a collection, a list, whose order is kept. Those that are not named keep what is in them.

        None empties a slot.

        Raises:
            ValidationError: there is no such slot, or this does not go into it; the text says why. Then nothing is changed
        """
        self._not_started("given data")
        wanted = {**self.slots, **slots}
        slots_of(self.spec, wanted, partly=True)
        self.slots = {name: data for name, data in wanted.items() if data is not None}
        return self

    def tags(self, tags: Iterable[str]) -> Self:
        """Set the tags of its job, such as ``["nightly", "project=alpha"]``, in place of those that it had."""
        self._not_started("tagged")
        self._tags = Job(tags=tags).tags
        return self

    def named(self, name: str) -> Self:
        """Set what its job is called (default: the name of the step)."""
        self._not_started("named")
        self._name = Job(name).name
        return self

    def start(self) -> Self:
        """Submit it; returns when it cannot be lost any more. With the options of its client (`Client.options`).

        Raises:
            WrongStatus: a parameter is missing, or the data of a slot; or it was started before
            SigningKeyMissing, BrokerBlocked, BrokerUnavailable, SubmitUnknown: as `Client.submit`
        """
        self._not_started("started again")
        if missing := self._missing():
            raise WrongStatus(f"this call of {self.spec} cannot be started: {'; '.join(f'{name}: it is missing' for name in missing)}")
        self._job = self._client.submit(self._written(self.parameters))
        return self

    def start_each(self, rows: Iterable[Mapping[str, Any]]) -> list[StepRun]:
        """Start one run for each row of parameters, all at once; each is a job of its own, and has what is configured here besides.

        Raises:
            ValidationError: the parameters of a row do not fit; the text says which. Then nothing is started
        """
        runs: list[StepRun] = []
        for number, row in enumerate(rows):
            run = StepRun(self._client, self.spec)
            run._name, run._tags, run.slots = self._name, self._tags, self.slots
            try:
                run.parameters = self._checker.check({**self.parameters, **row})
            except ValidationError as error:
                raise ValidationError(f"row {number}: {error}") from None
            runs.append(run)
        for run, job in zip(runs, self._client.submit_each([run._written(run.parameters) for run in runs]), strict=True):  # noqa: SLF001
            run._job = job  # noqa: SLF001 (ours)
        return runs

    # --- afterwards ---

    @property
    def job(self) -> SubmittedJob:
        """The job that it is since it was started; `WrongStatus` before."""
        if self._job is None:
            raise WrongStatus(f"this call of {self.spec} was not started: call start() first")
        return self._job

    @property
    def id(self) -> str:
        """Id of its job."""
        return self.job.id

    @property
    def state(self) -> StepState:
        """Where it is; asks the ledger, unless it is known here."""
        if self._job is None:
            return StepState.created if self._missing() else StepState.ready
        ending = self._job.view.ending(0)
        return StepState((ending.state if ending is not None else self.info().state).value)

    def info(self) -> TaskInfo:
        """Its task at a glance, from the ledger: state, progress, worker, times."""
        return self.job.tasks([0])[0]

    @property
    def progress(self) -> tuple[float | None, str]:
        """How far it said it is, from 0 to 1, and what it does; None and an empty text where it said nothing, or does not run."""
        info = self.info()
        return info.progress, info.progress_text

    def wait(self, timeout: float | None = None) -> Self:
        """Wait for its end, however it ends.

        Raises:
            TimeoutError: it has not ended after `timeout` seconds
        """
        self.job.wait(timeout)
        return self

    def result(self, *, timeout: float | None = None) -> Any:
        """Wait for its end; what the step returned, as plain data.

        Raises:
            TaskFailed, TaskCanceled, TaskAborted, TimeoutError: as `SubmittedJob.result`
        """
        return self.job.result(0, timeout=timeout)

    def outputs(self) -> dict[str, Any]:
        """What it has made, by slot: `WorkData`, or of a collection a list; while it runs, `PartialData` with what was written so far.

        A slot in which there is nothing yet is left out.
        """
        single = {slot.name for slot in self.spec.outputs if not slot.collection}
        found: dict[str, Any] = {}
        made = self._made()
        for slot, data in ((each.info.slot, each) for each in made) if made else self._partly():
            if slot in single:
                found[slot] = data
            else:
                found.setdefault(slot, []).append(data)
        return found

    def _made(self) -> list[WorkData]:
        """What it has made, in order; the reply of the worker tells it before the ledger does."""
        known = {each.id: each for each in self._client.datasets(job=self.job, limit=None)}
        ending = self.job.view.ending(0)
        if ending is None or not isinstance(ending.outcome, Succeeded):
            return sorted(known.values(), key=lambda each: _order(each.info.data.key))
        told = [DataInfo(one.data, one.tags, user(), 0, self.id, 0, one.slot, str(self.spec)) for one in ending.outcome.made]
        return [known.get(info.data.id) or WorkData(self._client, info) for info in told]

    def _partly(self) -> Iterator[tuple[str, PartialData]]:
        """What the execution that runs now has written."""
        store = self._client.settings.value_store
        if store is None or not self.spec.outputs:
            return
        running = self._client.runtime.run(lambda core: core.ask(GetOutput(self.id, 0), TaskOutput)).execution
        folder = f"data/jobs/{self.id}/0/{plain_part(running)}"
        for name in Files(store).names(folder) if running else ():
            slot = next((slot for slot in self.spec.outputs if name == slot.name or name.startswith(f"{slot.name}.")), None)
            if slot is not None:
                yield slot.name, PartialData(slot.name, store, f"{folder}/{name}")

    @property
    def error(self) -> TaskError | None:
        """Why it failed, with the exception's own text and traceback; None where it has not failed."""
        return self.job.errors().get(0)

    def sub_jobs(self) -> list[SubmittedJob]:
        """Jobs that were started inside it, the newest first."""
        return self.job.sub_jobs()

    def cancel(self, reason: str = "") -> CancelResult:
        """End it, as `SubmittedJob.cancel`."""
        return self.job.cancel(reason)

    def events(self) -> Iterator[Event]:
        """What happens to it, as it happens, to its end; as `SubmittedJob.events`."""
        return self.job.events()

    def __repr__(self) -> str:
        return f"<StepRun of {self.spec}{'' if self._job is None else f', job {self._job.id[-8:]}'}>"

    # --- inside ---

    def _written(self, parameters: Mapping[str, Plain]) -> Job:
        job = Job(self._name, tags=self._tags, lane=self._client.defaults.lane)
        job.step(self.spec, parameters, inputs=self.slots, **self._client.defaults.step_options())
        return job

    def _missing(self) -> list[str]:
        """Parameters and slots that it cannot do without, and has not."""
        slots = {slot.name for slot in self.spec.inputs if slot.least}
        return sorted((self._checker.required - self.parameters.keys()) | (slots - self.slots.keys()))

    def _not_started(self, what: str) -> None:
        if self._job is not None:
            raise WrongStatus(f"this call of {self.spec} was started already, and cannot be {what}: make another with client.step(…)")


def _order(key: str) -> tuple[str, int]:
    """What data of a collection is sorted by: its number stands behind the last dot."""
    name, _, number = key.rpartition(".")
    return (name, int(number)) if number.isascii() and number.isdigit() else (key, 0)
