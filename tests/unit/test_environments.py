"""Interpreters for functions: what of the submitter's import path is the user's own, and which Python is too old."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from broker_jobs.wire.messages import Origin
from broker_jobs_worker.executors.environments import own_folders, starting
from broker_jobs_worker.executors.server import Environment
from broker_jobs_worker.runners import launch


def test_folders_of_an_interpreter_are_not_the_users() -> None:
    path = (
        "/home/me/project",
        "/usr/lib/python311.zip",
        "/usr/lib/python3.11",
        "/usr/lib/python3.11/lib-dynload",
        "/home/me/venv/lib/python3.11/site-packages",
        "/usr/lib/python3/dist-packages/",
        "/home/me/python3.11-notes",
        "/home/me/lib",
    )
    assert own_folders(Origin("host", "python", "3.11.7", path)) == ("/home/me/project", "/home/me/python3.11-notes", "/home/me/lib")


def test_a_prologue_is_run_by_a_shell_that_becomes_the_interpreter() -> None:
    plain = starting(Environment("/opt/my python/bin/python"))
    assert plain[0] == "/opt/my python/bin/python"
    shell, option, script = starting(Environment("/opt/my python/bin/python", prologue="module load cuda"))
    assert shell.endswith("sh")
    assert option == "-c"
    assert script.startswith("module load cuda\n")
    assert script.splitlines()[-1].startswith("exec '/opt/my python/bin/python' ")


def test_an_old_python_is_told_that_it_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as old:
        old.setattr(sys, "version_info", (3, 9, 2))
        old.setattr(sys, "version", "3.9.2 (main)")
        with pytest.raises(SystemExit) as exit_:
            launch.main()
    assert exit_.value.code == "Python 3.9.2 is too old to run functions of broker-jobs: 3.11 or newer is needed"
    # Any Python from 3.7 on can read the file so far.
    ast.parse(Path(launch.__file__).read_text(encoding="utf-8"), feature_version=(3, 7))
