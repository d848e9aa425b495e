"""Lines: calls that follow one another in a child without being asked for, and can be had back at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from broker_jobs import current
from broker_jobs.core.outcome import Canceled, Crashed, Failed, Succeeded
from broker_jobs.wire import payload
from broker_jobs_worker.runners.protocol import NOTE
from tests.support.executions import appears, bench, call, program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from broker_jobs_worker.executors.port import Execution, ExecutionEnded


def mark(folder: str, number: int) -> tuple[int, int]:
    """Say that it has run, and in which process."""
    with Path(folder, "ran").open("a") as file:
        file.write(f"{number}\n")
    return number, os.getpid()


def hold(folder: str, number: int) -> int:
    """The first of all waits until it is let go."""
    mark(folder, number)
    if number == 0:
        Path(folder, "begun").write_text("yes")
        while not Path(folder, "go").exists():
            time.sleep(0.005)
    return number


def odd_one(folder: str, number: int, what: str) -> int:
    """The third is different."""
    mark(folder, number)
    if number == 2:
        match what:
            case "raises":
                raise ValueError("the third")
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "prints":
                print("the third")
            case "leaves a process":
                subprocess.Popen(["sleep", "1000"])
            case "leaves a file":
                Path("left").write_text("x")
            case "gives up a right":
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            case "exits":
                raise SystemExit(3)
            case "takes the tickets":
                for place in Path("/proc/self/fd").iterdir():
                    with contextlib.suppress(OSError):
                        if place.is_fifo() and fcntl.fcntl(int(place.name), fcntl.F_GETFL) & os.O_NONBLOCK:
                            os.read(int(place.name), 2)
    return number


def line(function: object, folder: Path, count: int, *more: object) -> list[Execution]:
    return [call(function, str(folder), number, *more) for number in range(count)]  # type: ignore[arg-type]


def ran(folder: Path) -> list[int]:
    path = folder / "ran"
    return [int(text) for text in path.read_text().split()] if path.exists() else []


def value(ended: ExecutionEnded) -> object:
    assert isinstance(ended.outcome, Succeeded), ended.outcome
    return payload.load(ended.outcome.value)  # type: ignore[arg-type]


def test_a_line_runs_in_its_order_in_one_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path / "spool") as executor:
            first, second = line(mark, tmp_path, 50), line(mark, tmp_path, 50)
            executor.executor.start(first[0], first[1:])
            values = [value(ended) for ended in await executor.finish(*first)]
            executor.executor.start(second[0], second[1:])
            values += [value(ended) for ended in await executor.finish(*second)]
            assert [number for number, _ in values] == [*range(50), *range(50)]  # type: ignore[misc]
            assert len({pid for _, pid in values}) == 1  # type: ignore[misc]
            assert ran(tmp_path) == [*range(50), *range(50)]

    asyncio.run(main())


@pytest.mark.parametrize(
    "what", ["raises", "dies", "prints", "leaves a process", "leaves a file", "gives up a right", "exits", "takes the tickets"]
)
def test_what_one_does_is_its_own_affair(tmp_path: Path, what: str) -> None:
    async def main() -> None:
        async with bench(tmp_path / "spool") as executor:
            tasks = line(odd_one, tmp_path, 6, what)
            executor.executor.start(tasks[0], tasks[1:])
            if what == "takes the tickets":
                # Nobody could tell without asking: the daemon does, when nothing has ended for a while.
                await executor.finish(*tasks[:3])
                executor.executor.recall(tasks[4].execution)
                for task in tasks:
                    if task.execution in executor.recalled[0]:
                        executor.executor.start(task)
            ends = await executor.finish(*tasks)
            others = [ended for number, ended in enumerate(ends) if number != 2]
            assert [type(ended.outcome) for ended in others[:2]] == [Succeeded, Succeeded]
            lost = 1 if what == "takes the tickets" else 0
            assert [type(ended.outcome) for ended in others[2:]].count(Succeeded) >= 3 - lost
            order = ran(tmp_path)
            assert order[:3] == [0, 1, 2]
            assert sorted(order) == sorted(set(order)), "nothing ran twice"
            odd = ends[2]
            match what:
                case "raises":
                    assert isinstance(odd.outcome, Failed)
                    assert "the third" in odd.outcome.message
                case "dies":
                    assert isinstance(odd.outcome, Crashed)
                case "prints":
                    assert odd.stdout.tail == b"the third\n"
                    assert not any(ended.stdout.tail for ended in others)
                case "exits":
                    assert isinstance(odd.outcome, Failed)
                    assert odd.outcome.exit_code == 3
                case _:
                    assert value(odd) == 2

    asyncio.run(main())


DISTURBANCES: dict[str, Callable[[], object]] = {
    "folder": lambda: os.chdir("/"),
    "variable": lambda: os.environ.update(LEFT_BEHIND="1"),
    "variable gone": lambda: os.environ.pop("PATH"),
    "variable of the task": lambda: os.environ.update(BROKER_JOBS_JOB="another"),
    "umask": lambda: os.umask(0o777),
    "handler": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    "timer": lambda: signal.setitimer(signal.ITIMER_PROF, 1000),
    "mask": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2}),
    "limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (500, resource.getrlimit(resource.RLIMIT_NOFILE)[1])),
    "priority": lambda: os.nice(1),
    "processors": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    "arguments": lambda: sys.argv.append("--more"),
    "other arguments": lambda: setattr(sys, "argv", []),
    "path": lambda: sys.path.insert(0, "/elsewhere"),
    "other path": lambda: setattr(sys, "path", []),
    "stream": lambda: setattr(sys, "stdout", None),
    "closed stream": lambda: contextlib.closing(sys.stderr).__exit__(None, None, None),
    "closed file": lambda: os.close(1),
}
"""What a function may do to its process."""


def surroundings(number: int, what: str) -> tuple[object, ...]:
    """What it finds, and the second one changes something of it."""
    assert os.environ["BROKER_JOBS_TASK"]
    mask = os.umask(0)
    os.umask(mask)
    found = (
        *(str(Path.cwd()), mask, signal.getsignal(signal.SIGUSR1), signal.getitimer(signal.ITIMER_PROF)[0]),
        *(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), resource.getrlimit(resource.RLIMIT_NOFILE)),
        *(os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0)), list(sys.argv), list(sys.path)),
        *(sys.stdout is not None and not sys.stdout.closed, not sys.stderr.closed, Path("/proc/self/fd/1").exists()),
        {name: value for name, value in os.environ.items() if name not in {"BROKER_JOBS_TASK", "BROKER_JOBS_EXECUTION"}},
        os.getpid(),
    )
    if number == 1:
        DISTURBANCES[what]()
    return found


def test_what_one_changes_the_next_does_not_see(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path / "spool") as executor:
            for what in DISTURBANCES:
                tasks = [call(surroundings, number, what, home=str(tmp_path)) for number in range(4)]
                executor.executor.start(tasks[0], tasks[1:])
                first, *others = [value(ended) for ended in await executor.finish(*tasks)]
                assert others == [first] * 3, what

    asyncio.run(main())


def told(number: int) -> tuple[str, str]:
    return os.environ["BROKER_JOBS_TASK"], os.environ["BROKER_JOBS_EXECUTION"]


def test_each_of_a_line_is_told_its_own_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path / "spool") as executor:
            tasks = [call(told, number) for number in range(4)]
            executor.executor.start(tasks[0], tasks[1:])
            assert [value(ended) for ended in await executor.finish(*tasks)] == [(str(each.task), each.execution) for each in tasks]
            tasks = [call(told, number, env=(("BROKER_JOBS_TASK", "mine"),)) for number in range(4)]
            executor.executor.start(tasks[0], tasks[1:])
            assert [value(ended) for ended in await executor.finish(*tasks)] == [("mine", each.execution) for each in tasks]

    asyncio.run(main())


def speaks(number: int) -> int:
    """Every third one says how far it is."""
    if number % 3 == 1:
        current.progress(number / 10)
    return number


@pytest.mark.parametrize("at_home", [True, False])
def test_what_one_says_of_its_progress_is_its_own(tmp_path: Path, at_home: bool) -> None:
    async def main() -> None:
        async with bench(tmp_path / "spool") as executor:
            tasks = [call(speaks, number, home=str(tmp_path) if at_home else None) for number in range(10)]
            executor.executor.start(tasks[0], tasks[1:])
            assert [value(ended) for ended in await executor.finish(*tasks)] == list(range(10))
            said = [(news.execution, news.fraction) for news in executor.progress]
            assert said == [(tasks[number].execution, number / 10) for number in (1, 4, 7)]

    asyncio.run(main())


def speaks_between(folder: str, number: int) -> int:
    """The second of four says how far it is, and the last one that all have run."""
    hold(folder, number)
    if number == 1:
        current.progress(0.5)
    if number == 3:
        Path(folder, "done").write_text("yes")
    return number


@pytest.mark.parametrize("at_home", [True, False])
def test_progress_is_its_own_also_where_it_is_heard_when_all_have_run(tmp_path: Path, at_home: bool) -> None:
    async def main() -> None:
        async with bench(tmp_path / "spool") as executor:
            tasks = [call(speaks_between, str(tmp_path), number, home=str(tmp_path) if at_home else None) for number in range(4)]
            executor.executor.start(tasks[0], tasks[1:])
            await appears(tmp_path / "begun")
            (tmp_path / "go").write_text("yes")
            # The parent hears of nothing until all have run.
            while not (tmp_path / "done").exists():
                time.sleep(0.002)  # noqa: ASYNC251
            assert [value(ended) for ended in await executor.finish(*tasks)] == list(range(4))
            assert [(news.execution, news.fraction) for news in executor.progress] == [(tasks[1].execution, 0.5)]

    asyncio.run(main())


def long_value(number: int, size: int) -> bytes:
    return bytes([number]) * size


@pytest.mark.parametrize("size", [60_000, 70_000])
def test_results_may_be_more_than_a_pipe_holds(tmp_path: Path, size: int) -> None:
    async def main() -> None:
        async with bench(tmp_path / "spool") as executor:
            tasks = [call(long_value, number, size) for number in range(60)]
            executor.executor.start(tasks[0], tasks[1:])
            ends = await executor.finish(*tasks)
            assert all(value(ended) == long_value(number, size) for number, ended in enumerate(ends))

    asyncio.run(main())


def scribbles(folder: str, number: int, what: bytes) -> int:
    """The second one writes into all pipes that it finds."""
    mark(folder, number)
    if number == 1:
        for place in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if place.is_fifo():
                    os.write(int(place.name), what)
    return number


@pytest.mark.parametrize(
    "what", [b"\xff" * 100, NOTE.pack(0, 1, 0, b"x"), NOTE.pack(2**20, 1, 0, b"m"), NOTE.pack(1, 1, 0, b"m") + b"\xc0"]
)
def test_a_task_that_writes_where_its_child_does_ends_its_child(tmp_path: Path, what: bytes) -> None:
    async def main() -> None:
        async with bench(tmp_path / "spool") as executor:
            tasks = line(scribbles, tmp_path, 6, what)
            executor.executor.start(tasks[0], tasks[1:])
            ends = await executor.finish(*tasks)
            assert value(ends[0]) == 0
            assert [type(ended.outcome) for ended in ends].count(Crashed) == 1, "the one that its child was in when that was noticed"
            assert {type(ended.outcome) for ended in ends} == {Succeeded, Crashed}
            # What that child did afterwards nobody knows: it is run again, as after any crash, and nothing is left out.
            assert set(ran(tmp_path)) == set(range(6))
            again = call(long_value, 1, 1)
            executor.executor.start(again)
            assert value((await executor.finish(again))[0]) == b"\x01"

    asyncio.run(main())


def told_to_programs(number: int) -> str:
    """What a program that it starts is told; the second one leaves all variables as they were, by setting them again."""
    if number == 1:
        with mock.patch.dict(os.environ, {"FOR_A_WHILE": "1"}):
            pass
    return subprocess.run(["printenv", "BROKER_JOBS_TASK"], capture_output=True, text=True, check=True).stdout.strip()


def test_programs_that_a_call_starts_are_told_its_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path / "spool") as executor:
            tasks = [call(told_to_programs, number, home=str(tmp_path)) for number in range(4)]
            executor.executor.start(tasks[0], tasks[1:])
            assert [value(ended) for ended in await executor.finish(*tasks)] == [str(each.task) for each in tasks]

    asyncio.run(main())


def test_what_has_not_begun_can_be_had_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path / "spool") as executor:
            tasks = line(hold, tmp_path, 10)
            executor.executor.start(tasks[0], tasks[1:])
            await appears(tmp_path / "begun")
            executor.executor.recall(tasks[5].execution)
            assert executor.recalled == [tuple(task.execution for task in tasks[1:])]
            # They may run elsewhere, while the first goes on.
            executor.executor.start(tasks[1], tasks[2:])
            await executor.finish(*tasks[1:])
            assert tasks[0].execution not in executor.ended
            (tmp_path / "go").write_text("x")
            assert [value(ended) for ended in await executor.finish(*tasks)] == list(range(10))
            assert ran(tmp_path) == list(range(10))
            executor.executor.recall(tasks[0].execution)
            assert executor.recalled[1:] == [()], "an answer comes also where there is nothing"

    asyncio.run(main())


def test_one_that_has_not_begun_is_stopped_and_the_others_run(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path / "spool") as executor:
            tasks = line(hold, tmp_path, 5)
            executor.executor.start(tasks[0], tasks[1:])
            await appears(tmp_path / "begun")
            executor.executor.stop(tasks[3].execution, "enough")
            [stopped] = await executor.finish(tasks[3])
            assert stopped.outcome == Canceled("enough")
            (tmp_path / "go").write_text("x")
            await executor.finish(*tasks)
            assert ran(tmp_path) == [0, 1, 2, 4]

    asyncio.run(main())


def test_the_one_that_runs_is_stopped_and_the_others_run(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path / "spool") as executor:
            tasks = line(hold, tmp_path, 5)
            executor.executor.start(tasks[0], tasks[1:])
            await appears(tmp_path / "begun")
            executor.executor.stop(tasks[0].execution, "enough")
            ends = await executor.finish(*tasks)
            assert ends[0].outcome == Canceled("enough")
            assert [value(ended) for ended in ends[1:]] == [1, 2, 3, 4]

    asyncio.run(main())


def test_all_of_a_line_end_with_the_executor(tmp_path: Path) -> None:
    async def main() -> None:
        async with bench(tmp_path / "spool") as executor:
            tasks = line(hold, tmp_path, 5)
            executor.executor.start(tasks[0], tasks[1:])
            await appears(tmp_path / "begun")
        assert {type(executor.ended[task.execution].outcome) for task in tasks} == {Canceled}
        assert ran(tmp_path) == [0]

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_to_lines_each_task_ends_once_and_runs_once(tmp_path: Path, seed: int) -> None:
    async def main() -> None:
        chance = random.Random(seed)
        async with bench(tmp_path / "spool") as executor:
            tasks = line(odd_one, tmp_path, 200, chance.choice(["prints", "raises", "dies", "leaves a process"]))
            again: list[Execution] = []

            def start(some: list[Execution]) -> None:
                while some:
                    count = chance.randint(1, 12)
                    executor.executor.start(some[0], some[1:count])
                    some = some[count:]

            by_name = {task.execution: task for task in tasks}
            start(tasks)
            while len(executor.ended) < len(tasks):
                before = len(executor.recalled)
                match chance.randrange(3):
                    case 0:
                        executor.executor.recall(chance.choice(tasks).execution)
                    case 1:
                        executor.executor.stop(chance.choice(tasks).execution, "enough")
                    case _:
                        await asyncio.sleep(chance.random() / 500)
                again = [by_name[name] for names in executor.recalled[before:] for name in names]
                start(again)
            names = ran(tmp_path)
            assert len(names) == len(set(names)), "nothing ran twice"
            for number, task in enumerate(tasks):
                ended = executor.ended[task.execution]
                if isinstance(ended.outcome, Succeeded):
                    assert value(ended) == number
                    assert number in names

    asyncio.run(main())


@pytest.mark.parametrize("at_home", [False, True])
def test_programs_follow_one_another_too(tmp_path: Path, at_home: bool) -> None:
    async def main() -> None:
        async with bench(tmp_path / "spool") as executor:
            script = f'echo $$ $BROKER_JOBS_TASK >> {tmp_path}/ran; [ "$1" != "x y\xe9" ] || exec echo "$1"; exit $2'
            tasks = [
                program("sh", "-c", script, "sh", word, str(code), home=str(tmp_path) if at_home else None)
                for word, code in (("a", 0), ("b", 3), ("x y\xe9", 0), ("c", 0), ("d", 1))
            ]
            executor.executor.start(tasks[0], tasks[1:])
            ends = await executor.finish(*tasks)
            assert [getattr(ended.outcome, "exit_code", 0) for ended in ends] == [0, 3, 0, 0, 1]
            assert [ended.stdout.tail.decode() for ended in ends] == ["", "", "x y\xe9\n", "", ""]
            assert [line.split()[1] for line in (tmp_path / "ran").read_text().splitlines()] == [str(task.task) for task in tasks]

    asyncio.run(main())


@pytest.mark.parametrize("at_home", [False, True])
def test_a_program_of_a_line_is_stopped_alone(tmp_path: Path, at_home: bool) -> None:
    async def main() -> None:
        async with bench(tmp_path / "spool") as executor:
            script = f"echo x >> {tmp_path}/begun; exec sleep $0"
            home = str(tmp_path) if at_home else None
            tasks = [program("sh", "-c", script, seconds, home=home) for seconds in ("0", "1000", "0", "0")]
            executor.executor.start(tasks[0], tasks[1:])
            await executor.finish(tasks[0])
            executor.executor.stop(tasks[1].execution, "enough")
            ends = await executor.finish(*tasks)
            assert [type(ended.outcome) for ended in ends] == [Succeeded, Canceled, Succeeded, Succeeded]

    asyncio.run(main())


@contextlib.asynccontextmanager
async def programs_in_line(folder: Path, *scripts: str, **options: object) -> AsyncIterator[tuple[list[Execution], list[ExecutionEnded]]]:
    """Shell scripts that follow one another in the submitter's folder, with input and variables of their own, and their ends."""
    async with bench(folder / "spool") as executor:
        home = folder / "home"
        home.mkdir()
        tasks = [program("sh", "-c", script, home=str(home), **{"grace": 100, **options}) for script in scripts]  # type: ignore[arg-type]
        works = [
            replace(task.work, stdin=b"%d" % place, env=((f"ONLY_{place}", "x"), ("OWN", f"{place}"))) for place, task in enumerate(tasks)
        ]  # type: ignore[type-var]
        tasks = [replace(task, work=work) for task, work in zip(tasks, works, strict=True)]
        executor.executor.start(tasks[0], tasks[1:])
        yield tasks, await executor.finish(*tasks)


@pytest.mark.parametrize("chosen", [(), (("BROKER_JOBS_TASK", "mine"), ("EVERY", "one"))], ids=["", "some chosen"])
def test_each_program_of_a_line_has_what_is_its_own(tmp_path: Path, chosen: tuple[tuple[str, str], ...]) -> None:
    async def main() -> None:
        own = "$BROKER_JOBS_TASK $BROKER_JOBS_ATTEMPT $BROKER_JOBS_EXECUTION"
        told = f"$OWN $ONLY_1 $EVERY {own} $BROKER_JOBS_JOB $BROKER_JOBS_SUBMIT_DIR $PWD"
        script = f'cat >> told; echo " {told}" >> told; export OWN=changed; cd /'
        async with programs_in_line(tmp_path, *[script] * 4, env=chosen) as (tasks, ends):
            assert all(isinstance(ended.outcome, Succeeded) for ended in ends)
            home, mine = str(tmp_path / "home"), dict(chosen)
            for place, (line, each) in enumerate(zip(Path(home, "told").read_text().splitlines(), tasks, strict=True)):
                what = f"{place} {place} {'x' * (place == 1)} {mine.get('EVERY', '')}"
                own = f"{mine.get('BROKER_JOBS_TASK', each.task)} {each.attempt} {each.execution}"
                assert line == f"{what} {own} {each.job} {home} {home}"

    asyncio.run(main())


def test_a_program_of_a_line_ends_as_one_by_itself(tmp_path: Path) -> None:
    async def main() -> None:
        say = "printf 'no luck' > $BROKER_JOBS_ERROR_FILE"
        scripts = ("true", f"{say}; exit 3", "kill -9 $$", f"{say}", "true", "rmdir ../home; exec true", "true", "true")
        async with programs_in_line(tmp_path, *scripts) as (_, ends):
            outcomes = [ended.outcome for ended in ends]
            assert [type(each) for each in outcomes] == [Succeeded, Failed, Failed, *[Succeeded] * 5]
            assert isinstance(outcomes[1], Failed)
            assert (outcomes[1].message, outcomes[1].exit_code) == ("no luck", 3)
            assert isinstance(outcomes[2], Failed)
            assert outcomes[2].signal == signal.SIGKILL

    asyncio.run(main())


def test_what_a_program_of_a_line_leaves_is_gone_before_the_next(tmp_path: Path) -> None:
    async def main() -> None:
        begin = "sleep 1000 & echo $! > pid"
        look = "! kill -0 $(cat pid)"
        async with programs_in_line(tmp_path, "true", begin, look, f"setsid {begin}", look, "true") as (_, ends):
            assert [type(ended.outcome) for ended in ends] == [Succeeded] * 6

    asyncio.run(main())


def test_programs_of_a_line_begin_in_the_folder_that_there_is_now(tmp_path: Path) -> None:
    async def main() -> None:
        async with programs_in_line(tmp_path, "true", "cd ..; rm -r home; mkdir home", "echo x > here", "true") as (_, ends):
            assert [type(ended.outcome) for ended in ends] == [Succeeded] * 4
            assert (tmp_path / "home" / "here").read_text() == "x\n"

    asyncio.run(main())


@pytest.mark.parametrize("made", ["mkdir", "mkfifo", "ln -s nothing"])
def test_an_error_file_that_is_none_says_nothing(tmp_path: Path, made: str) -> None:
    async def main() -> None:
        script = f"{made} $BROKER_JOBS_ERROR_FILE; exit 4"
        async with programs_in_line(tmp_path, "true", script, "true") as (_, ends):
            assert [getattr(ended.outcome, "exit_code", 0) for ended in ends] == [0, 4, 0]

    asyncio.run(main())
