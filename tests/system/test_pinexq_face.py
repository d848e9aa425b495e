"""Programs that were written for pinexQ's client: its names and signatures over real workers."""

from __future__ import annotations

import datetime
import io
import time
import warnings
from typing import TYPE_CHECKING

import pytest

from broker_jobs import LocalCluster
from broker_jobs.compat.pinexq import (
    ApiException,
    InputDataSlotParameterFlexible,
    Job,
    JobGroup,
    JobQuery,
    JobStates,
    NotAvailableException,
    PollingException,
    ProcessingStep,
    ProcessingStepQuery,
    WorkData,
    WorkDataQuery,
    create_pinexq_client,
    enter_jma,
)
from tests.support import served_pinexq
from tests.support.daemons import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker_jobs import Client

PATIENCE = 60.0


@pytest.fixture(scope="module")
def cluster(url: str | None) -> Iterator[LocalCluster]:
    with LocalCluster(workers=1, cpus=4, url=url, steps=[served_pinexq]) as found:
        yield found


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Client:
    return cluster.client()


def called(client: Client, name: str, **parameters: object) -> Job:
    """A job that is ready."""
    return Job(client).create(name).select_processing(name).configure_parameters(**parameters)


def waiting(client: Client, tmp_path: Path) -> Job:
    """A job that runs until the file ``go`` is there."""
    return called(client, "wait", go=str(tmp_path / "go")).start().wait_for_state(JobStates.processing, PATIENCE, 0.02)


def text(client: Client, content: str) -> WorkData:
    return WorkData(client).create(filename=f"{content}.txt", mediatype="text/plain", binary=content)


def joined(client: Client, *texts: WorkData) -> Job:
    """A job with data in its slots."""
    job = Job(client).create("join").select_processing("join").assign_input_dataslot(0, work_data_instance=texts[0])
    return job.assign_collection_input_dataslot(1, work_data_instances=texts[1:])


# --- steps ---


def test_exactly_one_selector_is_given(client: Client) -> None:
    job = Job(client).create("one")
    step = ProcessingStep.from_name(client, "my_function")
    for wrong in ({}, {"function_name": "my_function", "processing_step_instance": step}):
        with pytest.raises(ValueError, match="Exactly one parameter must be provided"):
            job.select_processing(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="function_version or version"):
        job.select_processing("my_function", "1.0.0", version="1.0.0")
    with pytest.raises(TypeError, match="must be a ProcessingStep"):
        job.select_processing(processing_step_instance="my_function")  # type: ignore[arg-type]
    with pytest.raises(ApiException, match="is no link to a step"):
        job.select_processing(processing_step_link="http://somewhere")
    assert job.get_state() is JobStates.created


def test_several_versions_and_none_are_errors_that_list_what_there_is(client: Client) -> None:
    with pytest.raises(NameError, match=r"several versions: 0\.3\.0 \(deprecated\), 0\.2\.0-rc\.1, 0\.1\.10, 0\.1\.9"):
        Job(client).create("grow").select_processing("grow")
    with pytest.raises(NameError, match=r"there are: .*0\.1\.10, 0\.1\.9"):
        ProcessingStep.from_name(client, "grow", "7.0.0")
    with pytest.raises(ApiException, match="no worker has announced a step 'shrink'"):
        ProcessingStep.from_name(client, "shrink")


def test_the_latest_is_by_number_and_neither_deprecated_nor_a_prerelease(client: Client) -> None:
    assert ProcessingStep.from_name(client, "grow").version == "0.1.10"
    assert ProcessingStep.from_name(client, "grow", allow_prerelease=True).version == "0.2.0-rc.1"
    slow = ProcessingStep.from_name(client, "grow", "0.3.0")
    assert (slow.is_deprecated, slow.reason_for_deprecation) == (True, "it is slow")
    view = Job(client).create("x").select_processing("join").get_processing_info()
    assert (view.title, view.function_name, view.version) == ("Put texts behind each other.", "join", "1.0.0")
    assert (view.number_of_input_data_slots, view.number_of_output_data_slots) == (3, 2)
    step = ProcessingStep.from_name(client, "my_function").processing_step_hco
    assert step.parameter_schema["properties"]["x"]["default"] == 1
    assert step.return_schema["type"] == "object"


def test_steps_are_found_by_what_they_are(client: Client) -> None:
    def versions(**filters: object) -> list[str]:
        return [step.version for step in ProcessingStepQuery.create(client, function_name="row", **filters).to_list()]

    assert versions() == ["0.1.10", "0.1.9"]
    assert versions(show_deprecated=True) == ["0.3.0"]
    assert versions(show_prerelease=None) == ["0.2.0-rc.1", "0.1.10", "0.1.9"]
    assert versions(version="0.1.9") == ["0.1.9"]
    assert [step.function_name for step in ProcessingStepQuery.create(client, tags_by_or=["first", "x"]).iter()] == ["my_function"]


# --- before the start ---


def test_what_is_not_configured_cannot_be_started(client: Client) -> None:
    job = Job(client)
    with pytest.raises(NotAvailableException, match="there is no job"):
        job.get_state()
    with pytest.raises(NotAvailableException, match="has no step"):
        job.create("wait").start()
    assert job.select_processing("wait").get_state() is JobStates.created
    with pytest.raises(NotAvailableException, match="go: it is missing"):
        job.start()
    with pytest.raises(NotAvailableException, match="was not started"):
        job.wait_for_completion(1)
    with pytest.raises(NotAvailableException, match="was not started"):
        job.wait_for_state(JobStates.processing, 1)
    with pytest.raises(ApiException, match=r"go: 7 is not of type 'string'"):
        job.configure_parameters(go=7)
    with pytest.raises(ApiException, match="gone: there is no such parameter"):
        job.configure_parameters(gone="x")
    assert job.get_result() is job.result is job.error_description is None
    assert job.configure_parameters(go="x").wait_for_state(JobStates.ready_for_processing).delete() is job
    done = called(client, "my_function").start()
    for late in (done.start, lambda: done.set_tags([]), lambda: done.configure_parameters(x=2), done.hide):
        with pytest.raises(NotAvailableException, match="was started already"):
            late()
    done.wait_for_completion(PATIENCE)


def test_all_at_once_is_as_step_by_step(client: Client) -> None:
    first, more = text(client, "a"), [text(client, "b"), text(client, "c")]
    slow = joined(client, first, *more).set_tags(["k = TRUE"]).start().wait_for_completion(PATIENCE)
    rapid = Job(client).create_and_configure_rapidly(
        name="join",
        tags=["k = TRUE"],
        processing_step_url=ProcessingStep.from_name(client, "join").self_link(),
        input_data_slots=[
            InputDataSlotParameterFlexible.create(index=0, work_data_urls=[first.self_link()]),
            InputDataSlotParameterFlexible.create(index=1, work_data_instances=more),
        ],
    )
    for job in (slow, rapid.wait_for_completion(PATIENCE)):
        assert (job.get_name(), job.tags, job.get_result(), job.result) == ("join", ["k=true"], 3, "3")
        assert [slot.is_configured for slot in job.get_input_data_slots()] == [True, True, False]
        assert [each.download() for each in job.get_output_data_slots()[0].assigned_workdatas] == [b"abc"]
    ready = Job(client).create_and_configure_rapidly(
        name="x", processing_step_instance=ProcessingStep.from_name(client, "wait"), parameters='{"go": "x"}', start=False
    )
    assert ready.job_hco.state is JobStates.ready_for_processing
    with pytest.raises(ValueError, match="Exactly one parameter"):
        Job(client).create_and_configure_rapidly(name="x")


# --- ends ---


def test_false_results_are_results(client: Client) -> None:
    found = [called(client, "give", what=what).start().wait_for_completion(PATIENCE) for what in ("zero", "empty", "false", "none")]
    assert [(job.get_result(), job.result) for job in found] == [(0, "0"), ("", '""'), (False, "false"), (None, "null")]


@pytest.mark.parametrize(("what", "told"), [("raise", "ArithmeticError: no such number"), ("result", "the result is not as annotated")])
def test_an_error_reaches_the_user_whole(client: Client, what: str, told: str) -> None:
    job = called(client, "fail", what=what).start()
    with pytest.raises(PollingException, match="Job 'fail' failed: it is Error") as caught:
        job.wait_for_completion(PATIENCE)
    assert told in str(caught.value)
    assert job.error_description is not None
    assert job.error_description.startswith(told) or told in job.error_description
    assert (what == "raise") == ("raise ArithmeticError" in job.error_description)
    assert (job.get_state(), job.get_result(), job.wait_for_state(JobStates.error).result) == (JobStates.error, None, None)


def test_waits_end_in_time_and_with_a_canceled_job(client: Client, tmp_path: Path) -> None:
    job = waiting(client, tmp_path)
    assert job.get_result() is None
    for kind in (PollingException, TimeoutError):
        with pytest.raises(kind, match=r"Timeout waiting for Job state\. Current state: Processing"):
            job.wait_for_completion(timeout_s=0.05)
    with pytest.raises(NotAvailableException, match=r"still runs|has not ended|is active"):
        job.delete()
    assert job.get_worker_id()
    job.native.cancel("enough")
    with pytest.raises(PollingException, match=r"it is Canceled\. Error: .*enough"):
        job.wait_for_completion(PATIENCE)
    assert job.wait_for_state_sse(JobStates.canceled) is job


def test_a_job_is_found_by_its_link_from_anywhere(client: Client, cluster: LocalCluster) -> None:
    job = joined(client, text(client, "x")).assign_input_dataslot(2, work_data_link=text(client, "z").self_link()).start()
    other = cluster.client()
    until(lambda: JobQuery.create(other, name="join").exists(), "the ledger knows it")
    found = Job.from_url(other, job.self_link()).refresh().wait_for_completion(PATIENCE)
    assert (found.get_result(), found.get_name(), found.get_processing_info().function_name) == (1, "join", "join")
    until(lambda: all(slot.assigned_workdatas for slot in found.get_output_data_slots()), "the ledger knows what was made")
    assert [slot.assigned_workdatas[0].download() for slot in found.get_output_data_slots()] == [b"xz", b"x"]
    assert [slot.name for slot in found.get_input_data_slots()] == ["first", "more", "note"]
    with pytest.raises(ApiException):
        Job.from_url(client, "broker-jobs:job/" + "0" * 32)


# --- data ---


def test_data_is_made_tagged_hidden_and_read(client: Client) -> None:
    data = WorkData(client).create(filename="a.json", mediatype="application/json", json={"a": [1]}, tags=["n = 1."])
    assert (data.download(), data.name, data.size_in_bytes, data.tags) == (b'{"a": [1]}', "a.json", 10, ["n=1.0"])
    assert WorkData(client).create(filename="f", file=io.BytesIO(b"file")).download() == b"file"
    with pytest.raises(ApiException, match="one of json, file and binary"):
        WorkData(client).create(filename="f", binary="x", json=1)
    with pytest.raises(ApiException, match="tags must be a list of texts, not 'one'"):
        WorkData(client).create(filename="f", binary="x", tags="one")  # type: ignore[arg-type]
    with pytest.raises(ApiException, match="is no media type"):
        WorkData(client).create(filename="f", mediatype="csv", binary="x")
    found = WorkData.from_url(client, data.self_link()).hide().set_tags(["other"])
    assert (found.hidden, found.tags, data.refresh().hidden) == (True, ["other"], True)

    def names(*, hidden: bool | None) -> list[str]:
        return [each.name for each in WorkDataQuery.create(client, tags_by_and=["other"], show_hidden=hidden).to_list()]

    assert (names(hidden=False), names(hidden=True), names(hidden=None)) == ([], ["a.json"], ["a.json"])
    assert found.unhide().tags == ["other"]
    assert (names(hidden=False), names(hidden=True)) == (["a.json"], [])
    assert found.allow_deletion().delete() is found
    assert names(hidden=None) == []
    with pytest.raises(ApiException, match="there is no data"):
        found.download()


def test_slots_are_checked_by_number_and_media_type_and_keep_their_order(client: Client) -> None:
    texts = [text(client, letter) for letter in "cab"]
    job = joined(client, *texts)
    assert job.clear_input_dataslot(0).clear_input_dataslot(0).get_state() is JobStates.created
    assert [each.name for each in job.get_input_data_slots()[1].selected_workdatas] == ["a.txt", "b.txt"]
    for wrong, told in (
        (lambda: job.assign_input_dataslot(7, work_data_instance=texts[0]), "there is no slot 7"),
        (lambda: job.assign_collection_input_dataslot(0, work_data_instances=texts), "'first' of join 1.0.0 takes one piece of data"),
        (lambda: job.assign_input_dataslot(0, work_data_link="x"), "is no link to a data"),
    ):
        with pytest.raises(ApiException, match=told):
            wrong()
    with pytest.raises(ValueError, match="Exactly one"):
        job.assign_input_dataslot(0)
    job.assign_collection_input_dataslot(1, work_data_links=[each.self_link() for each in reversed(texts)])
    job.assign_input_dataslot(0, work_data_instance=texts[0]).start().wait_for_completion(PATIENCE)
    out, copies = job.get_output_data_slots()
    assert [each.download() for each in out.assigned_workdatas] == [b"cbac"]
    assert [each.name for each in copies.assigned_workdatas] == ["c.txt", "b.txt", "a.txt", "c.txt"]
    made = out.assigned_workdatas[0]
    assert (made.producer_job_link, made.producer_processing_step_link) == (job.self_link(), "broker-jobs:step/join/1.0.0")


def test_rules_of_deletion(client: Client) -> None:
    given = text(client, "given")
    job = joined(client, given).start().wait_for_completion(PATIENCE)
    link = job.self_link()
    assert given.is_used_as_job_input
    with pytest.raises(NotAvailableException, match="is the input of job"):
        given.delete()
    with pytest.raises(NotAvailableException, match="has made 2 pieces of data"):
        job.delete()
    made = job.get_output_data_slots()[0].assigned_workdatas[0]
    second = joined(client, made).start().wait_for_completion(PATIENCE)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        job.delete_with_associated(delete_input_workdata=True)
    assert "is the input of job" in str(told[0].message)
    assert [str(each.message).split()[0] for each in told] == ["data", "job", "data"], "each part that stays"
    second.delete_with_associated()
    job.delete_with_associated(delete_input_workdata=True)
    Job(client).create("never started").delete_with_associated()
    for gone in (job.self_link, job.delete, given.refresh, lambda: Job.from_url(client, link)):
        with pytest.raises((NotAvailableException, ApiException)):
            gone()
    kinds = [entry.kind.value for entry in client.log(link.removeprefix("broker-jobs:job/"))]
    assert "job deleted" in kinds, "what has happened is still known"


# --- sub-jobs, groups, queries ---


def test_sub_jobs_are_waited_for_and_deleted_with_their_parent(client: Client) -> None:
    job = called(client, "divide", parts=3).start().wait_for_completion(PATIENCE)
    assert job.get_result() == [0, 1, 4]
    assert job.wait_for_sub_jobs_complete(PATIENCE) is job
    assert (job.sub_jobs_in_state(JobStates.completed), job.sub_jobs_in_state(JobStates.error)) == (3, 0)
    assert sorted(each.get_name() for each in job.get_sub_jobs()) == ["part 0", "part 1", "part 2"]
    assert JobQuery.create(client, parent_job_url=job.self_link(), is_sub_job=True).count() == 3
    assert JobQuery.create(client, parent_job_url=job.self_link(), is_sub_job=False).count() == 0
    with pytest.raises(NotAvailableException, match="made inside the step"):
        job.create_sub_job("outside")
    with pytest.raises(NotAvailableException, match="made inside the step"):
        Job(client).create_and_configure_rapidly(
            name="x", parent_job_instance=job, processing_step_instance=ProcessingStep.from_name(client, "my_function")
        )
    with pytest.raises(NotAvailableException, match="were submitted inside job"):
        job.delete()
    link = job.self_link()
    job.delete_with_associated()
    assert not JobQuery.create(client, parent_job_url=link).exists()


def test_the_error_of_a_sub_job_reaches_whoever_waits(client: Client) -> None:
    job = called(client, "divide", parts=1, poison=True).start()
    with pytest.raises(PollingException, match="PollingException: sub-jobs of 'divide' have not completed: poison is Error"):
        job.wait_for_completion(PATIENCE)
    with pytest.raises(PollingException, match="poison is Error"):
        job.wait_for_sub_jobs_complete(PATIENCE)


def test_a_group_waits_and_tells_who_is_late(client: Client, tmp_path: Path) -> None:
    good, bad = called(client, "my_function"), called(client, "fail", what="raise")
    group = JobGroup(client).add_jobs([good, bad]).start_all().wait_all(PATIENCE)
    assert (group.get_completed_jobs(), group.get_error_jobs(), group.get_incomplete_jobs()) == ([good], [bad], [])
    assert (group.all_jobs_completed_ok(), group.has_error_jobs(), group.has_completed_jobs()) == (False, True, True)
    with pytest.raises(PollingException, match="it is Error"):
        group.wait_any(PATIENCE)
    assert group.remove_error_jobs().all_jobs_completed_ok()
    with pytest.raises(KeyError):
        group.remove(bad)
    slow = waiting(client, tmp_path)
    late = JobGroup(client).add_jobs(slow)
    assert late.has_incomplete_jobs()
    begun = time.monotonic()
    for wait in (lambda: late.wait_all(0.05), lambda: late.wait_all(total_timeout_s=0.05), lambda: late.wait_any(0.05)):
        with pytest.raises(PollingException, match="Timeout waiting for"):
            wait()
    assert time.monotonic() - begun < PATIENCE
    assert late.add_jobs(good).wait_any(PATIENCE).get_jobs() == [slow, good]
    (tmp_path / "go").touch()
    assert late.wait_all(PATIENCE).remove_completed_jobs().is_empty()
    assert JobGroup(client).all_jobs_completed_ok()
    assert group.clear().is_empty()


def test_jobs_are_found_by_what_they_are(client: Client) -> None:
    data = text(client, "q")
    shown = joined(client, data).set_tags(["query", "a=1"]).start().wait_for_completion(PATIENCE)
    hidden = called(client, "fail", what="raise").set_tags(["query", "a=2"]).hide().start()
    with pytest.raises(PollingException):
        hidden.wait_for_completion(PATIENCE)
    assert hidden.tags == ["query", "a=2"]
    begin, end = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
    until(lambda: JobQuery.create(client, tags_by_and=["query"], show_hidden=None).count() == 2, "the ledger knows both")
    until(lambda: JobQuery.create(client, tags_by_and=["query"], state=JobStates.completed).count() == 1, "and their ends")

    def names(**filters: object) -> list[str]:
        query = JobQuery.create(client, **{"tags_by_and": ["query"], **filters})
        assert query.count() == len(query.to_list()) == len(list(query.iter())) == len(query.execute())
        return sorted(job.get_name() for job in query.to_list())

    assert (names(), names(show_hidden=True), names(show_hidden=None)) == (["join"], ["fail"], ["fail", "join"])
    assert (names(state=JobStates.completed), names(state=JobStates.error), names(state=JobStates.created)) == (["join"], [], [])
    assert (names(name="oi"), names(name="o*n"), names(tags_by_or=["a=1", "a=2"])) == (["join"], [], ["join"])
    assert (names(created_after=begin, created_before=end), names(created_before=begin)) == (["join"], [])
    assert (names(work_data_url=data.self_link()), names(is_sub_job=True)) == (["join"], [])
    query = JobQuery.create(client, tags_by_and=["a=1"])
    assert query.one().self_link() == shown.self_link()
    assert query.to_job_group().all_jobs_completed_ok()
    assert JobQuery.create(client, tags_by_and=["nothing"]).first() is None
    with pytest.raises(ApiException, match="but found 0"):
        JobQuery.create(client, tags_by_and=["nothing"]).one()
    data.set_tags(["taken"])
    assert WorkDataQuery.create(client, tags_by_and=["taken"], is_used=False).count() == 0
    assert WorkDataQuery.create(client, tags_by_or=["taken"], media_type_contains="text", is_deletable=False).one().name == "q.txt"
    step = ProcessingStep.from_name(client, "join").self_link()
    until(lambda: WorkDataQuery.create(client, producer_processing_step_url=step, name_contains="joined").exists(), "data of a step")


def test_a_client_is_made_with_an_address_and_a_key(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_JOBS_NAMESPACE", cluster.namespace)
    with create_pinexq_client(cluster.url, cluster.key) as client:
        assert enter_jma(client) is client
        assert called(client, "my_function", x=3).start().wait_for_completion(PATIENCE).get_result() == {"square": 9}
