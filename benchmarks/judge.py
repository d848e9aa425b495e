"""Medians, ratios and targets: what the outcomes of a case say. Pure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.case import Better, Bound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.case import Case, Figure, Side, Target
    from benchmarks.run import Outcome


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over all rounds."""

    median: float
    least: float
    most: float


def spread(outcome: Outcome, key: str) -> Spread | None:
    """Of the rounds that have it; None where none does."""
    found = [measure.figures[key] for measure in outcome.measures if key in measure.figures]
    return Spread(statistics.median(found), min(found), max(found)) if found else None


def ratio(case: Case, outcomes: Mapping[str, Outcome], side: Side) -> float | None:
    """How many times better the first side is than this one of somebody else, by the first figure."""
    figure = case.figures[0]
    ours, theirs = (spread(outcomes[name], figure.key) for name in (case.sides[0].name, side.name))
    if side.ours or ours is None or theirs is None:
        return None
    return ours.median / theirs.median if figure.better is Better.higher else theirs.median / ours.median


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a target.

    Attributes:
        wanted: in words
        found: in words
        reached: None where it could not be measured
    """

    wanted: str
    found: str
    reached: bool | None


def judge(case: Case, outcomes: Mapping[str, Outcome], target: Target) -> Verdict:
    """Compare medians."""
    figure = next(figure for figure in case.figures if figure.key == target.figure)
    wanted = f"{target.side}: {target.bound} {_wanted(case, figure, target)}"
    mine = spread(outcomes[target.side], target.figure)
    if mine is None:
        return Verdict(wanted, outcomes[target.side].trouble or "not measured", None)
    found = _number(mine.median, figure)
    value = mine.median
    if target.other:
        name, key = target.other
        theirs = spread(outcomes[name], key)
        if theirs is None:
            return Verdict(wanted, f"{found}, but {name}: {outcomes[name].trouble or 'not measured'}", None)
        value /= theirs.median
        found = f"{value:,.2f} × ({found})"
    done = outcomes[target.side].measures[0].tasks
    if done < case.tasks:
        found += f", with {done:,} of {case.tasks:,} tasks"
    if target.whole and done < case.tasks:
        return Verdict(wanted, found, None)
    return Verdict(wanted, found, value >= target.value if target.bound is Bound.least else value <= target.value)


def _wanted(case: Case, figure: Figure, target: Target) -> str:
    if target.other is None:
        return _number(target.value, figure)
    name, key = target.other
    unit = next(each.unit for each in case.figures if each.key == key)
    return f"{target.value:g} × {name} ({unit})"


def _number(value: float, figure: Figure) -> str:
    return f"{value:,.{figure.digits}f} {figure.unit}"
