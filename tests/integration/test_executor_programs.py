"""External programs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.core.outcome import Cause, Failed, Succeeded
from tests.support import stubborn
from tests.support.executions import bench, program

if TYPE_CHECKING:
    from broker_jobs_worker.executors.port import Execution, ExecutionEnded


def ran(spool: Path, *executions: Execution, **options: Any) -> list[ExecutionEnded]:
    async def story() -> list[ExecutionEnded]:
        async with bench(spool, **options) as b:
            return [await b.run_one(each) for each in executions]

    return asyncio.run(story())


def failure_of(ended: ExecutionEnded) -> Failed:
    assert isinstance(ended.outcome, Failed), ended.outcome
    return ended.outcome


SHOW = "import sys, os; sys.stdout.buffer.write(b'|'.join(os.fsencode(a) for a in sys.argv[1:]))"


def test_arguments_arrive_byte_by_byte(tmp_path: Path) -> None:
    arguments = ["a b", "$HOME", "*", "", "'\"\\", "\n", b"\xff\xfe", "ä"]
    (ended,) = ran(tmp_path, program(sys.executable, "-c", SHOW, *arguments))
    assert ended.outcome == Succeeded()
    assert ended.stdout.tail == b"|".join(os.fsencode(each) for each in arguments)


def test_stdin_of_any_size_and_none(tmp_path: Path) -> None:
    given, none = ran(tmp_path, program("wc", "-c", stdin=b"x" * 300_000), program("cat"))
    assert given.stdout.tail.strip() == b"300000"
    assert none.outcome == Succeeded()
    assert none.stdout.tail == b""


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_JOBS_URL", "amqp://secret")
    monkeypatch.setenv("BROKER_JOBS_SIGNING_KEY", "secret")
    monkeypatch.setenv("INHERITED", "yes")
    one = program("env", allocation={"TWICE": "daemon", "OMP_NUM_THREADS": "2"}, env=(("TWICE", "task"),))
    (ended,) = ran(tmp_path, one)
    lines = ended.stdout.tail.decode().splitlines()
    assert "INHERITED=yes" in lines
    assert "TWICE=task" in lines
    assert "OMP_NUM_THREADS=2" in lines
    assert f"BROKER_JOBS_EXECUTION={one.execution}" in lines
    assert f"BROKER_JOBS_TASK={one.task}" in lines
    assert not [line for line in lines if "secret" in line]


def test_signals_are_as_they_should_be(tmp_path: Path) -> None:
    # Python ignores these two by itself.
    script = "from signal import *; print([s.name for s in Signals if getsignal(s) is SIG_IGN and s not in (SIGPIPE, SIGXFSZ)])"
    pipe, ignored, blocked = ran(
        tmp_path,
        program("bash", "-c", "yes | head -n 1; echo ${PIPESTATUS[0]}"),
        program(sys.executable, "-c", script),
        program("grep", "SigBlk", "/proc/self/status"),
    )
    assert pipe.stdout.tail == b"y\n141\n"
    assert ignored.stdout.tail == b"[]\n"
    assert int(blocked.stdout.tail.split()[1], 16) == 0


def test_a_session_of_its_own_and_no_open_files(tmp_path: Path) -> None:
    session, files = ran(
        tmp_path,
        program(sys.executable, "-c", "import os; print(os.getsid(0) == os.getpid())"),
        program(sys.executable, "-c", "import os; print(sorted(os.listdir('/proc/self/fd'), key=int))"),
    )
    assert session.stdout.tail == b"True\n"
    assert files.stdout.tail == b"['0', '1', '2', '3']\n"  # 3 is the listing


def test_folders(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    spool = tmp_path / "spool"
    made, submitter, own, wrong = ran(
        spool,
        program("pwd", cwd=str(tmp_path / "a/b")),
        program("pwd", home=str(home)),
        program("pwd", home="/nowhere/at/all"),
        program("pwd", cwd="/dev/null/x"),
    )
    assert made.stdout.tail.decode().strip() == str(tmp_path / "a/b")
    assert submitter.stdout.tail.decode().strip() == str(home)
    assert not Path(own.stdout.tail.decode().strip()).exists()
    assert "/dev/null" in failure_of(wrong).message


def test_output_to_files_and_to_the_spool(tmp_path: Path) -> None:
    cwd = str(tmp_path / "work")
    both, long, unwritable, after = ran(
        tmp_path / "spool",
        program("sh", "-c", "echo out; echo err >&2", cwd=cwd, stdout="x/out.txt", stderr="x/err.txt"),
        program("sh", "-c", "head -c 100000 /dev/zero; echo end"),
        program("echo", stdout="/proc/nope"),
        program("echo", "short"),
    )
    assert (Path(cwd) / "x/out.txt").read_text() == "out\n"
    assert (both.stdout.tail, both.stdout.size, both.stdout.path) == (b"out\n", 4, cwd + "/x/out.txt")
    assert both.stderr.tail == b"err\n"
    assert long.stdout.size == 100_004
    assert long.stdout.tail.endswith(b"end\n")
    assert long.stdout.path is not None
    assert Path(long.stdout.path).stat().st_size == 100_004
    assert "/proc/nope" in failure_of(unwritable).message
    assert after.stdout.tail == b"short\n"
    assert after.stdout.path is None


def test_exit_codes_and_signals_in_words(tmp_path: Path) -> None:
    code, signaled = ran(
        tmp_path,
        program("sh", "-c", "echo one >&2; echo no such file >&2; exit 3"),
        program("sh", "-c", "kill -SEGV $$"),
    )
    failed = failure_of(code)
    assert (failed.cause, failed.exit_code) == (Cause.exit_code, 3)
    assert failed.message == "the program sh ended with exit code 3: no such file"
    failed = failure_of(signaled)
    assert (failed.cause, failed.signal) == (Cause.signal, signal.SIGSEGV)
    assert "killed by signal 11 (SIGSEGV" in failed.message


def test_programs_that_cannot_start_say_why(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("echo 1\n")
    headless = tmp_path / "headless"
    headless.write_text("echo 1\n")
    headless.chmod(0o755)
    lost = tmp_path / "lost"
    lost.write_text("#!/no/such/interpreter\n")
    lost.chmod(0o755)
    cases = {
        ("no-such-program-here",): "program not found: no-such-program-here (looked up on worker host",
        (str(tmp_path / "absent"),): "program not found",
        (str(plain),): "chmod +x",
        ("plain",): "There is a file of this name in",
        (str(headless),): "#!/bin/sh",
        (str(lost),): "'/no/such/interpreter', the interpreter of its first line",
        (str(tmp_path),): "it is a folder",
        ("echo", b"a\0b"): "null",
        ("echo", "x" * 3_000_000): "too long",
        ("",): "argv is empty",
    }
    for (argv, text), ended in zip(
        cases.items(), ran(tmp_path / "spool", *(program(*argv, cwd=str(tmp_path)) for argv in cases)), strict=True
    ):
        failed = failure_of(ended)
        assert failed.cause is Cause.error, argv
        assert text in failed.message, (argv, failed.message)


def test_the_path_of_the_task_counts(tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "mytool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho mine\n")
    tool.chmod(0o755)
    found, relative = ran(
        tmp_path / "spool", program("mytool", env=(("PATH", f"{tool.parent}:/bin"),)), program("bin/mytool", cwd=str(tmp_path))
    )
    assert found.stdout.tail == b"mine\n"
    assert relative.stdout.tail == b"mine\n"


@pytest.mark.parametrize("mode", ["plain", "daemon"])
def test_what_a_program_leaves_behind_is_ended(tmp_path: Path, mode: str) -> None:
    left = tmp_path / "left"
    left.mkdir()
    script = f'{sys.executable} {stubborn.__file__} {left} {mode} & until [ -n "$(ls {left})" ]; do sleep 0.01; done; echo main ended'
    (ended,) = ran(tmp_path / "spool", program("sh", "-c", script))
    assert ended.stdout.tail == b"main ended\n"
    assert [path.name for path in left.iterdir() if Path("/proc", path.name).exists()] == []
