"""The ledger in a PostgreSQL: who may write, who waits, what becomes of those who were thought dead, and what it keeps."""

from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa

from broker_jobs.coordinator.store import LedgerStore, Writes, postgres, schema
from broker_jobs.coordinator.verify import repair, verify
from broker_jobs.core.outcome import Cause, Failed
from broker_jobs.core.spec import TaskOptions
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.errors import LedgerLost, LedgerRefused
from broker_jobs.ids import MOST_PARTITIONS
from broker_jobs.wire import messages as m
from tests.support.cast import call, job_chunks
from tests.support.daemons import until
from tests.support.ledger_world import Crash, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.postgres import Postgres

GOLDEN = Path(__file__).parents[1] / "golden"
ODD = "\udcff \x00 \U0001f4a9 '; DROP TABLE jobs; --"


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> str:
    return postgres.fresh_database()


@pytest.fixture
def url(database: str) -> str:
    """A database without a ledger; a new one takes longer to make than most of these tests."""
    held = b"SELECT 1 FROM pg_locks JOIN pg_database ON oid = database WHERE locktype = 'advisory' AND datname = current_database()"
    with psycopg.connect(database, autocommit=True) as connection:
        # A session ends a moment after its connection was closed, and only then lets go of the ledger.
        until(lambda: connection.execute(held).fetchone() is None, "nobody holds a ledger")
        for namespace in ("t", "t.1", "U-2"):
            connection.execute(f'DROP SCHEMA IF EXISTS "broker_jobs_{namespace}" CASCADE'.encode())
    return database


@pytest.fixture
def store(url: str) -> Iterator[LedgerStore]:
    store = LedgerStore(url, "t", holder="first")
    store.take_epoch()
    yield store
    store.close()


def value(url: str, sql: str, namespace: str = "t") -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"SET search_path TO broker_jobs_{namespace}".encode())
        found = connection.execute(sql.encode())
        row = found.fetchone() if found.description else None
    return None if row is None else row[0]


def takes(answers: list[float], seen: list[str]) -> Callable[[str], float]:
    """How somebody waits: seconds for which the holder has not been seen at work, once for each answer; then the waiting is over."""

    def wait(holder: str) -> float:
        seen.append(holder)
        if not answers:
            raise TimeoutError
        return answers.pop(0)

    return wait


def test_a_second_one_is_told_who_holds_it_and_waits_if_it_likes(store: LedgerStore, url: str) -> None:
    with pytest.raises(LedgerRefused, match=r"in use by another coordinator: first, process \d+ on "):
        LedgerStore(url, "t")
    seen: list[str] = []
    with pytest.raises(TimeoutError):
        LedgerStore(url, "t", wait=takes([0.0, 20.0], seen))  # the first has only just said something: it is not frozen
    assert len(seen) == 3
    assert seen[0].startswith("first, process ")
    with store.transaction():
        store.write(Writes(chunks=[(1, "0")]))

    def wait(holder: str) -> float:
        del holder
        store.close()
        return 0.0

    second = LedgerStore(url, "t", wait=wait)
    assert second.look.chunk_names(1) == {"0"}
    second.close()


@pytest.mark.parametrize("inside", [False, True])
def test_one_that_was_frozen_writes_nothing_when_it_wakes_up(
    store: LedgerStore, url: str, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "FROZEN", 0.0)
    seconds: list[LedgerStore] = []

    def oust() -> None:
        second = LedgerStore(url, "t", holder="second", wait=takes([1.0] * 100, []))
        second.take_epoch()
        seconds.append(second)

    def write() -> None:
        if not inside:
            oust()
        with store.transaction():
            store.write(Writes(chunks=[(1, "of the first")]))
            if inside:
                oust()
                store.write(Writes(chunks=[(1, "of the first, later")]))

    with pytest.raises(LedgerLost, match="does not answer any more"):
        write()
    (second,) = seconds
    with second.transaction():
        second.write(Writes(chunks=[(1, "of the second")]))
    assert second.look.chunk_names(1) == {"of the second"}
    second.close()


def test_one_that_has_lost_the_broker_is_followed_by_one_that_has_not(store: LedgerStore, url: str) -> None:
    """It goes on saying something in its session, and does no work for half a minute."""

    def wait(holder: str) -> float:
        if not gone:
            with store.transaction():
                gone.append(holder)
            return 29.0
        return 31.0

    gone: list[str] = []
    second = LedgerStore(url, "t", holder="second", wait=wait)
    assert gone[0].startswith("first, process ")
    with pytest.raises(LedgerLost), store.transaction():
        pass
    second.close()


def test_one_that_is_busy_with_the_tables_is_left_alone(store: LedgerStore, url: str) -> None:
    with store.transaction(), pytest.raises(TimeoutError):
        LedgerStore(url, "t", wait=takes([31.0] * 3, []))
    with store.transaction():
        store.write(Writes(chunks=[(1, "0")]))


def test_whoever_has_lost_the_epoch_writes_nothing(store: LedgerStore, url: str) -> None:
    """The second line: the session is still there, as behind a pooler that has given its lock to somebody else."""
    value(url, "UPDATE epochs SET epoch = epoch + 1, holder = 'second'")
    with pytest.raises(LedgerLost, match=r"taken partition 0 of the ledger .*: second"), store.transaction():
        store.write(Writes(chunks=[(1, "1")]))
    assert store.look.chunk_names(1) == set()


def test_an_epoch_waits_for_the_transaction_of_the_one_before(store: LedgerStore, url: str) -> None:
    with store.transaction():
        with psycopg.connect(url, options="-c lock_timeout=20ms") as other, pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("UPDATE broker_jobs_t.epochs SET epoch = epoch + 1")
        store.write(Writes(chunks=[(1, "0")]))
    assert store.look.chunk_names(1) == {"0"}


def test_namespaces_share_a_database(store: LedgerStore, url: str) -> None:
    with store.transaction():
        store.write(Writes(chunks=[(1, "of t")]))
    for _ in range(2):
        other = LedgerStore(url, "U-2")
        assert other.look.chunk_names(1) == set()
        other.close()
    assert value(url, "SELECT value FROM meta WHERE name = 'namespace'") == "t"


def test_partitions_share_a_database(store: LedgerStore, url: str) -> None:
    with store.transaction():
        store.write(Writes(chunks=[(1, "of the first")]))
    second = LedgerStore(url, "t", partition=1, holder="second")
    second.take_epoch()
    with store.transaction(), second.transaction():
        second.write(Writes(chunks=[(1, "of the second")]))
        store.write(Writes(chunks=[(2, "of the first")]))
    assert [each.look.chunk_names(1) for each in (store, second)] == [{"of the first"}, {"of the second"}]
    with pytest.raises(LedgerRefused, match="in use by another coordinator: second"):
        LedgerStore(url, "t", partition=1)
    second.close()
    orphans = [problem.text for partition in (0, 1) for problem in verify(url, "t", partition=partition).problems]
    assert [text.partition(" of")[0] for text in orphans] == ["1 rows", "1 rows", "1 rows"], "two jobs of the first, one of the second"
    with pytest.raises(LedgerRefused, match="there is no ledger of the namespace 't', partition 2 in "):
        verify(url, "t", partition=2)
    with psycopg.connect(url) as connection:
        found = connection.execute('SELECT epoch, holder FROM "broker_jobs_t.1".epochs WHERE partition = 1').fetchall()
    assert found == [(1, "second")]


def test_the_longest_name_of_a_ledger_is_kept_whole(database: str) -> None:
    """PostgreSQL would cut off what comes after 63 letters, and two partitions would be one."""
    namespace = "n" * 48
    for partition in (1, MOST_PARTITIONS - 2, MOST_PARTITIONS - 1):
        LedgerStore(database, namespace, partition=partition).close()
    with psycopg.connect(database) as connection:
        found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'broker_jobs_nnn%' ORDER BY 1").fetchall()
    assert [name for (name,) in found] == [f"broker_jobs_{namespace}.{partition}" for partition in (1, 62, 63)]


def test_what_cannot_be_used_says_why_and_shows_no_password(store: LedgerStore, url: str) -> None:
    store.close()
    with pytest.raises(LedgerLost, match=r"cannot be reached: .*secret-base.* does not exist") as lost:
        LedgerStore(url.replace("postgres@", "postgres:hidden@").rpartition("/")[0] + "/secret-base", "t")
    assert "hidden" not in str(lost.value)
    value(url, "UPDATE meta SET value = '99' WHERE name = 'schema'")
    with pytest.raises(LedgerRefused, match="has the format 99, and this version of broker-jobs reads 1 to 2: use"):
        LedgerStore(url, "t")
    value(url, "UPDATE meta SET value = 'u' WHERE name = 'namespace'")
    with pytest.raises(LedgerRefused, match="belongs to the namespace 'u', not to 't'"):
        LedgerStore(url, "t")


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*/ledger-at-work.db")), ids=lambda path: path.parent.name)
def test_the_tables_of_a_released_version_are_brought_to_this_one(golden: Path, url: str) -> None:
    """As if that version had kept its ledger in a PostgreSQL: its tables and rows are copied there."""
    with closing(sqlite3.connect(golden)) as old:
        tables = {
            name: old.execute(f"SELECT * FROM {name}").fetchall()
            for (name,) in old.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        columns = {name: [row[1] for row in old.execute(f"PRAGMA table_info({name})")] for name in tables}
    LedgerStore(url, "t").close()
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), connect_args={"options": "-c search_path=broker_jobs_t"})
    with engine.begin() as connection:
        for table in reversed(schema.metadata.sorted_tables):
            if table.name not in columns:
                table.drop(connection)
                continue
            connection.execute(table.delete())
            for index in table.indexes:
                if not {column.name for column in index.columns} <= set(columns[table.name]):
                    index.drop(connection)
            for column in table.columns:
                if column.name not in columns[table.name]:
                    connection.exec_driver_sql(f'ALTER TABLE "{table.name}" DROP COLUMN "{column.name}"')
            rows = [dict(zip(columns[table.name], row, strict=True)) for row in tables[table.name]]
            for row in rows:
                row.update({name: bool(cell) for name, cell in row.items() if isinstance(table.c[name].type, sa.Boolean)})
                connection.execute(sa.insert(table).values(row).inline())
    engine.dispose()
    store = LedgerStore(url, "t")
    assert value(url, "SELECT version_num FROM alembic_version") == value(url, "SELECT value FROM meta WHERE name = 'schema'") == "2"
    assert store.look.steps() == []
    assert {facts.id for facts in store.look.live_jobs()} <= {row[columns["jobs"].index("id")] for row in tables["jobs"]}
    assert value(url, "SELECT count(*) FROM tasks") == len(tables["tasks"])
    store.close()


def test_it_keeps_what_a_file_keeps(url: str) -> None:
    world = World(address=url)
    options = TaskOptions(env=((ODD, ODD),), cwd=ODD)
    (odd,) = job_chunks([call(0, name=ODD)], name=ODD, user=ODD, tags=(ODD,), idempotency_key=ODD, options=options)
    graph = job_chunks([call(number, *([number - 1] if number else [])) for number in range(5)])
    direct = job_chunks([call(number) for number in range(20)], direct=True)
    for chunk in (dataclasses.replace(odd, store=ODD), *graph, *direct):
        world.submit(chunk)
    world.batch(range(len(world.inbox)), Crash.after_commit)
    world.batch(range(len(world.inbox)))
    world.reply(odd.job, m.Started(0, 1, ODD, 1), m.Progress(0, 1, 0.5, ODD))
    world.reply(odd.job, world.ended(odd.tasks[0], Failed(Cause.error, ODD, traceback=ODD)))
    world.batch(range(len(world.inbox)), Crash.before_commit)
    world.batch(range(len(world.inbox)))
    facts = world.store.look.job(odd.job)
    assert facts is not None
    assert facts.name == facts.tags[0] == "\\udcff \\x00 \U0001f4a9 '; DROP TABLE jobs; --"
    assert facts.state is JobState.failed
    assert world.store.look.options(facts.key)[0].options == odd.options[0]
    found = {job.id: world.store.look.views(job.key, range(20)) for job in world.store.look.live_jobs()}
    assert [view.state for view in found[graph[0].job].values()] == [TaskState.queued, *[TaskState.waiting] * 4]
    assert {view.state for view in found[direct[0].job].values()} == {TaskState.queued}
    world.ask(m.FindJob(f"key:{ODD}"))
    world.ask(m.ListJobs(limit=10))
    world.batch(range(len(world.inbox)))
    world.restart()
    assert verify(url, "t").problems == [], "looked at while it is kept"
    world.store.close()
    value(url, "UPDATE jobs SET counts = '{}'")
    report = verify(url, "t")
    assert len(report.problems) == len(report.remedies) == 3
    repair(url, "t", report.remedies, holder="test")
    assert verify(url, "t").problems == []
    with pytest.raises(LedgerRefused, match="there is no ledger of the namespace 'other'"):
        verify(url, "other")
