"""Programs that were written for pinexQ's client: its names and signatures over real workers."""

from __future__ import annotations

import io
import time
import warnings
from typing import TYPE_CHECKING

import pytest

from broker_jobs import LocalCluster
from broker_jobs.compat.pinexq import (
    ApiException,
    Job,
    JobGroup,
    JobQuery,
    JobStates,
    NotAvailableException,
    PollingException,
    ProcessingStep,
    WorkData,
    create_pinexq_client,
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
    return called(client, "wait", go=str(tmp_path / "go")).start().wait_for_state(JobStates.processing, PATIENCE)


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
    with pytest.raises(ApiException, match="no worker has announced a step 'http://somewhere'"):
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
    assert ProcessingStep.from_name(client, "grow", "0.2.0-rc.1").self_link() == "grow 0.2.0-rc.1"
    assert ProcessingStep.from_name(client, "grow", "0.3.0").spec.deprecated == "it is slow"
    assert ProcessingStep.from_name(client, "join", "^1").spec.title == "Put texts behind each other."


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
        start=False,
    )
    rapid.assign_input_dataslot(0, work_data_link=first.self_link()).assign_collection_input_dataslot(1, work_data_instances=more)
    for job in (slow, rapid.start().wait_for_completion(PATIENCE)):
        assert (job.get_name(), job.tags, job.get_result(), job.result) == ("join", ["k=true"], 3, "3")
        assert client.step_run(job.native).slots.keys() == {"first", "more"}
        assert [each.download() for each in job.get_output_data_slots()[0].assigned_workdatas] == [b"abc"]
    ready = Job(client).create_and_configure_rapidly(
        name="x", processing_step_instance=ProcessingStep.from_name(client, "wait"), parameters='{"go": "x"}', start=False
    )
    assert ready.get_state() is JobStates.ready_for_processing
    assert (
        Job(client)
        .create_and_configure_rapidly(
            name="x", processing_step_instance=ProcessingStep.from_name(client, "give"), parameters='{"what": "zero"}'
        )
        .wait_for_completion(PATIENCE)
        .get_result()
        == 0
    )
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
        with pytest.raises(kind, match=r"Timeout waiting for Job state: .* not ended within 0\.05 s: \w+ 'wait' \(running\)"):
            job.wait_for_completion(timeout_s=0.05)
    with pytest.raises(NotAvailableException, match=r"still runs|has not ended|is active"):
        job.delete()
    job.native.cancel("enough")
    with pytest.raises(PollingException, match=r"it is Canceled\. Error: .*enough"):
        job.wait_for_completion(PATIENCE)
    assert job.wait_for_state(JobStates.canceled) is job


def test_a_job_is_found_by_its_link_from_anywhere(client: Client, cluster: LocalCluster) -> None:
    job = joined(client, text(client, "x")).assign_input_dataslot(2, work_data_link=text(client, "z").self_link()).start()
    other = cluster.client()
    until(lambda: JobQuery.create(other, name="join").count(), "the ledger knows it")
    found = Job.from_url(other, job.self_link()).wait_for_completion(PATIENCE)
    assert (found.get_result(), found.get_name()) == (1, "join")
    until(lambda: all(slot.assigned_workdatas for slot in found.get_output_data_slots()), "the ledger knows what was made")
    assert [slot.assigned_workdatas[0].download() for slot in found.get_output_data_slots()] == [b"xz", b"x"]
    assert [slot.name for slot in found.get_output_data_slots()] == ["out", "copies"]
    with pytest.raises(NotAvailableException, match="was started already"):
        found.configure_parameters(x=1)
    with pytest.raises(ApiException):
        Job.from_url(client, "0" * 32)


# --- data ---


def test_data_is_made_tagged_and_read(client: Client) -> None:
    data = WorkData(client).create(filename="a.json", mediatype="application/json", json={"a": [1]}, tags=["n = 1."])
    assert (data.download(), data.name, data.native.size, data.tags) == (b'{"a": [1]}', "a.json", 10, ["n=1.0"])
    assert WorkData(client).create(filename="f", file=io.BytesIO(b"file")).download() == b"file"
    with pytest.raises(ApiException, match="one of json, file and binary"):
        WorkData(client).create(filename="f", binary="x", json=1)
    with pytest.raises(ApiException, match="tags must be a list of texts, not 'one'"):
        WorkData(client).create(filename="f", binary="x", tags="one")  # type: ignore[arg-type]
    with pytest.raises(ApiException, match="is no media type"):
        WorkData(client).create(filename="f", mediatype="csv", binary="x")
    found = WorkData.from_url(client, data.self_link()).set_tags(["other", "n = .5"])
    assert (found.tags, WorkData.from_url(client, data.self_link()).tags) == (["other", "n=0.5"],) * 2
    assert [each.name for each in client.datasets(tags=["other"], without_tags=["n=1.0"])] == ["a.json"]
    assert found.delete() is found
    assert client.datasets(tags=["other"]) == []
    with pytest.raises(ApiException, match="there is no data"):
        found.download()


def test_slots_are_checked_by_number_and_media_type_and_keep_their_order(client: Client) -> None:
    texts = [text(client, letter) for letter in "cab"]
    job = joined(client, *texts)
    assert joined(client, *texts).select_processing("join").get_state() is JobStates.created, "data was dropped with the step"
    for wrong, told in (
        (lambda: job.assign_input_dataslot(7, work_data_instance=texts[0]), "there is no slot 7"),
        (lambda: job.assign_collection_input_dataslot(0, work_data_instances=texts), "'first' of join 1.0.0 takes one piece of data"),
        (lambda: job.assign_input_dataslot(0, work_data_link="0" * 32), "no data"),
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
    assert (made.native.job, made.native.info.step) == (job.self_link(), ProcessingStep.from_name(client, "join").self_link())


def test_output_is_there_while_the_step_writes_it(client: Client, tmp_path: Path) -> None:
    job = called(client, "trickle", go=str(tmp_path / "go")).start()

    def written() -> list[bytes]:
        return [data.download() for data in job.get_output_data_slots()[0].assigned_workdatas]

    until(lambda: written() == [b"so far"], "the first part")
    assert job.get_state() is JobStates.processing
    (tmp_path / "go").touch()
    job.wait_for_completion(PATIENCE)
    assert written() == [b"so far, and the rest"]


def test_rules_of_deletion(client: Client) -> None:
    given = text(client, "given")
    job = joined(client, given).start().wait_for_completion(PATIENCE)
    link = job.self_link()
    assert given.native.used_by() == [link]
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
    for gone in (job.self_link, job.delete, lambda: WorkData.from_url(client, given.self_link()), lambda: Job.from_url(client, link)):
        with pytest.raises((NotAvailableException, ApiException)):
            gone()
    kinds = [entry.kind.value for entry in client.log(link)]
    assert "job deleted" in kinds, "what has happened is still known"


# --- sub-jobs, groups, queries ---


def test_sub_jobs_are_waited_for_and_deleted_with_their_parent(client: Client) -> None:
    job = called(client, "divide", parts=3).start().wait_for_completion(PATIENCE)
    assert job.get_result() == [0, 1, 4]
    assert job.wait_for_sub_jobs_complete(PATIENCE) is job
    below = JobQuery.create(client, parent_job_url=job.self_link(), state=JobStates.completed)
    assert sorted(each.get_name() for each in below.to_list()) == ["part 0", "part 1", "part 2"]
    assert JobQuery.create(client, parent_job_url=job.self_link(), state=JobStates.error).count() == 0
    with pytest.raises(NotAvailableException, match="made inside the step"):
        job.create_sub_job("outside")
    with pytest.raises(NotAvailableException, match="were submitted inside job"):
        job.delete()
    link = job.self_link()
    job.delete_with_associated()
    assert not JobQuery.create(client, parent_job_url=link).count()


def test_the_error_of_a_sub_job_reaches_whoever_waits(client: Client) -> None:
    job = called(client, "divide", parts=1, poison=True).start()
    with pytest.raises(PollingException, match=r"PollingException: job \w+ 'poison' failed"):
        job.wait_for_completion(PATIENCE)
    with pytest.raises(PollingException, match=r"'poison' failed: .*\n.*ArithmeticError: no such number"):
        job.wait_for_sub_jobs_complete(PATIENCE)


def test_a_group_waits_and_tells_who_is_late(client: Client, tmp_path: Path) -> None:
    good, bad = called(client, "my_function"), called(client, "fail", what="raise")
    group = JobGroup(client).add_jobs([good, bad]).start_all().wait_all(PATIENCE)
    assert (group.get_completed_jobs(), group.get_error_jobs(), group.get_incomplete_jobs()) == ([good], [bad], [])
    assert not group.all_jobs_completed_ok()
    assert JobGroup(client).add_jobs(group.get_completed_jobs()).all_jobs_completed_ok()
    slow = waiting(client, tmp_path)
    late = JobGroup(client).add_jobs(slow)
    assert late.get_incomplete_jobs() == [slow]
    begun = time.monotonic()
    for wait in (lambda: late.wait_all(0.05), lambda: late.wait_all(total_timeout_s=0.05), lambda: late.wait_all(PATIENCE, 0.05)):
        with pytest.raises(PollingException, match=r"Timeout waiting for .*1 of 1 jobs has not ended within 0\.05 s: \w+ 'wait'"):
            wait()
    assert time.monotonic() - begun < PATIENCE
    assert client.wait_for_any([job.native for job in late.add_jobs(good).get_jobs()], timeout=PATIENCE) == [good.native]
    (tmp_path / "go").touch()
    assert late.wait_all(PATIENCE).get_completed_jobs() == [slow, good] == late.get_jobs()
    assert JobGroup(client).all_jobs_completed_ok()


def test_jobs_are_found_by_what_they_are(client: Client) -> None:
    shown = joined(client, text(client, "q")).set_tags(["query", "a=1"]).start().wait_for_completion(PATIENCE)
    hidden = called(client, "fail", what="raise").set_tags(["query", "a=2"]).hide().start()
    with pytest.raises(PollingException):
        hidden.wait_for_completion(PATIENCE)
    assert hidden.tags == ["query", "a=2"]
    until(lambda: JobQuery.create(client, tags_by_and=["query"], show_hidden=None).count() == 2, "the ledger knows both")
    until(lambda: JobQuery.create(client, tags_by_and=["query"], state=JobStates.completed).count() == 1, "and their ends")

    def names(**filters: object) -> list[str]:
        query = JobQuery.create(client, **{"tags_by_and": ["query"], **filters})
        assert query.count() == len(query.to_list()) == len(list(query.iter()))
        return sorted(job.get_name() for job in query.to_list())

    assert (names(), names(show_hidden=True), names(show_hidden=None)) == (["join"], ["fail"], ["fail", "join"])
    assert (names(state=JobStates.completed), names(state=JobStates.error), names(state=JobStates.created)) == (["join"], [], [])
    assert (names(name="oi"), names(name="o*n"), names(tags_by_or=["a=1", "a=2"])) == (["join"], [], ["join"])
    assert (names(tags_by_or=["a=2"]), names(tags_by_or=["a=2"], show_hidden=None)) == ([], ["fail"])
    query = JobQuery.create(client, tags_by_and=["a=1"])
    assert [job.self_link() for job in query.iter()] == [shown.self_link()]
    assert JobGroup(client).add_jobs(query.to_list()).all_jobs_completed_ok()
    assert [each.name for each in client.datasets(used_by=shown.native)] == ["q.txt"]


def test_a_client_is_made_with_an_address_and_a_key(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_JOBS_NAMESPACE", cluster.namespace)
    with create_pinexq_client(cluster.url, cluster.key) as client:
        assert called(client, "my_function", x=3).start().wait_for_completion(PATIENCE).get_result() == {"square": 9}
