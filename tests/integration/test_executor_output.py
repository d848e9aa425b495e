"""Output in the spool: read while it grows, limited, kept in the archive, and removed from there."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.wire.messages import OutputAsked
from broker_jobs_worker.executors.archive import Archive
from broker_jobs_worker.executors.spool import claim, clear_leftovers
from broker_jobs_worker.readers import Readers
from tests.support.executions import appears, bench, call, program

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from broker_jobs.wire.messages import Piece
    from broker_jobs_worker.executors.port import Execution, ExecutionEnded

LIMIT = 1_000_000


def flood() -> None:
    """Print for ever."""
    while True:
        os.write(1, b"x" * 4096)


def flood_from_below() -> None:
    """Let a grandchild, in a session of its own, print for ever."""
    subprocess.run([sys.executable, "-c", "import os\nwhile True: os.write(2, b'y' * 4096)"], start_new_session=True, check=False)


def burst(size: int) -> None:
    """Print a lot at once, and end."""
    os.write(1, b"z" * size)


def ran(tmp_path: Path, *executions: Execution, **options: Any) -> list[ExecutionEnded]:
    async def run() -> list[ExecutionEnded]:
        async with bench(tmp_path / "spool", **options) as b:
            return await b.run(*executions)

    return asyncio.run(run())


def failure_of(ended: ExecutionEnded) -> Failed:
    assert isinstance(ended.outcome, Failed), ended.outcome
    return ended.outcome


def yes() -> Execution:
    """A program that prints for ever."""
    return program("yes", output_limit=LIMIT)


def loop() -> Execution:
    """A function that does."""
    return call(flood, output_limit=LIMIT)


def below() -> Execution:
    """A function of which something else does."""
    return call(flood_from_below, output_limit=LIMIT)


@pytest.mark.parametrize("made", [yes, loop, below])
def test_a_task_that_prints_more_than_its_limit_is_killed_with_its_tree(tmp_path: Path, made: Callable[[], Execution]) -> None:
    ended, beside = ran(tmp_path, made(), program("sh", "-c", "echo undisturbed"))
    failed = failure_of(ended)
    assert failed.cause is Cause.output_limit
    assert "1 MB" in failed.message or "1000000" in failed.message or "MiB" in failed.message, failed.message
    assert max(len(ended.stdout.tail), len(ended.stderr.tail)) == 64 * 1024, "the tail is kept"
    assert (beside.outcome, beside.stdout.tail) == (Succeeded(), b"undisturbed\n")


def test_the_limit_holds_for_files_of_the_user_and_for_both_streams_together(tmp_path: Path) -> None:
    both = "while :; do echo 123456789; echo 123456789 >&2; done"
    (ended,) = ran(tmp_path, program("sh", "-c", both, output_limit=LIMIT, cwd=str(tmp_path), stdout="out", stderr="err"))
    assert failure_of(ended).cause is Cause.output_limit
    assert (tmp_path / "out").stat().st_size + (tmp_path / "err").stat().st_size > LIMIT


def test_what_ends_before_anybody_looked_is_held_to_the_limit_too(tmp_path: Path) -> None:
    over, under = ran(tmp_path, call(burst, LIMIT + 1, output_limit=LIMIT), call(burst, LIMIT, output_limit=LIMIT))
    assert failure_of(over).cause is Cause.output_limit
    assert under.outcome == Succeeded(under.outcome.value if isinstance(under.outcome, Succeeded) else None)


def test_output_is_read_while_it_grows_and_from_its_file_afterwards(tmp_path: Path) -> None:
    async def run() -> None:
        gate = tmp_path / "gate"
        one = program("sh", "-c", f"seq 20000; echo x > {tmp_path}/printed; until [ -e {gate} ]; do sleep 0.02; done; echo end")
        expected = b"".join(b"%d\n" % number for number in range(1, 20001))
        async with bench(tmp_path / "spool") as b:
            b.executor.start(one)
            await appears(tmp_path / "printed")
            piece = await b.executor.read(one.execution, stderr=False, path=None, start=100, most=50)
            assert (piece.start, piece.data, piece.size, piece.ended) == (100, expected[100:150], len(expected), False)
            assert (await b.executor.read(one.execution, stderr=True, path=None, start=0, most=50)).data == b""
            gate.touch()
            (ended,) = await b.finish(one)
            assert (await b.executor.read(one.execution, stderr=False, path=None, start=0, most=50)).missing
            kept = await b.executor.read(one.execution, stderr=False, path=ended.stdout.path, start=len(expected), most=50)
            assert (kept.data, kept.ended) == (b"end\n", True)
            assert b.executor.kept() == (one.job,)
            await b.executor.forget([one.job, "../..", ""])
            assert b.executor.kept() == ()
            assert (await b.executor.read(one.execution, stderr=False, path=ended.stdout.path, start=0, most=50)).missing

    asyncio.run(run())


def test_the_archive_removes_its_oldest_files(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive", 300_000)
    for number in range(6):
        made = tmp_path / "made"
        made.write_bytes(bytes(100_000))
        kept = archive.keep(made, f"{number:032x}", "boot-1.out")
        os.utime(kept, (time.time() + number,) * 2)
        if archive.crowded():
            archive.sweep()
    assert archive.jobs() == (f"{5:032x}", f"{4:032x}")


def test_what_a_killed_worker_has_left_is_removed_and_what_lives_is_not(tmp_path: Path) -> None:
    dead, living, strange = tmp_path / "w1", tmp_path / "w2", tmp_path / "w3"
    for folder in (dead, living):
        (folder / "tasks").mkdir(parents=True)
        (folder / "child-4711-1.out").touch()
        (folder / "forkserver-4711-1.log").touch()
    strange.mkdir()
    (strange / "precious").touch()
    mark = claim(living)
    assert mark is not None
    clear_leftovers(tmp_path)
    assert not dead.exists()
    assert (living / "child-4711-1.out").exists()
    assert (strange / "precious").exists()
    os.close(mark)


def test_a_reader_is_answered_when_there_is_something_and_at_the_latest_when_it_has_waited(tmp_path: Path) -> None:
    async def run() -> None:
        gate = tmp_path / "gate"
        one = program("sh", "-c", f"until [ -e {gate} ]; do sleep 0.02; done; echo there; sleep 100")
        answers: list[tuple[str, Piece]] = []
        async with bench(tmp_path / "spool") as b:
            readers = Readers(b.executor, lambda asked, piece: answers.append((asked.request, piece)))
            b.executor.start(one)
            await readers.serve(OutputAsked("now", "client", one.execution, most=10))
            await readers.serve(OutputAsked("late", "client", one.execution, most=10, wait_ms=150))
            waiting = asyncio.create_task(readers.serve(OutputAsked("long", "client", one.execution, most=10, wait_ms=60_000)))
            gate.touch()
            await asyncio.wait_for(waiting, 30)
            waiting = asyncio.create_task(readers.serve(OutputAsked("end", "client", one.execution, start=6, most=10, wait_ms=60_000)))
            b.executor.stop(one.execution, "enough")
            await asyncio.wait_for(waiting, 30)
        assert [(request, piece.data, piece.missing) for request, piece in answers] == [
            ("now", b"", False),
            ("late", b"", False),
            ("long", b"there\n", False),
            ("end", b"", True),
        ]

    asyncio.run(run())
