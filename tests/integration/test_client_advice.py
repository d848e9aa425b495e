"""What a client says of itself where work does not start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, ResourceRequest
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker_jobs.client.advice._FIRST_LOOK", 0.1)


def _said(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


def test_a_request_that_nobody_can_meet(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    submitted = []
    for _ in range(2):
        job = Job()
        job.program(["true"], resources=ResourceRequest(cpus=5000))
        submitted.append(client.submit(job))
    until(lambda: _said(caplog, "could meet the request cpus=5000"), "the warning")
    assert any("cpus=5000" in note for note in submitted[0].info().notes)
    for one in submitted:
        one.cancel()
    assert _said(caplog, "could meet the request") == 1


def test_work_that_starts_is_not_talked_about(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    job = Job()
    job.program(["true"])
    assert client.wait_for_jobs([client.submit(job)], timeout=30)
    assert client.call(len, "abc") == 3
    assert not _said(caplog, "broker-jobs:")


def test_nobody_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker_jobs.client.advice.PATIENCE", 0.2)
    with Client(f"sqlite:///{tmp_path}/queue.db") as client:
        client.runtime.reports_left_work = False
        job = Job()
        job.program(["true"])
        client.submit(job)
        until(lambda: _said(caplog, "no coordinator answers"), "the warning")


def test_a_coordinator_without_workers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = f"sqlite:///{tmp_path}/queue.db"
    with Daemons(tmp_path, {"BROKER_JOBS_URL": url}) as daemons:
        daemons.start("coordinator", "start", "--store", f"sqlite:///{tmp_path}/ledger.db")
        with Client(url) as client:
            client.runtime.reports_left_work = False
            job = Job()
            job.program(["true"])
            client.submit(job)
            until(lambda: _said(caplog, "no worker has been seen"), "the warning")
