"""What is known of a step: its name, its version, and what goes in and comes out, as JSON schemas."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from broker_jobs.core.data import SlotSpec  # noqa: TC001 (the codec reads it)
from broker_jobs.core.versions import Version  # noqa: TC001 (the codec reads it)
from broker_jobs.errors import ValidationError

STEP_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}", re.ASCII)
LONGEST_TAG: Final = 1024
"""Characters of a tag."""
LARGEST_SCHEMA: Final = 256 * 1024
"""Characters of the schema of a step's parameters, or of its result."""


@dataclass(frozen=True, slots=True)
class StepSpec:
    """A step as it is announced, listed and called: everything but its code.

    Attributes:
        name: with `version`, its identity
        title: one line, for lists
        description: further text, for people
        tags: in the order in which they were given
        deprecated: why nobody should call it any more; None where they may
        parameters: JSON schema (2020-12) of an object that has a property for each parameter
        returns: JSON schema of the result
        inputs: slots for data that it is given
        outputs: slots for data that it makes

    Raises:
        ValidationError: the name, a tag or the size of a schema is not as it must be
    """

    tag: ClassVar[str] = "step"
    name: str
    version: Version
    title: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    deprecated: str | None = None
    parameters: str = "{}"
    returns: str = "{}"
    inputs: tuple[SlotSpec, ...] = ()
    outputs: tuple[SlotSpec, ...] = ()

    def __post_init__(self) -> None:
        if not STEP_NAME.fullmatch(self.name):
            rule = "begin with a letter or '_', and use letters, digits, '_', '-' and '.', at most 100 in all"
            raise ValidationError(f"{self.name!r} cannot be the name of a step: {rule}")
        for tag in self.tags:
            if not 0 < len(tag) <= LONGEST_TAG or tag != tag.strip():
                raise ValidationError(f"a tag has 1 to {LONGEST_TAG} characters and no blanks around it, not {tag[:100]!r}")
        if max(len(self.parameters), len(self.returns)) > LARGEST_SCHEMA:
            raise ValidationError(f"the schemas of {self} must be shorter than {LARGEST_SCHEMA} characters")

    @property
    def feature(self) -> str:
        """What a worker that serves it offers."""
        return step_feature(self.name, self.version)

    def __str__(self) -> str:
        """Name and version, as in ``simulate 1.2.0``."""
        return f"{self.name} {self.version}"


def step_feature(name: str, version: Version) -> str:
    """The feature of a worker that serves this step."""
    return f"step {name} {version}"
