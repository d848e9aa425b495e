"""``@step(name=…, version="1.2.0")`` on a function; the function stays what it is, and can be called and tested as before."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from broker_jobs.core.step import StepSpec
from broker_jobs.core.versions import Version
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

    from broker_jobs.steps.signature import Signature

_MARK: Final = "__broker_jobs_step__"
_NO_REASON: Final = "it is deprecated"

Function = TypeVar("Function", bound="Callable[..., Any]")


@dataclass(frozen=True, slots=True)
class Step:
    """A step with its code.

    Attributes:
        signature: what goes into the function and comes out, as plain data and as Python has it
    """

    spec: StepSpec
    function: Callable[..., Any]
    signature: Signature


def step(
    *,
    version: str,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    tags: Iterable[str] = (),
    deprecated: str | bool = False,
) -> Callable[[Function], Function]:
    """Make a step of a function.

    Args:
        version: of this code, by Semantic Versioning, such as ``"1.2.0"`` or ``"2.0.0-rc.1"``
        name: default: the function's
        title: one line; default: the first of its docstring, else its name
        description: default: the rest of its docstring
        tags: words by which steps are found
        deprecated: True, or why nobody should call it any more: then only who asks for just this version gets it

    Raises:
        ValidationError: name or version cannot be one, or the annotations do not say what goes in and comes out (see `signature.read`)
    """

    def declare(function: Function) -> Function:
        from broker_jobs.steps.signature import read

        if not inspect.isfunction(function):
            raise ValidationError(f"@step stands on a function, not on {function!r}")
        signature = read(function)
        first, _, rest = (inspect.getdoc(function) or "").partition("\n")
        reason = (deprecated or _NO_REASON) if isinstance(deprecated, str) else _NO_REASON if deprecated else None
        spec = StepSpec(
            name=function.__name__ if name is None else name,
            version=Version.parse(version),
            title=(first.strip() or function.__name__) if title is None else title,
            description=rest.strip() if description is None else description,
            tags=tuple(tags),
            deprecated=reason,
            parameters=signature.parameters,
            returns=signature.returns,
            inputs=signature.inputs,
            outputs=signature.outputs,
        )
        setattr(function, _MARK, Step(spec, function, signature))
        return function

    return declare


def declared(function: Callable[..., object]) -> Step | None:
    """The step that a function is; None where it is none."""
    found = getattr(function, _MARK, None)
    return found if isinstance(found, Step) else None


def steps_in(module: ModuleType) -> list[Step]:
    """All steps that a module holds, defined or imported there, each once, by name and version.

    Raises:
        ValidationError: two functions claim to be the same version of the same step
    """
    found: dict[tuple[str, Version], Step] = {}
    for value in vars(module).values():
        mine = declared(value) if inspect.isfunction(value) else None
        if mine is None:
            continue
        other = found.setdefault((mine.spec.name, mine.spec.version), mine)
        if other is not mine:
            both = f"{other.function.__qualname__} and {mine.function.__qualname__}"
            raise ValidationError(f"{both} of {module.__name__} are both the step {mine.spec}: give one of them another version")
    return [found[key] for key in sorted(found)]
