"""What step modules hold: ``python -P -m broker_jobs_worker.runners.catalogue MODULE…`` imports them and writes a `Catalogue`.

It is a process of its own, since these modules are code of users: the worker itself never imports them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from broker_jobs.core.step import StepSpec  # noqa: TC001 (the codec reads it)
from broker_jobs.wire.codec import encode_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The steps of some modules.

    Attributes:
        modules: that of each
        error: why they cannot be told, in one line
    """

    tag: ClassVar[str] = "catalogue"
    steps: tuple[StepSpec, ...] = ()
    modules: tuple[str, ...] = ()
    error: str | None = None


def read(modules: Iterable[str]) -> Catalogue:
    """Import modules and look into them. A step that several of them hold is one step, if it is the same function."""
    from broker_jobs.errors import ValidationError
    from broker_jobs.steps import Step, steps_in

    found: dict[str, Step] = {}
    homes: list[str] = []
    for name in modules:
        try:
            steps = steps_in(importlib.import_module(name))
        except BaseException as error:  # noqa: BLE001 (modules do what they like, and may even exit)
            traceback.print_exc()
            advice = "; is its folder given with --path?" if isinstance(error, ModuleNotFoundError) else ""
            told = str(error) if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"
            return Catalogue(error=f"the steps of {name} cannot be read: {told}{advice}")
        if not steps:
            return Catalogue(error=f"{name} has no step: put @step(version=…) on a function, or name the module that has some")
        for step in steps:
            if str(step.spec) not in found:
                found[str(step.spec)] = step
                homes.append(name)
            other = found[str(step.spec)]
            if other.function is not step.function:
                both = f"{other.function.__module__} and {step.function.__module__}"
                return Catalogue(error=f"{both} both have the step {step.spec}: give one of them another version")
    return Catalogue(tuple(step.spec for step in found.values()), tuple(homes))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the catalogue to standard output; what the modules print goes to standard error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--path", action="append", default=[])
    parser.add_argument("modules", nargs="+")
    given = parser.parse_args(arguments)
    with os.fdopen(os.dup(1), "wb") as answer:
        os.dup2(2, 1)
        sys.path[:0] = given.path
        answer.write(encode_part(read(given.modules)))


if __name__ == "__main__":
    main()
