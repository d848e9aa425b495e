"""What the benchmarks conclude from what was measured."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import measure, report
from benchmarks.case import RATE, Better, Bound, Case, Figure, Side, Target
from benchmarks.cases import CASES
from benchmarks.judge import judge, ratio
from benchmarks.measure import ALLOWANCE, Measure, Setting, growing
from benchmarks.run import Outcome

if TYPE_CHECKING:
    from benchmarks.case import Case as AnyCase

TOP = Path(__file__).parents[2]
OURS = Side("broker-jobs, RabbitMQ", "m:ours", "safe", rabbitmq=True)
PEER = Side("Peer", "m:peer", "unsafe")
TIME = Figure("time", "ms", Better.lower, 1)


def case(*targets: Target) -> AnyCase:
    return Case("c", "a case", "things", 1000, (OURS, PEER), (RATE, TIME), targets)


def outcomes(ours: list[float], peer: list[float], tasks: int = 1000) -> dict[str, Outcome]:
    return {
        side.name: Outcome([Measure(tasks, {"rate": rate, "time": 1000 / rate}) for rate in rates], "" if rates else "failed: Oops")
        for side, rates in ((OURS, ours), (PEER, peer))
    }


@given(rate=st.floats(1, 1e6), tasks=st.integers(1, 10**6), seconds=st.floats(0.1, 100))
def test_work_grows_to_all_tasks_or_as_far_as_the_time_goes(rate: float, tasks: int, seconds: float) -> None:
    done: list[int] = []
    with pytest.MonkeyPatch.context() as patch:

        def timed(work: object) -> float:
            assert callable(work)
            work()
            return done[-1] / rate

        patch.setattr(measure, "timed", timed)
        last, taken = growing(Setting(tasks, seconds, "", ""), done.append)
    assert last == done[-1] <= tasks
    assert taken == last / rate
    assert last == min(tasks, measure.FIRST) or taken <= seconds * ALLOWANCE + 1e-9
    if last < tasks:
        assert last * 3 > min(tasks, seconds * rate) - 1, "there was time for many more"
    assert sum(done) <= 3 * last + measure.WARM_UP


@pytest.mark.parametrize(
    ("target", "reached"),
    [
        (Target(OURS.name, "rate", Bound.least, 200), True),
        (Target(OURS.name, "rate", Bound.least, 201), False),
        (Target(OURS.name, "time", Bound.most, 5), True),
        (Target(OURS.name, "time", Bound.most, 4.9), False),
        (Target(OURS.name, "rate", Bound.least, 2, other=(PEER.name, "rate")), True),
        (Target(OURS.name, "rate", Bound.least, 2.1, other=(PEER.name, "rate")), False),
        (Target(OURS.name, "time", Bound.most, 0.5, other=(PEER.name, "time")), True),
        (Target(OURS.name, "time", Bound.most, 0.4, other=(PEER.name, "time")), False),
    ],
)
def test_targets_are_held_against_medians(target: Target, reached: bool) -> None:
    assert judge(case(target), outcomes([1.0, 200.0, 900.0], [100.0, 90.0, 5000.0]), target).reached is reached


def test_what_was_not_measured_is_open_and_says_why() -> None:
    target = Target(OURS.name, "rate", Bound.least, 2, other=(PEER.name, "rate"))
    verdict = judge(case(target), outcomes([200.0], []), target)
    assert verdict.reached is None
    assert "Oops" in verdict.found
    whole = Target(OURS.name, "rate", Bound.least, 2, whole=True)
    assert judge(case(whole), outcomes([200.0], [1.0], tasks=999), whole).reached is None
    assert judge(case(whole), outcomes([200.0], [1.0]), whole).reached is True


def test_a_ratio_says_how_many_times_better_ours_is_whichever_way_the_figure_goes() -> None:
    measured = outcomes([200.0], [100.0])
    assert ratio(case(), measured, PEER) == 2
    assert ratio(dataclasses.replace(case(), figures=(TIME, RATE)), measured, PEER) == 2
    assert ratio(case(), measured, OURS) is None


def test_the_page_has_every_side_and_the_data_every_round(tmp_path: Path) -> None:
    target = Target(OURS.name, "rate", Bound.least, 300)
    results = [report.Result(case(target), outcomes([200.0, 210.0, 190.0], []), 0.5)]
    report.write(tmp_path, {"processor": "one"}, results, "./scripts/bench")
    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "| broker-jobs, RabbitMQ | 1,000 | 200 (190–210) |" in page
    assert "Peer: failed: Oops" in page
    assert "missed" in page
    data = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    (found,) = data["cases"]
    assert [each["figures"]["rate"] for each in found["sides"][OURS.name]["rounds"]] == [200, 210, 190]
    assert found["targets"][0]["reached"] is False


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_what_a_case_names_is_there(one: AnyCase) -> None:
    names, keys = {side.name for side in one.sides}, {figure.key for figure in one.figures}
    assert len(names) == len(one.sides)
    for side in one.sides:
        module, _, function = side.entry.partition(":")
        # Read and not imported: the libraries of the peers are not in this environment.
        tree = ast.parse((TOP / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, side.entry
    for target in one.targets:
        for name, key in ((target.side, target.figure), *([target.other] if target.other else [])):
            assert name in names
            assert key in keys
