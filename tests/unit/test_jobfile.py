"""Job files: what becomes of their keys, and how mistakes are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker_jobs.cli.jobfile import read_job
from broker_jobs.client.entries import ArrayWork
from broker_jobs.core.spec import Keep, Pin
from broker_jobs.errors import CycleError, ValidationError

if TYPE_CHECKING:
    from pathlib import Path

    from broker_jobs import Job
    from broker_jobs.client.entries import Entry


def _read(folder: Path, text: str, *, attached: bool = False) -> Job:
    file = folder / "job.toml"
    file.write_text(text, encoding="utf-8")
    return read_job(file, attached=attached)


def _label(entry: Entry) -> str:
    return entry.label(entry.first)


def test_a_small_file(tmp_path: Path) -> None:
    job = _read(tmp_path, '[[task]]\ncommand = ["true"]\n')
    assert (job.name, len(job)) == ("job", 1)
    assert _label(job.entries[0]) == "true[0]"


def test_whole_nodes(tmp_path: Path) -> None:
    job = _read(tmp_path, '[[task]]\ncommand = ["true"]\n[[task.request]]\nn_nodes = 3\ntime_request = "1h"\n')
    options = job.entries[0].options.resources
    assert (options.nodes, str(options)) == (3, "nodes=3 min_time=3600s")


def test_every_key_of_a_task(tmp_path: Path) -> None:
    job = _read(
        tmp_path,
        """
name = "all"
tags = ["a"]
max_fails = 3
lane = "high"
[[task]]
id = 5
name = "one"
command = ["prog", "x y"]
env = { A = "1" }
stdin = "in"
stdout = { path = "out", on_close = "rm-if-finished" }
stderr = "none"
grace = 0
cwd = "/tmp"
task_dir = true
time_limit = "1m 30s"
memory_limit = "1 GiB"
priority = -3
pin = "taskset"
crash_limit = "never-restart"
[[task.request]]
resources = { cpus = 2, gpus = 0.5, memory = "1 GiB", foo = 3 }
""",
    )
    [entry] = job.entries
    assert (job.name, job.tags, job.max_fails, job.lane) == ("all", ("a",), 3, "high")
    assert _label(entry) == "one[5]"
    assert isinstance(entry.work, ArrayWork)
    program = entry.work.program
    assert (program.argv, program.stdin, program.task_dir) == ((b"prog", b"x y"), b"in", True)
    options = entry.options
    assert (options.env, options.stdout, options.cwd) == ((("A", "1"),), "out", "/tmp")
    assert (options.stderr, options.keep_stderr, options.keep_stdout) == (None, Keep.never, Keep.on_failure)
    assert (options.time_limit, options.memory_limit, options.priority, options.crash_limit) == (90_000, 2**30, -3, 1)
    assert (options.grace, options.pin) == (0, Pin.taskset)
    assert dict(options.resources.amounts) == {"cpus": 20_000, "gpus": 5_000, "foo": 30_000, "memory": 2**30}


def test_a_request_without_cpus_gets_none(tmp_path: Path) -> None:
    job = _read(tmp_path, '[[task]]\ncommand = ["a"]\n[[task.request]]\nresources = { foo = 1 }\n')
    assert dict(job.entries[0].options.resources.amounts) == {"foo": 10_000}


def test_tasks_stand_in_any_order_and_get_ids(tmp_path: Path) -> None:
    text = """
[[task]]
command = ["last"]
deps = [7, 3]
[[task]]
id = 7
command = ["middle"]
after = [3]
[[task]]
id = 3
command = ["first"]
"""
    job = _read(tmp_path, text)
    assert [_label(entry) for entry in job.entries] == ["first[3]", "middle[7]", "last[8]"]
    assert [(entry.deps, entry.after) for entry in job.entries] == [((), ()), ((), (0,)), ((1, 0), ())]


def test_an_array(tmp_path: Path) -> None:
    job = _read(tmp_path, '[array]\nids = "1-9:4"\nentries = ["a", "b", "c"]\ncommand = ["echo"]\n')
    [entry] = job.entries
    assert [entry.label(number) for number in range(3)] == ["echo[1]", "echo[5]", "echo[9]"]
    assert len(_read(tmp_path, '[array]\nentries = ["a", "b"]\ncommand = ["echo"]\n')) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "tables or one"),
        ("[[task]]\ncommand = ['a']\n[array]\nids = '1'\ncommand = ['b']", "not both"),
        ("name = ", "is no TOML"),
        ("\nnam = 'x'\n", "line 2: unknown key 'nam'; did you mean 'name'?"),
        ("[[task]]\ncommand = ['a']\n\n[[task]]\ncommand = ['b']\nenviron = 1\n", "line 6: unknown key 'environ'; did you mean 'env'"),
        ("stream = 'out'\n", "line 1: stream is not needed"),
        ("[[task]]\nzzz = 1\n", "line 2: unknown key 'zzz'; known are id"),
        ("[[task]]\nid = 1\n", "line 1: the command is missing"),
        ("[[task]]\ncommand = 'a b'\n", "line 2: command must be a list"),
        ("[[task]]\ncommand = []\n", "line 2: command must be a list"),
        ("[[task]]\ncommand = ['a']\npriority = true\n", "line 3: priority must be an integer, not True"),
        ("[[task]]\ncommand = ['a']\ntime_limit = 'soon'\n", "line 1: time_limit must be"),
        (
            "[[task]]\ncommand = ['a']\nstdout = { path = 'a', on_close = 'no' }\n",
            "line 3: on_close of stdout is 'none' or 'rm-if-finished'",
        ),
        ("[[task]]\ncommand = ['a']\nstderr = { file = 'a' }\n", "unknown key 'file'; known are path, on_close"),
        ("[[task]]\nid = 1\ncommand = ['a']\n[[task]]\nid = 1\ncommand = ['a']\n", "line 5: the id 1 is that of another"),
        ("[[task]]\nid = 1\ncommand = ['a']\ndeps = [4]\n", "line 4: task 1 waits for 4, and no task has this id"),
        (
            "[[task]]\ncommand = ['a']\n[[task.request]]\nresource = { cpus = 1 }\n",
            "line 4: unknown key 'resource'; did you mean 'resources'",
        ),
        ("[[task]]\ncommand = ['a']\n[[task.request]]\nresources = { cpus = -1 }\n", "line 3: cpus must be"),
        ("[array]\ncommand = ['a']\n", "line 1: an array needs ids"),
        ("[array]\ncommand = ['a']\nids = '3-1'\n", "line 3: the range '3-1' runs backwards"),
        ("[array]\ncommand = ['a']\nids = '3'\nentries = ['a', 'b']\n", "line 1: there must be one entry"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _read(tmp_path, text)
    assert said in str(caught.value)
    assert "job.toml" in str(caught.value)


def test_a_circle_is_named_by_its_ids(tmp_path: Path) -> None:
    text = "[[task]]\nid = 5\ncommand = ['a']\ndeps = [9]\n[[task]]\nid = 9\ncommand = ['a']\ndeps = [5]\n"
    with pytest.raises(CycleError, match="5 → 9 → 5"):
        _read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="cannot be read"):
        read_job(tmp_path / "absent.toml")


def test_settings_of_an_open_job_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="line 1: name belongs to the job that is open"):
        _read(tmp_path, 'name = "x"\n[[task]]\ncommand = ["a"]\n', attached=True)
