"""Parameters against the schema of a step, on the side of who calls it: what is wrong is told before anything is sent."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from broker_jobs.core.plain import plain, where
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from jsonschema.exceptions import ValidationError as Mismatch

    from broker_jobs.core.plain import Plain
    from broker_jobs.core.step import StepSpec

_MOST_TOLD: Final = 5


@lru_cache(maxsize=256)
def checker(spec: StepSpec) -> Checker:
    """What checks calls of a step; the schema is read once."""
    return Checker(spec)


class Checker:
    """Checks calls of one step.

    Attributes:
        names: of its parameters
        required: those of them that have no default
    """

    def __init__(self, spec: StepSpec) -> None:
        self.spec = spec
        schema = json.loads(spec.parameters)
        self.names = tuple(schema.get("properties", ()))
        self.required = frozenset(schema.get("required", ()))
        self._validator = Draft202012Validator(schema)

    def check(self, parameters: Mapping[str, object], later: Collection[str] = ()) -> dict[str, Plain]:
        """The parameters as plain data; what is not given is left to the defaults of the step.

        Args:
            later: names of parameters that are given later

        Raises:
            ValidationError: they do not fit; the text names the step, and each place with what is wrong there
        """
        given = {name: plain(value, (name,)) for name, value in parameters.items()}
        wrong = sorted(self._validator.iter_errors(given), key=lambda mismatch: [str(part) for part in mismatch.absolute_path])
        told = [text for mismatch in wrong for text in self._told(mismatch, later)]
        told += [f"{name}: {self._unknown(self.names)}" for name in later if name not in self.names]
        if told:
            more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
            raise ValidationError(f"wrong parameters of {self.spec}: {'; '.join(told[:_MOST_TOLD])}{more}")
        return given

    @staticmethod
    def _unknown(known: Sequence[str], what: str = "parameter") -> str:
        return f"there is no such {what}{', but ' + ', '.join(known) if known else ''}"

    def _told(self, mismatch: Mismatch, later: Collection[str]) -> list[str]:
        """What is wrong at one place, in our words where they are clearer."""
        path = list(mismatch.absolute_path)
        schema: Any = mismatch.schema
        given: Any = mismatch.instance
        match mismatch.validator:
            case "required":
                # There is one mismatch for each that is missing; which one, only its text says.
                missing = [name for name in schema["required"] if mismatch.message.startswith(repr(name))]
                return [f"{where([*path, name])}: it is missing" for name in missing if path or name not in later]
            case "additionalProperties" if schema["additionalProperties"] is False:
                known = list(schema.get("properties", {}))
                told = self._unknown(known, "part" if path else "parameter")
                return [f"{where([*path, name])}: {told}" for name in given if name not in known]
            case _:
                # Of several forms of which none fits, the one that is closest says what is wrong with it.
                closest = best_match([mismatch]) or mismatch
                return [f"{where(closest.absolute_path)}: {closest.message}"]
