"""`ledger verify`: each thing that can be wrong with a ledger is found and said, and what follows from other rows can be derived anew."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker_jobs.cli.app import app
from broker_jobs.config import sqlite_url
from broker_jobs.coordinator.store import LedgerStore
from broker_jobs.coordinator.verify import repair, verify
from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.value import Encoding
from broker_jobs.data.store import ValueStore
from broker_jobs.errors import LedgerRefused
from broker_jobs.ids import short
from tests.support.cast import call, job_chunks, value
from tests.support.ledger_world import World


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger at work: a graph of which some has ended, tasks that share rows, one result in a value store. Closed."""
    folder = tmp_path_factory.mktemp("sound")
    world = World(address=sqlite_url(folder / "ledger.db"))
    graph = [call(0), call(1, 0), call(2, after=[0]), call(3, 1), call(4), call(5)]
    # What comes in another order has rows of its own.
    (ended,) = job_chunks([call(1), call(0)])
    waiting = job_chunks([call(0), call(1, 0), call(2), call(3)])
    jobs = [*job_chunks(graph), *job_chunks([call(number) for number in range(8)], direct=True), ended, *waiting]
    for chunk in jobs:
        world.submit(chunk)
    world.batch(range(len(world.inbox)))
    stored = ValueStore(folder / "values").put(jobs[0].job, Encoding.msgpack, b"large")
    world.reply(jobs[0].job, world.ended(jobs[0].tasks[0], Succeeded(stored)))
    world.reply(jobs[0].job, world.ended(jobs[0].tasks[4], Failed(Cause.error, "no")))
    world.reply(jobs[1].job, *(world.ended(task, Succeeded(value(task.number))) for task in jobs[1].tasks[2:5]))
    world.reply(ended.job, *(world.ended(task, Succeeded(value(1))) for task in ended.tasks))
    world.batch(range(len(world.inbox)))
    world.store.close()
    return folder / "ledger.db"


@pytest.fixture
def ledger(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sound, tmp_path))


def spoil(ledger: Path, *statements: str) -> None:
    with closing(sqlite3.connect(ledger)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def found(ledger: Path) -> list[str]:
    return [problem.text for problem in verify(sqlite_url(ledger), "t").problems]


def test_a_sound_ledger_is_left_as_it_is(sound: Path) -> None:
    before = sound.read_bytes()
    report = verify(sqlite_url(sound), "t")
    assert report.problems == []
    assert (report.jobs, report.tasks, report.values) == (4, 20, 1)
    assert sound.read_bytes() == before


SPOILED = {
    "UPDATE jobs SET counts = '{\"queued\": 1}' WHERE key = 1": [
        "it counts 1 queued, and has 1 failed, 3 queued, 1 succeeded, 1 waiting",
    ],
    "UPDATE jobs SET version = 1 WHERE key = 2": ["it has the version 1, and one of its tasks changed at 12"],
    "UPDATE jobs SET state = 'failed' WHERE key = 3": ["it is failed, and by its tasks it would be succeeded"],
    "UPDATE jobs SET ended_ms = NULL WHERE key = 3": ["it is succeeded, and has no time of its end"],
    "UPDATE jobs SET ended_ms = 1 WHERE key = 1": ["it is running, and has a time of its end"],
    "UPDATE jobs SET total = 3 WHERE key = 3": ["it has ended with 2 tasks of 3"],
    "UPDATE jobs SET total = 5 WHERE key = 1": ["task 5: beyond the 5 tasks that the job has"],
    "DELETE FROM specs WHERE job = 1 AND number IN (1, 3)": ["tasks 1, 3: no row that says what is to be done"],
    "UPDATE specs SET spec = x'00' WHERE job = 1 AND number = 1": ["its rows cannot be read: what task 1 does: "],
    "UPDATE tasks SET size = 1 WHERE job = 1 AND number = 5": ["task 5: the row says another size than there is"],
    "UPDATE specs SET number = 77 WHERE job = 1 AND number = 5": [
        "task 5: no row that says what is to be done",
        "task 77: a row that says what is to be done, and none of the state",
    ],
    "DELETE FROM outcomes WHERE job = 1 AND number = 0": ["task 0: succeeded, and there is no result of that"],
    "DELETE FROM outcomes WHERE job = 1 AND number = 4": ["task 4: failed, and there is nothing that says how"],
    "UPDATE outcomes SET number = 50 WHERE job = 3 AND number = 1": [
        "task 50: a result, and no row of the state",
        "task 1: succeeded, and there is no result of that",
    ],
    "UPDATE tasks SET options = 3 WHERE job = 1 AND number = 5": ["task 5: options that there are not"],
    "DELETE FROM blobs WHERE job = 1": ["tasks 1, 2, 3, 5: a function is called that is not there"],
    "UPDATE tasks SET deps = '9' WHERE job = 1 AND number = 3": ["task 3 depends on task 9, which there is not"],
    "UPDATE tasks SET deps = '3' WHERE job = 1 AND number = 3": ["task 3 waits for itself"],
    "UPDATE tasks SET deps = '4' WHERE job = 1 AND number = 3": ["task 3 waits for a task that will never succeed"],
    "UPDATE tasks SET deps = '' WHERE job = 1 AND number = 3": ["task 3 waits, and there is nothing that it waits for"],
    "UPDATE tasks SET deps = '3' WHERE job = 1 AND number = 5": ["task 5 is queued before what it waits for"],
    "UPDATE tasks SET attempt = 0 WHERE job = 1 AND number = 5": ["task 5 is queued without an attempt"],
    "UPDATE tasks SET crashes = 7 WHERE job = 1 AND number = 5": ["task 5 has 0 failures and 7 crashes in 1 attempts"],
    "UPDATE tasks SET chunk = 'r1' WHERE job = 1 AND number = 0": ["task 0 is succeeded, and somebody still has it"],
    "UPDATE tasks SET due_ms = 5 WHERE job = 1 AND number = 5": ["task 5 is queued, and has a time for its next attempt"],
    "UPDATE packs SET first = 1 WHERE job = 2": ["the shared row of tasks 1 to 8 holds others: 0, 1, 2, 3, 4"],
    "UPDATE packs SET names = '[\"a\"]' WHERE job = 2": ["the shared row of tasks 0 to 7 has 1 names"],
    "UPDATE packs SET specs = x'00' WHERE job = 2": ["its rows cannot be read: the shared row of the tasks from 0 on: "],
    "UPDATE packs SET specs = x'90' WHERE job = 4": ["the shared row of tasks 0 to 3 holds others: "],
    "UPDATE packs SET needs = x'00' WHERE job = 4": ["its rows cannot be read: the shared row of the tasks from 0 on: "],
    "UPDATE packs SET needs = x'81a46465707390' WHERE job = 4": ["task 1 waits, and there is nothing that it waits for"],
    "UPDATE packs SET needs = x'81a4646570739190' WHERE job = 4": [
        "the shared row of tasks 0 to 3 does not say what each of its tasks waits for",
    ],
    "DELETE FROM moves WHERE job = 4": [
        "it counts 3 queued, 1 waiting, and has 4 waiting",
        "task 0 waits, and there is nothing that it waits for",
    ],
    "UPDATE moves SET low = 1 WHERE job = 4 AND low = 0": ["the row that made its version 5 does not tell of 1 tasks from 1 to 0"],
    "UPDATE moves SET numbers = x'9102' WHERE job = 4 AND low = 0": [
        "the row that made its version 5 does not tell of 1 tasks from 0 to 0"
    ],
    "UPDATE moves SET numbers = x'00' WHERE job = 4 AND low = 0": ["its rows cannot be read: the row that made its version 5: "],
    "UPDATE moves SET state = 'running' WHERE job = 4 AND low = 0": ["the row that made its version 5 tells of tasks that are running"],
    "UPDATE moves SET attempt = 0 WHERE job = 4 AND low = 0": ["task 0 is queued without an attempt"],
    "UPDATE moves SET low = 1, high = 1 WHERE job = 4 AND low = 0": [
        "task 1 is queued before what it waits for",
        "task 0 waits, and there is nothing that it waits for",
    ],
    "UPDATE successes SET high = 7 WHERE job = 2": ["the reply that made its version 10 does not tell of 3 tasks from 2 to 7"],
    "UPDATE successes SET reply = x'00' WHERE job = 2": ["its rows cannot be read: the reply that made its version 10: "],
    "DELETE FROM jobs WHERE key = 3": ["1 rows of 'chunks' belong to a job that there is not (key 3)"],
    "INSERT INTO links VALUES (1, 0, 'other', 1, 0, 0)": ["task 0 is succeeded, and still waits for another job"],
    "INSERT INTO early VALUES (1, 'other', 1, x'00', 1)": ["what was said early of its task 1 cannot be read (number 1)"],
    "INSERT INTO outbox VALUES (99, 'u.ready', 'k', x'00', 1)": [
        "message 99 of the outbox is for the exchange 'u.ready' of another namespace"
    ],
    "DELETE FROM alembic_version": ["its migrations say version none, and it is 2"],
}


@pytest.mark.parametrize("statement", SPOILED)
def test_what_is_wrong_is_said(ledger: Path, statement: str) -> None:
    spoil(ledger, statement)
    texts = found(ledger)
    for expected in SPOILED[statement]:
        assert any(text.startswith(expected) for text in texts), texts


def test_a_value_that_is_referenced_and_missing(tmp_path: Path, sound: Path, ledger: Path) -> None:
    values = sound.parent / "values"
    moved = values.rename(tmp_path / "values")
    try:
        assert verify(sqlite_url(ledger), "t").elsewhere == 1
        values.mkdir()
        (text,) = found(ledger)
        assert text.startswith("the result of task 0 is not in the value store: ")
        values.rmdir()
    finally:
        moved.rename(values)
    (file,) = [path for path in values.rglob("*") if path.is_file()]
    file.write_bytes(b"larger")
    try:
        (text,) = found(ledger)
        assert text.startswith("the result of task 0 has 6 bytes in the value store, not 5: ")
    finally:
        file.write_bytes(b"large")


def test_what_follows_from_other_rows_is_derived_anew(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as connection:
        before = connection.execute("SELECT * FROM jobs").fetchall()
    spoil(ledger, "UPDATE jobs SET counts = '{}', version = 0 WHERE key < 3", "UPDATE tasks SET due_ms = 5 WHERE job = 1 AND number = 5")
    url = sqlite_url(ledger)
    report = verify(url, "t")
    assert len(report.problems) == 5
    assert [remedy.key for remedy in report.remedies] == [1, 2]
    with closing(LedgerStore(url, "t")), pytest.raises(LedgerRefused, match="in use by another coordinator"):
        repair(url, "t", report.remedies, holder="test")
    repair(url, "t", report.remedies, holder="test")
    assert found(ledger) == ["task 5 is queued, and has a time for its next attempt"], "what nobody can know for certain is left alone"
    with closing(sqlite3.connect(ledger)) as connection:
        after = connection.execute("SELECT * FROM jobs").fetchall()
    assert [sorted(map(str, row)) for row in after if row[0] == 3] == [sorted(map(str, row)) for row in before if row[0] == 3]
    assert [row[0] for row in after] == [row[0] for row in before]


def test_the_command_says_it_in_words_and_by_its_exit_code(ledger: Path) -> None:
    store = ["ledger", "verify", "--namespace", "t", "--store", sqlite_url(ledger)]
    done = CliRunner().invoke(app, store)
    assert (done.exit_code, done.stdout) == (0, f"{ledger}: 4 jobs, 20 tasks, 1 value in folders of this host: nothing is wrong\n")
    with closing(sqlite3.connect(ledger)) as connection:
        (job,) = connection.execute("SELECT id FROM jobs WHERE key = 2").fetchone()
    spoil(ledger, "UPDATE jobs SET version = 1 WHERE key = 2")
    done = CliRunner().invoke(app, [*store, "--output", "quiet"])
    assert (done.exit_code, done.stdout) == (1, f"job {short(job)}: it has the version 1, and one of its tasks changed at 12\n")
    found = json.loads(CliRunner().invoke(app, [*store, "--output", "json"]).stdout)
    assert found["problems"] == [{"job": job, "text": "it has the version 1, and one of its tasks changed at 12", "repairable": True}]
    done = CliRunner().invoke(app, [*store, "--repair"])
    assert done.exit_code == 0
    assert "repaired: the counts and versions of 1 job were derived anew from their tasks" in done.stdout
    done = CliRunner().invoke(app, [*store[:-1], f"{sqlite_url(ledger)}-missing"])
    assert done.exit_code == 2


def test_a_damaged_file_is_said_to_be_one(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tasks_by_change'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with ledger.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 200)
    assert any(text.startswith("the file is damaged: ") for text in found(ledger))


def test_what_is_no_ledger_of_ours_is_refused(ledger: Path, tmp_path: Path) -> None:
    with pytest.raises(LedgerRefused, match="there is no ledger"):
        verify(sqlite_url(tmp_path / "missing" / "ledger.db"), "t")
    assert not (tmp_path / "missing").exists()
    with pytest.raises(LedgerRefused, match="belongs to the namespace 't', not to 'u'"):
        verify(sqlite_url(ledger), "u")
    spoil(ledger, "UPDATE meta SET value = '3' WHERE name = 'schema'")
    with pytest.raises(LedgerRefused, match="has the format 3, and this version of broker-jobs verifies 2: use a newer one"):
        verify(sqlite_url(ledger), "t")
    (tmp_path / "text").write_text("this is no database" * 100)
    with pytest.raises(LedgerRefused, match="cannot be used: file is not a database"):
        verify(sqlite_url(tmp_path / "text"), "t")
