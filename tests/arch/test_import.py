"""``import broker_jobs`` is light, and every public name is there."""

from __future__ import annotations

import subprocess
import sys

import broker_jobs

HEAVY = (
    "asyncio",
    "pika",
    "cloudpickle",
    "msgpack",
    "sqlalchemy",
    "prometheus_client",
    "typer",
    "rich",
    "psutil",
    "sqlite3",
    "concurrent.futures",
)


def _loaded_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, timeout=30, check=True)
    return set(done.stdout.split())


def test_nothing_heavy_is_loaded() -> None:
    assert not _loaded_by("import broker_jobs").intersection(HEAVY)


def test_writing_a_job_needs_no_broker() -> None:
    loaded = _loaded_by("from broker_jobs import Job, Retry, ResourceRequest; Job().program(['true'])")
    assert not loaded.intersection(HEAVY)


def test_every_public_name_is_there() -> None:
    for name in broker_jobs.__all__:
        assert getattr(broker_jobs, name) is not None
    assert set(broker_jobs.__all__) <= set(dir(broker_jobs))
    assert type(broker_jobs.current).__name__ == "Current"
