"""Setups, values of jobs, fresh processes, and recycling."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.spec import Isolation
from broker_jobs.core.value import Inline
from broker_jobs.current import current
from broker_jobs.data.store import ValueStore
from broker_jobs.wire import payload
from broker_jobs.wire.messages import Call
from broker_jobs_worker.executors import children, servers
from broker_jobs_worker.executors.recycling import Recycling
from broker_jobs_worker.executors.server import Child
from broker_jobs_worker.processes import look
from tests.support.executions import JOB, Bench, appears, bench, call, execution

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from broker_jobs.core.value import Value
    from broker_jobs_worker.executors.port import Execution, ExecutionEnded
    from broker_jobs_worker.runners.protocol import Run

ALL = sys.modules[__name__]


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


def with_setup(setup: Callable[[], object], function: Callable[..., object], *args: object, **more: Any) -> Execution:
    """An execution of a function with a setup."""
    digest, packed = payload.dump_function(function, [ALL])
    prepared, packed_setup = payload.dump_function(setup, [ALL])
    work = Call(digest, payload.dump_call(args, {}, lambda _: None), setup=prepared)
    return execution(work, function=packed, setup=packed_setup, **more)


# --- setups ------------------------------------------------------------------------------------------------------------------


def load_model() -> dict[str, Any]:
    print("loading")
    os.environ["MODEL"] = "large"
    os.environ["BROKER_JOBS_TASK"] = "of the setup"
    sys.path.append("/models")
    os.chdir("/")
    return {"pid": os.getpid(), "used": 0}


def use() -> tuple[int, int, str, bool, str, str]:
    current.setup["used"] += 1
    model = current.setup
    return model["pid"], model["used"], os.environ["MODEL"], "/models" in sys.path, os.environ["BROKER_JOBS_TASK"], str(Path.cwd())


def plain() -> tuple[int, str, object]:
    return os.getpid(), os.environ.get("MODEL", ""), current.setup


def test_a_setup_runs_once_in_each_process(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        ones = [with_setup(load_model, use, cwd=str(tmp_path)) for _ in range(3)]
        ended = [await b.run_one(each) for each in ones]
        pids, used, variable, found, tasks, folders = zip(*map(value_of, ended), strict=True)
        assert len(set(pids)) == 1
        assert used == (1, 2, 3)
        # What it changed of the process stays, but for the folder and what was the task's own.
        assert set(variable) == {"large"}
        assert set(found) == {True}
        assert tasks == ("of the setup", *(str(each.task) for each in ones[1:]))
        assert folders == ("/", str(tmp_path), str(tmp_path))
        assert [each.stdout.tail for each in ended] == [b"loading\n", b"", b""]
        # Others never see that process.
        assert value_of(await b.run_one(call(plain)))[0] != pids[0]
        assert value_of(await b.run_one(call(plain)))[1:] == ("", None)

    told(tmp_path / "spool", story)


def other_model() -> dict[str, Any]:
    return {"pid": os.getpid(), "used": 100}


def used() -> tuple[int, int]:
    current.setup["used"] += 1
    return current.setup["pid"], current.setup["used"]


def test_another_setup_gets_another_process_and_few_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "MOST_SPARE", 2)
    setups: list[Callable[[], object]] = [lambda number=number: {"pid": os.getpid(), "used": number} for number in range(4)]  # type: ignore[misc]

    async def story(b: Bench) -> None:
        mine, theirs = [value_of(await b.run_one(with_setup(each, used))) for each in (load_model, other_model)]
        assert mine[0] != theirs[0]
        again = [value_of(await b.run_one(with_setup(each, used))) for each in (load_model, other_model)]
        assert again == [(mine[0], 2), (theirs[0], 102)]
        for each in setups:
            await b.run_one(with_setup(each, used))
        await b.until_processes(2)
        assert value_of(await b.run_one(with_setup(setups[3], used)))[1] == 5
        assert value_of(await b.run_one(with_setup(load_model, used)))[1] == 1

    told(tmp_path, story)


def fail_at_first() -> str:
    marker = Path(os.environ["MARKER"])
    if not marker.exists():
        marker.touch()
        raise FileNotFoundError("no weights")
    return "weights"


def what() -> object:
    return current.setup


def leave() -> None:
    sys.exit(0)


async def prepare_later() -> None:
    """Cannot be a setup."""


def test_a_setup_that_fails_fails_the_task_and_is_tried_again(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        env = (("MARKER", str(tmp_path / "marker")),)
        failed = failure_of(await b.run_one(with_setup(fail_at_first, what, env=env)))
        assert failed.cause is Cause.error
        assert failed.message == "the setup 'fail_at_first' failed: FileNotFoundError: no weights"
        assert 'raise FileNotFoundError("no weights")' in failed.traceback
        assert failed.exception_types[0] == "builtins.FileNotFoundError"
        assert value_of(await b.run_one(with_setup(fail_at_first, what, env=env))) == "weights"
        assert "the setup 'leave' failed" in failure_of(await b.run_one(with_setup(leave, what))).message
        assert "cannot be a coroutine" in failure_of(await b.run_one(with_setup(lambda: prepare_later(), what))).message  # noqa: PLW0108 (so that only calling it tells)

    told(tmp_path / "spool", story)


def load_slowly() -> str:
    time.sleep(0.5)
    return "loaded"


def never_load() -> None:
    time.sleep(60)


def sleep_on(seconds: float) -> str:
    time.sleep(seconds)
    return str(current.setup)


def test_a_time_limit_holds_for_setup_and_function_each(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        assert value_of(await b.run_one(with_setup(load_slowly, sleep_on, 0.5, time_limit=900))) == "loaded"
        late, stuck = await b.run(
            with_setup(load_slowly, sleep_on, 60, time_limit=900), with_setup(never_load, sleep_on, 0, time_limit=300)
        )
        assert failure_of(late).cause is failure_of(stuck).cause is Cause.time_limit
        assert "in never_load" in failure_of(stuck).traceback

    told(tmp_path, story)


def start_listener() -> dict[str, Any]:
    lines: list[str] = []
    said = threading.Event()
    wanted = threading.Event()

    def listen() -> None:
        while True:
            wanted.wait()
            wanted.clear()
            print(lines.pop())
            said.set()

    threading.Thread(target=listen, daemon=True).start()
    return {"lines": lines, "said": said, "wanted": wanted}


def say(text: str) -> None:
    listener = current.setup
    listener["lines"].append(text)
    listener["wanted"].set()
    assert listener["said"].wait(10)
    listener["said"].clear()


def test_a_thread_of_a_setup_prints_for_all_tasks(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        for text in ("first", "second"):
            ended = await b.run_one(with_setup(start_listener, say, text))
            assert isinstance(ended.outcome, Succeeded), ended.outcome
            assert ended.stdout.tail == f"{text}\n".encode()

    told(tmp_path, story)


# --- values of jobs ----------------------------------------------------------------------------------------------------------------


def grow(values: list[int], number: int) -> tuple[int, int, int]:
    values.append(number)
    return os.getpid(), len(values), sum(values[:1000])


def with_value(value: Value, function: Callable[..., object], *args: object, key: str) -> Execution:
    """An execution whose first argument is a value of its job."""
    digest, packed = payload.dump_function(function, [ALL])
    place = object()
    arguments = payload.dump_call((place, *args), {}, lambda each: payload.Place(0) if each is place else None)
    return execution(Call(digest, arguments, (key,)), function=packed, values={key: value})


@pytest.mark.parametrize("stored", [False, True])
def test_a_value_is_told_once_to_each_child_and_is_a_copy_for_each_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    sent: list[Run] = []
    send = Child.send
    monkeypatch.setattr(Child, "send", lambda child, order: (sent.append(order), send(child, order)))
    inline = payload.dump(list(range(1000)))
    key = hashlib.sha256(inline.data).hexdigest()
    store = ValueStore(tmp_path / "values")
    value: Value = store.put(JOB, inline.encoding, inline.data) if stored else inline

    async def story(b: Bench) -> None:
        results = [value_of(await b.run_one(with_value(value, grow, number, key=key))) for number in range(3)]
        assert [each[1:] for each in results] == [(1001, 499_500)] * 3
        assert len({each[0] for each in results}) == 1
        assert [key in run.values for run in sent] == ([True] * 3 if stored else [True, False, False])
        if stored:
            # It has been read.
            (tmp_path / "values" / store.put(JOB, inline.encoding, inline.data).key).unlink()
            assert value_of(await b.run_one(with_value(value, grow, 1, key=key)))[1] == 1001

    told(tmp_path / "spool", story)


def test_values_are_forgotten_when_they_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker_jobs_worker.executors.knowledge.MOST_VALUES", 3000)

    async def story(b: Bench) -> None:
        for round_ in range(2):
            for number in range(5):
                inline = payload.dump([number] * 1000)
                key = hashlib.sha256(inline.data).hexdigest()
                assert value_of(await b.run_one(with_value(inline, grow, round_, key=key)))[2] == number * 1000

    told(tmp_path, story)


def test_a_task_that_cannot_begin_has_told_its_function(tmp_path: Path) -> None:
    inline = payload.dump([1])

    async def story(b: Bench) -> None:
        one = with_value(inline, grow, 1, key="f" * 64)
        wrong = with_value(inline, grow, 1, key="f" * 64)
        object.__setattr__(wrong, "options", type(wrong.options)(cwd="/dev/null/x"))
        assert "/dev/null" in failure_of(await b.run_one(wrong)).message
        assert value_of(await b.run_one(one))[1] == 2

    told(tmp_path, story)


def turn(size: int) -> tuple[int, int]:
    """New pages that copies of a value have taken, and the process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    value = b"x" * size
    turned = value[1:] + value[:1]
    assert len(turned) == size
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, os.getpid()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how much is kept is asked of glibc alone")
def test_a_task_finds_the_memory_of_the_one_before(tmp_path: Path) -> None:
    size = 10_000_000

    async def story(b: Bench) -> None:
        found = [value_of(await b.run_one(call(turn, size))) for _ in range(5)]
        assert len({pid for _, pid in found}) == 1
        pages = size // os.sysconf("SC_PAGE_SIZE")
        assert found[-1][0] < pages, f"it takes at least {2 * pages} where all of it is new: {found}"

    told(tmp_path, story)


# --- fresh, and recycled ------------------------------------------------------------------------------------------------------------


def stain() -> tuple[int, bool]:
    seen = hasattr(os, "stained")
    os.stained = True  # type: ignore[attr-defined]
    return os.getpid(), seen


def test_a_fresh_process_ran_nothing_and_runs_nothing_else(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        first = value_of(await b.run_one(call(stain)))
        fresh = [value_of(await b.run_one(call(stain, isolation=Isolation.fresh))) for _ in range(3)]
        last = value_of(await b.run_one(call(stain)))
        assert len({first[0], *(pid for pid, _ in fresh)}) == 4
        assert not any(seen for _, seen in fresh)
        assert last == (first[0], True)

    told(tmp_path, story)


def remember_bytes(size: int) -> int:
    os.kept = b"x" * size  # type: ignore[attr-defined]
    return os.getpid()


def test_children_are_recycled_by_tasks_memory_and_age(tmp_path: Path) -> None:
    async def by_tasks(b: Bench) -> None:
        pids = [value_of(await b.run_one(call(stain)))[0] for _ in range(9)]
        assert [len({*pids[at : at + 3]}) for at in (0, 3, 6)] == [1, 1, 1]
        assert len({*pids}) == 3

    async def by_memory(b: Bench) -> None:
        small = [value_of(await b.run_one(call(remember_bytes, 10))) for _ in range(3)]
        large = value_of(await b.run_one(call(remember_bytes, 200_000_000)))
        assert len({*small, large}) == 1
        assert value_of(await b.run_one(call(stain)))[0] != large

    async def by_age(b: Bench) -> None:
        old = value_of(await b.run_one(call(stain)))[0]
        await asyncio.sleep(0.3)
        assert value_of(await b.run_one(call(stain)))[0] == old
        assert value_of(await b.run_one(call(stain)))[0] != old

    told(tmp_path / "tasks", by_tasks, recycling=Recycling(tasks=3))
    told(tmp_path / "memory", by_memory, recycling=Recycling(memory=150_000_000))
    told(tmp_path / "age", by_age, recycling=Recycling(age=0.3))


def test_what_nobody_uses_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "LOOK_INTERVAL", 0.05)
    monkeypatch.setattr(servers, "MOST_IDLE", 0.2)

    async def story(b: Bench) -> None:
        pid = value_of(await b.run_one(call(os.getpid)))
        await b.until_processes(0)
        assert value_of(await b.run_one(call(os.getpid))) != pid

    told(tmp_path, story)


# --- checks of the reference -------------------------------------------------------------------------------------------------


def wait_for(started: str, go: str) -> int:
    Path(started).write_text(str(os.getpid()))
    while not Path(go).exists():
        time.sleep(0.005)
    return os.getpid()


def test_3_15_one_of_two_children_is_killed(tmp_path: Path) -> None:
    """The other's task ends undisturbed, and the dead one is replaced; test_3_15 of tests/system looks at the whole worker."""

    async def story(b: Bench) -> None:
        paths = [str(tmp_path / name) for name in ("one", "two", "go")]
        doomed, undisturbed = call(wait_for, paths[0], paths[2]), call(wait_for, paths[1], paths[2])
        for each in (doomed, undisturbed):
            b.executor.start(each)
        pids = [int(await appears(Path(path))) for path in paths[:2]]
        os.kill(pids[0], signal.SIGKILL)
        (ended,) = await b.finish(doomed)
        assert "killed by signal 9 (SIGKILL" in ended.outcome.message  # type: ignore[union-attr]
        (tmp_path / "go").touch()
        (ended,) = await b.finish(undisturbed)
        assert value_of(ended) == pids[1]
        later = [call(wait_for, str(tmp_path / name), str(tmp_path / "later")) for name in ("three", "four")]
        for each in later:
            b.executor.start(each)
        replaced = [int(await appears(tmp_path / name)) for name in ("three", "four")]
        (tmp_path / "later").touch()
        await b.finish(*later)
        assert len({*replaced}) == 2
        assert pids[1] in replaced

    told(tmp_path / "spool", story)


def kill_behind_the_loop(pid: int) -> None:
    """Kill a process, and come back when it is dead: the event loop has not heard of it then."""
    os.kill(pid, signal.SIGKILL)
    while (process := look(pid)) is not None and process.alive:
        time.sleep(0.001)


def test_3_15_an_idle_child_that_was_killed_is_given_to_nobody(tmp_path: Path) -> None:
    async def story(b: Bench) -> None:
        pid = value_of(await b.run_one(call(os.getpid)))
        kill_behind_the_loop(pid)
        assert value_of(await b.run_one(call(os.getpid))) != pid

    told(tmp_path, story)


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_3_27_every_child_runs_one_task_and_none_is_lost(tmp_path: Path, count: int) -> None:
    executions = [call(os.getpid) for _ in range(count)]

    async def story(b: Bench) -> None:
        waiting = iter(executions)

        async def slot() -> None:
            for each in waiting:
                await b.run_one(each)

        await asyncio.gather(slot(), slot())
        pids = [value_of(b.ended[each.execution]) for each in executions]
        assert len(pids) == count
        # Pids may come again, but not at once.
        assert all(len({*pids[at : at + 100]}) == 100 for at in range(0, count, 100))

    told(tmp_path, story, recycling=Recycling(tasks=1))
