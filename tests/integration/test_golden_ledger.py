"""The example ledger of each released version opens: its jobs are found, their results are read, and what was left goes on.

The files of a released version are never edited. ``python -m tests.integration.test_golden_ledger VERSION`` writes those of a new one.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, ResourceRequest
from broker_jobs.client.node import stop_node
from broker_jobs.config import sqlite_url
from broker_jobs.wire.codec import encode_part
from broker_jobs.wire.messages import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = Path(__file__).parents[1] / "golden"
ORIGIN = Origin("machine/host", "/usr/bin/python3", "3.11.7", ("/usr/lib/python3.11",))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder with the ledger of 0.1.0."""
    monkeypatch.setenv("BROKER_JOBS_HOME", str(tmp_path))
    shutil.copy(GOLDEN / "0.1.0" / "ledger.db", tmp_path)
    yield tmp_path
    stop_node(tmp_path)


def test_the_ledger_of_0_1_0_opens(home: Path) -> None:
    with Client() as client:
        later, ended = client.jobs(limit=5)
        assert (ended.name, ended.state, ended.info().tags) == ("ended", "failed", ("a=b",))
        assert ended.result("largest") == 7
        assert ended.results() == {0: 3, 1: 7, 2: 0}
        assert ended.stdout("say") == b"hello\n"
        assert {number: error.cause for number, error in ended.errors().items()} == {3: "exit code", 4: "error"}
        assert later.name == "later"
        assert later.info().counts == {"queued": 1, "waiting": 1}


def test_an_up_to_date_ledger_does_not_wait_for_alembic(tmp_path: Path) -> None:
    program = (
        "import sys; from broker_jobs.coordinator.store import LedgerStore;"
        " [LedgerStore(sys.argv[1], 't').close() for _ in range(2)]; print('alembic' in sys.modules)"
    )
    command = [sys.executable, "-c", program, sqlite_url(tmp_path / "ledger.db")]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == "False\n"


def _write(version: str) -> None:
    folder = GOLDEN / version
    if (folder / "ledger.db").exists():
        raise SystemExit("the ledger of a released version is never edited")
    os.chdir("/")
    with tempfile.TemporaryDirectory() as home:
        os.environ["BROKER_JOBS_HOME"] = home
        with Client() as client:
            job = Job(name="ended", tags=["a=b"])
            three = job.function(abs, args=(-3,), name="absolute")
            job.function(max, args=(7, three.output), name="largest")
            job.program(["echo", "hello"], name="say")
            job.program(["false"], name="no")
            job.function(int, args=("x",), name="number")
            client.wait_for_jobs([client.submit(job)], raise_on_error=False)
            later = Job(name="later")
            waits = later.program(["true"], resources=ResourceRequest(resources={"nobody-has-this": 1}), name="waits")
            later.program(["true"], deps=[waits], name="follows")
            submitted = client.submit(later)
            submitted.info()
        stop_node(Path(home))
        with sqlite3.connect(Path(home) / "ledger.db") as ledger:
            ledger.execute("UPDATE jobs SET origin = ?, store = '/values', user = 'user'", (encode_part(ORIGIN),))
            ledger.execute("UPDATE tasks SET worker = 'worker-1' WHERE worker != ''")
            ledger.execute("DELETE FROM workers")
        with sqlite3.connect(Path(home) / "ledger.db") as ledger:
            ledger.execute("VACUUM INTO ?", (str(folder / "ledger.db"),))


if __name__ == "__main__":
    _write(sys.argv[1])
