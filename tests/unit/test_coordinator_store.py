"""The ledger's database: who may open it, who may write, and what texts it takes."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs.config import sqlite_url
from broker_jobs.coordinator.store import LedgerStore, Writes
from broker_jobs.core.outcome import Cause, Failed
from broker_jobs.core.spec import TaskOptions
from broker_jobs.errors import LedgerLost, LedgerRefused
from broker_jobs.wire import messages as m
from tests.support.cast import call, job_chunks
from tests.support.ledger_world import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def store(ledger: Path) -> Iterator[LedgerStore]:
    store = LedgerStore(sqlite_url(ledger), "t", holder="first")
    store.take_epoch()
    yield store
    store.close()


def test_nobody_else_reads_it(store: LedgerStore) -> None:
    assert Path(store.name).stat().st_mode & 0o777 == 0o600


def test_a_second_one_is_told_who_holds_it(store: LedgerStore) -> None:
    with pytest.raises(LedgerRefused, match=r"in use by another coordinator: process \d+ on "):
        LedgerStore(sqlite_url(Path(store.name)), "t")
    store.close()
    LedgerStore(sqlite_url(Path(store.name)), "t").close()


def test_a_ledger_of_others_is_refused(ledger: Path) -> None:
    LedgerStore(sqlite_url(ledger), "t").close()
    with pytest.raises(LedgerRefused, match="belongs to the namespace 't', not to 't', partition 1"):
        LedgerStore(sqlite_url(ledger), "t", partition=1)
    with pytest.raises(LedgerRefused, match="belongs to the namespace 't', not to 'u'"):
        LedgerStore(sqlite_url(ledger), "u")
    with sqlite3.connect(ledger) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    connection.close()
    with pytest.raises(LedgerRefused, match="has the format 99, and this version of broker-jobs reads 1 to 2: use"):
        LedgerStore(sqlite_url(ledger), "t")


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no database, and much longer than a header of one hundred bytes would be, so it is read" * 2)
    with pytest.raises(LedgerRefused, match="cannot be used"):
        LedgerStore(sqlite_url(tmp_path / "text"), "t")
    for url in ("sqlite://", "sqlite:///:memory:", "mysql://host/jobs"):
        with pytest.raises(LedgerRefused, match="must be a file"):
            LedgerStore(url, "t")


def test_a_full_disk_is_no_bug_and_what_it_had_is_there_when_there_is_room(store: LedgerStore) -> None:
    with store.transaction():
        store.write(Writes(chunks=[(1, "0")]))
    cursor = store._cursor  # noqa: SLF001 (the limit is that of a connection)
    cursor.execute("PRAGMA max_page_count = 1")  # as many as there are
    cursor.fetchall()
    with pytest.raises(LedgerLost, match="database or disk is full"), store.transaction():
        store.write(Writes(blobs=[(1, "f:large", bytes(1_000_000))]))
    store.close()
    again = LedgerStore(sqlite_url(Path(store.name)), "t")
    again.take_epoch()
    with again.transaction():
        again.write(Writes(chunks=[(1, "1")]))
    assert again.look.chunk_names(1) == {"0", "1"}
    again.close()


def test_whoever_has_lost_the_epoch_writes_nothing(store: LedgerStore) -> None:
    with store.transaction():
        store.write(Writes(chunks=[(1, "0")]))
    with sqlite3.connect(Path(store.name)) as other:
        other.execute("UPDATE epochs SET epoch = epoch + 1, holder = 'second'")
    other.close()
    with pytest.raises(LedgerLost, match=r"taken partition 0 of the ledger .*: second"), store.transaction():
        store.write(Writes(chunks=[(1, "1")]))
    assert store.look.chunk_names(1) == {"0"}
    store.take_epoch()
    with store.transaction():
        store.write(Writes(chunks=[(1, "1")]))
    assert store.look.chunk_names(1) == {"0", "1"}


def test_a_transaction_that_fails_leaves_nothing(store: LedgerStore) -> None:
    def fail() -> None:
        with store.transaction():
            store.write(Writes(chunks=[(1, "0")]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.look.chunk_names(1) == set()


def test_any_text_can_be_kept() -> None:
    world = World()
    odd = "\udcff \x00 \U0001f4a9 '; DROP TABLE jobs; --"
    (chunk,) = job_chunks(
        [call(0, name=odd)], name=odd, user=odd, tags=(odd,), idempotency_key=odd, options=TaskOptions(env=((odd, odd),), cwd=odd)
    )
    world.submit(dataclasses.replace(chunk, store=odd))
    world.batch(range(len(world.inbox)))
    task = chunk.tasks[0]
    world.reply(chunk.job, m.Started(0, 1, odd, 1), m.Progress(0, 1, 0.5, odd))
    world.reply(chunk.job, world.ended(task, Failed(Cause.error, odd, traceback=odd)))
    world.ask(m.CancelTasks(chunk.job, reason=odd))
    world.ask(m.FindJob(f"key:{odd}"))
    world.batch(range(len(world.inbox)))
    facts = world.store.look.job(chunk.job)
    assert facts is not None
    assert facts.name == facts.tags[0] == "\\udcff \\x00 \U0001f4a9 '; DROP TABLE jobs; --"
    assert world.store.look.options(facts.key)[0].options == chunk.options[0]
    world.restart()
    world.close()
