"""The cases, one a module, in the order in which they are run and shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.cases import (
    chain,
    chunk,
    control,
    faces,
    fairness,
    functions,
    graph,
    idle,
    imports,
    jobmap,
    latency,
    maps,
    programs,
    submits,
    values,
)

if TYPE_CHECKING:
    from benchmarks.case import Case

CASES: Final[tuple[Case, ...]] = tuple(
    module.CASE
    for module in (
        maps,
        submits,
        latency,
        chain,
        programs,
        functions,
        jobmap,
        graph,
        fairness,
        chunk,
        values,
        idle,
        imports,
        control,
        faces,
    )
)
