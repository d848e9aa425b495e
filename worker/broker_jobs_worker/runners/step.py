"""Call a step: find its code in the module that holds it, and give it its parameters.

What goes in and comes out is plain data; nothing is pickled.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.errors import DecodeError, ValidationError, ValueStoreError
from broker_jobs.wire import payload
from broker_jobs.wire.codec import unpack
from broker_jobs_worker.runners import slots
from broker_jobs_worker.runners.failure import cannot_send, failed_by, types_of
from broker_jobs_worker.runners.function import outcome_of, returned

if TYPE_CHECKING:
    from broker_jobs.core.outcome import Outcome
    from broker_jobs.steps import Step
    from broker_jobs.wire.messages import StepCall
    from broker_jobs_worker.runners.function import Interrupt
    from broker_jobs_worker.runners.inputs import Inputs
    from broker_jobs_worker.runners.protocol import Run


class Steps:
    """The steps of the modules that this child has imported."""

    def __init__(self) -> None:
        self._known: dict[str, Step] = {}

    def load(self, wanted: str, module: str) -> Step | Failed:
        """A step, or why it cannot be had.

        Args:
            wanted: name and version
            module: that holds it
        """
        if wanted not in self._known:
            try:
                # Pydantic takes its time, and children that call no step do without.
                from broker_jobs.steps import steps_in

                self._known.update((str(step.spec), step) for step in steps_in(importlib.import_module(module)))
            except BaseException as error:  # noqa: BLE001 (importing runs the user's code)
                return failed_by(error)
        found = self._known.get(wanted)
        if found is None:
            return Failed(
                Cause.error, f"{module} has no step {wanted} any more: it was changed since its worker was started; start it again"
            )
        return found


def call(run: Run, work: StepCall, steps: Steps, inputs: Inputs, interrupt: Interrupt) -> Outcome:
    """Call a step; every ending is an outcome."""
    return interrupt.guard(_call, run, work, steps, inputs, interrupt)


def _call(run: Run, work: StepCall, steps: Steps, inputs: Inputs, interrupt: Interrupt) -> Outcome:
    step = steps.load(work.step, run.module)
    if isinstance(step, Failed):
        return step
    try:
        parameters = _parameters(run, work, inputs)
    except Exception as error:  # noqa: BLE001 (results of functions are loaded here, and lack what is asked for, perhaps)
        return cannot_send(error, "a parameter of this step cannot be had")
    try:
        arguments = step.signature.arguments(parameters)
    except ValidationError as error:
        return Failed(Cause.error, f"wrong parameters of {work.step}: {error}", exception_types=types_of(ValidationError))

    try:
        given = slots.given(work, step.spec)
        made = slots.Made(run, step.spec)
    except ValueStoreError as error:
        return cannot_send(error, "the data of this step cannot be had")

    def succeeded(result: object) -> Outcome:
        try:
            plain = step.signature.plain(result)
        except ValidationError as error:
            return Failed(Cause.error, f"{work.step}: {error}", exception_types=types_of(ValidationError))
        outcome = returned(plain, run.job, run.store, payload.dump_plain)
        return made.kept(outcome) if isinstance(outcome, Succeeded) else outcome

    outcome = outcome_of(step.function, [], arguments | given | made.arguments, interrupt, succeeded)
    if not isinstance(outcome, Succeeded):
        made.discard()
    return outcome


def _parameters(run: Run, work: StepCall, inputs: Inputs) -> dict[str, object]:
    """What was given, with the results of other tasks put in."""
    given = unpack(inputs.inline(work.parameters).data)
    if not isinstance(given, dict):
        raise DecodeError("these are not the parameters of a step")
    values = inputs.of(run, work)
    return given | {fill.parameter: payload.Place(fill.input, fill.count, fill.path).fill(values) for fill in work.fills}
