"""Templates written for Tethys' Jobs API run here: other imports, the same names."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs import LocalCluster
from broker_jobs.compat.tethys.base import JobManager, TethysAppBase
from broker_jobs.compat.tethys.compute import get_scheduler
from broker_jobs.compat.tethys.jobs import JOB_TYPES, CondorJob, CondorJobTemplate, JobTemplate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from broker_jobs import Client

PAGE = Path(__file__).parents[2].parent / "shared" / "seeds" / "tethys-jobs-api.rst"
PATIENCE = 60.0
SCRIPT = """#!/usr/bin/env python3
from pathlib import Path

both = Path("input_1").read_text() + Path("input_2").read_text()
Path("example_output1").write_text(both.upper())
Path("example_output2").write_text(str(len(both)))
"""
PARAMETERS = {
    "executable": "my_script.py",
    "condorpy_template_name": "vanilla_transfer_files",
    "attributes": {
        "transfer_input_files": ("../input_1", "../input_2"),
        "transfer_output_files": ("example_output1", "example_output2"),
    },
    "scheduler": get_scheduler("workers"),
    "remote_input_files": ("my_script.py", "input_1", "$(USER_WORKSPACE)/input_2"),
}


@pytest.fixture(scope="module")
def client(url: str | None) -> Iterator[Client]:
    """A client of a cluster over one of the brokers."""
    with LocalCluster(cpus=2, url=url) as cluster, cluster.client() as found:
        yield found


def app_with(templates: Callable[[Any], Any]) -> type[TethysAppBase]:
    """An app whose templates these are, as its author writes it."""
    return type("App", (TethysAppBase,), {"package": "example_app", "job_templates": templates})


def runs(client: Client, folder: Path, app: type[TethysAppBase]) -> None:
    """The job of the page does its work."""
    manager = JobManager(app, store=folder / "jobs.db", client=client, workspaces=folder / "workspaces")
    theirs = manager.native.user_workspace("ann")
    (theirs / "my_script.py").write_text(SCRIPT)
    (theirs / "input_1").write_text("Ada ")
    (theirs / "input_2").write_text("Grace")
    job = manager.create_job("first", "ann", "example")
    assert isinstance(job, CondorJob)
    assert job.status == "Pending"
    assert list(Path(job.workspace).iterdir()) == []
    job.execute()
    job.wait(PATIENCE)
    assert job.status == "Complete", job.status_message
    assert Path(job.workspace, "example_output1").read_text() == "ADA GRACE"
    assert Path(job.workspace, "example_output2").read_text() == "9"
    assert sorted(path.name for path in theirs.iterdir()) == ["input_1", "input_2", "my_script.py"]
    assert job.get_attribute("transfer_output_files") == ["example_output1", "example_output2"]


def generic(self: object) -> tuple[JobTemplate, ...]:
    return (JobTemplate(name="example", type=JOB_TYPES["CONDOR"], parameters=PARAMETERS),)


def specific(self: object) -> tuple[JobTemplate, ...]:
    return (CondorJobTemplate(name="example", parameters=PARAMETERS),)


@pytest.mark.parametrize("templates", [generic, specific])
def test_a_template_of_either_kind_makes_a_job_that_runs(client: Client, tmp_path: Path, templates: Callable[[Any], Any]) -> None:
    runs(client, tmp_path, app_with(templates))


@pytest.mark.skipif(not PAGE.exists(), reason="the page of Tethys' documentation is not beside this repository")
@pytest.mark.parametrize("number", [0, 1])
def test_the_snippets_of_tethys_page_run(client: Client, tmp_path: Path, number: int) -> None:
    snippets = re.findall(r"^::\n\n((?:  .*\n|\n)+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(snippets) == 2
    code = textwrap.dedent(snippets[number]).replace("tethys_sdk", "broker_jobs.compat.tethys")
    assert code.count(" example_output2)") == 1  # a name that stands for nothing: the page has forgotten its quotes
    names: dict[str, Any] = {}
    exec(code.replace(" example_output2)", " 'example_output2')"), names)
    runs(client, tmp_path, app_with(names["job_templates"]))
