"""Every query of the dashboard is answered by a real Prometheus that scrapes a running deployment."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs import Client, Job
from broker_jobs.errors import TaskFailed
from broker_jobs.wire.signing import new_key
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    from tests.support.rabbitmq import RabbitMQ

TOP = Path(__file__).parents[2]
DASHBOARD = TOP / "deploy" / "grafana" / "dashboards" / "broker-jobs.json"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def _queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def fail() -> None:
    raise ValueError("on purpose")


@pytest.mark.timeout(150)
def test_prometheus_answers_every_query_of_the_dashboard(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    prometheus = shutil.which("prometheus")
    assert prometheus, "prometheus is not installed; ./scripts/test installs it, or: apt-get install prometheus"
    coordinator_port, worker_port, port = _free_port(), _free_port(), _free_port()
    url, key = rabbitmq.fresh_vhost(), new_key()
    settings = tmp_path / "prometheus.yml"
    settings.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n"
        f"  - {{job_name: coordinator, static_configs: [{{targets: ['127.0.0.1:{coordinator_port}']}}]}}\n"
        f"  - {{job_name: worker, static_configs: [{{targets: ['127.0.0.1:{worker_port}']}}]}}\n",
        encoding="utf-8",
    )
    with Daemons(tmp_path, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": key}) as daemons:
        daemons.start("coordinator", "start", "--metrics-port", str(coordinator_port))
        daemons.start("worker", "start", "--cpus", "2", "--metrics-port", str(worker_port))
        server = subprocess.Popen(
            [
                prometheus,
                f"--config.file={settings}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=error",
            ],
            env=daemons.env,
        )
        daemons.processes.append(server)
        base = f"http://127.0.0.1:{port}/api/v1"
        with Client(url, signing_key=key) as client:
            # Rates need two scrapes with different counts.
            for _ in range(3):
                job = Job()
                job.map(abs, range(20))
                job.program(["true"])
                client.wait_for_jobs([client.submit(job)], progress=False)
                with pytest.raises(TaskFailed):
                    client.call(fail)

        def unanswered() -> list[str]:
            found = []
            for query in _queries():
                try:
                    answer = _get(f"{base}/query?{urllib.parse.urlencode({'query': query})}")
                except OSError:
                    found.append(query)
                    continue
                assert answer["status"] == "success", (query, answer)
                if not answer["data"]["result"]:
                    found.append(query)
            return found

        until(lambda: not unanswered(), lambda: f"an answer to every query; {daemons.logs()}", timeout=60)
        health = _get(f"http://127.0.0.1:{worker_port}/healthz")
        assert health["status"] == "ok"
