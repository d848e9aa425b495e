"""Files of programs: output, task folders, error files, placeholders; and that they go when they should."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.core.outcome import Canceled, Cause, Failed, Succeeded
from broker_jobs.core.spec import Keep
from broker_jobs.wire.messages import Output
from tests.support.executions import appears, bench, call, program

if TYPE_CHECKING:
    from broker_jobs_worker.executors.port import Execution, ExecutionEnded


def ran(spool: Path, *executions: Execution) -> list[ExecutionEnded]:
    async def story() -> list[ExecutionEnded]:
        async with bench(spool, grace=0.2) as b:
            return [await b.run_one(each) for each in executions]

    return asyncio.run(story())


def message_of(ended: ExecutionEnded) -> str:
    assert isinstance(ended.outcome, Failed), ended.outcome
    return ended.outcome.message


def test_placeholders_in_paths(tmp_path: Path) -> None:
    one = program(
        "sh", "-c", 'pwd; echo "$1" >&2', "sh", "%{TASK_ID}", home="/submitted/here",
        cwd=f"{tmp_path}/%{{JOB_ID}}/%{{TASK_ID}}", stdout="%{CWD}/out-%{INSTANCE_ID}", stderr="logs/%{TASK_ID}-%{NO_SUCH}.err",
    )  # fmt: skip
    (ended,) = ran(tmp_path / "spool", one)
    folder = tmp_path / one.job / str(one.task)
    assert ended.outcome == Succeeded()
    assert (folder / "out-1").read_text() == f"{folder}\n"
    # Arguments are as they were given, and so is a placeholder that nobody knows.
    assert (folder / f"logs/{one.task}-%{{NO_SUCH}}.err").read_text() == "%{TASK_ID}\n"
    assert ended.stdout.path == str(folder / "out-1")


def test_names_of_files_are_any_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    one = program("sh", "-c", 'pwd; printf %s "$ODD" >&2', cwd=f"{tmp_path}/{name}", stderr=name, env=(("ODD", name),))
    (ended,) = ran(tmp_path / "spool", one)
    assert ended.outcome == Succeeded()
    assert ended.stdout.tail == os.fsencode(tmp_path) + b"/caf\xe9\n"
    assert Path(f"{tmp_path}/{name}/{name}").read_bytes() == b"caf\xe9"


def shout(word: str) -> str:
    print(word)
    if word == "fail":
        raise ValueError(word)
    return word


@pytest.mark.parametrize("kind", ["program", "function"])
def test_output_that_is_removed_on_success(tmp_path: Path, kind: str) -> None:
    def one(word: str, **options: Any) -> Execution:
        ok = "exit 1" if word == "fail" else "true"
        return program("sh", "-c", f"echo {word}; {ok}", **options) if kind == "program" else call(shout, word, **options)

    options: dict[str, Any] = {"cwd": str(tmp_path), "keep_stdout": Keep.on_failure}
    good, bad, ledger_good, ledger_bad, nowhere = ran(
        tmp_path / "spool",
        one("good", stdout="good.out", **options),
        one("fail", stdout="bad.out", **options),
        one("good", **options),
        one("fail", **options),
        one("fail", keep_stdout=Keep.never),
    )
    assert good.stdout == ledger_good.stdout == nowhere.stdout == Output()
    assert not (tmp_path / "good.out").exists()
    assert (tmp_path / "bad.out").read_text() == "fail\n"
    assert bad.stdout.tail == ledger_bad.stdout.tail == b"fail\n"


def test_a_file_is_kept_when_the_limit_was_reached_though_the_program_says_success(tmp_path: Path) -> None:
    script = "trap 'echo cleaned; exit 0' TERM; echo started; while :; do sleep 0.05; done"
    one = program("bash", "-c", script, stdout=str(tmp_path / "out"), keep_stdout=Keep.on_failure, time_limit=400)
    (ended,) = ran(tmp_path / "spool", one)
    assert isinstance(ended.outcome, Failed)
    assert (tmp_path / "out").read_text() == "started\ncleaned\n"


def test_long_output_in_the_spool_is_removed_on_success(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path) as b:
            for keep, left in ((Keep.on_failure, 0), (Keep.always, 1)):
                await b.run_one(program("head", "-c", "100000", "/dev/zero", keep_stdout=keep))
                assert len([path for path in (tmp_path / "kept").rglob("*") if path.is_file()]) == left

    asyncio.run(story())


def test_task_folders_go_whatever_the_outcome(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()

    async def story() -> None:
        async with bench(tmp_path / "spool", grace=0.2) as b:
            script = "pwd; echo 1 > result; mkdir -p a/b; touch a/b/c; "
            ready = tmp_path / "ready"
            good, failed, late, stopped = (
                program("sh", "-c", script, home=str(home), task_dir=True, stdout="log"),
                program("sh", "-c", f"{script} exit 1", task_dir=True),
                program("sh", "-c", f"{script} trap '' TERM; sleep 60", task_dir=True, time_limit=300),
                program("sh", "-c", f"{script} echo 1 > {ready}; exec sleep 60", task_dir=True),
            )
            b.executor.start(stopped)
            await appears(ready)
            b.executor.stop(stopped.execution, "enough")
            ends = [*await b.run(good, failed, late), *await b.finish(stopped)]
            assert [type(ended.outcome) for ended in ends] == [Succeeded, Failed, Failed, Canceled]
            folders = [(home / "log").read_text().strip(), *(ended.stdout.tail.decode().strip() for ended in ends[1:])]
            assert all(folder.startswith(str(tmp_path / "spool")) for folder in folders)
            assert not any(Path(folder).exists() for folder in folders)

    asyncio.run(story())


def test_a_task_folder_beside_a_folder_of_its_own(tmp_path: Path) -> None:
    script = 'echo 1 > "$BROKER_JOBS_TASK_DIR/scratch"; pwd; echo "$BROKER_JOBS_TASK_DIR" >&2'
    (ended,) = ran(tmp_path / "spool", program("sh", "-c", script, task_dir=True, cwd=str(tmp_path)))
    assert ended.stdout.tail.decode().strip() == str(tmp_path)
    assert not Path(ended.stderr.tail.decode().strip()).exists()


def in_folder(file: str | None, seconds: float = 0) -> str:
    if file is not None:
        Path(file).write_text("x")
    time.sleep(seconds)
    return str(Path.cwd())


def test_folders_in_place_of_a_missing_one_live_as_long_as_the_worker(tmp_path: Path) -> None:
    async def story() -> None:
        async with bench(tmp_path, grace=0.1) as b:
            nowhere = {"home": "/nowhere/at/all"}
            await b.run_one(call(in_folder, None, **nowhere))
            await b.run_one(call(in_folder, None, 60, time_limit=200, **nowhere))
            assert list((tmp_path / "tasks").iterdir()) == []
            await b.run_one(program("sh", "-c", "echo 1 > result", **nowhere))
            assert [path.name for path in (tmp_path / "tasks").glob("*/*")] == ["result"]
        assert not (tmp_path / "tasks").exists()
        (tmp_path / "tasks" / "left by a worker that was killed").mkdir(parents=True)
        async with bench(tmp_path):
            assert list((tmp_path / "tasks").iterdir()) == []

    asyncio.run(story())


def test_a_program_may_say_itself_why_it_failed(tmp_path: Path) -> None:
    say = 'printf "%s" "$0" > "$BROKER_JOBS_ERROR_FILE"; echo noise >&2; exit 3'

    async def story() -> None:
        async with bench(tmp_path) as b:
            own, empty, long, fine, signaled, plain = await b.run(
                program("sh", "-c", say, "the mesh has a hole"),
                program("sh", "-c", ': > "$BROKER_JOBS_ERROR_FILE"; echo noise >&2; exit 3'),
                program(
                    sys.executable, "-c", "import os; open(os.environ['BROKER_JOBS_ERROR_FILE'], 'w').write('x' * 99_999 + 'end'); exit(1)"
                ),
                program("sh", "-c", 'echo no matter > "$BROKER_JOBS_ERROR_FILE"'),
                program("sh", "-c", 'echo "out of luck" > "$BROKER_JOBS_ERROR_FILE"; kill -ABRT $$'),
                program("sh", "-c", "exit 3"),
            )
            assert message_of(own) == "the mesh has a hole"
            assert isinstance(own.outcome, Failed)
            assert (own.outcome.cause, own.outcome.exit_code) == (Cause.exit_code, 3)
            assert message_of(empty) == "the program sh ended with exit code 3, and wrote an empty error file: noise"
            assert message_of(long).startswith("… 83618 bytes left out …\nxxx")
            assert message_of(long).endswith("end")
            assert fine.outcome == Succeeded()
            assert message_of(signaled) == "out of luck"
            assert message_of(plain) == "the program sh ended with exit code 3"
            killed = program("sh", "-c", 'echo 1 > "$BROKER_JOBS_ERROR_FILE"; trap "" TERM; sleep 60', time_limit=300, grace=100)
            assert "time limit" in message_of(await b.run_one(killed))
            assert list((tmp_path / "tasks").iterdir()) == []

    asyncio.run(story())


def test_a_script_that_is_not_executable_is_read(tmp_path: Path) -> None:
    script = tmp_path / "tool"
    script.write_text('#!/bin/sh -e\necho "$0 $1"; false; echo not reached\n')
    (ended,) = ran(tmp_path / "spool", program("./tool", "a b", cwd=str(tmp_path)))
    assert ended.stdout.tail == b"./tool a b\n"
    assert message_of(ended) == "the program ./tool ended with exit code 1"
