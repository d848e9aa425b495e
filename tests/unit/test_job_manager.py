"""The job manager without any work: rows, users and groups, workspaces, statuses by hand, callbacks. On SQLite."""

from __future__ import annotations

import datetime
import logging
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.errors import JobActive, JobNotFound, ManagerStoreError, TemplateNotFound, UnknownVariable, ValidationError, WrongStatus
from broker_jobs.manager import Category, JobManager, ManagedJob
from broker_jobs.manager.store import JobStore
from broker_jobs.templates import JobTemplate
from tests.support import managed

if TYPE_CHECKING:
    from pathlib import Path

HERE = "tests.support.managed"
TEMPLATES = [
    JobTemplate("plain"),
    JobTemplate("folders", parameters={"places": ("$(APP_WORKSPACE)/a", "$(USER_WORKSPACE)/u", {"job": "$(JOB_WORKSPACE)"}), "n": 1}),
    JobTemplate("program", "program", {"argv": ["true"]}),
]


def manager_in(folder: Path, **options: Any) -> JobManager:
    return JobManager(folder / "manager.db", templates=TEMPLATES, workspaces=folder / "work", **options)


@pytest.fixture
def manager(tmp_path: Path) -> JobManager:
    return manager_in(tmp_path)


@pytest.fixture
def job(manager: JobManager) -> ManagedJob:
    return manager.create_job("job", "ann", "plain")


# --- making and finding ---


def test_a_job_is_a_row_before_anything_is_sent(manager: JobManager, tmp_path: Path) -> None:
    job = manager.create_job("run 1", "ann", "folders", groups=["b", "a", "a"], n=2, description="first")
    other = manager_in(tmp_path).get_job(job.id)
    assert other is not None
    for found in (job, other):
        assert (found.name, found.user, found.groups, found.label, found.type) == ("run 1", "ann", ("a", "b"), "default", "basic")
        assert (found.status, found.code, found.message, found.description) == ("Pending", "PEN", "", "first")
        assert found.parameters["n"] == 2
        assert found.execute_time is found.start_time is found.completion_time is found.run_time is found.submitted is None
        assert found.nodes() == []
    assert abs(datetime.datetime.now(datetime.UTC) - job.creation_time) < datetime.timedelta(minutes=5)


def test_variables_stand_for_folders_that_are_there(manager: JobManager) -> None:
    job = manager.create_job("job", "ann", "folders", more="$(USER_WORKSPACE)")
    app, user = manager.app_workspace(), manager.user_workspace("ann")
    assert job.parameters["places"] == [f"{app}/a", f"{user}/u", {"job": str(job.workspace)}]
    assert job.parameters["more"] == str(user)
    assert app.is_dir()
    assert user.is_dir()
    assert job.workspace.is_dir()
    assert len({app, user, manager.user_workspace("bob"), job.workspace}) == 4


def test_an_unknown_template_is_a_key_error_that_lists_those_that_there_are(manager: JobManager) -> None:
    with pytest.raises(TemplateNotFound, match=r"^there is no template 'none'; known here: 'plain', 'folders', 'program'$") as caught:
        manager.create_job("job", "ann", "none")
    assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize(
    ("name", "user", "template", "given", "error"),
    [
        ("", "ann", "plain", {}, ValidationError),
        ("job", "", "plain", {}, ValidationError),
        ("job", "ann", "plain", {"groups": "g"}, ValidationError),
        ("job", "ann", "plain", {"groups": [""]}, ValidationError),
        ("job", "ann", "plain", {"x": "$(NOBODY)"}, UnknownVariable),
        ("job", "ann", "plain", {"x": object()}, ValidationError),
        ("job", "ann", "program", {"argv": []}, ValidationError),
    ],
)
def test_what_is_refused_leaves_nothing(
    name: str, user: str, template: str, given: dict[str, Any], error: type[Exception], manager: JobManager, tmp_path: Path
) -> None:
    with pytest.raises(error):
        manager.create_job(name, user, template, **given)
    assert manager.list_jobs() == []
    assert not list(tmp_path.glob("work/default/jobs/*"))


def test_a_template_of_an_unknown_type_or_name_is_refused_at_once(tmp_path: Path) -> None:
    for templates in ([JobTemplate("a", "cloud")], [JobTemplate("a"), JobTemplate("a")]):
        with pytest.raises(ValidationError):
            JobManager(tmp_path / "manager.db", templates=templates)


def test_jobs_of_a_user_or_of_groups_the_oldest_first(manager: JobManager) -> None:
    one = manager.create_job("one", "ann", "plain", groups=["red"])
    two = manager.create_job("two", "bob", "plain", groups=["red", "blue"])
    three = manager.create_job("three", "ann", "plain")

    def ids(**given: Any) -> list[str]:
        return [job.id for job in manager.list_jobs(**given)]

    assert ids() == [one.id, two.id, three.id]
    assert ids(user="ann") == [one.id, three.id]
    assert ids(user="nobody") == []
    assert ids(groups=["red"]) == ids(groups="red") == [one.id, two.id]
    assert ids(groups=["blue", "green"]) == [two.id]
    assert ids(groups=[]) == []
    assert [job.groups for job in manager.list_jobs()] == [("red",), ("blue", "red"), ()]
    with pytest.raises(ValueError, match="not both"):
        manager.list_jobs(user="ann", groups=["red"])


def test_a_job_that_there_is_not_or_that_belongs_to_others_is_none(manager: JobManager, job: ManagedJob, tmp_path: Path) -> None:
    assert manager.get_job("0" * 32) is None
    assert manager.get_job(job.id, user="bob") is None
    found = manager.get_job(job.id, user="ann")
    assert found is not None
    assert found.id == job.id
    other = manager_in(tmp_path, app="other")
    assert other.get_job(job.id) is None
    assert other.list_jobs() == []
    assert other.user_workspace("ann") != manager.user_workspace("ann")


# --- statuses by hand ---


def test_the_life_of_a_basic_job(job: ManagedJob) -> None:
    assert job.execute() == "Submitted"
    assert job.execute_time is not None
    assert job.start_time is None
    assert job.update_status("RUN") == "Running"
    assert job.start_time is not None
    assert job.pause() == "Paused"
    assert job.resume() == "Running"
    assert job.update_status("Complete", "all is well") == "Complete"
    assert (job.code, job.message, job.categories) == ("COM", "all is well", {Category.terminal})
    assert job.completion_time is not None
    assert job.run_time == job.completion_time - job.start_time
    assert job.update_status("Running") == "Complete", "news that comes late changes nothing"
    assert job.stop() == job.pause() == job.resume() == "Complete"


def test_it_is_resubmitted_as_if_it_were_new(job: ManagedJob) -> None:
    job.execute()
    job.update_status("ERR", "oops")
    before = job.execute_time
    assert job.resubmit() == "Submitted"
    assert (job.message, job.start_time, job.completion_time, job.categories >= {Category.active}) == ("", None, None, True)
    assert before is not None
    assert job.execute_time is not None
    assert job.execute_time >= before
    assert job.update_status("RUN") == "Running"


def test_what_its_status_does_not_allow(job: ManagedJob) -> None:
    for wish in (job.pause, job.resume, job.resubmit, job.wait):
        with pytest.raises(WrongStatus):
            wish()
    job.execute()
    for wish in (job.execute, job.resubmit):
        with pytest.raises(WrongStatus):
            wish()
    with pytest.raises(ValidationError, match="no work"):
        job.wait()


def test_a_pending_job_can_be_stopped(job: ManagedJob) -> None:
    assert job.stop("not needed") == "Aborted"
    assert job.message == "not needed"


def test_custom_statuses_and_their_categories(tmp_path: Path) -> None:
    manager = manager_in(tmp_path, statuses={"Meshing": "running", "Approved": "terminal"})
    job = manager.create_job("job", "ann", "plain")
    job.execute()
    assert job.update_status("Meshing") == "Meshing"
    assert (job.code, job.start_time is not None, job.categories >= {Category.running}) == ("OTH", True, True)
    assert job.update_status("whatever else") == "whatever else"
    assert job.categories == {Category.active, Category.non_terminal}
    assert job.update_status("Approved") == "Approved"
    assert job.categories == {Category.terminal}
    elsewhere = manager_in(tmp_path).get_job(job.id)
    assert elsewhere is not None
    assert elsewhere.update_status("RUN") == "Approved", "an end is one for processes, too, that do not know the word"


# --- results and callbacks ---


def test_results_are_processed_once_and_then_it_is_complete(manager: JobManager) -> None:
    job = manager.create_job("job", "ann", "plain", process_results=managed.note)
    job.execute()
    assert job.update_status("COM") == "Complete"
    assert managed.notes(job) == ["RES Results-Ready"]
    assert job.process_results() == job.update_status() == "Complete"
    assert len(managed.notes(job)) == 1
    assert job.process_results(again=True) == "Complete"
    assert len(managed.notes(job)) == 2


def test_results_that_cannot_be_processed_are_an_error(manager: JobManager, caplog: pytest.LogCaptureFixture) -> None:
    job = manager.create_job("job", "ann", "plain", process_results=f"{HERE}.oops")
    job.execute()
    assert job.update_status("COM") == "Error"
    assert job.message == f"{HERE}.oops raised ValueError: no use for job"
    assert "Traceback" in caplog.text
    job.configure(process_results=managed.note)
    assert job.process_results() == "Error", "nobody asked for it again"
    assert job.process_results(again=True) == "Complete"


def test_results_wait_for_a_process_that_has_the_function(manager: JobManager) -> None:
    job = manager.create_job("job", "ann", "plain", process_results="no_such_package.process")
    job.execute()
    assert job.update_status("COM") == "Results-Ready"
    assert "not processed yet: no_such_package.process cannot be imported here" in job.message
    job.update_status()
    assert job.message.count("not processed yet") == 1
    job.configure(process_results=managed.note)
    assert job.update_status() == "Complete"
    assert managed.notes(job) == ["RES Results-Ready"]


def test_only_results_of_a_success_are_processed(manager: JobManager) -> None:
    job = manager.create_job("job", "ann", "plain", process_results=managed.note)
    job.execute()
    job.update_status("ERR")
    assert job.process_results() == job.process_results(again=True) == "Error"
    assert managed.notes(job) == []


def test_callbacks_of_the_manager_and_of_the_job(manager: JobManager) -> None:
    seen: list[tuple[str, str]] = []
    manager.on("SUB", lambda job: seen.append(("SUB", job.status)))
    manager.on("Complete", lambda job: seen.append(("COM", job.status)))
    manager.on("Checking", lambda job: seen.append(("OTH", job.status)))
    job = manager.create_job("job", "ann", "plain", callbacks={"Running": managed.note, "COM": f"{HERE}.note"})
    job.execute()
    job.update_status("RUN")
    job.update_status("RUN")
    job.update_status("Checking")
    job.update_status("COM")
    job.update_status("COM")
    assert seen == [("SUB", "Submitted"), ("OTH", "Checking"), ("COM", "Complete")]
    assert managed.notes(job) == ["RUN Running", "COM Complete"]


def test_a_callback_that_fails_harms_nothing(manager: JobManager, caplog: pytest.LogCaptureFixture) -> None:
    manager.on("COM", managed.oops)
    manager.on("COM", managed.note)
    job = manager.create_job("job", "ann", "plain", callbacks={"COM": "no_such_package.f", "RUN": managed.oops})
    job.execute()
    with caplog.at_level(logging.CRITICAL):
        assert job.update_status("RUN") == "Running"
        assert job.update_status("COM", "done") == "Complete"
    assert managed.notes(job) == ["COM Complete"]
    assert job.message.startswith(
        f"done; {HERE}.oops raised ValueError: no use for job; its callback was not called: no_such_package.f cannot"
    )
    with pytest.raises(ValidationError, match="must be a function"):
        manager.on("COM", "a.b")  # type: ignore[arg-type]


def test_a_callback_may_use_the_job(manager: JobManager) -> None:
    manager.on("ERR", lambda job: job.resubmit() if "once" not in job.extended_properties else None)
    manager.on("ERR", lambda job: job.configure(extended_properties={"once": True}))
    job = manager.create_job("job", "ann", "plain")
    job.execute()
    assert job.update_status("ERR") == "Submitted"
    assert job.update_status("ERR") == "Error"


# --- changing and deleting ---


def test_parameters_change_until_it_is_executed_and_properties_always(manager: JobManager) -> None:
    job = manager.create_job("job", "ann", "folders")
    job.configure(n=5, more="$(JOB_WORKSPACE)/x", extended_properties={"a": 1})
    assert job.parameters["n"] == 5
    assert job.parameters["more"] == f"{job.workspace}/x"
    assert "places" in job.parameters
    job.execute()
    with pytest.raises(WrongStatus, match="n cannot be changed"):
        job.configure(n=6)
    job.configure(description="new", extended_properties={"b": 2})
    assert (job.description, job.extended_properties, job.parameters["n"]) == ("new", {"b": 2}, 5)


def test_a_wrong_change_changes_nothing(manager: JobManager) -> None:
    job = manager.create_job("job", "ann", "program")
    with pytest.raises(ValidationError, match="no parameter 'argvs'"):
        job.configure(argvs=["x"])
    job.refresh()
    assert job.parameters == {"argv": ["true"]}


def test_a_job_is_deleted_with_its_workspace_and_nothing_else(manager: JobManager, job: ManagedJob) -> None:
    other = manager.create_job("other", "ann", "plain")
    (job.workspace / "file").write_text("x")
    (manager.user_workspace("ann") / "file").write_text("x")
    manager.delete(job)
    assert manager.get_job(job.id) is None
    assert not job.workspace.exists()
    assert other.workspace.is_dir()
    assert (manager.user_workspace("ann") / "file").exists()
    for wish in (job.refresh, job.execute, job.delete, job.update_status):
        with pytest.raises(JobNotFound):
            wish()


def test_an_active_job_is_not_deleted(manager: JobManager, job: ManagedJob) -> None:
    job.execute()
    for status in ("SUB", "RUN", "PAS", "something of ours"):
        job.update_status(status)
        with pytest.raises(JobActive, match="stop it"):
            manager.delete(job.id)
    job.stop()
    job.delete()
    assert manager.list_jobs() == []


# --- what comes before the work, and files ---


def test_what_comes_before_is_called_where_the_job_may_run(job: ManagedJob) -> None:
    said = []
    job.execute(before=lambda: said.append(job.refresh()))
    with pytest.raises(WrongStatus):
        job.execute(before=lambda: said.append("again"))
    with pytest.raises(WrongStatus):
        job.resubmit(before=lambda: said.append("again"))
    job.stop()
    job.resubmit(before=lambda: said.append(job.refresh()))
    assert said == ["Pending", "Aborted"]


def test_what_comes_before_and_fails_is_the_end(job: ManagedJob) -> None:
    def oops() -> None:
        raise OSError("the disk is full")

    assert job.execute(before=oops) == "Error"
    assert job.message == "OSError: the disk is full"
    assert job.resubmit(before=oops) == "Error"
    assert job.resubmit() == "Submitted"


def test_files_are_brought_into_the_workspace(job: ManagedJob, tmp_path: Path) -> None:
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "file").write_text("1")
    (tmp_path / "other").write_text("mine")
    assert job.bring(tmp_path / "folder") == job.workspace / "folder"
    assert (job.workspace / "folder" / "deep" / "file").read_text() == "1"
    (job.workspace / "link").symlink_to(tmp_path / "other")
    assert job.bring(tmp_path / "folder" / "deep" / "file", "link") == job.workspace / "link"
    assert job.bring(tmp_path / "other", "a/b") == job.workspace / "a" / "b"
    assert (tmp_path / "other").read_text() == (job.workspace / "a" / "b").read_text() == "mine"
    assert (job.workspace / "link").read_text() == "1"
    assert sorted(path.name for path in job.workspace.iterdir()) == ["a", "folder", "link"]


@pytest.mark.parametrize("name", ["..", "../x", "/etc/x", "a/../..", "."])
def test_files_stay_in_the_workspace(job: ManagedJob, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("1")
    with pytest.raises(ValidationError, match="is no name for a file"):
        job.bring(tmp_path / "file", name)
    with pytest.raises(FileNotFoundError):
        job.bring(tmp_path / "nothing")
    assert list(job.workspace.iterdir()) == []


def test_a_custom_status_is_declared_later(manager: JobManager, job: ManagedJob) -> None:
    manager.declare_status("Approved", "terminal")
    with pytest.raises(ValidationError, match="is a status already"):
        manager.declare_status("Running", "active")
    job.execute()
    job.update_status("Approved")
    assert job.categories == {Category.terminal}


# --- the store ---


def test_the_default_place_is_the_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_JOBS_HOME", str(tmp_path / "home"))
    with JobManager(templates=TEMPLATES) as manager:
        job = manager.create_job("job", "ann", "plain")
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "home" / "manager.db").stat().st_mode & 0o777 == 0o600
    assert job.workspace.parent == tmp_path / "home" / "workspaces" / "default" / "jobs"


def test_an_address_of_a_file_and_its_path_are_the_same_place(tmp_path: Path) -> None:
    manager_in(tmp_path).create_job("job", "ann", "plain")
    with JobManager(f"sqlite:///{tmp_path}/manager.db") as found:
        assert [job.name for job in found.list_jobs()] == ["job"]


@pytest.mark.parametrize("place", ["mysql://user:secret@host/db", "postgresql://user:secret@host:port/db", "http://x"])
def test_an_address_that_is_none_is_refused_without_its_password(place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        JobStore(place)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "manager.db").write_text("this is not a database, and long enough to be seen as such " * 20)
    with pytest.raises(ManagerStoreError, match="file is not a database"):
        JobStore(tmp_path / "manager.db")
