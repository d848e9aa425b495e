"""The table in which jobs wait, in the database of the application. The one module of the outbox that knows SQLAlchemy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from broker_jobs.client.link import Frame
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE: Final = "broker_jobs_outbox"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class OutboxTable:
    """A row for each signed chunk of a job.

    Args:
        name: of the table
        metadata: to which it belongs (default: its own)

    Raises:
        ValidationError: the name is none
    """

    def __init__(self, name: str = TABLE, metadata: sa.MetaData | None = None) -> None:
        if not _NAME.fullmatch(name):
            raise ValidationError(f"the name of the outbox's table is letters, digits and '_', not {name!r}")
        self.table = sa.Table(
            name,
            sa.MetaData() if metadata is None else metadata,
            # SQLite counts up by itself only what is called INTEGER.
            sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
            sa.Column("job", sa.String(32), nullable=False, index=True),
            sa.Column("key", sa.Text, nullable=False),
            sa.Column("body", sa.LargeBinary, nullable=False),
        )

    def create(self, bind: sa.Engine | sa.Connection) -> None:
        """Make the table, where it is missing."""
        self.table.metadata.create_all(bind, tables=[self.table])

    def add(self, connection: sa.Connection, job: str, frames: Iterable[Frame]) -> None:
        """Add a job, in the transaction of the connection."""
        for frame in frames:
            connection.execute(self.table.insert().values(job=job, key=frame.key, body=frame.body))

    def jobs(self, engine: sa.Engine, most: int) -> list[str]:
        """Ids of the jobs that wait, those first that have waited longest."""
        job = self.table.c.job
        oldest = sa.select(job).group_by(job).order_by(sa.func.min(self.table.c.id)).limit(most)
        with engine.connect() as connection:
            return list(connection.execute(oldest).scalars())

    def frames(self, engine: sa.Engine, job: str) -> list[Frame]:
        """The chunks of a job."""
        with engine.connect() as connection:
            rows = connection.execute(
                sa.select(self.table.c.key, self.table.c.body).where(self.table.c.job == job).order_by(self.table.c.id)
            )
            return [Frame(key, bytes(body)) for key, body in rows]

    def remove(self, engine: sa.Engine, job: str) -> None:
        """Forget a job that the broker has."""
        with engine.begin() as connection:
            connection.execute(self.table.delete().where(self.table.c.job == job))
