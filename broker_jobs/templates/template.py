"""One template: a name, the type of its jobs, and their parameters."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from broker_jobs.errors import ValidationError
from broker_jobs.templates.variables import checked, replaced

OWN: Final = frozenset({"APP_WORKSPACE", "USER_WORKSPACE", "JOB_WORKSPACE"})
"""Variables that the manager knows for each job: folders of the application, of the user, and of the job alone."""


@dataclass(frozen=True, slots=True)
class JobTemplate:
    """What many jobs have in common.

    Args:
        name: by which jobs are made from it
        type: of its jobs: ``basic``, ``program``, ``workflow``
        parameters: of its jobs, unless they are given others
        variables: further variables: texts, paths or numbers by name, with the manager's own variables in them

    Raises:
        ValidationError: one of these is wrong
    """

    name: str
    type: str = "basic"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, text in (("name", self.name), ("type", self.type)):
            if not isinstance(text, str) or not text:
                raise ValidationError(f"the {what} of a template must be a text, not {text!r}")
        for what in ("parameters", "variables"):
            given = getattr(self, what)
            if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
                raise ValidationError(f"the {what} of the template {self.name!r} must have texts as keys, not {given!r:.200}")
        try:
            checked(self.variables, OWN)
        except ValidationError as error:
            raise ValidationError(f"the template {self.name!r}: {error}") from None
        # A copy: a template stays what it was when the caller's dictionary changes.
        object.__setattr__(self, "parameters", copy.deepcopy(dict(self.parameters)))
        object.__setattr__(self, "variables", copy.deepcopy(dict(self.variables)))

    def filled(self, given: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
        """Parameters of one job.

        Args:
            given: those of this job: each replaces the template's of the same name, as a whole
            variables: what the manager's own variables stand for

        Raises:
            UnknownVariable: a parameter names a variable that there is not
        """
        own = {name: replaced(text, variables) for name, text in checked(self.variables, OWN).items()}
        found: dict[str, Any] = replaced({**self.parameters, **given}, {**own, **variables})
        return found
