"""A ledger of each released version becomes one of this version: its tables are those that a new one has, or it stays as it was."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from broker_jobs.config import sqlite_url
from broker_jobs.coordinator.store import LedgerStore, migrations, schema
from broker_jobs.coordinator.verify import verify
from broker_jobs.errors import LedgerRefused

GOLDEN = Path(__file__).parents[1] / "golden"
LEDGERS = sorted(GOLDEN.glob("*/ledger*.db"))
NAMESPACES = {"ledger.db": "bj", "ledger-at-work.db": "t"}


def opened(path: Path, namespace: str) -> None:
    LedgerStore(sqlite_url(path), namespace).close()


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as ledger:
        return ledger.execute(query).fetchall()


@pytest.mark.parametrize("golden", LEDGERS, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_a_ledger_of_a_released_version_gets_the_tables_of_this_one(golden: Path, tmp_path: Path) -> None:
    ledger = Path(shutil.copy(golden, tmp_path))
    jobs = rows(ledger, "SELECT id, state, counts FROM jobs ORDER BY key")
    tasks = rows(ledger, "SELECT job, number, state, attempt FROM tasks ORDER BY job, number")
    opened(ledger, NAMESPACES[golden.name])
    opened(ledger, NAMESPACES[golden.name])
    assert rows(ledger, "SELECT id, state, counts FROM jobs ORDER BY key") == jobs
    assert rows(ledger, "SELECT job, number, state, attempt FROM tasks ORDER BY job, number") == tasks
    engine = sa.create_engine(sqlite_url(ledger))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == [], "columns of schema.py that no migration makes, or the other way round"
        assert context.get_current_revision() == str(schema.SCHEMA_VERSION)
        assert connection.scalar(sa.select(schema.meta.c.value).where(schema.meta.c.name == "schema")) == str(schema.SCHEMA_VERSION)
    engine.dispose()


def test_a_new_ledger_says_its_version_twice_and_means_the_same(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    opened(ledger, "t")
    assert rows(ledger, "SELECT version_num FROM alembic_version") == [(str(schema.SCHEMA_VERSION),)]
    assert rows(ledger, "SELECT value FROM meta WHERE name = 'schema'") == [(str(schema.SCHEMA_VERSION),)]


def test_versions_stand_in_one_line_and_end_with_this_one() -> None:
    script = ScriptDirectory.from_config(migrations.config())
    assert [revision.revision for revision in script.walk_revisions()] == [str(number) for number in range(schema.SCHEMA_VERSION, 1, -1)]


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    ledger = Path(shutil.copy(GOLDEN / "0.1.0" / "ledger.db", tmp_path))
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("DROP TABLE jobs")
    before = rows(ledger, "SELECT name, sql FROM sqlite_master ORDER BY name")
    with pytest.raises(LedgerRefused, match="cannot be used: no such table: jobs"):
        opened(ledger, "bj")
    assert rows(ledger, "SELECT name, sql FROM sqlite_master ORDER BY name") == before
    assert rows(ledger, "SELECT value FROM meta WHERE name = 'schema'") == [("1",)]


def test_the_ledger_of_another_namespace_is_not_migrated(tmp_path: Path) -> None:
    ledger = Path(shutil.copy(GOLDEN / "0.1.0" / "ledger.db", tmp_path))
    with pytest.raises(LedgerRefused, match="belongs to the namespace"):
        opened(ledger, "others")
    assert rows(ledger, "SELECT value FROM meta WHERE name = 'schema'") == [("1",)]


@pytest.mark.parametrize("golden", LEDGERS, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_what_was_brought_here_is_sound(golden: Path, tmp_path: Path) -> None:
    ledger, namespace = Path(shutil.copy(golden, tmp_path)), NAMESPACES[golden.name]
    with pytest.raises(LedgerRefused, match=r"has the format 1, .*: start a coordinator once, which brings it up to date"):
        verify(sqlite_url(ledger), namespace)
    opened(ledger, namespace)
    report = verify(sqlite_url(ledger), namespace)
    assert report.problems == []
    assert report.tasks > 0
