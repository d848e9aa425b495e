"""The demo: it does real work, prints its report, and leaves nothing."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from broker_jobs import Job
from broker_jobs.demo.graph import FILES, build, standard_library
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.rabbitmq import RabbitMQ

SMALL = 30


def _daemons(tmp_path: Path) -> Daemons:
    """A home, and a folder for temporary files, of which nothing may be left."""
    (tmp_path / "temporary").mkdir()
    return Daemons(tmp_path, {"TMPDIR": str(tmp_path / "temporary")})


def _nothing_is_left(daemons: Daemons) -> None:
    until(lambda: not daemons.alive(), "no process of the demo is left")
    assert os.listdir(daemons.folder / "temporary") == []  # noqa: PTH208 (names are enough)
    assert not (daemons.folder / "home").exists(), "the demo does not touch the user's own node"


def test_the_demo_runs_embedded_and_prints_its_report(tmp_path: Path) -> None:
    with _daemons(tmp_path) as daemons:
        done = daemons.run("demo", "--files", str(SMALL), timeout=100)
        assert done.returncode == 0, done
        for part in ("Lines of code by package", "Most complex functions", "longest function", "nothing failed", f"{SMALL} files"):
            assert part in done.stdout
        _nothing_is_left(daemons)


def test_the_demo_runs_over_rabbitmq_with_two_workers(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    with _daemons(tmp_path) as daemons:
        done = daemons.run(
            "demo", "--files", str(SMALL), "--url", rabbitmq.fresh_vhost(), "--workers", "2", "--output", "json", timeout=100
        )
        assert done.returncode == 0, done
        found = json.loads(done.stdout)
        assert found["tasks"].keys() == {"succeeded"}
        assert found["tasks"]["succeeded"] >= 4 * SMALL
        assert found["report"]["files"] == SMALL
        assert found["report"]["unreadable"] == []
        _nothing_is_left(daemons)


def test_the_whole_demo_has_a_thousand_function_tasks(tmp_path: Path) -> None:
    root, files = standard_library(FILES)
    job = Job()
    last = build(job, root, files, tmp_path)
    programs = [entry for entry in job.entries if entry.name in {"sort", "uniq", "gzip"}]
    assert len(programs) == 3
    assert len(job) - len(programs) >= 1000
    assert last.number == len(job) - 1
