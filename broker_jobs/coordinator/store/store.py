"""The ledger's database: one connection, one transaction for a batch.

Every transaction holds only while nobody else has taken the partition: it starts with a look at the epoch row.
"""

from __future__ import annotations

import logging
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from broker_jobs.coordinator.store import schema
from broker_jobs.coordinator.store.database import ledger_name, open_database, shown_name
from broker_jobs.coordinator.store.lookups import Lookups
from broker_jobs.coordinator.store.statement import Changes, Query
from broker_jobs.coordinator.store.writes import Writer, Writes
from broker_jobs.errors import LedgerLost, LedgerRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection

_LOG: Final = logging.getLogger(__name__)


class LedgerStore:
    """The database of one ledger: of a namespace, and a partition of it. Used by one thread at a time.

    Args:
        url: ``sqlite:////folder/ledger.db`` (the folder is made where it is missing), or ``postgresql://user:password@host/database``
        durable: survive a loss of power too (SQLite: ``synchronous=FULL``; PostgreSQL always does)
        holder: who this is, for the next one who is refused
        wait: for a ledger that several coordinators share: called with the name of the one who holds it, until it is free; waits a
            moment, and says for how many seconds the holder has not been seen at work. What it raises ends the waiting

    Attributes:
        name: for people
        id: of the ledger, made with it and kept as long as it is
        local: whether it is a file of this host, which answers within a millisecond or two
        look: what can be read

    Raises:
        LedgerRefused: another coordinator holds it, it is of another namespace, partition or version, or it is no such database
        LedgerLost: the database does not answer
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        *,
        partition: int = 0,
        durable: bool = False,
        holder: str = "",
        wait: Callable[[str], float] | None = None,
    ) -> None:
        ledger = ledger_name(namespace, partition)
        self._database = open_database(url, ledger, durable=durable, holder=holder)
        self.name, self.local = self._database.name, self._database.local
        self._holder = holder
        self._partition = partition
        self._taken = 0
        try:
            self._database.hold(wait)
            with self._database.prepare() as connection:
                if sa.inspect(connection).has_table(schema.meta.name):
                    self._claim(connection, ledger)
                else:
                    _create(connection, ledger)
                self.id = _identity(connection)
        except BaseException:
            self._database.close()
            raise
        self._cursor = self._database.cursor()
        dialect = self._database.dialect
        self.look = Lookups(self._cursor, dialect)
        self._writer = Writer(dialect)
        epochs = schema.epochs
        # Until the end of the transaction nobody else can take it, where several could.
        wanted = sa.select(epochs.c.epoch, epochs.c.holder).where(epochs.c.partition == sa.bindparam("number")).with_for_update()
        self._epoch = Query(wanted, dialect)
        self._take = Changes(dialect).replace(epochs, ["partition", "epoch", "holder"])
        self._recount = Changes(dialect).update(schema.jobs, ["version", "counts"], ["key"])

    def close(self) -> None:
        """Close the database and let the next coordinator in."""
        self._database.close()

    def _claim(self, connection: Connection, ledger: str) -> None:
        """See whether it is ours, and bring it to our version."""
        known = {row.name: row.value for row in connection.execute(sa.select(schema.meta))}
        found, ours = known.get("schema", "none"), schema.SCHEMA_VERSION
        if (owner := known.get("namespace", "")) != ledger:
            raise LedgerRefused(f"the ledger {self.name} belongs to the namespace {shown_name(owner)}, not to {shown_name(ledger)}")
        if not found.isdecimal() or not 0 < int(found) <= ours:
            raise LedgerRefused(
                f"the ledger {self.name} has the format {found}, and this version of broker-jobs reads 1 to {ours}:"
                " use the version that wrote it, or a newer one"
            )
        if int(found) < ours:
            # Alembic takes a tenth of a second to load: an up-to-date ledger does not wait for it.
            from broker_jobs.coordinator.store.migrations import migrate

            _LOG.info("the ledger %s is brought from format %s to %d", self.name, found, ours)
            migrate(connection)
            connection.execute(schema.meta.update().where(schema.meta.c.name == "schema").values(value=str(ours)))

    # --- transactions ---

    def take_epoch(self) -> None:
        """Become the one who writes. Whoever was it before writes nothing any more."""
        with self._all_or_nothing():
            found = self._epoch.first(self._cursor, number=self._partition)
            epoch = (found[0] if found else 0) + 1
            self._take.run(self._cursor, [(self._partition, epoch, self._holder)])
        self._taken = epoch

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what is written inside.

        Raises:
            LedgerLost: another coordinator has taken the partition, or the database does not answer any more
        """
        with self._all_or_nothing():
            if self._taken:
                found = self._epoch.first(self._cursor, number=self._partition)
                if found is None or found[0] != self._taken:
                    who = found[1] if found else "its row is gone"
                    raise LedgerLost(f"another coordinator has taken partition {self._partition} of the ledger {self.name}: {who}")
            yield

    @contextmanager
    def answering(self) -> Iterator[None]:
        """What is read outside of a transaction, too, is read from a database that may go.

        Raises:
            LedgerLost: it does not answer any more
        """
        try:
            yield
        except Exception as error:
            if not isinstance(error, LedgerRefused) and self._database.is_weather(error):
                reason = " ".join(str(error).split())
                raise LedgerLost(f"the ledger {self.name} does not answer any more: {reason}") from error
            raise

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        with self.answering():
            self._cursor.execute(self._database.begin())
            try:
                yield
            except BaseException:
                if not self._database.lost:
                    with suppress(Exception):  # a database that is full has done so itself; what is wrong is said below
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

    def recount(self, job: int, counts: str, version: int) -> None:
        """Write what the row of a job repeats of those of its tasks."""
        self._recount.run(self._cursor, [(version, counts, job)])

    def write(self, writes: Writes) -> None:
        """Write everything."""
        self._writer.all(self._cursor, writes)


def _create(connection: Connection, ledger: str) -> None:
    """An empty ledger of our version."""
    schema.metadata.create_all(connection)
    known = {"schema": str(schema.SCHEMA_VERSION), "namespace": ledger}
    connection.execute(schema.meta.insert(), [{"name": name, "value": value} for name, value in known.items()])
    connection.execute(schema.alembic_version.insert().values(version_num=str(schema.SCHEMA_VERSION)))


def _identity(connection: Connection) -> str:
    """The id of the ledger; those that were made before there were ids get one."""
    meta = schema.meta
    found = connection.scalar(sa.select(meta.c.value).where(meta.c.name == "id"))
    if found is None:
        found = uuid.uuid4().hex
        connection.execute(meta.insert().values(name="id", value=found))
    return str(found)
