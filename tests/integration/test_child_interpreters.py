"""Interpreters that a task names, and prologues."""

from __future__ import annotations

import asyncio
import os
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.value import Inline, Stored
from broker_jobs.data.store import ValueStore, fetch
from broker_jobs.wire import payload
from broker_jobs.wire.messages import Call, Function, Origin
from tests.support.executions import JOB, Bench, bench, call, execution, here

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from broker_jobs_worker.executors.port import ExecutionEnded


def value_of(ended: ExecutionEnded) -> Any:
    assert isinstance(ended.outcome, Succeeded), ended.outcome
    assert isinstance(ended.outcome.value, Inline)
    return payload.load(ended.outcome.value)


def failure_of(ended: ExecutionEnded) -> Failed:
    assert isinstance(ended.outcome, Failed), ended.outcome
    return ended.outcome


def told(spool: Path, story: Callable[[Bench], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def run() -> None:
        async with bench(spool, **options) as b:
            await story(b)

    asyncio.run(run())


def about() -> dict[str, str]:
    return {
        "prefix": sys.prefix,
        "executable": sys.executable,
        "variable": os.environ.get("FROM_PROLOGUE", ""),
        "broker_jobs": str(Path(sys.modules["broker_jobs"].__file__ or "").parent),
    }


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment without any package."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True, with_pip=False)
    site = next(folder.glob("lib/python*/site-packages"))
    # As where it is of another version, and can load nothing compiled that the worker has.
    (site / "blake3.py").write_text("raise ImportError('not for this interpreter')\n")
    (site / "only_there.py").write_text("import sys\ndef where():\n    return sys.prefix\n")
    return folder


def test_a_virtual_environment_needs_nothing_of_ours(tmp_path: Path, environment: Path) -> None:
    work = Call("f", payload.dump_call((), {}, lambda _: None))
    only_there = Function("where", "only_there", b"conly_there\nwhere\n.")

    async def story(b: Bench) -> None:
        for python in (environment, environment / "bin" / "python"):
            found = value_of(await b.run_one(call(about, python=str(python), origin=here())))
            assert found["prefix"] == str(environment)
        assert value_of(await b.run_one(execution(work, function=only_there, python=str(environment)))) == str(environment)

    told(tmp_path, story)


def doubled(data: bytes) -> bytes:
    return data * 2


def test_large_values_pass_through_an_interpreter_that_cannot_check_them(tmp_path: Path, environment: Path) -> None:
    store = ValueStore(tmp_path / "store")
    data = os.urandom(100_000)
    pair = payload.dump_call((data,), {}, lambda _: None)
    args = store.put(JOB, pair.encoding, pair.data)
    digest, function = payload.dump_function(doubled, [sys.modules[__name__]])

    async def story(b: Bench) -> None:
        more: dict[str, Any] = {"function": function, "python": str(environment), "origin": here(), "store": str(store.folder)}
        ended = await b.run_one(execution(Call(digest, args), **more))
        assert isinstance(ended.outcome, Succeeded), ended.outcome
        value = ended.outcome.value
        assert isinstance(value, Stored)
        assert value.sha256, "every Python can make this one"
        assert payload.load(fetch(value)) == data * 2
        Path(args.store, args.key).write_bytes(b"something else")
        failed = failure_of(await b.run_one(execution(Call(digest, args), **more)))
        assert "is not what was written there" in failed.message

    told(tmp_path / "spool", story)


def test_a_prologue_runs_before_the_interpreter(tmp_path: Path, environment: Path) -> None:
    (tmp_path / "init.sh").write_text("export FROM_PROLOGUE='it says: \"hello\"'\n")
    prologue = f"source {tmp_path}/init.sh\necho noise\nsource {environment}/bin/activate"

    async def story(b: Bench) -> None:
        one, other = [value_of(await b.run_one(call(about, prologue=prologue, python=python))) for python in ("python3", None)]
        assert (one["prefix"], one["variable"]) == (str(environment), 'it says: "hello"')
        assert (other["prefix"], other["variable"]) == (sys.prefix, 'it says: "hello"')
        again = await b.run_one(call(os.getppid, prologue=prologue, python="python3"))
        assert value_of(again) == value_of(await b.run_one(call(os.getppid, prologue=prologue, python="python3")))
        assert value_of(await b.run_one(call(about)))["variable"] == ""

    told(tmp_path / "spool", story)


UNAVAILABLE: tuple[tuple[dict[str, str], tuple[str, ...]], ...] = (
    ({"python": "/nowhere/python"}, ("'/nowhere/python' does not exist on worker host", "Give python=")),
    ({"python": "python9.9"}, ("'python9.9' does not exist on worker host",)),
    ({"python": "python9.9", "prologue": "true"}, ("python9.9", "not found")),
    ({"prologue": "echo no such module >&2; false"}, ("no such module", "the prologue ended with exit code 1")),
    ({"prologue": "if"}, ("syntax error",)),
    ({"python": "/bin/true"}, ("the Python interpreter /bin/true cannot run tasks on this host",)),
)


def test_an_environment_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        every = [call(about, **options) for options, _ in UNAVAILABLE]
        for ended, (_, words) in zip(await b.run(*every), UNAVAILABLE, strict=True):
            failed = failure_of(ended)
            assert failed.cause is Cause.error
            for each in words:
                assert each in failed.message

    told(tmp_path, story)


def test_bytecode_of_another_python_is_refused(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        failed = failure_of(await b.run_one(call(about, origin=Origin("another host", "/nowhere/python", "3.99.1"))))
        for words in (
            "'about' cannot run under Python 3.11",
            "bytecode of Python 3.99.1",
            "installed on both sides",
            "Python 3.99 with python=",
        ):
            assert words in failed.message

    told(tmp_path, story)
