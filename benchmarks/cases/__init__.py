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
    hops,
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

CASES: Final[tuple[Case, ...]] = (
    maps.CASE,
    hops.CASE,
    submits.CASE,
    latency.CASE,
    chain.CASE,
    programs.CASE,
    functions.CASE,
    jobmap.CASE,
    graph.CASE,
    fairness.CASE,
    chunk.CASE,
    values.CASE,
    idle.CASE,
    imports.CASE,
    control.CASE,
    faces.PINEXQ,
    faces.XQUTE,
)
