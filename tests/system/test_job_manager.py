"""The whole way over both brokers, with the rows in PostgreSQL: templates of a file, a process that executes, another that looks."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from broker_jobs import LocalCluster
from broker_jobs.manager import JobManager
from broker_jobs.templates import load_templates
from tests.support import managed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres import Postgres

PATIENCE = 60.0
TEMPLATES = """
[[template]]
name = "flow"
type = "workflow"
variables = { OUT = "$(JOB_WORKSPACE)/out" }

[template.parameters]
process_results = "tests.support.managed.note"
nodes = [
  { name = "make", argv = ["sh", "-c", "seq 5 > $(OUT)"] },
  { name = "reverse", argv = ["sort", "-rn", "-o", "$(USER_WORKSPACE)/reversed", "$(OUT)"], parents = ["make"], retry = 1 },
]
"""
EXECUTE = """
import sys
from broker_jobs import Client
from broker_jobs.manager import JobManager
from broker_jobs.templates import load_templates

store, folder, url, namespace, key = sys.argv[1:]
client = Client(url, namespace=namespace, signing_key=key)
client.runtime.reports_left_work = False
with client:
    manager = JobManager(store, client=client, templates=load_templates(folder + "/t.toml"), workspaces=folder)
    job = manager.create_job("flow", "ann", "flow", groups=["lab"])
    assert job.execute() == "Submitted", job.message
"""


def test_one_process_executes_and_another_sees_the_end(url: str | None, postgres: Postgres, tmp_path: Path) -> None:
    store = postgres.fresh_database()
    (tmp_path / "t.toml").write_text(TEMPLATES)
    with LocalCluster(cpus=2, url=url) as cluster, cluster.client() as client:
        arguments = [store, str(tmp_path), cluster.url, cluster.namespace, cluster.key]
        subprocess.run([sys.executable, "-c", EXECUTE, *arguments], check=True, timeout=60)
        manager = JobManager(store, client=client, templates=load_templates(tmp_path / "t.toml"), workspaces=tmp_path)
        (job,) = manager.list_jobs(groups=["lab"])
        assert job.wait(PATIENCE) == "Complete"
        assert (manager.user_workspace("ann") / "reversed").read_text().split() == ["5", "4", "3", "2", "1"]
        assert managed.notes(job) == ["RES Results-Ready"]
        assert [node.status for node in job.nodes()] == ["Complete", "Complete"]
        manager.delete(job)
        assert manager.list_jobs() == []
        assert client.jobs() == []
