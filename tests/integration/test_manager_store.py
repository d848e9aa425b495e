"""The rows of managed jobs on SQLite and on PostgreSQL: what comes back, and who wins when several processes want the same."""

from __future__ import annotations

import dataclasses
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest

from broker_jobs.errors import JobNotFound, ManagerStoreError
from broker_jobs.manager import JobManager
from broker_jobs.manager import record as records
from broker_jobs.manager.record import JobRecord, News
from broker_jobs.manager.statuses import RUNNING, Code, Status, Statuses
from broker_jobs.manager.store import SCHEMA_VERSION, JobStore
from broker_jobs.templates import JobTemplate
from tests.support import managed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres import Postgres

THREADS = 8
FULL = JobRecord(
    "1" * 32,
    "app",
    "jöb 'quoted' \N{SNOWMAN}",
    'ann"; drop table',
    "t",
    "workflow",
    "/w",
    1,
    description="d",
    groups=("a", "b"),
    parameters={"nul": "a\0b", "odd": "\udce4", "big": 2**70, "deep": [1.5, None, {"x": True}]},
    extended_properties={"x": "\N{SNOWMAN}"},
    callbacks={"COM": "a.b"},
    process_results="a.b",
    status=Status(Code.OTH, "My own"),
    ended=True,
    message="m",
    work="w",
    run=3,
    processings=2,
    nodes=({"name": "n", "status": "COM"},),
    executed_ms=2**40,
    started_ms=2,
    completed_ms=3,
)


@pytest.fixture
def store(manager_store: str) -> JobStore:
    return JobStore(manager_store)


def plain(number: int) -> JobRecord:
    return JobRecord(f"{number:032x}", "app", "job", "ann", "t", "basic", "/w", number)


def test_a_row_comes_back_as_it_was(store: JobStore) -> None:
    store.add(FULL)
    assert store.get(FULL.id) == store.find(FULL.id) == FULL
    assert store.jobs("app", user=FULL.user) == store.jobs("app", groups=["b"]) == [FULL]
    assert store.jobs("other") == store.jobs("app", groups=[]) == store.jobs("app", user="ann") == []
    assert store.find("2" * 32) is None


def test_only_what_is_different_is_written(store: JobStore) -> None:
    store.add(FULL)
    before, after = store.change(FULL.id, lambda found: dataclasses.replace(found, message="m"))
    assert before is after
    before, after = store.change(FULL.id, lambda found: dataclasses.replace(found, message="new"))
    assert (before, after.version) == (FULL, 2)
    assert store.get(FULL.id) == dataclasses.replace(FULL, message="new", version=2)


def test_a_change_that_is_refused_changes_nothing(store: JobStore) -> None:
    store.add(FULL)
    with pytest.raises(ZeroDivisionError):
        store.change(FULL.id, lambda found: dataclasses.replace(found, run=1 // 0))
    assert store.get(FULL.id) == FULL


def test_of_many_who_change_the_same_nobody_is_lost(store: JobStore) -> None:
    store.add(plain(1))
    start = threading.Barrier(THREADS)

    def add(_: int) -> None:
        start.wait(30)
        for _again in range(5):
            store.change(plain(1).id, lambda found: dataclasses.replace(found, run=found.run + 1))

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(add, range(THREADS)))
    found = store.get(plain(1).id)
    assert (found.run, found.version) == (THREADS * 5, THREADS * 5 + 1)


def test_a_change_that_was_decided_on_old_facts_is_decided_again(store: JobStore) -> None:
    """Somebody hears that it runs while another one hears that it has ended: the end stays."""
    statuses = Statuses()
    store.add(records.executed(plain(1), 1))
    ended = []

    def late(found: JobRecord) -> JobRecord:
        if not ended:
            ended.append(store.change(found.id, lambda now: records.heard(now, News(Status(Code.ERR), 1, "oops"), statuses, 2)))
        return records.heard(found, News(RUNNING, 1), statuses, 3)

    before, after = store.change(plain(1).id, late)
    assert before is after
    assert (after.status.code, after.message) == (Code.ERR, "oops")


def test_a_row_is_deleted_in_the_state_that_was_looked_at(store: JobStore) -> None:
    store.add(FULL)
    looks = []

    def check(found: JobRecord) -> None:
        looks.append(found.version)
        if len(looks) == 1:
            store.change(found.id, lambda now: dataclasses.replace(now, message="quicker"))

    store.delete(FULL.id, check)
    assert looks == [1, 2]
    assert store.jobs("app", groups=["a"]) == []
    for gone in (lambda: store.get(FULL.id), lambda: store.delete(FULL.id, check), lambda: store.change(FULL.id, lambda found: found)):
        with pytest.raises(JobNotFound):
            gone()


def test_many_who_open_an_empty_database_make_its_tables_once(manager_store: str) -> None:
    start = threading.Barrier(THREADS)

    def opened(number: int) -> JobStore:
        start.wait(30)
        store = JobStore(manager_store)
        store.add(plain(number))
        return store

    with ThreadPoolExecutor(THREADS) as threads:
        stores = list(threads.map(opened, range(1, THREADS + 1)))
    assert len(stores[0].jobs("app")) == THREADS


def test_a_file_that_another_program_is_about_to_write_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "manager.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as thread:
        opened = thread.submit(JobStore, tmp_path / "manager.db")
        with pytest.raises(TimeoutError):
            opened.result(0.2)
        other.execute("COMMIT")
        assert opened.result(30).jobs("app") == []
    other.close()


def test_tables_of_another_version_are_refused(manager_store: str, store: JobStore) -> None:
    with store._transaction() as connection:  # noqa: SLF001 (only a later version would do this)
        connection.exec_driver_sql(f"UPDATE bj_manager_meta SET value = '{SCHEMA_VERSION + 1}'")
    with pytest.raises(ManagerStoreError, match=f"have the format {SCHEMA_VERSION + 1}, and this version of broker-jobs reads"):
        JobStore(manager_store)


PROGRAM = """
import sys
from broker_jobs.manager import JobManager
manager = JobManager(sys.argv[1], workspaces=sys.argv[2])
job = manager.get_job(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
print(job.process_results())
"""


def test_results_are_processed_once_by_several_processes(manager_store: str, tmp_path: Path) -> None:
    manager = JobManager(manager_store, templates=[JobTemplate("plain")], workspaces=tmp_path / "work")
    job = manager.create_job("job", "ann", "plain")
    job.execute()
    job.update_status("COM")
    job.configure(process_results=managed.note)
    command = [sys.executable, "-c", PROGRAM, manager_store, str(tmp_path / "work"), job.id]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            process.communicate(timeout=60)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert managed.notes(job) == ["RES Results-Ready"]
    assert job.refresh() == "Complete"


def test_the_tables_stand_beside_those_of_others(postgres: Postgres) -> None:
    url = postgres.fresh_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE jobs (id int)")
        connection.execute('CREATE TABLE "user" (id int)')
    JobStore(url).add(FULL)
    assert JobStore(url.replace("postgresql://", "postgres://")).jobs("app") == [FULL]


def test_a_database_that_is_not_there_is_named_without_its_password(postgres: Postgres) -> None:
    url = postgres.url("none").replace("postgres@", "postgres:secret@")
    with pytest.raises(ManagerStoreError, match='database "none" does not exist') as caught:
        JobStore(url)
    assert "secret" not in str(caught.value)


def test_without_the_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ManagerStoreError, match=r"pip install 'broker-jobs\[postgres\]'"):
        JobStore("postgresql://user@host/database")
