"""Every example in the documents runs: Python blocks as scripts, console blocks as commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(__file__).parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _blocks(language: str) -> list[pytest.ParameterSet]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            if match[1] == language:
                line = text.count("\n", 0, match.start()) + 1
                found.append(pytest.param(match[2], id=f"{page.name}:{line}"))
    return found


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A state folder for all examples; its node is stopped at the end."""
    home = tmp_path_factory.mktemp("home")
    outside = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_JOBS_")}
    environ = {**outside, "BROKER_JOBS_HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    yield environ
    subprocess.run(["broker-jobs", "down"], env=environ, check=True, timeout=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all examples run, one after the other."""
    return tmp_path_factory.mktemp("examples")


@pytest.mark.parametrize("code", _blocks("python"))
def test_python_examples_run(code: str, environment: dict[str, str], folder: Path) -> None:
    script = folder / "script.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _commands(page: Path) -> list[str]:
    """The ``broker-jobs`` commands of a page that need no RabbitMQ."""
    embedded = page.read_text(encoding="utf-8").split("## Over RabbitMQ")[0]
    return [
        line.removeprefix("$ ").split("  #")[0].strip()
        for match in BLOCK.finditer(embedded)
        if match[1] == "console"
        for line in match[2].splitlines()
        if line.startswith("$ broker-jobs")
    ]


def test_the_commands_of_the_readme_run_after_its_first_script(environment: dict[str, str], folder: Path) -> None:
    first = BLOCK.search((TOP / "README.md").read_text(encoding="utf-8").split("## The first ten minutes")[1])
    assert first is not None
    (folder / "first.py").write_text(first[2], encoding="utf-8")
    commands = [f"{sys.executable} first.py", *_commands(TOP / "README.md")]
    assert len(commands) >= 5
    for command in commands:
        done = subprocess.run(command, shell=True, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        if command.endswith("first.py"):
            assert "3210" in done.stdout
        if "cat last" in command:
            assert done.stdout.splitlines() == sorted({str(number) for number in range(1, 11)})


@pytest.mark.parametrize("page", ["output.md", "resources.md"])
def test_the_commands_of_a_page_run(page: str, environment: dict[str, str], folder: Path) -> None:
    commands = _commands(TOP / "docs" / page)
    assert len(commands) >= 5
    for command in commands:
        done = subprocess.run(command, shell=True, env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
