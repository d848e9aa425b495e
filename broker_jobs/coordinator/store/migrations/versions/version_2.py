"""From version 1 (released with 0.1.0) to version 2 (not released yet: columns may still be added here)."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, Text

revision = "2"
down_revision = None


def upgrade() -> None:
    """New columns are nullable or have a `server_default`: rows of version 1 have no value for them."""
    op.add_column("jobs", Column("pause_reason", Text))
    op.add_column("workers", Column("asked", LargeBinary))
    op.add_column("workers", Column("reason", Text, nullable=False, server_default=""))
    op.create_table(
        "revocations",
        Column("job_id", Text, primary_key=True),
        Column("task", Integer, primary_key=True, autoincrement=False),
        Column("queue", Text, primary_key=True),
        Column("attempt", Integer),
        Column("reason", Text, nullable=False),
        Column("unstarted_only", Boolean, nullable=False),
    )
    op.add_column("jobs", Column("reserved", Integer))
    op.add_column("options", Column("origin", LargeBinary))
    op.create_table(
        "reservations",
        Column("job", Integer, primary_key=True, autoincrement=False),
        Column("key", Text, primary_key=True),
        Column("first", Integer, nullable=False),
        Column("tasks", Integer, nullable=False),
    )
    op.create_table(
        "links",
        Column("job", Integer, primary_key=True, autoincrement=False),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("other", Text, primary_key=True),
        Column("other_number", Integer, primary_key=True, autoincrement=False),
        Column("after", Boolean, primary_key=True),
        Column("value", Boolean, nullable=False),
    )
    op.create_table(
        "steps",
        Column("name", Text, primary_key=True),
        Column("version", Text, primary_key=True),
        Column("spec", LargeBinary, nullable=False),
        Column("since_ms", BigInteger, nullable=False),
    )
    op.create_table(
        "data",
        Column("id", Text, primary_key=True),
        Column("ref", LargeBinary, nullable=False),
        Column("name", Text, nullable=False),
        Column("tags", Text, nullable=False),
        Column("user", Text, nullable=False),
        Column("created_ms", BigInteger, nullable=False),
        Column("job", Text),
        Column("task", Integer, nullable=False),
        Column("slot", Text, nullable=False),
        Column("step", Text, nullable=False),
    )
    op.create_index("data_by_job", "data", ["job"])
    op.create_index("data_by_time", "data", ["created_ms"])
    op.create_table(
        "uses",
        Column("job", Integer, primary_key=True, autoincrement=False),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("place", Integer, primary_key=True, autoincrement=False),
        Column("slot", Text, nullable=False),
        Column("data", Text, nullable=False),
        Column("job_id", Text, nullable=False),
    )
    op.create_index("uses_by_data", "uses", ["data"])
    op.create_table(
        "log",
        Column("number", Integer, primary_key=True),
        Column("at_ms", BigInteger, nullable=False),
        Column("kind", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("text", Text, nullable=False),
        Column("job", Text),
    )
    op.create_index("log_by_subject", "log", ["subject"])
    op.create_index("log_by_job", "log", ["job"])
    op.create_table(
        "packs",
        Column("job", Integer, primary_key=True, autoincrement=False),
        Column("first", Integer, primary_key=True, autoincrement=False),
        Column("length", Integer, nullable=False),
        Column("chunk", Text, nullable=False),
        Column("options", Integer, nullable=False),
        Column("kind", Text, nullable=False),
        Column("names", Text, nullable=False),
        Column("changed", BigInteger, nullable=False),
        Column("size", Integer, nullable=False),
        Column("needs", LargeBinary, nullable=False),
        Column("specs", LargeBinary, nullable=False),
    )
    op.create_table(
        "moves",
        Column("job", Integer, primary_key=True, autoincrement=False),
        Column("changed", BigInteger, primary_key=True, autoincrement=False),
        Column("length", Integer, nullable=False),
        Column("low", Integer, nullable=False),
        Column("high", Integer, nullable=False),
        Column("state", Text, nullable=False),
        Column("attempt", Integer, nullable=False),
        Column("chunk", Text),
        Column("reason", Text, nullable=False),
        Column("ended_ms", BigInteger),
        Column("numbers", LargeBinary, nullable=False),
    )
    op.create_table(
        "successes",
        Column("job", Integer, primary_key=True, autoincrement=False),
        Column("changed", BigInteger, primary_key=True, autoincrement=False),
        Column("length", Integer, nullable=False),
        Column("low", Integer, nullable=False),
        Column("high", Integer, nullable=False),
        Column("host", Text, nullable=False),
        Column("reply", LargeBinary, nullable=False),
    )
    op.add_column("jobs", Column("parent", Text))
    op.create_index("jobs_by_parent", "jobs", ["parent"])
