"""Submitting inside a transaction of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from broker_jobs import config
from broker_jobs.client.chunking import WORTH_MS
from broker_jobs.client.link import Frame, sealed
from broker_jobs.client.submission import Submission
from broker_jobs.core.pace import Pace
from broker_jobs.ids import new_job_id, new_name
from broker_jobs.outbox.store import TABLE, OutboxTable
from broker_jobs.wire.signing import Signer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    import sqlalchemy as sa

    from broker_jobs.client.authoring import Job
    from broker_jobs.client.link import Link
    from broker_jobs.wire.messages import Chunk


class OutboxSubmitter:
    """Writes jobs into a table of your database, in your transaction: they are submitted if it commits, and do not exist if it does not.

    No broker is needed for that: an `OutboxRelay` sends them, here or in another process. Large values are written to the value store at
    once, so those of a transaction that is rolled back stay there.

    Args:
        url: address of the broker; this and the next four as `Client` takes them
        namespace: prefix of every name at the broker
        signing_key: hexadecimal text
        partition: of the ledger, in which the jobs are
        by_value: modules of yours that travel with the functions
        table: name of the table
        metadata: to which the table belongs, for tools that make or migrate tables (default: its own)

    Raises:
        ValidationError: the name of the table is none
        SigningKeyMissing: there is no key
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str | None = None,
        signing_key: str | None = None,
        partition: int | None = None,
        by_value: Iterable[ModuleType] = (),
        table: str = TABLE,
        metadata: sa.MetaData | None = None,
    ) -> None:
        self.settings = config.resolve(url, namespace, signing_key, partition=partition)
        self._sealing = _Sealing(Signer(self.settings.namespace, self.settings.required_key()))
        self._by_value = tuple(by_value)
        self._table = OutboxTable(table, metadata)

    def create_table(self, bind: sa.Engine | sa.Connection) -> None:
        """Make the table, where it is missing."""
        self._table.create(bind)

    def submit(self, connection: sa.Connection, job: Job) -> str:
        """Submit a job when the transaction of this connection commits; its id, by which `Client.job` finds it once it was sent.

        Raises:
            ValidationError: the job is empty, or something of it cannot be sent; nothing was written
        """
        submission = Submission(job, new_job_id(self.settings.partition), self.settings.value_store, self._by_value)
        # Which classes are open, and how long calls take, only a connection knows, so the ledger gets all of it.
        link = cast("Link", self._sealing)  # of a link it asks for its name, and to sign
        spool, _ = submission.encode(link, frozenset(), None, Pace(WORTH_MS))
        try:
            self._table.add(connection, submission.id, spool)
        finally:
            spool.close()
        return submission.id


class _Sealing:
    """What of a link is needed without a connection."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self.client = new_name("outbox")

    def seal(self, chunk: Chunk) -> Frame:
        """The signed frame of a chunk."""
        return sealed(chunk, self._signer)
