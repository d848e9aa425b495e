"""What a function takes and returns, by its annotations: as JSON schemas, and as something that converts plain data."""

from __future__ import annotations

import dataclasses
import inspect
import json
import typing
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic import ConfigDict, PydanticUserError, TypeAdapter
from pydantic import ValidationError as Mismatch
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError
from pydantic.json_schema import PydanticJsonSchemaWarning

from broker_jobs.core.plain import plain, where
from broker_jobs.errors import ValidationError
from broker_jobs.steps.slots import slot_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from broker_jobs.core.data import SlotSpec
    from broker_jobs.core.plain import Plain

_NAMED: Final = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


@dataclass(frozen=True)
class Signature:
    """How a step is called.

    Attributes:
        takes: converts an object of plain data to the arguments
        gives: converts a result to plain data
        parameters: schema of that object
        returns: schema of the result
        inputs: slots for data that it is given
        outputs: slots for data that it makes
    """

    takes: TypeAdapter[Any]
    gives: TypeAdapter[Any]
    parameters: str = field(repr=False)
    returns: str = field(repr=False)
    inputs: tuple[SlotSpec, ...] = ()
    outputs: tuple[SlotSpec, ...] = ()

    def arguments(self, parameters: Mapping[str, object]) -> dict[str, Any]:
        """Keyword arguments from plain data, defaults included; `ValidationError` that says where it does not fit."""
        try:
            taken = self.takes.validate_python(dict(parameters))
        except Mismatch as mismatch:
            raise ValidationError(_told(mismatch)) from None
        return {one.name: getattr(taken, one.name) for one in dataclasses.fields(taken)}

    def plain(self, result: object) -> Plain:
        """A result as plain data; `ValidationError` that says where it is not what was promised."""
        try:
            given = self.gives.dump_python(self.gives.validate_python(result), mode="json")
        except Mismatch as mismatch:
            raise ValidationError(f"the result is not as annotated: {_told(mismatch)}") from None
        return plain(given, ("the result",))


def read(function: Callable[..., object]) -> Signature:
    """The signature of a function.

    Every parameter and the result need an annotation that says something: pydantic's types, standard ones, dataclasses, typed
    dictionaries, models; with ``Annotated[int, Field(ge=0, description=…)]``, bounds and descriptions get into the schema.

    Raises:
        ValidationError: one has none, or one that says nothing (`Any`, `object`), or that has no JSON schema; or parameters cannot be
            given by name
    """
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ValidationError(f"the annotations of {function.__qualname__} cannot be read: {error}") from error
    fields: list[tuple[str, object] | tuple[str, object, object]] = []
    slots: tuple[list[SlotSpec], list[SlotSpec]] = [], []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in _NAMED:
            raise ValidationError(
                f"the parameter {parameter.name!r} of {function.__qualname__} cannot be given by name: steps take no such"
            )
        kind = _said(hints, parameter.name, f"the parameter {parameter.name!r} of {function.__qualname__}")
        slot = slot_of(parameter.name, kind, optional=parameter.default is not parameter.empty)
        if slot is not None:
            slots[slot[1]].append(slot[0])
            continue
        if parameter.default is parameter.empty:
            fields.append((parameter.name, kind))
        else:
            fields.append((parameter.name, kind, dataclasses.field(default_factory=_same(parameter.default))))
    gives = _adapter(_said(hints, "return", f"the result of {function.__qualname__}"), f"the result of {function.__qualname__}")
    what = f"the parameters of {function.__qualname__}"
    shape = dataclasses.make_dataclass(
        function.__name__, fields, kw_only=True, namespace={"__pydantic_config__": ConfigDict(extra="forbid")}
    )
    takes = _adapter(shape, what)
    schema = _schema(takes, what)
    schema.setdefault("properties", {})
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in {slot.name for each in slots for slot in each}:
            continue
        if parameter.name not in schema["properties"]:
            raise ValidationError(
                f"the parameter {parameter.name!r} of {function.__qualname__} has another name in its annotation: leave out alias="
            )
        if parameter.default is not parameter.empty:
            schema["properties"][parameter.name]["default"] = _default(
                hints[parameter.name], parameter.default, f"the default of {parameter.name!r}"
            )
    result = _schema(gives, f"the result of {function.__qualname__}", result=True)
    return Signature(takes, gives, json.dumps(schema), json.dumps(result), *map(tuple, slots))


def _same(default: object) -> Callable[[], object]:
    return lambda: default


def _said(hints: Mapping[str, object], name: str, what: str) -> object:
    """The annotation; `ValidationError` where it says nothing."""
    if name not in hints:
        raise ValidationError(f"{what} has no annotation: say what it is, such as 'x: float'")
    if hints[name] is Any or hints[name] is object:
        raise ValidationError(f"{what} is annotated with {hints[name]!r}, which says nothing: name a type, such as 'dict' or 'float'")
    return hints[name]


def _adapter(kind: Any, what: str) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(kind)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise ValidationError(f"{what} cannot be described: {str(error).splitlines()[0]}") from error


def _schema(adapter: TypeAdapter[Any], what: str, *, result: bool = False) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            # Defaults are described by ourselves; pydantic's own would be left out with a warning where it cannot.
            warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
            return adapter.json_schema(mode="serialization" if result else "validation")
    except PydanticInvalidForJsonSchema as error:
        raise ValidationError(f"{what} cannot be described as a JSON schema: {str(error).splitlines()[0]}") from error


def _default(kind: Any, default: object, what: str) -> object:
    """A default as plain data."""
    adapter = TypeAdapter[Any](kind)
    try:
        given = adapter.dump_python(adapter.validate_python(default), mode="json")
    except Mismatch as mismatch:
        raise ValidationError(f"{what} is not as annotated: {_told(mismatch)}") from None
    return plain(given, (what,))


def _told(mismatch: Mismatch) -> str:
    """All that does not fit, each with its place."""
    return "; ".join(
        f"{where(error['loc'])}: {error['msg']}" if error["loc"] else error["msg"]
        for error in mismatch.errors(include_url=False, include_context=False)
    )
