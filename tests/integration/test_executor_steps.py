"""Steps in warm children: which code runs, under which interpreter, and what becomes of what it does."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.core.outcome import Canceled, Cause, Succeeded
from broker_jobs.core.value import INLINE_LIMIT, Stored
from broker_jobs.core.versions import Version
from broker_jobs.data.store import fetch
from broker_jobs.wire import payload
from broker_jobs.wire.messages import Fill, StepCall
from tests.integration.test_executor_functions import failure_of, ran, told, value_of
from tests.support.executions import JOB, appears, execution, here

if TYPE_CHECKING:
    from pathlib import Path

    from broker_jobs.core.plain import Plain
    from broker_jobs_worker.executors.port import Execution
    from tests.support.executions import Bench

MODULE = """
import os, sys, time
from broker_jobs import current, step

CALLS = []

@step(version="1.0.0")
def add(a: int, b: int = 1) -> list[int]:
    CALLS.append(os.getpid())
    return [a + b, len(CALLS)]

@step(version="1.0.0")
def where() -> str:
    return sys.executable

@step(version="1.0.0")
def grow(size: int) -> str:
    return "x" * size

@step(version="1.0.0")
def wait(started: str) -> str:
    with open(started, "w") as file:
        file.write("yes")
    try:
        time.sleep(60)
    except BaseException as error:
        return f"it came to me: {type(error).__name__}"
    return "nothing came"

@step(version="1.0.0")
def shared() -> list[list[int]]:
    same = [1]
    return [same, same]
"""


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Those of an executor that serves the module."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "mine.py").write_text(MODULE)
    names = ("add", "where", "grow", "wait", "shared", "missing")
    return {"path": [str(tmp_path / "modules")], "steps": {f"{name} 1.0.0": "mine" for name in names} | {"lost 1.0.0": "nowhere"}}


def step(name: str, fills: tuple[Fill, ...] = (), **parameters: Plain) -> StepCall:
    inputs = tuple(str(fill.input) for fill in fills)
    return StepCall(name, Version(1, 0, 0), payload.dump_plain(parameters), inputs, fills)


def called(name: str, **parameters: Plain) -> Execution:
    return execution(step(name, **parameters))


def test_steps_share_a_warm_process_and_its_modules(tmp_path: Path, options: dict[str, Any]) -> None:
    first, second, interpreter = ran(tmp_path / "spool", called("add", a=2), called("add", a=2, b=5), called("where"), **options)
    assert (value_of(first.outcome), value_of(second.outcome)) == ([3, 1], [7, 2])
    assert value_of(interpreter.outcome) == sys.executable, "not that of a submitter"


def test_what_a_worker_does_not_serve_fails_there(tmp_path: Path, options: dict[str, Any]) -> None:
    unserved, missing, lost = ran(tmp_path / "spool", called("nothing"), called("missing"), called("lost"), **options)
    assert failure_of(unserved).message == "this worker does not serve the step nothing 1.0.0"
    assert "mine has no step missing 1.0.0 any more" in failure_of(missing).message
    assert "No module named 'nowhere'" in failure_of(lost).message


def test_a_module_that_was_edited_is_loaded_anew(tmp_path: Path, options: dict[str, Any]) -> None:
    async def story(b: Bench) -> None:
        assert value_of((await b.run_one(execution(step("add", a=2), job=JOB))).outcome) == [3, 1]
        (tmp_path / "modules" / "mine.py").write_text(MODULE.replace("a + b", "a * b * 100"))
        ended = await b.run_one(execution(step("add", a=2), job="0199" + "0" * 28))
        assert value_of(ended.outcome) == [200, 1]

    told(tmp_path / "spool", story, **options)


def test_wrong_parameters_and_inputs_fail_with_their_place(tmp_path: Path, options: dict[str, Any]) -> None:
    filled = execution(step("add", (Fill("a", 0, None, ("x", 1)),)), values={"0": payload.dump({"x": [0, 41]})})
    lacking = execution(step("add", (Fill("a", 0, None, ("y",)),)), values={"0": payload.dump({"x": 1})})
    no_dictionary = execution(StepCall("add", Version(1, 0, 0), payload.dump_plain([1])))
    good, wrong, without, hostile = ran(tmp_path / "spool", filled, called("add", a="many"), lacking, no_dictionary, **options)
    assert value_of(good.outcome) == [42, 1]
    assert "wrong parameters of add 1.0.0: a: Input should be a valid integer" in failure_of(wrong).message
    assert failure_of(wrong).exception_types[0] == "broker_jobs.errors.ValidationError"
    assert "a parameter of this step cannot be had: KeyError" in failure_of(without).message
    assert "these are not the parameters of a step" in failure_of(hostile).message


def test_results_are_plain_and_large_ones_are_stored(tmp_path: Path, options: dict[str, Any]) -> None:
    large = execution(step("grow", size=INLINE_LIMIT + 1), store=str(tmp_path / "values"))
    stored, shared = ran(tmp_path / "spool", large, called("shared"), **options)
    assert isinstance(stored.outcome, Succeeded)
    assert isinstance(stored.outcome.value, Stored)
    assert payload.load(fetch(stored.outcome.value)) == "x" * (INLINE_LIMIT + 1)
    assert value_of(shared.outcome) == [[1], [1]]


def test_a_cancel_reaches_the_code_of_a_step(tmp_path: Path, options: dict[str, Any]) -> None:
    async def story(b: Bench) -> None:
        one = execution(step("wait", started=str(tmp_path / "started")), origin=here())
        b.executor.start(one)
        await appears(tmp_path / "started")
        b.executor.stop(one.execution, "enough")
        [ended] = await b.finish(one)
        assert ended.outcome == Canceled("enough")

    told(tmp_path / "spool", story, **options)


def test_a_time_limit_ends_a_step(tmp_path: Path, options: dict[str, Any]) -> None:
    limited = execution(step("wait", started=str(tmp_path / "started")), time_limit=300)
    [ended] = ran(tmp_path / "spool", limited, **options)
    assert failure_of(ended).cause is Cause.time_limit
