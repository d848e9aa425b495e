"""Steps that workers have announced."""

from __future__ import annotations

import json
from dataclasses import dataclass
from glob import escape
from typing import TYPE_CHECKING, Any, Self

from broker_jobs.compat.pinexq.exceptions import UnknownStep, translated
from broker_jobs.compat.pinexq.tags import link, linked
from broker_jobs.errors import AmbiguousStep, StepNotFound

if TYPE_CHECKING:
    from broker_jobs import Client, StepRun


@dataclass(frozen=True, slots=True)
class ProcessingView:
    """What a job does, for people."""

    title: str
    description: str
    function_name: str
    version: str
    number_of_input_data_slots: int
    number_of_output_data_slots: int


def find(client: Client, name: str, version: str | None) -> StepRun:
    """A call of this step; `UnknownStep` where there is none, or several fit and none was named."""
    try:
        return client.step(name, version)
    except (StepNotFound, AmbiguousStep) as error:
        raise UnknownStep(str(error)) from error


class ProcessingStep:
    """One version of a step. Workers announce it, so there is nothing to create, configure or delete.

    Attributes:
        call: a call of it
    """

    def __init__(self, client: Client, call: StepRun) -> None:
        self.client = client
        self.call = call
        spec = call.spec
        self.title, self.function_name, self.version, self.tags = spec.title, spec.name, str(spec.version), list(spec.tags)
        self.short_description, self.long_description = spec.title, spec.description
        self.is_deprecated, self.reason_for_deprecation = spec.deprecated is not None, spec.deprecated
        self.input_data_slot_specification, self.output_data_slot_specification = spec.inputs, spec.outputs

    @classmethod
    @translated()
    def from_name(cls, client: Client, step_name: str, version: str = "*", allow_prerelease: bool = False) -> Self:  # noqa: FBT001, FBT002 (pinexQ's signature)
        """The version, or the latest of a range (``*``, ``^1.2``) that is neither deprecated nor, unless allowed, a pre-release.

        Raises:
            UnknownStep: there is none (a `NameError`); the text lists the versions that there are
        """
        if allow_prerelease and version == "*":
            usable = (known.spec for known in client.steps(escape(step_name)) if known.spec.deprecated is None)
            version = next((str(spec.version) for spec in usable), version)
        return cls(client, find(client, step_name, version))

    @classmethod
    @translated()
    def from_url(cls, client: Client, processing_step_url: str) -> Self:
        """The one that a link names."""
        name, version = linked("step", processing_step_url)
        return cls(client, find(client, name, version))

    def self_link(self) -> str:
        """The text that finds it again."""
        return link("step", self.function_name, self.version)

    @property
    def parameter_schema(self) -> Any:
        """JSON schema of its parameters."""
        return json.loads(self.call.spec.parameters)

    @property
    def return_schema(self) -> Any:
        """JSON schema of its result."""
        return json.loads(self.call.spec.returns)

    @property
    def processing_step_hco(self) -> Self:
        """Itself: what pinexQ's has as fields are attributes here."""
        return self

    def view(self) -> ProcessingView:
        """At a glance."""
        spec = self.call.spec
        return ProcessingView(self.title, spec.description, self.function_name, self.version, len(spec.inputs), len(spec.outputs))
