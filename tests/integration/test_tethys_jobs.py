"""Condor jobs of Tethys' face, on real processes: the files they bring, workflows, and whatever goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client
from broker_jobs.client.core import Core
from broker_jobs.compat.tethys.base import JobManager
from broker_jobs.errors import CoordinatorUnavailable
from tests.support.daemons import until
from tests.support.managed import keep
from tests.support.tethys import App

if TYPE_CHECKING:
    from broker_jobs.compat.tethys.jobs import TethysJob

PATIENCE = 60.0


@pytest.fixture
def manager(client: Client, tmp_path: Path) -> JobManager:
    return JobManager(App, store=tmp_path / "jobs.db", client=client, workspaces=tmp_path / "w")


@pytest.fixture
def files(manager: JobManager) -> Path:
    """The workspace of the user, with files."""
    folder = manager.native.user_workspace("ann")
    (folder / "run.sh").write_text('#!/bin/sh\ncat data/* > out; echo "$@" >> out\n')
    (folder / "data").mkdir()
    (folder / "data" / "one").write_text("1\n")
    (folder / "seed").write_text("seed\n")
    return folder


def done(job: TethysJob) -> str:
    """Its status when it has ended."""
    job.wait(PATIENCE)
    return job.status


def test_a_job_brings_its_files_and_leaves_its_output_in_its_own_folder(manager: JobManager, files: Path) -> None:
    job = manager.create_job("job", "ann", "script", remote_input_files=["run.sh", "../data"], process_results_function=keep)
    job.execute()
    assert done(job) == "Complete", job.status_message
    assert Path(job.workspace, "out").read_text() == f"1\na {files} $(cluster)\n"
    assert not (files / "run.sh").stat().st_mode & 0o100
    assert job.extended_properties == {"kept": ["Results-Ready"]}
    assert job.start_time <= job.completion_time
    assert job.submitted.stdout(0) == b""


def test_files_come_from_another_folder_or_lie_there_already(manager: JobManager, tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("#!/bin/sh\ncat data > out\n")
    job = manager.create_job("job", "ann", "script", workspace=tmp_path, transfer_input_files="data")
    Path(job.workspace, "data").write_text("mine")
    job.execute()
    assert done(job) == "Complete", job.status_message
    assert Path(job.workspace, "out").read_text() == "mine"


def test_a_job_whose_files_are_missing_is_in_error_until_they_are_there(manager: JobManager, files: Path) -> None:
    job = manager.create_job("job", "ann", "script", transfer_input_files=["data", "late"])
    job.execute()
    assert job.status == "Error"
    assert f"the input file late is not there: it was looked for as {files / 'late'}" in job.status_message
    assert job.submitted is None
    (files / "late").write_text("now")
    job.resubmit()
    assert done(job) == "Complete", job.status_message
    assert Path(job.workspace, "late").read_text() == "now"


def test_two_files_of_one_name_are_an_error(manager: JobManager, files: Path) -> None:
    (files / "data" / "seed").write_text("another")
    job = manager.create_job("job", "ann", "script", transfer_input_files=["seed", "data/seed"])
    job.execute()
    assert job.status == "Error"
    assert "two input files are called seed" in job.status_message


def test_files_are_brought_anew_when_it_runs_again(manager: JobManager, files: Path) -> None:
    job = manager.create_job("job", "ann", "script", transfer_input_files="data", arguments="")
    job.execute()
    assert done(job) == "Complete"
    (files / "data" / "one").write_text("2\n")
    job.resubmit()
    assert job.cached_status in {"Submitted", "Running", "Complete"}
    assert done(job) == "Complete"
    assert Path(job.workspace, "out").read_text() == "2\n\n"


def test_nodes_of_a_workflow_have_folders_and_take_what_others_made(manager: JobManager, files: Path) -> None:
    job = manager.create_job("job", "ann", "flow")
    job.execute()
    assert done(job) == "Complete", job.status_message
    assert Path(job.workspace, "twice", "final").read_text() == "seed\nseed\n"
    assert [(node.name, node.status, node.parents) for node in job.nodes()] == [("make", "Complete", ()), ("twice", "Complete", ("make",))]
    job.resubmit()
    assert done(job) == "Complete", job.status_message
    job.delete()
    assert (files / "seed").exists()
    assert not Path(job.workspace).exists()


def test_a_job_is_stopped_and_its_status_is_that_of_its_work(manager: JobManager) -> None:
    job = manager.create_job("job", "ann", "held")
    job.execute()
    until(Path(job.workspace, "started").exists, "it runs")
    job.update_status("Meshing")
    assert job.status == "Meshing"
    job.stop()
    assert done(job) == "Aborted"
    assert job.run_time


def test_a_status_is_as_it_was_known_where_nobody_can_be_asked(
    manager: JobManager, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = manager.create_job("job", "ann", "held")
    made.execute()
    for question in (Core.ask, Core.find):
        monkeypatch.setattr(question, "__defaults__", (0.2,))  # its patience
    with Client(f"sqlite:///{tmp_path}/queue.db") as alone:  # there is no coordinator
        job = JobManager(App, store=tmp_path / "jobs.db", client=alone, workspaces=tmp_path / "w").get_job(made.id)
        assert job is not None
        assert job.status == job.cached_status == "Submitted"
        with pytest.raises(CoordinatorUnavailable):
            job.update_status()
    assert "is not up to date" in caplog.text
    made.stop()
