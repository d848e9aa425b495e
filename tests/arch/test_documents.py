"""Documents that are made from the code are up to date, and nothing that is committed names a machine of ours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from broker_jobs.manager.parameters import read
from broker_jobs.manager.programs import workflow_job
from broker_jobs.manager.record import JobRecord
from broker_jobs.manager.statuses import Statuses
from broker_jobs.templates import OWN, load_templates

TOP = Path(__file__).parents[2]

# Each with a class of one character, so that this file does not find itself.
FORBIDDEN = re.compile(
    r"/work/(main|shared|steering)\b|/far[m]/|/roo[t]/|pyp[i]\.org|pythonhoste[d]|npmj[s]\.org|deb\.debia[n]\.org|archive\.ubunt[u]"
)


def test_generated_parts_are_fresh() -> None:
    command = [sys.executable, "scripts/generate-docs", "--check"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"run `make docs`\n{done.stdout}{done.stderr}"


def test_no_paths_of_machines_and_no_hosts_of_registries() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, capture_output=True, check=False, timeout=60)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    found = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = TOP / name
        if path.is_file():
            lines = path.read_bytes().decode(errors="replace").splitlines()
            found += [f"{name}:{number}: {line}" for number, line in enumerate(lines, 1) if FORBIDDEN.search(line)]
    assert not found, "\n".join(found)


def test_the_templates_that_are_shown_are_some(tmp_path: Path) -> None:
    page = (TOP / "docs" / "templates.md").read_text(encoding="utf-8")
    (tmp_path / "t.toml").write_text(page.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    (template,) = load_templates(tmp_path / "t.toml")
    given = read(template.filled({}, {name: f"/{name}" for name in OWN}), Statuses())
    job = workflow_job(JobRecord("0" * 32, "app", "job", "ann", template.name, template.type, "/w", 1, parameters=given.parameters))
    assert [entry.name for entry in job.entries] == ["mesh", "run"]
    assert given.settings["process_results"] == "myapp.results.collect"
