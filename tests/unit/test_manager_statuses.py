"""Statuses of managed jobs, and the changes of a record: an end stays, whatever comes late."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from broker_jobs.core.states import JobState, TaskState
from broker_jobs.errors import ValidationError, WrongStatus
from broker_jobs.manager import NAMES, Category, Code
from broker_jobs.manager import record as records
from broker_jobs.manager.record import JobRecord, News
from broker_jobs.manager.statuses import COMPLETE, ERROR, OF_TASKS, RUNNING, SUBMITTED, Status, Statuses, of_job

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUSES = Statuses({"Checking": "pre_running", "Meshing": "running", "Held": "active", "Approved": "terminal"})
JOB = JobRecord("0" * 32, "app", "job", "ann", "t", "program", "/w", 1000)
SENT = records.executed(JOB, 2000)


def members(category: Category) -> set[str]:
    return {code.value for code in Code if category in STATUSES.categories(Status(code)) and code is not Code.OTH}


def test_the_categories_of_the_statuses_of_tethys() -> None:
    assert members(Category.pre_running) == {"PEN", "SUB"}
    assert members(Category.running) == {"RUN", "VAR"}
    assert members(Category.active) == {"SUB", "RUN", "VAR", "PAS"}
    assert members(Category.non_terminal) == {"PEN", "SUB", "RUN", "VAR", "PAS"}
    assert members(Category.terminal) == {"COM", "ERR", "ABT", "VCP", "RES"}
    assert list(NAMES) == ["PEN", "SUB", "RUN", "VAR", "PAS", "COM", "ERR", "ABT", "VCP", "RES", "OTH"]


@pytest.mark.parametrize("word", ["VCP", "vcp", "Various-Complete", "various-complete"])
def test_a_status_is_named_by_its_code_or_its_name(word: str) -> None:
    assert STATUSES.parse(word) == Status(Code.VCP)
    assert str(STATUSES.parse(word)) == "Various-Complete"


def test_any_other_text_is_a_custom_status_and_is_active() -> None:
    status = STATUSES.parse("My Status")
    assert status == Status(Code.OTH, "My Status")
    assert str(status) == "My Status"
    assert STATUSES.categories(status) == {Category.active, Category.non_terminal}


@pytest.mark.parametrize("word", ["", "  ", "a\0", "x" * 201, "OTH", "Other", None, 3])
def test_what_cannot_be_a_status(word: str) -> None:
    with pytest.raises(ValidationError):
        STATUSES.parse(word)


def test_custom_statuses_belong_to_one_manager() -> None:
    assert STATUSES.categories(Status(Code.OTH, "Checking")) == {Category.pre_running, Category.non_terminal}
    assert STATUSES.categories(Status(Code.OTH, "Meshing")) == {Category.running, Category.active, Category.non_terminal}
    assert STATUSES.categories(Status(Code.OTH, "Held")) == {Category.active, Category.non_terminal}
    assert STATUSES.terminal(Status(Code.OTH, "Approved"))
    assert not Statuses().terminal(Status(Code.OTH, "Approved"))


@pytest.mark.parametrize(
    ("given", "said"), [({"Running": "running"}, "already"), ({"A": "non_terminal"}, "must be one of"), ({"A": 3}, "must")]
)
def test_a_wrong_custom_status_is_refused(given: Mapping[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Statuses(given)


@pytest.mark.parametrize(
    ("state", "counts", "code"),
    [
        ("waiting", {"waiting": 2, "queued": 1}, "SUB"),
        ("running", {"running": 1}, "RUN"),
        ("running", {"running": 2, "canceling": 1}, "RUN"),
        ("running", {"running": 1, "waiting": 1}, "VAR"),
        ("running", {"succeeded": 1, "queued": 1}, "VAR"),
        ("running", {"running": 1, "waiting": 0}, "RUN"),
        ("paused", {"paused": 2}, "PAS"),
        ("succeeded", {"succeeded": 2}, "COM"),
        ("failed", {"failed": 2}, "ERR"),
        ("failed", {"failed": 1, "aborted": 1}, "ERR"),
        ("failed", {"failed": 1, "succeeded": 1}, "VCP"),
        ("canceled", {"canceled": 1, "succeeded": 1}, "ABT"),
        ("aborted", {"aborted": 1}, "ABT"),
    ],
)
def test_what_the_states_of_the_client_mean(state: str, counts: Mapping[str, int], code: str) -> None:
    assert of_job(JobState(state), counts).code == code


def test_every_state_of_the_client_has_a_meaning() -> None:
    assert set(OF_TASKS) == set(TaskState)
    assert {of_job(state, {}).code for state in JobState} == {Code.SUB, Code.RUN, Code.PAS, Code.COM, Code.ERR, Code.ABT}


# --- records ---


def test_a_job_is_executed_once() -> None:
    assert (SENT.status, SENT.executed_ms, SENT.run) == (SUBMITTED, 2000, 1)
    with pytest.raises(WrongStatus, match="is Submitted"):
        records.executed(SENT, 3000)


def test_it_starts_when_it_runs_and_ends_when_its_work_did() -> None:
    running = records.heard(SENT, News(RUNNING, 1), STATUSES, 3000)
    assert (running.started_ms, running.completed_ms, running.ended) == (3000, None, False)
    ended = records.heard(running, News(COMPLETE, 1, "", 2500, 4000), STATUSES, 9000)
    assert (ended.started_ms, ended.completed_ms, ended.ended) == (3000, 4000, True)
    assert records.run_time_ms(ended, 10_000) == 1000
    assert records.run_time_ms(running, 10_000) == 7000
    assert records.run_time_ms(SENT, 10_000) == 8000
    assert records.run_time_ms(JOB, 10_000) is None


def test_its_start_is_what_the_ledger_says_where_nobody_saw_it_run() -> None:
    assert records.heard(SENT, News(COMPLETE, 1, None, 2500, 4000), STATUSES, 9000).started_ms == 2500


@pytest.mark.parametrize("late", [RUNNING, SUBMITTED, ERROR, Status(Code.OTH, "Meshing")])
def test_news_that_come_after_the_end_change_nothing(late: Status) -> None:
    ended = records.heard(SENT, News(COMPLETE, 1, "fine"), STATUSES, 3000)
    assert records.heard(ended, News(late, 1, "late"), STATUSES, 4000) is ended


def test_news_of_an_earlier_run_change_nothing() -> None:
    ended = records.heard(SENT, News(ERROR, 1, "oops"), STATUSES, 3000)
    second = records.again(ended, 4000)
    assert (second.status, second.message, second.run, second.started_ms, second.completed_ms) == (SUBMITTED, "", 2, None, None)
    assert (second.ended, second.work, second.executed_ms) == (False, "", 4000)
    assert records.heard(second, News(ERROR, 1, "oops"), STATUSES, 5000) is second
    assert records.sent(second, 1, "old") is second
    assert records.failed(second, 1, "oops", 5000) is second


@pytest.mark.parametrize("job", [JOB, SENT])
def test_only_what_has_ended_is_resubmitted(job: JobRecord) -> None:
    with pytest.raises(WrongStatus, match="only a job that has ended"):
        records.again(job, 3000)


def test_a_custom_status_is_kept_while_the_work_goes_on() -> None:
    meshing = records.set_by_hand(SENT, Status(Code.OTH, "Meshing"), "step 1", STATUSES, 3000, has_work=True)
    assert (str(meshing.status), meshing.message, meshing.started_ms) == ("Meshing", "step 1", 3000)
    assert records.heard_of_work(meshing, News(RUNNING, 1), STATUSES, 4000) is meshing
    failed = records.heard_of_work(meshing, News(ERROR, 1, "oops"), STATUSES, 4000)
    assert (failed.status, failed.message) == (ERROR, "oops; step 1")
    assert records.heard_of_work(meshing, News(COMPLETE, 1), STATUSES, 4000).message == "step 1"


@pytest.mark.parametrize("word", ["RUN", "COM", "Approved"])
def test_the_status_of_work_is_not_set_by_hand(word: str) -> None:
    with pytest.raises(WrongStatus):
        records.set_by_hand(SENT, STATUSES.parse(word), None, STATUSES, 3000, has_work=True)
    assert records.set_by_hand(SENT, STATUSES.parse(word), None, STATUSES, 3000, has_work=False).status == STATUSES.parse(word)


def test_results_are_ready_then_processed_once() -> None:
    job = dataclasses.replace(SENT, process_results="a.b")
    ready = records.heard(job, News(COMPLETE, 1), STATUSES, 3000)
    assert ready.status.code == "RES"
    claimed = records.processing(ready, 1, once_more=False)
    assert claimed.processings == 1
    assert records.processing(claimed, 1, once_more=False) is claimed
    assert records.processed(claimed, claimed, None).status == COMPLETE
    failed = records.processed(claimed, claimed, "a.b raised ValueError: no")
    assert (failed.status, failed.message) == (ERROR, "a.b raised ValueError: no")
    assert records.processing(failed, 1, once_more=False) is failed
    assert records.processing(failed, 1, once_more=True).message == ""
    repeated = records.processing(failed, 1, once_more=True)
    assert records.processed(claimed, repeated, None) is repeated, "the first has no say any more"
    assert records.processed(repeated, repeated, None).status == COMPLETE


def test_a_mixed_end_stays_one_when_results_were_processed() -> None:
    job = dataclasses.replace(SENT, process_results="a.b")
    ended = records.heard(job, News(Status(Code.VCP), 1), STATUSES, 3000)
    claimed = records.processing(ended, 1, once_more=False)
    assert claimed is not ended
    assert records.processed(claimed, claimed, None).status.code == "VCP"


@pytest.mark.parametrize("news", [ERROR, RUNNING, Status(Code.ABT)])
def test_only_a_success_is_processed(news: Status) -> None:
    job = records.heard(dataclasses.replace(SENT, process_results="a.b"), News(news, 1), STATUSES, 3000)
    assert records.processing(job, 1, once_more=False) is job
    assert records.processing(job, 1, once_more=True) is job


def test_what_was_stopped_while_it_was_sent_keeps_its_work() -> None:
    stopped = records.stopped(SENT, "why", 3000)
    assert (stopped.status.code, stopped.message, stopped.completed_ms) == ("ABT", "why", 3000)
    assert records.stopped(stopped, "again", 4000) is stopped
    assert records.sent(stopped, 1, "work").work == "work"
    assert records.failed(stopped, 1, "oops", 4000) is stopped


def test_a_message_is_what_databases_take() -> None:
    assert records.clipped("a\0b\udce4") == "a\N{REPLACEMENT CHARACTER}b?"
    assert len(records.clipped("x" * 5000)) == records.MOST_MESSAGE
    once = records.remarked(JOB, "callback failed")
    assert records.remarked(records.remarked(once, "and another"), "callback failed").message == "callback failed; and another"
