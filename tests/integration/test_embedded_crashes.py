"""The embedded broker's file when its writer is killed: before every single write, and when something has damaged it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from broker_jobs.broker import open_broker
from broker_jobs.broker.embedded.place import Place
from broker_jobs.broker.embedded.schema import connect
from broker_jobs.config import sqlite_url
from broker_jobs.errors import BrokerError, BrokerUnavailable
from tests.support.inbox import PATIENCE, run

TOP = Path(__file__).parents[2]


def test_the_file_survives_a_kill_before_every_write(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.crash_points", str(tmp_path)],
        cwd=TOP,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, *points = [json.loads(line) for line in done.stdout.splitlines()]
    states = [[], *first["expected"]]
    assert sum(point["killed"] for point in points) > 100, "each transaction writes a dozen times or more"
    assert [point["point"] for point in points] == list(range(len(points)))
    for point in points:
        # What was told is there. What was not told is there whole, or not at all.
        assert point["found"] in states[point["done"] : point["done"] + 2], point
    assert points[-1]["found"] == states[-1]
    assert not points[-1]["killed"]


def damage(path: Path, what: str) -> None:
    """Overwrite the first page of a table."""
    with closing(sqlite3.connect(path)) as database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (what,)).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


@pytest.mark.parametrize("table", ["state", "queues"])
def test_a_damaged_file_is_refused_and_says_what_to_do(tmp_path: Path, table: str) -> None:
    path = tmp_path / "queue.db"
    connect(Place(path)).close()
    damage(path, table)
    before = path.read_bytes()

    async def story() -> None:
        with pytest.raises(BrokerError, match=r"queue\.db is damaged .*: end every program that uses it, and move it away") as refused:
            await open_broker(sqlite_url(path), name="test", timeout=PATIENCE)
        assert not isinstance(refused.value, BrokerUnavailable), "nobody waits for it to heal"

    run(story())
    assert path.read_bytes() == before
