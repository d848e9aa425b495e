"""Programs as jobs of a real Grid Engine."""

from __future__ import annotations

import asyncio
import getpass
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.core.outcome import Canceled, Cause, Crashed, Failed, Succeeded
from broker_jobs_worker.executors.batch.sge import Sge
from tests.support.batches import batch_bench
from tests.support.executions import appears, program

if TYPE_CHECKING:
    from broker_jobs_worker.executors.port import Execution, ExecutionEnded
    from tests.support.gridengine import GridEngine

pytestmark = pytest.mark.usefixtures("grid_engine")

SHOW = "import os, sys; sys.stdout.buffer.write(b'|'.join(os.fsencode(each) for each in sys.argv[1:]))"
NASTY = [b"$(touch X)", b'it\'s "quoted"', b"\n#$ -q nosuch.q\n", b"\xff\x81\x88", b"", b"a b", b"*", b"`touch X`", b"\\"]


def ran(folder: Path, *executions: Execution, options: dict[str, tuple[str, ...]] | None = None, **more: Any) -> list[ExecutionEnded]:
    async def story() -> list[ExecutionEnded]:
        async with batch_bench(Sge(options or {}), folder, options, system="sge", **more) as b:
            return await b.run(*executions)

    return asyncio.run(story())


def lives(pid: str) -> bool:
    """Whether a process is there, and has not ended."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_arguments_arrive_byte_by_byte(tmp_path: Path) -> None:
    nasty, env = program(sys.executable, "-c", SHOW, *NASTY), program("env", env=(("A.B", "it's"),))
    one, other = ran(tmp_path, nasty, env)
    assert one.outcome == Succeeded()
    assert one.stdout.tail == b"|".join(NASTY)
    lines = other.stdout.tail.decode().splitlines()
    assert "A.B=it's" in lines
    assert f"BROKER_JOBS_EXECUTION={env.execution}" in lines
    assert any(line.startswith("JOB_ID=") for line in lines), "the batch system's own variables are there"
    assert one.started_ms <= one.ended_ms
    assert not list(tmp_path.rglob("X"))


def test_failures_and_streams(tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    failed, wrote, explained = ran(
        tmp_path,
        program("sh", "-c", "echo why >&2; exit 3"),
        program("cat", stdin=b"in\xff", stdout=str(own)),
        program("sh", "-c", 'echo "no licence" > "$BROKER_JOBS_ERROR_FILE"; exit 4'),
    )
    assert failed.outcome == Failed(Cause.exit_code, "the program sh ended with exit code 3: why", exit_code=3)
    assert (wrote.outcome, own.read_bytes()) == (Succeeded(), b"in\xff")
    assert wrote.stdout.path == str(own)
    assert isinstance(explained.outcome, Failed)
    assert explained.outcome.message == "no licence"


def test_canceling_and_the_time_limit_end_the_program(tmp_path: Path) -> None:
    async def story() -> None:
        async with batch_bench(Sge({}), tmp_path, system="sge") as b:
            long = program("sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 1000")
            limited = program("sleep", "1000", time_limit=300)
            b.executor.start(long)
            b.executor.start(limited)
            pid = (await appears(tmp_path / "pid")).strip()
            await b.until(lambda: any("running on" in text for text in b.told))
            b.executor.stop(long.execution, "enough")
            canceled, late = await b.finish(long, limited)
            assert canceled.outcome == Canceled("enough")
            assert isinstance(late.outcome, Failed)
            assert late.outcome.cause is Cause.time_limit
            assert not lives(pid)

    asyncio.run(story())


def test_options_of_worker_and_task(tmp_path: Path, grid_engine: GridEngine) -> None:
    async def story() -> None:
        options = {"l": ("h_rt=600", "h_vmem=4G"), "sge_p": ("-5",)}
        async with batch_bench(Sge(options), tmp_path, options, system="sge") as b:
            one = program("sh", "-c", "qstat -j $JOB_ID", env=tuple(grid_engine.env.items()))
            other = program(
                "sh", "-c", "qstat -j $JOB_ID", env=tuple(grid_engine.env.items()), executor_options=(("sge_l", ("h_rt=500",)), ("V", ()))
            )
            first, second = await b.run(one, other)
            said, others = first.stdout.tail.decode(), second.stdout.tail.decode()
            assert "h_rt=600" in said, first
            assert "h_vmem=4G" in said
            assert "h_rt=500" in others, "the option of the task stands in place of the worker's"
            assert "h_vmem" not in others
            assert "PATH=" in others, "V is a flag"
            assert "PATH=" not in said

    asyncio.run(story())


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("q", ("nosuch.q",)), 'job requests unknown queue "nosuch.q"'),
        (("l", ("nosuch=1",)), 'unknown resource "nosuch"'),
        (("l", ("h_rt=bogus",)), 'attribute "h_rt" is not a time value'),
        (("t", ("1-3",)), "the option t of qsub is set by broker-jobs"),
    ],
)
def test_a_refusal_is_told_in_the_words_of_grid_engine(tmp_path: Path, option: tuple[str, tuple[str, ...]], words: str) -> None:
    (ended,) = ran(tmp_path, program("true", executor_options=(option,)))
    assert isinstance(ended.outcome, Failed)
    assert ended.outcome.message.startswith("sge refuses the job: ")
    assert words in ended.outcome.message
    assert not list((tmp_path / "worker").rglob("run.sh"))


def test_a_job_that_cannot_start_fails_with_the_reason(tmp_path: Path) -> None:
    async def story() -> None:
        async with batch_bench(Sge({}), tmp_path, system="sge") as b:
            (ended,) = await b.run(program("true", executor_options=(("wd", ("/no/such/folder",)),)))
            assert isinstance(ended.outcome, Failed), ended
            assert "sge does not run job" in ended.outcome.message
            assert "/no/such/folder" in ended.outcome.message

    asyncio.run(story())


def test_what_grid_engine_kills_is_told_with_its_words(tmp_path: Path, grid_engine: GridEngine) -> None:
    async def story() -> None:
        async with batch_bench(Sge({}), tmp_path, system="sge") as b:
            one = program("sleep", "1000")
            b.executor.start(one)
            await b.until(lambda: any("running on" in text for text in b.told))
            grid_engine.run("qdel", "-u", getpass.getuser(), check=False)
            (ended,) = await b.finish(one)
            assert isinstance(ended.outcome, Crashed)
            assert "failed 100: assumedly after job" in ended.outcome.message, ended.outcome
            assert "exit status 137" in ended.outcome.message

    asyncio.run(story())


def test_many_jobs_are_asked_for_by_one_command(tmp_path: Path) -> None:
    real, log = shutil.which("qstat"), tmp_path / "asked"
    spy = tmp_path / "qstat"
    spy.write_text(f'#!/bin/sh\necho "$*" >> {log}\nexec -a qstat {real} "$@"\n'.replace("/bin/sh", "/bin/bash"))
    spy.chmod(0o755)
    ended = ran(tmp_path, *[program("sh", "-c", "sleep 0.5; echo $0", str(n)) for n in range(20)], options={"qstat": (str(spy),)})
    assert [one.stdout.tail for one in ended] == [b"%d\n" % n for n in range(20)]
    asked = log.read_text().splitlines()
    assert 1 <= len(asked) < 40, "a job is not asked for on its own"
    assert not any("-j" in line for line in asked)
