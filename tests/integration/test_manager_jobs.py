"""Managed jobs with work, on real processes: programs and workflows, held back, stopped, run again, and whoever was away meanwhile."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.core.states import JobState, TaskState
from broker_jobs.errors import JobActive, JobNotFound, WrongStatus
from broker_jobs.manager import Category, JobManager, ManagedJob
from broker_jobs.manager.statuses import SUBMITTED
from broker_jobs.templates import JobTemplate
from tests.support import managed
from tests.support.daemons import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker_jobs import Client, LocalCluster

PATIENCE = 60.0
LONG_AGO_MS = 1_000_000_000_000
WAIT_FOR_GO = ["sh", "-c", "echo $$$$ > started; while [ ! -e go ]; do sleep 0.02; done; exit $(cat go)".replace("$(", "$$(")]
"""Says that it has started, and ends with the exit code in the file ``go``."""

TEMPLATES = [
    JobTemplate(
        "sort",
        "program",
        {"argv": ["sh", "-c", "sort > sorted; echo done $WORD; pwd"], "stdin": "2\n1\n", "env": {"WORD": "$(W)"}},
        {"W": "x"},
    ),
    JobTemplate("simulate", "step", {"step": "simulate", "version": "~1.2", "parameters": {"x": 1}, "time_limit": "1m"}),
    JobTemplate("count", "step", {"step": "count", "version": "^1.0", "parameters": {"x": 1}}),
    JobTemplate("held", "program", {"argv": WAIT_FOR_GO}),
    JobTemplate("broken", "program", {"argv": ["sh", "-c", "exit 3"]}),
    JobTemplate(
        "diamond",
        "workflow",
        {
            "nodes": [
                {"name": "left", "argv": ["true"], "parents": ["top"]},
                {"name": "right", "argv": ["sh", "-c", "test -e fixed"], "parents": ["top"]},
                {"name": "bottom", "argv": ["true"], "parents": ["left", "right"]},
                {"name": "top", "argv": ["sh", "-c", "echo once >> top"]},
            ]
        },
    ),
    JobTemplate(
        "chain", "workflow", {"nodes": [{"name": "first", "argv": WAIT_FOR_GO}, {"name": "second", "argv": ["true"], "parents": ["first"]}]}
    ),
]


@pytest.fixture
def manager(client: Client, tmp_path: Path) -> JobManager:
    return manager_with(client, tmp_path)


def manager_with(client: Client, folder: Path) -> JobManager:
    return JobManager(folder / "manager.db", client=client, templates=TEMPLATES, workspaces=folder / "work")


def go(job: ManagedJob, code: int = 0) -> None:
    """Let a held program end."""
    part = job.workspace / "go.part"
    part.write_text(str(code))
    part.rename(job.workspace / "go")


def started(job: ManagedJob) -> None:
    """Wait until a held program runs, and the ledger knows."""
    until((job.workspace / "started").exists, "the program has started")
    until(lambda: Category.running in categories(job), "the ledger knows")


def categories(job: ManagedJob) -> frozenset[Category]:
    job.update_status()
    return job.categories


def again(manager: JobManager, job: ManagedJob, **changes: Any) -> None:
    """Change a row, as a process does that is gone now."""
    manager.actions.store.change(job.id, lambda found: dataclasses.replace(found, **changes))


# --- steps ---


def test_a_step_is_chosen_and_called_when_the_job_is_executed(manager: JobManager, client: Client) -> None:
    job = manager.create_job("simulation", "ann", "simulate", parameters={"x": 2.5, "n": 4}, process_results=managed.note)
    assert job.execute() == "Submitted"
    assert job.wait(PATIENCE) == "Complete"
    assert job.submitted is not None
    assert job.submitted.result(0) == {"y": 10.0, "parts": 0}
    assert [node.name for node in job.nodes()] == ["simulate"]
    mesh = client.add_data(b"1\n2\n", name="mesh.txt")
    counted = manager.create_job("count", "ann", "count", inputs={"mesh": mesh.id, "more": [mesh.id]})
    counted.execute()
    assert counted.wait(PATIENCE) == "Complete", counted.message
    assert mesh.used_by() == [counted.submitted.id if counted.submitted else ""]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": "^7"}, "has no version that fits '^7'; there are: 1.10.0, 1.2.0"),
        ({"version": None}, "has several versions"),
        ({"parameters": {"x": "many"}}, "x: 'many' is not of type 'number'"),
        ({"inputs": {"mesh": "abcd1234"}}, "there is no data abcd1234"),
    ],
)
def test_a_step_that_cannot_be_called_is_an_error_with_the_reason(manager: JobManager, changes: dict[str, Any], told: str) -> None:
    job = manager.create_job("simulation", "ann", "simulate", **changes)
    assert (job.execute(), told in job.message) == ("Error", True), job.message


# --- programs ---


def test_a_program_runs_in_its_workspace_and_its_results_are_processed(manager: JobManager) -> None:
    job = manager.create_job("sort", "ann", "sort", process_results=managed.note)
    assert job.execute() == "Submitted"
    assert job.wait(PATIENCE) == "Complete"
    assert (job.workspace / "sorted").read_text() == "1\n2\n"
    assert managed.notes(job) == ["RES Results-Ready"]
    assert job.submitted is not None
    assert job.submitted.stdout(0).decode().splitlines() == ["done x", str(job.workspace)]
    assert job.execute_time is not None
    assert job.start_time is not None
    assert job.completion_time is not None
    assert job.start_time <= job.completion_time
    assert [(node.name, node.status, node.attempts) for node in job.nodes()] == [("sh", "Complete", 1)]


def test_why_a_program_failed_is_kept(manager: JobManager) -> None:
    job = manager.create_job("broken", "ann", "broken", process_results=managed.note)
    job.execute()
    assert job.wait(PATIENCE) == "Error"
    assert "exit code 3" in job.message
    assert managed.notes(job) == []


def test_a_job_that_cannot_be_sent_says_why_and_can_be_sent_later(cluster: LocalCluster, client: Client, tmp_path: Path) -> None:
    closed = cluster.client()
    closed.close()
    job = manager_with(closed, tmp_path).create_job("sort", "ann", "sort")
    assert job.execute() == "Error"
    assert (job.message, job.completion_time is not None, job.submitted) == ("This client was closed.", True, None)
    found = manager_with(client, tmp_path).get_job(job.id)
    assert found is not None
    assert found.resubmit() == "Submitted"
    assert (found.message, found.completion_time) == ("", None)
    assert found.wait(PATIENCE) == "Complete"


def test_another_process_sees_how_it_goes(cluster: LocalCluster, manager: JobManager, tmp_path: Path) -> None:
    job = manager.create_job("held", "ann", "held")
    job.execute()
    with cluster.client() as other:
        (found,) = manager_with(other, tmp_path).list_jobs("ann")
        started(found)
        assert found.status == "Running"
        assert found.start_time is not None
        with pytest.raises(TimeoutError):
            found.wait(0.01)
        go(job)
        assert found.wait(PATIENCE) == "Complete"
    assert job.update_status() == "Complete"


def test_a_custom_status_lasts_until_the_work_has_ended(manager: JobManager) -> None:
    job = manager.create_job("held", "ann", "held")
    job.execute()
    started(job)
    assert job.update_status("Meshing", "step 1") == "Meshing"
    assert job.update_status() == "Meshing"
    with pytest.raises(WrongStatus):
        job.update_status("COM")
    go(job, 7)
    assert job.wait(PATIENCE) == "Error"
    assert "exit code 7" in job.message


# --- stop, pause, resume, resubmit ---


def test_what_is_stopped_ends_and_says_why(manager: JobManager) -> None:
    job = manager.create_job("held", "ann", "held")
    job.execute()
    started(job)
    with pytest.raises(JobActive):
        job.delete()
    job.stop("wrong input")
    assert job.wait(PATIENCE) == "Aborted"
    assert job.message == "wrong input"
    assert job.stop() == "Aborted"


def test_a_job_that_is_stopped_while_it_is_sent_does_not_run_on(manager: JobManager, client: Client) -> None:
    manager.on("SUB", lambda job: job.stop("changed my mind"))
    job = manager.create_job("held", "ann", "held")
    assert job.execute() == "Aborted"
    work = client.job(job.record.work)
    assert work.wait(PATIENCE) is False
    assert work.state is JobState.canceled
    assert (job.update_status(), job.message) == ("Aborted", "changed my mind")


def test_a_paused_workflow_does_not_go_on_until_it_is_resumed(manager: JobManager) -> None:
    job = manager.create_job("chain", "ann", "chain")
    job.execute()
    started(job)
    assert job.pause("lunch") == "Paused"
    assert [(node.name, node.status, node.parents) for node in job.nodes()] == [("first", "Running", ()), ("second", "Pending", ("first",))]
    go(job)
    until(lambda: job.nodes()[0].status == "Complete", "the first has ended")
    assert job.update_status() == "Paused"
    assert job.nodes()[1].status == "Paused"
    job.resume()
    assert job.wait(PATIENCE) == "Complete"


def test_a_complete_job_runs_again_as_a_whole(manager: JobManager, client: Client) -> None:
    job = manager.create_job("sort", "ann", "sort", process_results=managed.note)
    job.execute()
    job.wait(PATIENCE)
    first = job.record.work
    assert job.resubmit() == "Submitted"
    assert job.wait(PATIENCE) == "Complete"
    assert job.record.work != first
    assert managed.notes(job) == ["RES Results-Ready"] * 2
    client.forget(job.record.work)
    assert job.resubmit() == "Submitted", "what was forgotten is written anew"
    assert job.wait(PATIENCE) == "Complete"


# --- workflows ---


def test_a_workflow_that_failed_in_part_goes_on_from_there(manager: JobManager) -> None:
    job = manager.create_job("diamond", "ann", "diamond", process_results=managed.note)
    job.execute()
    assert job.wait(PATIENCE) == "Various-Complete"
    assert "right: " in job.message
    assert managed.notes(job) == ["VCP Various-Complete"]
    states = {node.name: node.status for node in job.nodes()}
    assert states == {"top": "Complete", "left": "Complete", "right": "Error", "bottom": "Aborted"}
    assert {node.name: node.parents for node in job.nodes()}["bottom"] == ("left", "right")

    (job.workspace / "fixed").touch()
    assert job.resubmit() == "Submitted"
    assert job.wait(PATIENCE) == "Complete"
    assert {node.status for node in job.nodes()} == {"Complete"}
    assert (job.workspace / "top").read_text() == "once\n", "what has succeeded did not run again"


def test_how_nodes_ended_is_kept_when_the_ledger_has_forgotten(manager: JobManager, client: Client) -> None:
    job = manager.create_job("diamond", "ann", "diamond")
    job.execute()
    job.wait(PATIENCE)
    nodes = job.nodes()
    client.forget(job.record.work)
    assert job.update_status() == "Various-Complete"
    assert job.nodes() == nodes
    assert len(nodes) == 4


# --- whoever was away ---


def test_work_that_is_gone_is_an_error(manager: JobManager, client: Client) -> None:
    job = manager.create_job("sort", "ann", "sort")
    job.execute()
    work = client.job(job.record.work)
    work.wait(PATIENCE)
    until(lambda: work.info().ended_ms, "the ledger knows")
    work.forget()
    assert job.update_status() == "Submitted", "it may be on its way to the ledger"
    again(manager, job, executed_ms=LONG_AGO_MS)
    assert job.update_status() == "Error"
    assert "forgotten" in job.message


def test_what_nobody_wrote_down_that_it_was_sent_is_found(manager: JobManager, client: Client) -> None:
    """Whoever executed it died after the broker had confirmed it, and before the row said so."""
    job = manager.create_job("sort", "ann", "sort")
    job.execute()
    work = job.record.work
    client.job(work).wait(PATIENCE)
    again(manager, job, work="")
    assert job.update_status() == "Submitted", "somebody may be about to write it down"
    again(manager, job, executed_ms=LONG_AGO_MS)
    until(lambda: job.update_status() == "Complete", "it is found")
    assert job.record.work == work


def test_what_was_never_sent_is_an_error(manager: JobManager) -> None:
    """Whoever executed it died before anything was sent."""
    job = manager.create_job("sort", "ann", "sort")
    again(manager, job, status=SUBMITTED, run=1, executed_ms=LONG_AGO_MS)
    job.refresh()
    for wish in (job.wait, job.pause):
        with pytest.raises(WrongStatus, match="is being sent"):
            wish()
    assert job.update_status() == "Error"
    assert "resubmit" in job.message
    job.resubmit()
    assert job.wait(PATIENCE) == "Complete"


# --- many at once ---


def test_many_jobs_from_many_threads(client: Client, manager_store: str, tmp_path: Path) -> None:
    manager = JobManager(manager_store, client=client, templates=TEMPLATES, workspaces=tmp_path / "work")

    def through(number: int) -> str:
        job = manager.create_job(f"sort {number}", "ann", "sort", process_results=managed.note)
        job.execute()
        (found,) = [each for each in manager.list_jobs("ann") if each.id == job.id]
        found.update_status()
        assert job.wait(PATIENCE) == found.update_status() == "Complete"
        assert managed.notes(found) == ["RES Results-Ready"]
        return job.submitted.stdout(0).decode().splitlines()[1] if job.submitted else ""

    with ThreadPoolExecutor(8) as threads:
        places = list(threads.map(through, range(24)))
    assert sorted(places) == sorted(str(job.workspace) for job in manager.list_jobs())


# --- delete ---


def test_what_is_deleted_is_gone_from_the_ledger_too(manager: JobManager, client: Client) -> None:
    job = manager.create_job("sort", "ann", "sort")
    job.execute()
    job.wait(PATIENCE)
    work = job.record.work
    assert client.job(work).tasks()[0].state is TaskState.succeeded
    job.delete()
    with pytest.raises(JobNotFound):
        client.job(work)
    assert not job.workspace.exists()


def test_a_client_of_its_own_is_opened_when_it_is_needed_and_closed(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_JOBS_URL", cluster.url)
    monkeypatch.setenv("BROKER_JOBS_SIGNING_KEY", cluster.key)
    monkeypatch.setenv("BROKER_JOBS_NAMESPACE", cluster.namespace)
    with JobManager(tmp_path / "manager.db", templates=TEMPLATES, workspaces=tmp_path / "work") as manager:
        job = manager.create_job("sort", "ann", "sort")
        assert manager._own is None  # noqa: SLF001 (nothing else shows it)
        job.execute()
        assert job.wait(PATIENCE) == "Complete"
        own = manager._own  # noqa: SLF001
    assert own is not None
    with pytest.raises(Exception, match="closed"):
        own.jobs()


@pytest.fixture(autouse=True)
def _nothing_is_left(manager: JobManager, client: Client) -> Iterator[None]:
    """Programs that are held end with their test."""
    yield
    for job in manager.list_jobs():
        if job.record.work:
            try:
                client.job(job.record.work).cancel()
            except JobNotFound:
                continue
