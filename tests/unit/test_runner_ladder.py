"""The kill ladder."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs_worker.runners.ladder import Step, step

seconds = st.floats(0, 1e9)


@given(seconds, seconds)
def test_the_dead_get_nothing(elapsed: float, grace: float) -> None:
    assert step(elapsed, grace, alive=False) is None


@given(seconds, seconds)
def test_the_living_are_asked_within_the_grace_and_killed_after_it(elapsed: float, grace: float) -> None:
    assert step(elapsed, grace, alive=True) is (Step.ask if elapsed < grace else Step.kill)


@given(st.lists(seconds, min_size=1).map(sorted), seconds)
def test_nobody_is_asked_after_the_kill(times: list[float], grace: float) -> None:
    steps = [step(elapsed, grace, alive=True) for elapsed in [*times, grace]]
    assert steps[-1] is Step.kill
    assert Step.ask not in steps[steps.index(Step.kill) : -1]
