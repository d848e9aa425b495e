"""Arrays, entries, directives and job files through the command line: real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    from collections.abc import Iterator


def _parsed(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert done.returncode == code, done
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemons]:
    """A user with a state folder of their own, and the node that the first command starts."""
    with Daemons(tmp_path_factory.mktemp("own"), {}) as daemons:
        yield daemons
        assert daemons.run("down").returncode == 0
        until(lambda: not daemons.alive(), "every process of the node has ended")


def _with_input(own: Daemons, data: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "broker_jobs", *arguments]
    return subprocess.run(command, env=own.env, cwd=own.folder, input=data, capture_output=True, text=True, timeout=60, check=False)


def test_an_array_runs_a_task_for_each_chosen_id(own: Daemons) -> None:
    done = own.run("submit", "--array", "30-36:3", "--wait", "--output", "json", "--", "sh", "-c", "echo $BROKER_JOBS_ARRAY_ID")
    assert _parsed(done)[0]["counts"] == {"succeeded": 3}
    tasks = _parsed(own.run("task", "list", "last", "--output", "json"))
    assert [(task["number"], task["name"]) for task in tasks] == [(0, "sh[30]"), (1, "sh[33]"), (2, "sh[36]")]
    assert own.run("job", "cat", "last").stdout == "30\n33\n36\n"
    assert own.run("job", "cat", "last", "--tasks", "[33]").stdout == "33\n"
    assert _parsed(own.run("task", "info", "last", "sh[36]", "--output", "json"))["number"] == 2
    assert own.run("task", "info", "last", "[31]").returncode == 2


def test_each_line_and_the_standard_input_reach_each_task(own: Daemons, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("a b\n\n$HOME;", encoding="utf-8")
    script = 'read all; echo "$BROKER_JOBS_ARRAY_ID $all <$BROKER_JOBS_ENTRY>"'
    done = _with_input(
        own, "given\n", "submit", "--wait", "--output", "quiet", "--stdin", "--each-line", f"{tmp_path}/lines", "--", "sh", "-c", script
    )
    assert done.returncode == 0, done
    assert own.run("job", "cat", "last").stdout == "0 given <a b>\n1 given <>\n2 given <$HOME;>\n"


def test_an_array_that_fails_names_its_tasks(own: Daemons) -> None:
    done = own.run("submit", "--array", "1-3", "--wait", "--", "sh", "-c", "exit $((BROKER_JOBS_ARRAY_ID == 2))")
    assert done.returncode == 1
    assert "why: broker-jobs job info" in done.stderr
    assert [task["name"] for task in _parsed(own.run("job", "info", "last", "--output", "json"))["failed"]] == ["sh[2]"]


def test_directives_of_a_script_are_options_and_the_command_line_wins(own: Daemons, tmp_path: Path) -> None:
    script = tmp_path / "work.sh"
    script.write_text('#!/bin/sh -e\n#BJ --name inside --env A=1\n#BJ --env "B=2 3" --tag x\necho "$A-$B-$C-$1"\n', encoding="utf-8")
    done = own.run("submit", "--wait", "--env", "C=4", "--env", "A=5", "--tag", "y", "--", str(script), "argument")
    assert (done.returncode, done.stdout) == (0, "5-2 3-4-argument\n")
    info = _parsed(own.run("job", "info", "last", "--output", "json"))
    assert (info["name"], info["tags"]) == ("inside", ["x", "y"])
    assert own.run("submit", "--name", "outside", "--output", "quiet", "--", str(script)).returncode == 0
    assert _parsed(own.run("job", "info", "last", "--output", "json"))["name"] == "outside"


def test_directives_of_the_standard_input(own: Daemons) -> None:
    done = _with_input(own, "#BJ --name piped\necho run\n", "submit", "--wait", "--stdin", "--directives", "stdin", "--", "sh")
    assert (done.returncode, done.stdout) == (0, "run\n")
    assert _parsed(own.run("job", "info", "last", "--output", "json"))["name"] == "piped"


def test_the_job_file_of_the_guide_runs(own: Daemons) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")
    (own.folder / "job.toml").write_text(guide.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    done = own.run("submit-file", "job.toml", "--wait", "--output", "json")
    assert _parsed(done)[0]["counts"] == {"succeeded": 2}
    assert (own.folder / "sorted.txt").read_text(encoding="utf-8").split() == ["9", "8", "7", "6", "5", "4", "3", "2", "10", "1"]
    assert own.run("submit-file", "absent.toml").returncode == 2


def test_an_open_job_is_added_to_by_many_commands(own: Daemons) -> None:
    opened = own.run("job", "open", "--name", "scan", "--tag", "a=1", "--output", "quiet").stdout.strip()
    assert own.run("submit", "--job", opened, "--array", "1-3", "--wait", "--", "true").returncode == 0
    (own.folder / "more.toml").write_text('[[task]]\ncommand = ["echo", "more"]\n', encoding="utf-8")
    assert "+ 1 tasks" in own.run("submit-file", "--job", opened, "more.toml").stderr
    assert own.run("job", "wait", "--without-close", opened).returncode == 0
    info = _parsed(own.run("job", "info", opened, "--output", "json"))
    assert (info["name"], info["open"], info["counts"], info["incomplete"]) == ("scan", True, {"succeeded": 4}, False)
    refused = own.run("submit", "--job", opened, "--name", "x", "--", "true")
    assert (refused.returncode, "--name belongs to" in refused.stderr) == (2, True)
    assert own.run("job", "close", opened).stdout == f"{opened}: closed\n"
    [waited] = _parsed(own.run("job", "wait", opened, "--output", "json"))
    assert (waited["state"], waited["open"]) == ("succeeded", False)
    assert own.run("job", "cat", opened, "--tasks", "3").stdout == "more\n"
    assert own.run("submit", "--job", opened, "--", "true").returncode == 2
