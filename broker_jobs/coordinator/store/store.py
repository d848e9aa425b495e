"""The ledger's database: one connection, one transaction for a batch.

Every transaction holds only while nobody else has taken the partition: it starts with a look at the epoch row.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from broker_jobs.config import private_file
from broker_jobs.coordinator.store import schema
from broker_jobs.coordinator.store.lock import LedgerLock
from broker_jobs.coordinator.store.lookups import Lookups
from broker_jobs.coordinator.store.statement import Changes, Query
from broker_jobs.coordinator.store.writes import Writer, Writes
from broker_jobs.errors import LedgerRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection

    from broker_jobs.coordinator.store.statement import Cursor

_LOG: Final = logging.getLogger(__name__)


class LedgerStore:
    """The database of one namespace's ledger. Used by one thread at a time.

    Args:
        url: ``sqlite:////folder/ledger.db``; the folder is made where it is missing
        durable: survive a loss of power too (SQLite: ``synchronous=FULL``)
        holder: who this is, for the next one who is refused

    Attributes:
        look: what can be read

    Raises:
        LedgerRefused: another coordinator holds it, it is of another namespace or version, or it is no such database
    """

    def __init__(self, url: str, namespace: str, *, durable: bool = False, holder: str = "") -> None:
        address = sa.make_url(url)
        if address.get_backend_name() != "sqlite" or not address.database or address.database == ":memory:":
            raise LedgerRefused(f"the ledger's store must be a file, such as sqlite:////var/lib/jobs/ledger.db, not {address}")
        self.path = Path(address.database)
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._holder = holder
        self._epochs: dict[int, int] = {}
        self._lock = LedgerLock(self.path)
        private_file(self.path)  # before SQLite makes the files beside it, which get its mode
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=address.database),
            isolation_level="AUTOCOMMIT",
            poolclass=StaticPool,
            connect_args={"check_same_thread": False},
        )
        try:
            with self._engine.connect() as connection:
                self._prepare(connection, namespace, durable=durable)
        except sa.exc.DBAPIError as error:
            self.close()
            raise LedgerRefused(f"the ledger {self.path} cannot be used: {error.orig}") from error
        except LedgerRefused:
            self.close()
            raise
        self.path.chmod(0o600)
        self._cursor = cast("Cursor", self._engine.raw_connection().cursor())
        dialect = self._engine.dialect
        self.look = Lookups(self._cursor, dialect)
        self._writer = Writer(dialect)
        epochs = schema.epochs
        self._epoch = Query(sa.select(epochs.c.epoch, epochs.c.holder).where(epochs.c.partition == sa.bindparam("number")), dialect)
        self._take = Changes(dialect).replace(epochs, ["partition", "epoch", "holder"])

    def close(self) -> None:
        """Close the database and let the next coordinator in."""
        self._engine.dispose()
        self._lock.close()

    def _prepare(self, connection: Connection, namespace: str, *, durable: bool) -> None:
        for pragma in ("journal_mode=WAL", f"synchronous={'FULL' if durable else 'NORMAL'}", "busy_timeout=10000", "cache_size=-65536"):
            connection.exec_driver_sql(f"PRAGMA {pragma}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            if sa.inspect(connection).has_table(schema.meta.name):
                self._claim(connection, namespace)
            else:
                _create(connection, namespace)
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")

    def _claim(self, connection: Connection, namespace: str) -> None:
        """See whether it is ours, and bring it to our version."""
        known = {row.name: row.value for row in connection.execute(sa.select(schema.meta))}
        found, ours = known.get("schema", "none"), schema.SCHEMA_VERSION
        if known.get("namespace") != namespace:
            raise LedgerRefused(f"the ledger {self.path} belongs to the namespace {known.get('namespace')!r}, not to {namespace!r}")
        if not found.isdecimal() or not 0 < int(found) <= ours:
            raise LedgerRefused(
                f"the ledger {self.path} has the format {found}, and this version of broker-jobs reads 1 to {ours}:"
                " use the version that wrote it, or a newer one"
            )
        if int(found) < ours:
            # Alembic takes a tenth of a second to load: an up-to-date ledger does not wait for it.
            from broker_jobs.coordinator.store.migrations import migrate

            _LOG.info("the ledger %s is brought from format %s to %d", self.path, found, ours)
            migrate(connection)
            connection.execute(schema.meta.update().where(schema.meta.c.name == "schema").values(value=str(ours)))

    # --- transactions ---

    def take_epoch(self, partition: int) -> bool:
        """Become the one who writes for this partition; False where somebody else was in between, so that what is in memory is stale."""
        with self._all_or_nothing():
            found = self._epoch.first(self._cursor, number=partition)
            ours = found is None or found[0] == self._epochs.get(partition, found[0])
            epoch = (found[0] if found else 0) + 1
            self._take.run(self._cursor, [(partition, epoch, self._holder)])
        self._epochs[partition] = epoch
        return ours

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what is written inside.

        Raises:
            LedgerRefused: another coordinator has taken a partition of ours
        """
        with self._all_or_nothing():
            for partition, epoch in self._epochs.items():
                found = self._epoch.first(self._cursor, number=partition)
                if found is None or found[0] != epoch:
                    raise LedgerRefused(f"another coordinator has taken partition {partition}: {found[1] if found else 'its row is gone'}")
            yield

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        self._cursor.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._cursor.execute("ROLLBACK")
            raise
        self._cursor.execute("COMMIT")

    def write_payloads(self, writes: Writes) -> None:
        """Write what lookups of the same batch need to find, and take it out of `writes`."""
        self._writer.payloads(self._cursor, writes)

    def take_apart(self, writes: Writes, job: int, first: int) -> dict[int, int]:
        """Give the tasks of a pack rows of their own; the size of each, by number. Lookups find them at once."""
        self.write_payloads(writes)
        # What was asked of all tasks before these get rows was not asked of these.
        self._writer.sweeps(self._cursor, writes)
        rows = self.look.packs.apart(job, first)
        self._writer.apart(self._cursor, job, first, rows)
        return {number: len(spec) for _, number, spec in rows.specs}

    def write(self, writes: Writes) -> None:
        """Write everything."""
        self._writer.all(self._cursor, writes)


def _create(connection: Connection, namespace: str) -> None:
    """An empty ledger of our version."""
    schema.metadata.create_all(connection)
    known = {"schema": str(schema.SCHEMA_VERSION), "namespace": namespace}
    connection.execute(schema.meta.insert(), [{"name": name, "value": value} for name, value in known.items()])
    connection.execute(schema.alembic_version.insert().values(version_num=str(schema.SCHEMA_VERSION)))
