"""The data of a step: what is in its slots before it begins, and what becomes of what it has made."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from broker_jobs.core.data import plain_part
from broker_jobs.core.outcome import Cause, Failed
from broker_jobs.errors import ValidationError, ValueStoreError
from broker_jobs_worker.runners.failure import cannot_send, types_of

if TYPE_CHECKING:
    from broker_jobs.core.data import Artifact
    from broker_jobs.core.outcome import Outcome, Succeeded
    from broker_jobs.core.step import StepSpec
    from broker_jobs.steps.slots import OutputCollection, OutputData
    from broker_jobs.wire.messages import StepCall
    from broker_jobs_worker.runners.protocol import Run

NO_STORE: Final = (
    "there is no store for data: configure a folder that all hosts share, with value_store in broker-jobs.toml or BROKER_JOBS_VALUE_STORE, "
    "where jobs are submitted"
)


def folder(run: Run) -> str:
    """Where the data of an execution lies in the store."""
    return f"data/jobs/{run.job}/{run.task}/{plain_part(run.execution)}"


def given(work: StepCall, spec: StepSpec) -> dict[str, Any]:
    """What goes into the input slots, as arguments; those that are left out keep their default."""
    from broker_jobs.steps.slots import InputData

    held = {name: [InputData(each) for each in data] for name, data in work.slots}
    arguments: dict[str, Any] = {}
    for slot in spec.inputs:
        found = held.get(slot.name, [])
        if slot.collection:
            arguments[slot.name] = found
        elif found:
            arguments[slot.name] = found[0]
    return arguments


class Made:
    """What a step makes.

    Args:
        run: the execution
        spec: of the step

    Attributes:
        arguments: what goes into the output slots

    Raises:
        ValueStoreError: there is no store, or it cannot be used
    """

    def __init__(self, run: Run, spec: StepSpec) -> None:
        self.arguments: dict[str, OutputData | OutputCollection] = {}
        self._spec = spec
        if not spec.outputs:
            return
        if run.store is None:
            raise ValueStoreError(NO_STORE)
        from broker_jobs.data.files import Files
        from broker_jobs.steps.slots import OutputCollection, OutputData, usual_type

        files = Files(run.store)
        for slot in spec.outputs:
            key = f"{folder(run)}/{plain_part(slot.name)}"
            one = OutputCollection(files, key, usual_type(slot)) if slot.collection else OutputData(files, key, slot.name, usual_type(slot))
            self.arguments[slot.name] = one

    def kept(self, succeeded: Succeeded) -> Outcome:
        """The success with what was made; or the failure, where that is not as the slots say, or cannot be kept."""
        made: list[Artifact] = []
        try:
            for slot in self._spec.outputs:
                found = [each.finish(slot.name) for each in self._of(slot.name)]
                slot.check([artifact.data for artifact in found])
                made += found
        except ValidationError as error:
            return Failed(Cause.error, f"{self._spec}: {error}", exception_types=types_of(ValidationError))
        except (ValueStoreError, OSError, ValueError) as error:
            return cannot_send(error, "what the step has made cannot be kept")
        return replace(succeeded, made=tuple(made))

    def discard(self) -> None:
        """Remove what was made."""
        for slot in self._spec.outputs:
            for each in self._of(slot.name):
                with contextlib.suppress(ValueStoreError, OSError, ValueError):
                    each.discard()

    def _of(self, slot: str) -> list[OutputData]:
        one: Any = self.arguments.get(slot)
        return [] if one is None else [one] if not hasattr(one, "made") else one.made
