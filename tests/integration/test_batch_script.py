"""The script that is a job of a batch system, run by real shells."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from broker_jobs.core.spec import Keep, TaskOptions
from broker_jobs.wire.messages import Program
from broker_jobs_worker.executors.batch.script import STRAY, Place, quoted, script
from broker_jobs_worker.runners.protocol import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

SHELLS = [shell for shell in ("/bin/sh", "/bin/bash", "/bin/dash") if Path(shell).exists()]
SHOW = "import os, sys; sys.stdout.buffer.write(b'|'.join(os.fsencode(each) for each in sys.argv[1:]))"
NASTY = [
    b"$(touch X)",
    b'it\'s "quoted"',
    b"`touch X`",
    b"",
    b"\n#$ -q nosuch.q\n",
    b"\xff\x81\x88\x01\x7f",
    b"\\",
    b"a b\t",
    b"*",
    b"!x",
    b"--",
]


class Site:
    """A folder of a job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def write(self, program: Program, **options: Any) -> Path:
        run = Run("boot-1", "0198" + "0" * 28, 7, 2, program, TaskOptions(**options), folder="")
        (self.folder / "boot-1.stdin").write_bytes(program.stdin or b"")
        path = self.folder / "run.sh"
        path.write_bytes(script(run, program, Place(str(self.folder), "boot-1.stdin")))
        return path

    def run(self, *argv: str | bytes, shell: str = "/bin/sh", **more: Any) -> int:
        given = {name: more.pop(name) for name in ("stdin", "task_dir") if name in more}
        path = self.write(Program(tuple(map(os.fsencode, argv)), **given), **more)
        return subprocess.run([shell, path], cwd="/", timeout=30, check=False).returncode

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "it's a $(folder)")


@pytest.mark.parametrize("shell", SHELLS)
def test_arguments_arrive_byte_by_byte(site: Site, shell: str) -> None:
    assert site.run(sys.executable, "-c", SHOW, *NASTY, shell=shell) == 0
    assert site.read("stdout") == b"|".join(NASTY)
    assert site.read("exit") == b"0\n"
    assert not list(site.folder.rglob("X"))


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(NASTY)
@given(words=st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\0", b"\x81'")), max_size=12))
def test_quoting_changes_no_byte(shell: str, words: Sequence[bytes]) -> None:
    line = b"printf '%s\\0' " + b" ".join(map(quoted, [b"", *words])) + b"\n"
    done = subprocess.run([shell], input=line, capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    assert done.stdout.split(b"\0")[:-1] == [b"", *words]


def test_exit_codes_and_signals(site: Site) -> None:
    assert site.run("sh", "-c", "echo oh >&2; exit 3") == 3
    assert (site.read("exit"), site.read("stderr")) == (b"3\n", b"oh\n")


def test_a_program_that_kills_itself(site: Site) -> None:
    assert site.run("sh", "-c", "kill -9 $$") == 137
    assert site.read("exit") == b"137\n"


def test_a_program_that_does_not_exist(site: Site) -> None:
    assert site.run("no-such-program") == 127
    assert b"no-such-program" in site.read("stderr")


@pytest.mark.parametrize("name", ["a=b", "-x", "it's"])
def test_a_program_with_an_odd_name(site: Site, name: str, tmp_path: Path) -> None:
    tool = tmp_path / "bin" / name
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\nprintf "%s" "$1"\n')
    tool.chmod(0o755)
    assert site.run(name, "x", env=(("PATH", f"{tool.parent}:{os.environ['PATH']}"),)) == 0
    assert site.read("stdout") == b"x"


def test_variables(site: Site) -> None:
    assert site.run("env", "-0", env=(("A.B", "it's\n$(x)"), ("PLAIN", "1"))) == 0
    found = dict(part.split(b"=", 1) for part in site.read("stdout").split(b"\0")[:-1])
    assert found[b"A.B"] == b"it's\n$(x)"
    assert (found[b"BROKER_JOBS_TASK"], found[b"BROKER_JOBS_ATTEMPT"]) == (b"7", b"2")


def test_stdin(site: Site) -> None:
    assert site.run("wc", "-c", stdin=b"x" * 300_000) == 0
    assert site.read("stdout").strip() == b"300000"


def test_folders_and_files_with_placeholders(site: Site, tmp_path: Path) -> None:
    where = tmp_path / "it's" / "%{TASK_ID}"
    assert site.run("pwd", cwd=str(where), stdout="%{CWD}/o ut/%{TASK_ID}.txt") == 0
    real = tmp_path / "it's" / "7"
    assert (real / "o ut" / "7.txt").read_text() == f"{real}\n"
    assert site.read("place") == os.fsencode(f"{real}\n")


def test_both_streams_go_to_one_file(site: Site, tmp_path: Path) -> None:
    both = str(tmp_path / "both")
    assert site.run("sh", "-c", "echo a; echo b >&2; echo c", stdout=both, stderr=both) == 0
    assert Path(both).read_text() == "a\nb\nc\n"


def test_a_stream_that_is_not_kept_goes_nowhere(site: Site) -> None:
    assert site.run("sh", "-c", "echo a; echo b >&2", keep_stdout=Keep.never) == 0
    assert not (site.folder / "stdout").exists()
    assert site.read("stderr") == b"b\n"


def test_the_submitters_folder_where_it_is_there(site: Site, tmp_path: Path) -> None:
    assert site.run("pwd", home=str(tmp_path)) == 0
    assert site.read("stdout") == os.fsencode(f"{tmp_path}\n")


def test_a_folder_of_its_own_where_it_is_not(site: Site) -> None:
    assert site.run("sh", "-c", 'pwd; echo "$BROKER_JOBS_TASK_DIR"', home="/no/such/folder", task_dir=True) == 0
    assert site.read("stdout") == os.fsencode(f"{site.folder}/work\n" * 2)


def test_a_folder_that_cannot_be_made_is_said(site: Site) -> None:
    assert site.run("true", cwd="/proc/no") == 1
    assert site.read("problem").startswith(b"the task cannot run in /proc/no on ")


def test_output_that_cannot_be_written_is_said(site: Site) -> None:
    assert site.run("true", stdout="/proc/no/out") == 1
    assert b"the folder of the output cannot be made" in site.read("problem")


def test_it_runs_once(site: Site) -> None:
    assert site.run("sh", "-c", "echo x") == 0
    assert subprocess.run(["/bin/sh", site.folder / "run.sh"], check=False).returncode == STRAY
    assert site.read("stdout") == b"x\n"


def test_without_its_folder_nothing_runs(site: Site, tmp_path: Path) -> None:
    path = site.write(Program((b"touch", os.fsencode(tmp_path / "ran"))))
    copy = shutil.copy(path, tmp_path / "copy.sh")
    shutil.rmtree(site.folder)
    assert subprocess.run(["/bin/sh", copy], cwd=tmp_path, check=False).returncode == STRAY
    assert not (tmp_path / "ran").exists()


def test_where_its_files_were_sent_it_runs_there(site: Site, tmp_path: Path) -> None:
    path = site.write(Program((b"pwd",), stdin=b"x"))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for file in (path, site.folder / "boot-1.stdin"):
        shutil.move(file, scratch)
    site.folder.rmdir()
    assert subprocess.run(["/bin/sh", "run.sh"], cwd=scratch, check=False).returncode == 0
    assert (scratch / "stdout").read_text() == f"{scratch}\n"
    assert (scratch / "exit").read_text() == "0\n"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 5), (signal.SIGUSR2, 5)])
def test_asking_it_to_end_asks_the_program(site: Site, shell: str, number: int, code: int) -> None:
    path = site.write(Program((b"sh", b"-c", b'trap "exit 5" TERM; echo up; while :; do sleep 0.02; done')))
    process = subprocess.Popen([shell, path])
    deadline = time.monotonic() + 20
    while not (site.folder / "stdout").exists() or not site.read("stdout"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(20) == code
    assert site.read("exit") == f"{code}\n".encode()


def test_the_program_can_be_interrupted(site: Site) -> None:
    assert site.run(sys.executable, "-c", "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)") == 0
    assert site.read("stdout") == b"True\n"
