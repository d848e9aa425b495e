"""Functions in warm children."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.core.outcome import Canceled, Cause, Crashed, Failed, Succeeded
from broker_jobs.core.value import INLINE_LIMIT, Inline, Stored
from broker_jobs.current import current
from broker_jobs.data.store import ValueStore, fetch
from broker_jobs.errors import NotInTask, TimeLimitReached, ValidationError
from broker_jobs.wire import payload
from broker_jobs.wire.messages import Call, Function, Origin
from tests.support.executions import JOB, appears, bench, call, execution, here

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from broker_jobs.core.outcome import Outcome
    from broker_jobs_worker.executors.port import Execution, ExecutionEnded
    from tests.support.executions import Bench

JOB_2 = "0199" + "0" * 28


def ran(spool: Path, *executions: Execution, **options: Any) -> list[ExecutionEnded]:
    async def story() -> list[ExecutionEnded]:
        async with bench(spool, **options) as b:
            return [await b.run_one(each) for each in executions]

    return asyncio.run(story())


def told(spool: Path, story: Callable[[Bench], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def run() -> None:
        async with bench(spool, **options) as b:
            await story(b)

    asyncio.run(run())


def value_of(outcome: Outcome) -> Any:
    assert isinstance(outcome, Succeeded), outcome
    assert isinstance(outcome.value, Inline)
    return payload.load(outcome.value)


def failure_of(ended: ExecutionEnded) -> Failed:
    assert isinstance(ended.outcome, Failed), ended.outcome
    return ended.outcome


# --- values --------------------------------------------------------------------------------------------------------


def add(left: int, right: int = 0) -> int:
    return left + right


def test_a_function_gives_its_value(tmp_path: Path) -> None:
    (ended,) = ran(tmp_path, call(add, 2, kwargs={"right": 3}))
    assert value_of(ended.outcome) == 5
    assert ended.started_ms <= ended.ended_ms


async def slowly(value: int) -> int:
    await asyncio.sleep(0)
    return value * 2


def test_a_coroutine_function_is_awaited(tmp_path: Path) -> None:
    (ended,) = ran(tmp_path, call(slowly, 21))
    assert value_of(ended.outcome) == 42


def leave(code: object) -> None:
    sys.exit(code)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [None, 0])
def test_exit_with_zero_is_success(tmp_path: Path, code: int | None) -> None:
    (ended,) = ran(tmp_path, call(leave, code))
    assert value_of(ended.outcome) is None


def test_exit_with_another_code_is_a_failure(tmp_path: Path) -> None:
    seven, text = ran(tmp_path, call(leave, 7), call(leave, "no input"))
    assert failure_of(seven).cause is Cause.exit_code
    assert failure_of(seven).exit_code == 7
    assert failure_of(text).exit_code == 1
    assert "no input" in failure_of(text).message
    assert text.stderr.tail == b"no input\n"


def big(size: int) -> bytes:
    return b"x" * size


def test_a_large_result_goes_to_the_value_store(tmp_path: Path) -> None:
    store = tmp_path / "values"
    (ended,) = ran(tmp_path / "spool", call(big, INLINE_LIMIT + 1, store=str(store)))
    assert isinstance(ended.outcome, Succeeded)
    assert isinstance(ended.outcome.value, Stored)
    assert ended.outcome.value.key.startswith(JOB + "/")
    assert payload.load(fetch(ended.outcome.value)) == big(INLINE_LIMIT + 1)


def test_without_a_store_a_result_is_inline_up_to_a_limit(tmp_path: Path) -> None:
    fits, too_large = ran(tmp_path, call(big, 7_000_000), call(big, 9_000_000))
    assert len(value_of(fits.outcome)) == 7_000_000
    failed = failure_of(too_large)
    assert failed.cause is Cause.error
    assert "9,000,005 bytes" in failed.message
    assert "value_store" in failed.message
    assert "broker_jobs.errors.ValueTooLarge" in failed.exception_types


def test_an_unpicklable_result_is_a_failure_that_says_so(tmp_path: Path) -> None:
    def lock() -> object:
        return threading.Lock()

    failed = failure_of(ran(tmp_path, call(lock))[0])
    assert "lock" in failed.message
    assert "cannot pickle" in failed.message


def test_inputs_come_from_other_tasks(tmp_path: Path) -> None:
    stored = payload.dump([10, 20])
    kept = ValueStore(tmp_path / "values").put(JOB, stored.encoding, stored.data)
    first, second = object(), object()
    places = {id(first): payload.Place(0), id(second): payload.Place(1, path=(1,))}
    digest, function = payload.dump_function(add, [sys.modules[__name__]])
    args = payload.dump_call((first, second), {}, lambda value: places.get(id(value)))
    work = Call(digest, args, inputs=("4", "5"))
    (ended,) = ran(tmp_path, execution(work, function=function, values={"4": payload.dump(1), "5": kept}))
    assert value_of(ended.outcome) == 21


def test_a_part_that_a_result_lacks_is_said(tmp_path: Path) -> None:
    place = object()
    digest, function = payload.dump_function(add, [sys.modules[__name__]])
    args = payload.dump_call((place,), {}, lambda value: payload.Place(0, path=("mesh",)) if value is place else None)
    (ended,) = ran(tmp_path, execution(Call(digest, args, inputs=("4",)), function=function, values={"4": payload.dump({"other": 1})}))
    assert failure_of(ended).message == "an argument of the function 'add' cannot be had: KeyError: 'mesh'"


def test_an_input_that_cannot_be_read_is_a_failure(tmp_path: Path) -> None:
    stored = payload.dump([10, 20])
    kept = ValueStore(tmp_path / "values").put(JOB, stored.encoding, stored.data)
    (tmp_path / "values" / kept.key).write_bytes(b"something else")
    digest, function = payload.dump_function(add, [sys.modules[__name__]])
    work = Call(digest, payload.dump_call((1,), {}, lambda _: None), inputs=("5",))
    failed = failure_of(ran(tmp_path, execution(work, function=function, values={"5": kept}))[0])
    assert "is not what was written there" in failed.message


def test_what_the_message_lacks_is_said(tmp_path: Path) -> None:
    work = Call("abc", payload.dump_call((1,), {}, lambda _: None))
    digest, function = payload.dump_function(add)
    lacking = Call(digest, payload.dump_call((1,), {}, lambda _: None), inputs=("5",))
    no_function, no_value = ran(tmp_path, execution(work), execution(lacking, function=function))
    assert "lacks the function abc" in failure_of(no_function).message
    assert "lacks the values 5" in failure_of(no_value).message


# --- exceptions ------------------------------------------------------------------------------------------------------


class OddError(ValueError):
    """Cannot be rebuilt from its text."""

    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"odd {left} {right}")


def fail(kind: str) -> None:
    if kind == "zero":
        _ = 1 / 0
    if kind == "odd":
        raise OddError(1, 2)
    if kind == "long":
        raise ValueError("x" * 200_000 + "the end")
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind == "chained":
        try:
            fail("zero")
        except ZeroDivisionError as error:
            raise RuntimeError("later") from error


def test_an_exception_is_told_in_full(tmp_path: Path) -> None:
    failed = failure_of(ran(tmp_path, call(fail, "zero"))[0])
    assert failed.cause is Cause.error
    assert failed.message == "ZeroDivisionError: division by zero"
    assert failed.exception_types[:3] == ("builtins.ZeroDivisionError", "builtins.ArithmeticError", "builtins.Exception")
    assert failed.traceback.startswith("Traceback (most recent call last):")
    assert "1 / 0" in failed.traceback
    assert "broker_jobs_worker" not in failed.traceback
    assert failed.exception is not None
    assert isinstance(payload.load(failed.exception), ZeroDivisionError)  # type: ignore[arg-type]


def test_an_exception_that_cannot_be_rebuilt_is_left_out(tmp_path: Path) -> None:
    failed = failure_of(ran(tmp_path, call(fail, "odd"))[0])
    assert failed.message == "OddError: odd 1 2"
    assert failed.exception is None
    assert "builtins.ValueError" in failed.exception_types


def test_long_texts_keep_their_tail(tmp_path: Path) -> None:
    failed = failure_of(ran(tmp_path, call(fail, "long"))[0])
    assert len(failed.message) < 70_000
    assert failed.message.endswith("the end")
    assert len(failed.traceback) < 70_000


def test_chains_and_interrupts_are_errors_like_others(tmp_path: Path) -> None:
    chained, interrupted = ran(tmp_path, call(fail, "chained"), call(fail, "interrupt"))
    assert "ZeroDivisionError" in failure_of(chained).traceback
    assert failure_of(interrupted).message == "KeyboardInterrupt"


def test_too_many_arguments_are_the_user_s_error(tmp_path: Path) -> None:
    failed = failure_of(ran(tmp_path, call(add, 1, 2, 3))[0])
    assert failed.message.startswith("TypeError: add() takes")


def test_a_missing_module_is_named_with_what_to_do(tmp_path: Path) -> None:
    work = Call("f", payload.dump_call((), {}, lambda _: None))
    by_name = Function("score", "nobody_has_this", b"cnobody_has_this\nscore\n.")
    gone = Function("score", "json", b"cjson\nno_such_thing\n.")
    newer = Origin("another host", "/nowhere/python", "3.13.1")
    missing, attribute = ran(tmp_path, execution(work, function=by_name, origin=newer), execution(Call("g", work.args), function=gone))
    failed = failure_of(missing)
    assert failed.message.startswith("ModuleNotFoundError: No module named 'nobody_has_this'")
    assert "Python 3.13.1" in failed.message
    for remedy in ("Install 'nobody_has_this'", "worker start --path", "by_value=[nobody_has_this]"):
        assert remedy in failed.message
    assert failure_of(attribute).message.startswith("AttributeError")


# --- what surrounds a function ------------------------------------------------------------------------------------------


def surroundings() -> dict[str, Any]:
    mask = os.umask(0)
    os.umask(mask)
    return {
        "cwd": str(Path.cwd()),
        "env": dict(os.environ),
        "umask": mask,
        "term": signal.getsignal(signal.SIGTERM),
        "alarm": signal.getitimer(signal.ITIMER_REAL)[0],
        "stdout": type(sys.stdout).__name__,
        "pid": os.getpid(),
    }


def disturb() -> int:
    os.chdir("/")
    os.environ["LEFT_BEHIND"] = "1"
    del os.environ["PATH"]
    os.umask(0o777)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 1000)
    sys.stdout.close()
    sys.stdout = None  # type: ignore[assignment]
    os.close(1)
    return os.getpid()


def test_what_a_function_changes_is_undone(tmp_path: Path) -> None:
    home = str(tmp_path)
    own = {"BROKER_JOBS_TASK", "BROKER_JOBS_EXECUTION"}
    before, disturbed, after = (
        value_of(ended.outcome)
        for ended in ran(tmp_path / "spool", call(surroundings, home=home), call(disturb), call(surroundings, home=home))
    )
    assert before["pid"] == disturbed == after["pid"]
    assert before["cwd"] == home
    for state in (before, after):
        for name in own:
            del state["env"][name]
    assert before == after


def remove_names() -> int:
    del sys.argv, sys.path, sys.stdin, sys.stdout, sys.stderr
    return os.getpid()


def test_names_that_a_function_removes_are_there_again(tmp_path: Path) -> None:
    before, disturbed, after = (
        value_of(ended.outcome) for ended in ran(tmp_path, *(call(each, home="/") for each in (surroundings, remove_names, surroundings)))
    )
    assert before["pid"] == disturbed == after["pid"]
    for state in (before, after):
        for name in ("BROKER_JOBS_TASK", "BROKER_JOBS_EXECUTION"):
            del state["env"][name]
    assert before == after


def test_variables_and_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_JOBS_URL", "amqp://secret")
    monkeypatch.setenv("BROKER_JOBS_SIGNING_KEY", "secret")
    monkeypatch.setenv("INHERITED", "yes")
    one = call(surroundings, allocation={"BROKER_JOBS_CPUS": "0,1", "TWICE": "daemon"}, env=(("TWICE", "task"), ("MINE", "ä")))
    env = value_of(ran(tmp_path, one)[0].outcome)["env"]
    assert "BROKER_JOBS_URL" not in env
    assert "BROKER_JOBS_SIGNING_KEY" not in env
    assert env["INHERITED"] == "yes"
    assert (env["TWICE"], env["MINE"], env["BROKER_JOBS_CPUS"]) == ("task", "ä", "0,1")
    assert (env["BROKER_JOBS_JOB"], env["BROKER_JOBS_TASK"], env["BROKER_JOBS_ATTEMPT"]) == (JOB, str(one.task), "1")
    assert env["BROKER_JOBS_EXECUTION"] == one.execution


def test_folders(tmp_path: Path) -> None:
    made = tmp_path / "a" / "b"
    home = tmp_path / "home"
    home.mkdir()
    spool = tmp_path / "spool"
    given, submitter, relative, own, wrong = ran(
        spool,
        call(os.getcwd, cwd=str(made)),
        call(os.getcwd, home=str(home)),
        call(os.getcwd, home=str(home), cwd="deeper"),
        call(os.getcwd, home=str(tmp_path / "elsewhere")),
        call(os.getcwd, cwd="/dev/null/x"),
    )
    assert value_of(given.outcome) == str(made)
    assert value_of(submitter.outcome) == str(home)
    assert value_of(relative.outcome) == str(home / "deeper")
    assert value_of(own.outcome).startswith(str(spool / "tasks"))
    assert not (spool / "tasks").exists()
    assert "/dev/null" in failure_of(wrong).message


def about() -> dict[str, Any]:
    assert current
    return {
        "ids": (current.job, current.task, current.attempt, current.execution, current.name),
        "allocation": dict(current.allocation),
        "stop": current.stop_requested,
    }


def test_current_inside_a_task(tmp_path: Path) -> None:
    one = call(about, name="mesh", allocation={"BROKER_JOBS_CPUS": "3"})
    value = value_of(ran(tmp_path, one)[0].outcome)
    assert value == {"ids": (JOB, one.task, 1, one.execution, "mesh"), "allocation": {"BROKER_JOBS_CPUS": "3"}, "stop": False}


def test_current_outside_of_a_task() -> None:
    assert not current
    assert not current.stop_requested
    current.progress(0.5)
    with pytest.raises(NotInTask):
        _ = current.job
    with pytest.raises(ValidationError):
        current.progress(1.5)


def ask_publicly() -> int:
    import broker_jobs
    from broker_jobs import current as public

    assert public is broker_jobs.current is current
    return public.task


def test_current_by_its_public_name(tmp_path: Path) -> None:
    one = call(ask_publicly)
    assert value_of(ran(tmp_path, one)[0].outcome) == one.task


def step_by_step() -> None:
    current.progress(0.25, "meshing")
    current.progress(0.26)
    time.sleep(0.15)
    current.progress(0.5)
    current.progress(float("nan"))


def test_progress_is_reported_and_checked(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        one = call(step_by_step)
        ended = await b.run_one(one)
        assert "ValidationError" in failure_of(ended).message
        assert [(news.execution, news.fraction, news.text) for news in b.progress] == [
            (one.execution, 0.25, "meshing"),
            (one.execution, 0.5, ""),
        ]

    told(tmp_path, story)


def test_the_first_progress_of_a_task_is_reported_however_soon_it_comes_after_the_last(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        for _ in range(3):
            await b.run_one(call(step_by_step))
        assert [news.fraction for news in b.progress].count(0.25) == 3

    told(tmp_path, story)


# --- output --------------------------------------------------------------------------------------------------------------


def speak(text: str) -> None:
    print(text)
    print("E" + text, file=sys.stderr)
    subprocess.run(["echo", "sub", text], check=True)
    os.write(1, b"raw\n")


def test_output_is_kept_apart(tmp_path: Path) -> None:
    executions = [call(speak, f"t{number}") for number in range(20)]

    async def story(b: Bench) -> None:
        for number, ended in enumerate(await b.run(*executions)):
            assert ended.stdout.tail == f"t{number}\nsub t{number}\nraw\n".encode()
            assert ended.stderr.tail == f"Et{number}\n".encode()
            assert ended.stdout.path is None
            assert ended.stdout.size == len(ended.stdout.tail)

    told(tmp_path, story)


def write(size: int) -> None:
    sys.stdout.write("a" * size + "end")


def test_long_output_stays_in_the_spool(tmp_path: Path) -> None:
    long, short = ran(tmp_path, call(write, 200_000), call(write, 5))
    assert isinstance(long.outcome, Succeeded)
    assert long.stdout.size == 200_003
    assert len(long.stdout.tail) == 64 * 1024
    assert long.stdout.tail.endswith(b"end")
    assert long.stdout.path is not None
    assert len(Path(long.stdout.path).read_bytes()) == 200_003
    assert short.stdout.tail == b"aaaaaend"


def test_output_into_a_file_of_the_user(tmp_path: Path) -> None:
    cwd = tmp_path / "work"
    named, both, refused, after = ran(
        tmp_path / "spool",
        call(speak, "x", cwd=str(cwd), stdout="logs/out.log"),
        call(speak, "y", cwd=str(cwd), stdout="both.log", stderr="both.log"),
        call(speak, "z", stdout="/dev/null/out"),
        call(speak, "w"),
    )
    assert (cwd / "logs/out.log").read_text() == "x\nsub x\nraw\n"
    assert named.stdout.path == str(cwd / "logs/out.log")
    assert named.stdout.tail == b"x\nsub x\nraw\n"
    assert named.stderr.tail == b"Ex\n"
    assert sorted((cwd / "both.log").read_text().split()) == sorted(["y", "Ey", "sub", "y", "raw"])
    assert both.stderr.path == both.stdout.path
    assert "/dev/null/out" in failure_of(refused).message
    assert after.stdout.tail.startswith(b"w\n")


# --- crashes -------------------------------------------------------------------------------------------------------------


def die(how: str) -> None:
    print("before", flush=True)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(3)


def test_a_function_that_vanishes_has_crashed_and_the_next_is_unharmed(tmp_path: Path) -> None:
    killed, left, after = ran(tmp_path, call(die, "kill"), call(die, "exit"), call(add, 1))
    assert isinstance(killed.outcome, Crashed)
    assert killed.outcome.signal == signal.SIGKILL
    assert "killed by signal 9 (SIGKILL" in killed.outcome.message
    assert killed.stdout.tail == b"before\n"
    assert isinstance(left.outcome, Crashed)
    assert "ended with exit code 3 without an answer" in left.outcome.message
    assert value_of(after.outcome) == 1


def wait_for(path: str) -> int:
    Path(path + ".pid").write_text(str(os.getpid()))
    while not Path(path).exists():
        time.sleep(0.01)
    return os.getpid()


def test_one_of_two_children_is_killed_and_the_other_is_unharmed(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        one, two = (call(wait_for, str(tmp_path / name)) for name in "ab")
        b.executor.start(one)
        b.executor.start(two)
        victim = int(await appears(tmp_path / "a.pid"))
        await appears(tmp_path / "b.pid")
        os.kill(victim, signal.SIGKILL)
        (killed,) = await b.finish(one)
        assert isinstance(killed.outcome, Crashed)
        assert two.execution not in b.ended
        (tmp_path / "b").touch()
        (other,) = await b.finish(two)
        assert value_of(other.outcome) != victim
        await b.run(call(add, 1), call(add, 2))

    told(tmp_path, story)


def fork_and_return() -> str:
    return "child" if os.fork() == 0 else "parent"


def test_a_bare_fork_answers_once(tmp_path: Path) -> None:
    forked, after = ran(tmp_path, call(fork_and_return), call(add, 1))
    assert value_of(forked.outcome) == "parent"
    assert value_of(after.outcome) == 1


def garbage() -> None:
    for fd in range(3, 50):
        try:
            os.write(fd, b"\x05\x00\x00\x00hello")
        except OSError:
            continue
    time.sleep(60)


def test_a_child_that_writes_garbage_harms_nobody(tmp_path: Path) -> None:
    wild, after = ran(tmp_path, call(garbage), call(add, 1))
    assert isinstance(wild.outcome, Crashed)
    assert value_of(after.outcome) == 1


# --- many, and where they come from --------------------------------------------------------------------------------------


def test_a_thousand_tiny_functions(tmp_path: Path) -> None:
    executions = [call(add, number, 1) for number in range(1000)]

    async def story(b: Bench) -> None:
        waiting = iter(executions)

        async def slot() -> None:
            for each in waiting:
                await b.run_one(each)

        await asyncio.gather(slot(), slot(), slot())
        assert [value_of(b.ended[each.execution].outcome) for each in executions] == list(range(1, 1001))
        assert len(b.executor.processes) == 4

    told(tmp_path, story)


def test_modules_of_the_submitter_and_of_the_worker(tmp_path: Path) -> None:
    for place, version in (("mine", 1), ("theirs", 2)):
        (tmp_path / place).mkdir()
        (tmp_path / place / "broker_jobs_sample.py").write_text(f"def version():\n    return {version}\n")
    work = Call("f", payload.dump_call((), {}, lambda _: None))
    function = Function("version", "broker_jobs_sample", b"cbroker_jobs_sample\nversion\n.")
    origin = here()
    mine = Origin(origin.host, origin.python, origin.version, (str(tmp_path / "mine"), *origin.path))
    at_home, elsewhere = ran(
        tmp_path / "spool",
        execution(work, function=function, origin=mine),
        execution(work, function=function),
        path=[str(tmp_path / "theirs")],
    )
    assert value_of(at_home.outcome) == 1
    assert value_of(elsewhere.outcome) == 2


def test_an_edited_module_is_loaded_anew_for_the_next_job(tmp_path: Path) -> None:
    module = tmp_path / "broker_jobs_edited.py"
    work = Call("f", payload.dump_call((), {}, lambda _: None))
    function = Function("version", "broker_jobs_edited", b"cbroker_jobs_edited\nversion\n.")

    async def story(b: Bench) -> None:
        module.write_text("def version():\n    return 1\n")
        first = await b.run_one(execution(work, function=function))
        module.write_text("def version():\n    return 22\n")
        second = await b.run_one(execution(work, function=function, job=JOB_2))
        assert (value_of(first.outcome), value_of(second.outcome)) == (1, 22)

    told(tmp_path / "spool", story, path=[str(tmp_path)])


def test_an_interpreter_that_does_not_work_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho this is no python >&2\nexit 1\n")
    broken.chmod(0o755)
    origin = here()
    failed, after = ran(
        tmp_path / "spool", call(add, 1, origin=Origin(origin.host, str(broken), "3.11.0", origin.path)), call(add, 1, origin=origin)
    )
    assert "this is no python" in failure_of(failed).message
    assert str(broken) in failure_of(failed).message
    assert value_of(after.outcome) == 1


def test_stop_and_time_limit_raise_in_the_function(tmp_path: Path) -> None:
    def patient(path: str) -> str:
        Path(path).write_text("started")
        try:
            time.sleep(60)
        except TimeLimitReached:
            print("limit", current.stop_requested, flush=True)
            raise
        except Exception as error:  # noqa: BLE001
            print(type(error).__name__, current.stop_requested, flush=True)
        return "cleaned up"

    async def story(b: Bench) -> None:
        limited = await b.run_one(call(patient, str(tmp_path / "l"), time_limit=300))
        failed = failure_of(limited)
        assert failed.cause is Cause.time_limit
        assert "0.3 s" in failed.message
        assert "time.sleep(60)" in failed.traceback
        assert limited.stdout.tail == b"limit True\n"
        stopped = call(patient, str(tmp_path / "s"))
        b.executor.start(stopped)
        await appears(tmp_path / "s")
        b.executor.stop(stopped.execution, "wrong input")
        (ended,) = await b.finish(stopped)
        assert ended.outcome == Canceled("wrong input")
        assert ended.stdout.tail == b"TaskCanceled True\n"
        assert value_of((await b.run_one(call(add, 1))).outcome) == 1

    told(tmp_path / "spool", story)
