"""What a warm child keeps from one task to the next, and what it puts back: the table of docs/functions.md, line by line."""

from __future__ import annotations

import asyncio
import ctypes
import decimal
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from broker_jobs.core.outcome import Crashed, Succeeded
from broker_jobs.core.value import Inline
from broker_jobs.wire import payload
from tests.support.executions import Bench, appears, bench, call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from broker_jobs_worker.executors.port import ExecutionEnded


def value_of(ended: ExecutionEnded) -> Any:
    assert isinstance(ended.outcome, Succeeded), ended.outcome
    assert isinstance(ended.outcome.value, Inline)
    return payload.load(ended.outcome.value)


def in_turn(spool: Path, *functions: Callable[..., object]) -> list[Any]:
    """What they give, one after the other, in one worker with one slot."""

    async def story() -> list[Any]:
        async with bench(spool) as b:
            return [value_of(await b.run_one(call(each, cwd=str(spool)))) for each in functions]

    return asyncio.run(story())


# --- what stays ------------------------------------------------------------------------------------------------------------


def remember() -> int:
    sys.modules["kept"] = type(sys)("kept")
    sys.modules["kept"].count = getattr(sys.modules.get("kept"), "count", 0) + 1  # type: ignore[attr-defined]
    import fractions

    fractions.kept_by_a_test = True  # type: ignore[attr-defined]
    return os.getpid()


def recall() -> tuple[int, int, bool, bool]:
    return (
        os.getpid(),
        sys.modules["kept"].count,
        "fractions" in sys.modules,
        sys.modules["fractions"].kept_by_a_test,
    )


def test_modules_and_their_state_stay(tmp_path: Path) -> None:
    pid, found = in_turn(tmp_path, remember, recall)
    assert found == (pid, 1, True, True)


# --- what is put back ------------------------------------------------------------------------------------------------------


def state() -> dict[str, Any]:
    mask = os.umask(0)
    os.umask(mask)
    return {
        "pid": os.getpid(),
        "cwd": str(Path.cwd()),
        "env": {name: value for name, value in os.environ.items() if name not in {"BROKER_JOBS_TASK", "BROKER_JOBS_EXECUTION"}},
        "umask": mask,
        "argv": sys.argv,
        "path": sys.path,
        "handlers": [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD)],
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "timers": [signal.getitimer(kind)[0] for kind in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)],
        "limits": [resource.getrlimit(kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_AS)],
        "affinity": os.sched_getaffinity(0),
        "streams": [(type(stream).__name__, stream.fileno(), stream.closed) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "precision": decimal.getcontext().prec,
    }


def cwd() -> None:
    os.chdir("/")


def env() -> None:
    os.environ["LEFT_BEHIND"] = "1"
    del os.environ["PATH"]


def umask() -> None:
    os.umask(0o777)


def argv() -> None:
    sys.argv.append("left behind")
    sys.argv = ["another"]


def path() -> None:
    sys.path.insert(0, "/left/behind")
    sys.path = ["/nowhere", *sys.path]


def handlers() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})


def timers() -> None:
    for kind in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(kind, 1000)


def soft_limits() -> None:
    for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE):
        resource.setrlimit(kind, (17, resource.getrlimit(kind)[1]))
    resource.setrlimit(resource.RLIMIT_AS, (1 << 40, resource.getrlimit(resource.RLIMIT_AS)[1]))


def affinity() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def streams() -> None:
    sys.stdin.close()
    sys.stdout.close()
    sys.stdout = sys.stderr = None  # type: ignore[assignment]
    os.close(1)
    os.close(2)


def context() -> None:
    # It is kept in a context variable.
    decimal.getcontext().prec = 3


DISTURBANCES = (cwd, env, umask, argv, path, handlers, timers, soft_limits, affinity, streams, context)


def test_what_a_task_changes_is_put_back(tmp_path: Path) -> None:
    before, *later = in_turn(tmp_path, state, *(each for disturb in DISTURBANCES for each in (disturb, state)))
    assert {disturb.__name__: found for disturb, found in zip(DISTURBANCES, later[1::2], strict=True) if found != before} == {}


def lower_for_good() -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.getuid() == 0:
        os.setresuid(65534, 65534, 65534)
    return os.getpid()


def test_a_child_that_cannot_be_put_back_is_replaced(tmp_path: Path) -> None:
    before, disturbed, after = in_turn(tmp_path, state, lower_for_good, state)
    assert before.pop("pid") == disturbed != after.pop("pid")
    assert before == after


# --- output ------------------------------------------------------------------------------------------------------------------


def linger(folder: str) -> None:
    def talk() -> None:
        Path(folder, "talking").write_text("yes")
        while not Path(folder, "stop").exists():
            print("left behind")
            print("left behind", file=sys.stderr)
            time.sleep(0.001)
        Path(folder, "stopped").write_text("yes")

    threading.Thread(target=talk, daemon=True).start()
    while not Path(folder, "talking").exists():
        time.sleep(0.001)
    print("mine")


def speak_with_a_thread(folder: str) -> None:
    print("first")
    thread = threading.Thread(target=lambda: print("of my own thread"))
    thread.start()
    thread.join()
    time.sleep(0.05)
    print("last", file=sys.stderr)
    assert not Path(folder, "stopped").exists()


def test_a_thread_that_was_left_behind_prints_into_no_other_task(tmp_path: Path) -> None:
    folder = str(tmp_path)

    async def story() -> None:
        async with bench(tmp_path / "spool") as b:
            first = await b.run_one(call(linger, folder))
            assert b"mine\n" in first.stdout.tail
            await asyncio.sleep(0.05)
            for _ in range(3):
                later = await b.run_one(call(speak_with_a_thread, folder))
                assert later.stdout.tail == b"first\nof my own thread\n"
                assert later.stderr.tail == b"last\n"
            (tmp_path / "stop").touch()
            await appears(tmp_path / "stopped")

    asyncio.run(story())


def shout_from_c() -> None:
    ctypes.CDLL(None).puts(b"from C")
    os.system("echo from a shell; echo wrong >&2")
    print("from Python")


def test_output_of_c_code_and_subprocesses_is_the_task_s(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        quiet = call(abs, -1)
        for one in (call(shout_from_c), quiet, call(shout_from_c)):
            ended = await b.run_one(one)
            lines = set(ended.stdout.tail.splitlines())
            assert lines == (set() if one is quiet else {b"from C", b"from a shell", b"from Python"})
            assert ended.stderr.tail == (b"" if one is quiet else b"wrong\n")

    async def run() -> None:
        async with bench(tmp_path) as b:
            await story(b)

    asyncio.run(run())


# --- values that are made step by step ------------------------------------------------------------------------------------------


def count(upto: int) -> Iterator[int]:
    for number in range(upto):
        print(number)
        yield number


async def count_slowly(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        await asyncio.sleep(0)
        yield number


async def count_later(upto: int) -> Iterator[int]:
    await asyncio.sleep(0)
    return count(upto)


def fail_midway() -> Iterator[int]:
    yield 1
    raise ValueError("midway")


def test_a_generator_is_run_to_its_end(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as b:
            plain, slow, later = [await b.run_one(call(each, 3)) for each in (count, count_slowly, count_later)]
            assert [value_of(each) for each in (plain, slow, later)] == [[0, 1, 2]] * 3
            assert plain.stdout.tail == b"0\n1\n2\n"
            failed = await b.run_one(call(fail_midway))
            assert failed.outcome.message == "ValueError: midway"  # type: ignore[union-attr]
            assert "in fail_midway" in failed.outcome.traceback  # type: ignore[union-attr]

    asyncio.run(story())


async def loop_of() -> int:
    return id(asyncio.get_running_loop()) if await asyncio.sleep(0, result=True) else 0


def no_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


def test_a_loop_is_the_task_s_own(tmp_path: Path) -> None:
    first, between = in_turn(tmp_path, loop_of, no_loop)
    assert first
    assert between


# --- crashes in words -----------------------------------------------------------------------------------------------------------


def segfault() -> None:
    ctypes.string_at(0)


def leave_at_once(code: int) -> None:
    os._exit(code)


def test_a_crash_is_told_in_words(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as b:
            crash, code, shell = [await b.run_one(each) for each in (call(segfault), call(leave_at_once, 3), call(leave_at_once, 137))]
            assert crash.outcome == Crashed(
                "the process of the function was killed by signal 11 (SIGSEGV: segmentation fault), without an answer", 11
            )
            assert b"Fatal Python error: Segmentation fault" in crash.stderr.tail
            assert b"in segfault" in crash.stderr.tail
            assert "exit code 3 without an answer" in code.outcome.message  # type: ignore[union-attr]
            assert "exit code 137 (for shells: signal 9, SIGKILL)" in shell.outcome.message  # type: ignore[union-attr]

    asyncio.run(story())
