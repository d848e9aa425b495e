"""The face of Tethys without any work: templates and their variables, statuses, users, groups, filters; condor jobs as programs."""

from __future__ import annotations

import copy
import datetime
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.compat.tethys import compute
from broker_jobs.compat.tethys import jobs as sdk
from broker_jobs.compat.tethys.base import JobManager
from broker_jobs.compat.tethys.jobs import JOB_TYPES, BasicJob, CondorJob, CondorJobDescription, CondorWorkflow, JobTemplate, TethysJob
from broker_jobs.errors import CycleError, JobActive, UnknownVariable, ValidationError, WrongStatus
from broker_jobs.manager import JobManager as NativeManager
from tests.support import managed
from tests.support.tethys import App, Group, Special, User

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def manager_in(folder: Path) -> JobManager:
    return JobManager(App, store=folder / "jobs.db", workspaces=folder / "w\\1 $(X)")


@pytest.fixture
def manager(tmp_path: Path) -> JobManager:
    return manager_in(tmp_path)


@pytest.fixture
def job(manager: JobManager) -> TethysJob:
    return manager.create_job("job", "ann", "plain")


@pytest.fixture
def fresh_statuses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Custom statuses are of the process: none stays."""
    for name in ("PRE_RUNNING", "RUNNING", "ACTIVE", "NON_TERMINAL", "TERMINAL"):
        monkeypatch.setattr(TethysJob, f"{name}_STATUSES", list(getattr(TethysJob, f"{name}_STATUSES")))
    yield
    sdk.CUSTOM.clear()


# --- templates ---


def test_workspaces_stand_for_their_variables_at_any_depth_of_a_template(manager: JobManager) -> None:
    job = manager.create_job("job", "ann", "places", extra="$(USER_WORKSPACE)")
    app, user = str(manager.native.app_workspace()), str(manager.native.user_workspace("ann"))
    assert "\\1" in app
    assert job.parameters == {"text": f"{app}/a", "deep": {"x": [user, ["$(HOME)", 3]]}, "n": 1, "extra": "$(USER_WORKSPACE)"}


def test_what_a_call_says_goes_before_the_template(manager: JobManager) -> None:
    assert manager.create_job("job", "ann", "places", text="own", n=2).parameters["text"] == "own"
    assert manager.create_job("job", "ann", "places").parameters["n"] == 1


@pytest.mark.parametrize(
    ("key", "kind"), [("CONDOR", CondorJob), ("CONDORJOB", CondorJob), ("CONDORWORKFLOW", CondorWorkflow), ("BASIC", BasicJob)]
)
def test_types_have_the_keys_of_then_and_of_today(key: str, kind: type[TethysJob]) -> None:
    assert JOB_TYPES[key] is kind
    assert JobTemplate("t", key).type is JobTemplate("t", kind).type is kind


def test_a_template_needs_a_name_alone() -> None:
    assert JobTemplate("t").type is JobTemplate("t", None, None).type is BasicJob
    with pytest.raises(ValidationError, match="must be a dictionary"):
        JobTemplate("t", BasicJob, ["a"])  # type: ignore[arg-type] # the test
    with pytest.raises(KeyError, match="there is no type of jobs 'DASK'"):
        JobTemplate("t", "DASK")


def test_unknown_templates_and_types_are_key_errors(manager: JobManager) -> None:
    with pytest.raises(KeyError, match="A job template with name no was not defined; known here: plain, "):
        manager.create_job("job", "ann", "no")
    with pytest.raises(KeyError, match="there is no type of jobs 'NO'"):
        manager.create_job("job", "ann", job_type="NO")
    for given in ({}, {"template_name": "plain", "job_type": "BASIC"}):
        with pytest.raises(ValidationError, match="either the name of a template or a job_type"):
            manager.create_job("job", "ann", **given)
    assert manager.list_jobs() == []


# --- making and finding ---


def test_a_job_can_be_copied(job: TethysJob) -> None:
    assert copy.copy(job) == job
    with pytest.raises(AttributeError, match="nonsense"):
        _ = job.nonsense


def test_a_job_is_found_as_what_it_was_made(manager: JobManager, tmp_path: Path) -> None:
    made = manager.create_job("job", "ann", job_type=Special, groups=Group("lab"), description="first", extended_properties={"a": 1})
    found = manager_in(tmp_path).get_job(made.id)
    assert isinstance(found, Special)
    assert found == made
    assert (found.type, found.label, found.groups, found.description) == ("Special", "river", ("lab",), "first")
    assert found.extended_properties == {"a": 1}
    assert found.run_time == ""
    found.stop()
    assert (found.cached_status, found.status_message) == ("Aborted", "special")
    with NativeManager(tmp_path / "jobs.db", app="river", workspaces=tmp_path / "w") as native:
        assert native.get_job(made.id) is not None


@pytest.mark.parametrize(("user", "name"), [(User("ann"), "ann"), (User("", is_anonymous=True), "AnonymousUser"), ("ann", "ann")])
def test_users_are_names_or_users_of_django(manager: JobManager, user: Any, name: str) -> None:
    job = manager.create_job("job", user, "plain")
    assert job.user == name
    assert manager.list_jobs(user=user) == manager.list_jobs(filters={"user": user}) == [job]
    assert manager.list_jobs(user="bob") == []
    assert manager.get_job(job.id, user=user) == job
    assert manager.get_job(job.id, user="bob") is None


def test_jobs_are_listed_by_user_or_by_groups(manager: JobManager) -> None:
    first = manager.create_job("b", "ann", "plain", groups=[Group("lab"), "field"])
    second = manager.create_job("a", "bob", "plain", groups="field")
    assert manager.list_jobs() == [first, second]
    assert manager.list_jobs(groups=[Group("lab")]) == [first]
    assert manager.list_jobs(groups="field", order_by="name") == [second, first]
    assert manager.list_jobs(order_by="-id") == [second, first]
    with pytest.raises(ValueError, match="not both"):
        manager.list_jobs(user="ann", groups="lab")
    with pytest.raises(ValueError, match="'nonsense'"):
        manager.list_jobs(order_by="nonsense")


def test_filters_are_values_of_attributes_and_stay_as_they_are(manager: JobManager, job: TethysJob) -> None:
    other = manager.create_job("other", "ann", "plain")
    other.execute()
    filters = {"status": "Submitted", "type": "BasicJob"}
    assert manager.list_jobs(filters=filters) == [other]
    assert filters == {"status": "Submitted", "type": "BasicJob"}
    assert manager.list_jobs(order_by="execute_time") == [job, other]
    assert manager.list_jobs(filters={"label": "lake"}) == []
    assert manager.get_job(job.id, filters={"name": "other"}) is None
    assert manager.get_job("0" * 32) is None
    with pytest.raises(ValidationError, match="'name__contains'"):
        manager.get_job(job.id, filters={"name__contains": "o"})


def test_what_is_set_is_kept_by_save(manager: JobManager, job: TethysJob) -> None:
    job.description = "$(X) said"
    job.extended_properties["deep"] = {"a": ["$(USER_WORKSPACE)"]}
    again = manager.get_job(job.id)
    assert again is not None
    assert (again.description, again.extended_properties) == ("", {})
    job.save()
    again.refresh_from_db()
    assert (again.description, again.extended_properties) == ("$(X) said", {"deep": {"a": ["$(USER_WORKSPACE)"]}})
    again.extended_properties["more"] = 1
    again.save()
    assert job.status == "Pending"
    assert job.extended_properties["more"] == 1


def test_rows_of_a_native_manager_are_jobs_too(manager: JobManager) -> None:
    native = manager.native.create_job("bare", "ann", "basic")
    found = manager.get_job(native.id)
    assert type(found) is TethysJob
    found.extended_properties["a"] = 1
    found.save()
    assert found.native.extended_properties == {"a": 1}


def test_a_job_is_deleted_with_its_own_folder_alone(manager: JobManager, job: TethysJob) -> None:
    theirs = manager.native.user_workspace("ann") / "data"
    theirs.write_text("mine")
    job.execute()
    with pytest.raises(JobActive):
        job.delete()
    job.stop()
    job.delete()
    assert theirs.exists()
    assert not job.native.workspace.exists()
    assert manager.list_jobs() == []


def test_an_app_has_one_manager_and_its_workspaces(tmp_path: Path) -> None:
    class Lake(App):
        package = "lake"
        manager_options = {"store": tmp_path / "jobs.db", "workspaces": tmp_path / "w"}  # noqa: RUF012 (as an author writes it)

    manager = Lake.get_job_manager()
    assert manager is Lake.get_job_manager()
    assert manager.create_job("job", "ann", "plain").label == "lake"
    assert Lake.get_user_workspace(User("ann")) == manager.native.user_workspace("ann")
    assert Lake.get_app_workspace() == manager.native.app_workspace()


# --- statuses ---


def test_statuses_and_their_categories() -> None:
    codes = ["PEN", "SUB", "RUN", "VAR", "PAS", "COM", "ERR", "ABT", "VCP", "RES", "OTH"]
    assert [code for code, _ in TethysJob.STATUSES] == codes
    assert TethysJob.PRE_RUNNING_STATUSES == ["Pending", "Submitted"]
    assert TethysJob.RUNNING_STATUSES == ["Running", "Various"]
    assert TethysJob.ACTIVE_STATUSES == ["Submitted", "Running", "Various", "Paused"]
    assert TethysJob.NON_TERMINAL_STATUSES == ["Pending", "Submitted", "Running", "Various", "Paused"]
    assert TethysJob.TERMINAL_STATUSES == ["Complete", "Error", "Aborted", "Various-Complete", "Results-Ready"]


@pytest.mark.parametrize("given", ["RUN", "Running"])
def test_a_status_is_set_by_its_code_or_name(job: TethysJob, given: str) -> None:
    job.execute()
    assert job.status == "Submitted"
    job.status = given
    assert (job.status, job.cached_status) == ("Running", "Running")
    assert job.start_time is not None
    assert job.completion_time is None


@pytest.mark.parametrize("end", ["COM", "ERR", "ABT", "VCP"])
def test_an_end_has_a_time_and_stays(job: TethysJob, end: str) -> None:
    job.execute()
    job.update_status(end)
    assert job.completion_time is not None
    assert isinstance(job.run_time, datetime.timedelta)
    before = job.status
    job.update_status("RUN")
    assert job.status == before


def test_resubmit_begins_anew(job: TethysJob) -> None:
    job.execute()
    with pytest.raises(WrongStatus):
        job.resubmit()
    job.native.update_status("ERR", "went wrong")
    job.resubmit()
    assert (job.status, job.status_message, job.completion_time) == ("Running", "", None)


def test_a_basic_job_is_stopped_and_held_by_hand(job: TethysJob) -> None:
    job.execute()
    job.pause()
    assert job.status == "Paused"
    job.resume()
    assert job.status == "Running"
    job.stop()
    assert job.status == "Aborted"


def test_an_executed_job_is_not_executed_again(job: TethysJob) -> None:
    job.execute()
    with pytest.raises(WrongStatus):
        job.execute()


def test_a_custom_status_goes_on_unless_it_was_declared_as_an_end(manager: JobManager, job: TethysJob, fresh_statuses: None) -> None:
    other = manager.create_job("other", "ann", "plain")
    BasicJob.add_custom_terminal_status("Approved")
    BasicJob.add_custom_terminal_status("Approved")
    BasicJob.add_custom_running_status("Meshing")
    assert TethysJob.TERMINAL_STATUSES.count("Approved") == 1
    for members in (TethysJob.RUNNING_STATUSES, TethysJob.ACTIVE_STATUSES, TethysJob.NON_TERMINAL_STATUSES):
        assert "Meshing" in members
    for each in (job, other):
        each.execute()
    job.status = "Looked at"
    assert (job.status, job.code) == ("Looked at", "OTH")
    assert job.start_time is None
    job.status = "Meshing"
    assert job.start_time is not None
    job.status = "Complete"
    assert job.status == "Complete"
    other.status = "Approved"
    other.status = "Complete"
    assert other.status == "Approved"


def test_custom_statuses_hold_for_managers_that_come_later(tmp_path: Path, fresh_statuses: None) -> None:
    TethysJob.add_custom_pre_running_status("Checked")
    TethysJob.add_custom_active_status("Held")
    job = manager_in(tmp_path).create_job("job", "ann", "plain")
    job.update_status("Checked")
    assert job.categories == {"pre_running", "non_terminal"}
    job.update_status("Held")
    assert job.categories == {"active", "non_terminal"}


def test_a_custom_status_has_one_category(fresh_statuses: None) -> None:
    TethysJob.add_custom_active_status("Held")
    with pytest.raises(ValidationError, match="of the category active"):
        TethysJob.add_custom_terminal_status("Held")
    with pytest.raises(ValidationError, match="is a status already"):
        TethysJob.add_custom_active_status("Running")
    assert "Held" not in TethysJob.TERMINAL_STATUSES
    assert TethysJob.ACTIVE_STATUSES.count("Running") == 1


def test_the_first_update_is_due_at_once_and_the_next_later(manager: JobManager, job: TethysJob) -> None:
    assert job.update_status_interval == datetime.timedelta(seconds=10)
    job.execute()
    assert job.is_time_to_update()
    job.update_status()
    assert not job.is_time_to_update()
    job.update_status_interval = datetime.timedelta(0)
    assert job.is_time_to_update()


def test_a_status_that_others_have_set_is_seen_at_once(manager: JobManager, job: TethysJob) -> None:
    job.execute()
    assert job.status == "Submitted"
    other = manager.get_job(job.id)
    assert other is not None
    other.status = "Running"
    assert job.status == "Running"


# --- results ---


@pytest.mark.parametrize("given", [managed.keep, "tests.support.managed.keep"])
def test_results_are_processed_once_with_a_job_of_the_face(manager: JobManager, given: Any) -> None:
    job = manager.create_job("job", "ann", "plain", process_results_function=given)
    assert job.process_results_function is managed.keep
    job.execute()
    job.status = "COM"
    assert job.status == "Complete"
    assert job.extended_properties == {"kept": ["Results-Ready"]}
    job.process_results()
    assert job.extended_properties == {"kept": ["Results-Ready"]}
    job.process_results(again=True)
    assert job.extended_properties == {"kept": ["Results-Ready", "Results-Ready"]}


def test_what_results_raise_is_the_end(job: TethysJob) -> None:
    assert job.process_results_function is None
    job.process_results_function = managed.oops
    job.execute()
    job.status = "COM"
    assert job.status == "Error"
    assert "no use for job" in job.status_message
    job.process_results_function = "tests.support.managed.nowhere"
    assert job.process_results_function is None


# --- condor jobs as programs ---


@pytest.mark.parametrize(
    ("given", "program"),
    [
        ({"executable": "bin/run.sh"}, {"executable": "./run.sh"}),
        ({"executable": "/bin/true"}, {"executable": "/bin/true"}),
        ({"executable": "sort", "transfer_executable": "False"}, {"executable": "sort"}),
        ({"executable": "x", "arguments": "a  b"}, {"arguments": ["a", "b"]}),
        ({"executable": "x", "arguments": ("a b", 1)}, {"arguments": ["a b", "1"]}),
        ({"executable": "x", "arguments": '"a \'b c\' ""d"""'}, {"arguments": ["a", "b c", '"d"']}),
        ({"executable": "x", "environment": "A=1; B=2=3"}, {"env": {"A": "1", "B": "2=3"}}),
        ({"executable": "x", "environment": "\"A=1 B='2 3'\""}, {"env": {"A": "1", "B": "2 3"}}),
        ({"executable": "x", "environment": {"A": "1"}}, {"env": {"A": "1"}}),
        ({"executable": "x", "output": "o", "error": "e.$$(cluster)"}, {"stdout": "o", "stderr": None}),
        ({"executable": "x", "request_cpus": 2, "request_memory": 512}, {"resources": {"cpus": 2, "memory": "512 MiB"}}),
        ({"executable": "x", "request_memory": "2 GiB", "request_gpus": 1}, {"resources": {"gpus": 1, "memory": "2 GiB"}}),
        ({"executable": "x", "rank": "Memory"}, {"resources": None}),
    ],
)
def test_attributes_that_mean_something(given: dict[str, Any], program: dict[str, Any]) -> None:
    found = CondorJobDescription(**given).program()
    assert {name: found.get(name) for name in program} == program


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "needs the attribute executable"),
        ({"executable": "x", "input": "in.txt"}, "'input' of condor jobs means nothing"),
        ({"executable": "x", "num_jobs": 5}, "num_jobs must be 1"),
        ({"executable": "x", "attributes": ["a"]}, "attributes must be a dictionary"),
        ({"executable": "x", "arguments": 3}, "must be a list or a text"),
        ({"executable": "x", "arguments": '"it\'s"'}, "a quote without an end"),
        ({"executable": "x", "environment": "A"}, "'A' has no value"),
        ({"executable": "x", "remote_input_files": [1]}, "remote_input_files must be a list of files"),
        ({"executable": "x", "transfer_input_files": "a, .."}, "not '..'"),
        ({"executable": "x", "scheduler": "nowhere"}, "there is no scheduler 'nowhere'"),
        ({"executable": "x", "request_cpus": -1}, "cpus"),
    ],
)
def test_what_a_condor_job_cannot_be_is_refused_at_once(manager: JobManager, given: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        manager.create_job("job", "ann", job_type="CONDOR", **given)
    assert manager.list_jobs() == []


def test_all_attributes_are_kept_and_can_be_set_before_it_runs(manager: JobManager) -> None:
    user = str(manager.native.user_workspace("ann"))
    job = manager.create_job("job", "ann", "script", rank="Memory", remote_input_files="a.txt, b.txt")
    assert isinstance(job, CondorJob)
    assert job.parameters["arguments"] == ["a", user, "$(cluster)"]
    assert (job.get_attribute("rank"), job.get_attribute("none")) == ("Memory", None)
    assert job.attributes["executable"] == "run.sh"
    job.set_attribute("arguments", "$(USER_WORKSPACE) z")
    job.save()
    again = manager.get_job(job.id)
    assert isinstance(again, CondorJob)
    assert again.get_attribute("arguments") == "$(USER_WORKSPACE) z"
    assert again.parameters["arguments"] == ["$(USER_WORKSPACE)", "z"]


def test_a_workflow_is_a_graph_of_programs(manager: JobManager) -> None:
    job = manager.create_job("job", "ann", "flow")
    nodes = {node["name"]: node for node in job.parameters["nodes"]}
    assert nodes["twice"]["parents"] == ["make"]
    assert nodes["make"]["cwd"] == "make"
    circle = [
        {"name": "a", "parents": ["b"], "executable": "/bin/true"},
        {"name": "b", "parents": ["a"], "executable": "/bin/true"},
    ]
    with pytest.raises(CycleError):
        manager.create_job("job", "ann", job_type="CONDORWORKFLOW", jobs=circle)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ({"name": "a", "pre_script": "x"}, "'pre_script' of condor jobs means nothing here"),
        ({"name": "../a"}, "needs a name of its own"),
        ({}, "needs a name of its own"),
    ],
)
def test_what_a_node_cannot_be_is_refused(manager: JobManager, node: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        manager.create_job("job", "ann", job_type="CONDORWORKFLOW", jobs=[{"executable": "/bin/true", **node}])


# --- schedulers ---


def test_schedulers_are_found_once_they_are_saved(monkeypatch: pytest.MonkeyPatch, manager: JobManager) -> None:
    monkeypatch.setattr(compute, "_saved", {})
    assert [found.name for found in compute.list_schedulers()] == ["workers"]
    made = compute.create_condor_scheduler("pool", "pool.example.org", "me", private_key_path="/key")
    assert compute.get_scheduler("pool") is None
    made.save()
    made.save()
    assert compute.list_schedulers()[0] is compute.get_scheduler("pool") is made
    for name in ("pool", "workers"):
        with pytest.raises(ValidationError, match="already"):
            compute.create_condor_scheduler(name, "elsewhere").save()
    for given in (made, "pool"):
        job = manager.create_job("job", "ann", "held", scheduler=given)
        assert isinstance(job, CondorJob)
        assert job.scheduler is made


def test_a_variable_that_is_none_for_the_native_manager_is_none_of_its_mistakes(manager: JobManager) -> None:
    with pytest.raises(UnknownVariable):
        manager.native.create_job("job", "ann", "basic", a="$(HOME)")
    assert manager.create_job("job", "ann", job_type="BASIC", a="$(HOME)").parameters == {"a": "$(HOME)"}
