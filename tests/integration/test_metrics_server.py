"""Numbers over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from broker_jobs.core.request import Request
from broker_jobs.errors import ValidationError
from broker_jobs.metrics import MetricsServer, Pulse, WorkerMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pulse() -> Pulse:
    return Pulse()


@pytest.fixture
def server(pulse: Pulse) -> Iterator[MetricsServer]:
    server = MetricsServer(WorkerMetrics(Request()).registry, pulse)
    yield server
    server.close()


def get(server: MetricsServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_numbers_and_health_are_served(server: MetricsServer, pulse: Pulse) -> None:
    status, text = get(server, "/metrics")
    assert status == 200
    assert 'broker_jobs_resource_free{resource="cpus"} 1.0' in text
    pulse.beat(connected=True)
    status, text = get(server, "/healthz")
    assert status == 200
    assert json.loads(text) == {"status": "ok", "silent_seconds": 0.0, "connected": True}
    assert get(server, "/elsewhere")[0] == 404


def test_a_loop_that_is_stuck_is_not_well(server: MetricsServer, pulse: Pulse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker_jobs.metrics.SILENCE_LIMIT", -1.0)
    status, text = get(server, "/healthz")
    assert status == 503
    assert json.loads(text)["status"] == "stuck"


def test_a_port_that_is_in_use_is_named_with_what_to_do(server: MetricsServer, pulse: Pulse) -> None:
    with pytest.raises(ValidationError, match=f"{server.port}.*'auto'"):
        MetricsServer(WorkerMetrics(Request()).registry, pulse, port=server.port)


def test_two_of_one_host_do_not_clash(server: MetricsServer, pulse: Pulse) -> None:
    other = MetricsServer(WorkerMetrics(Request()).registry, pulse)
    assert other.port != server.port
    other.close()
