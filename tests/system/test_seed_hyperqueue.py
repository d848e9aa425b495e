"""Programs written for HyperQueue's Python interface run here: other imports, the same names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2].parent / "shared" / "seeds" / "hyperqueue-submitting-jobs.md"

FILLED_IN = """\
from pathlib import Path

from broker_jobs import Client, Job


def preprocess_fast(text):
    Path({folder!r}, "fast").write_text(text.upper())


def preprocess(text):
    Path({folder!r}, "thorough").write_text(text.lower())


"""

OURS = """\
from pathlib import Path

from broker_jobs import Client, Job


def convert(shout, source, target):
    text = Path(source).read_text()
    Path(target).write_text(text.upper() if shout else text.lower())


folder = {folder!r}
job = Job()
job.program([folder + "/program", "one", "two", "--option", "3"])
job.function(convert, args=(True, folder + "/a.txt", folder + "/fast"))
job.function(convert, args=(False, folder + "/b.txt", folder + "/thorough"))
client = Client()
submitted = client.submit(job)
client.wait_for_jobs([submitted])
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Daemons]:
    """A folder with a program and two files, and a node that a script starts."""
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n', encoding="utf-8")
    program.chmod(0o755)
    (tmp_path / "a.txt").write_text("First", encoding="utf-8")
    (tmp_path / "b.txt").write_text("Second", encoding="utf-8")
    with Daemons(tmp_path, {}) as daemons:
        yield daemons
        daemons.run("down")
    until(lambda: not daemons.alive(), "no process is left")


def _succeeds(place: Daemons, code: str, arguments: str) -> None:
    """The program succeeds, and every task of it has done its work."""
    script = place.folder / "script.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], env=place.env, cwd=place.folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (place.folder / "arguments").read_text(encoding="utf-8").strip() == arguments
    assert (place.folder / "fast").read_text(encoding="utf-8") == "FIRST"
    assert (place.folder / "thorough").read_text(encoding="utf-8") == "second"


def test_a_program_and_a_function_with_several_arguments(place: Daemons) -> None:
    _succeeds(place, OURS.format(folder=str(place.folder)), "one two --option 3")


@pytest.mark.skipif(not PAGE.exists(), reason="the page of HyperQueue's documentation is not beside this repository")
def test_the_snippets_of_hyperqueues_page_run_as_one_program(place: Daemons) -> None:
    folder = str(place.folder)
    snippets = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(snippets) >= 4
    code = re.sub(r"^from hyperqueue import .*\n", "", "\n".join(snippets), flags=re.MULTILINE)
    assert "hyperqueue" not in code
    [(given, *words)] = [re.findall(r'"([^"]*)"', argv) for argv in re.findall(r"job\.program\(\[(.*?)\]\)", code)]
    code = code.replace(given, f"{folder}/program").replace("/data/", f"{folder}/")
    _succeeds(place, FILLED_IN.format(folder=folder) + code, " ".join(words))
