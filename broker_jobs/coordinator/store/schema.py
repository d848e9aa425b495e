"""The tables of a ledger, version 2. What changes here is brought to older ledgers by `migrations/versions`.

A job has a small integer key, because every row of its tasks repeats it. Payloads (`specs`, `outcomes`, `blobs`) stand apart
from the rows of `tasks`, which are written again with each change of state.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

SCHEMA_VERSION: Final = 2

Whole: Final = Integer().with_variant(BigInteger(), "postgresql")
"""A whole number of 64 bits, as SQLite's are."""

metadata: Final = MetaData()

meta: Final = Table("meta", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))

# The same version, as Alembic writes it down.
alembic_version: Final = Table("alembic_version", metadata, Column("version_num", String(32), primary_key=True))

epochs: Final = Table(
    "epochs",
    metadata,
    Column("partition", Whole, primary_key=True, autoincrement=False),
    Column("epoch", Whole, nullable=False),
    Column("holder", Text, nullable=False),
)

jobs: Final = Table(
    "jobs",
    metadata,
    Column("key", Whole, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("submitter", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("tags", Text, nullable=False),  # a JSON list
    Column("max_fails", Whole),
    Column("idempotency_key", Text, unique=True),
    Column("ephemeral", Boolean, nullable=False),
    Column("headed", Boolean, nullable=False),  # its header has come
    Column("origin", LargeBinary, nullable=False),
    Column("store", Text),
    Column("total", Whole),
    Column("chunks", Whole),
    Column("state", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("counts", Text, nullable=False),  # a JSON map of task states
    Column("cancel_reason", Text),
    Column("void_reason", Text),
    Column("pause_reason", Text),
    Column("reserved", Whole),  # of a job that was opened: task numbers that were given out
    Column("released", Whole, nullable=False),  # number of the next ready chunk
    Column("submitted_ms", BigInteger, nullable=False),
    Column("heard_ms", BigInteger, nullable=False),  # when its last chunk came
    Column("started_ms", BigInteger),
    Column("ended_ms", BigInteger),
    Column("parent", Text),  # the job inside a task of which it was submitted
)
Index("jobs_by_parent", jobs.c.parent)
Index("jobs_by_state", jobs.c.state)
Index("jobs_by_submission", jobs.c.submitted_ms, jobs.c.key)
Index("jobs_by_end", jobs.c.ended_ms)

tasks: Final = Table(
    "tasks",
    metadata,
    Column("job", Whole, primary_key=True, autoincrement=False),
    Column("number", Whole, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("options", Whole, nullable=False),
    Column("deps", Text, nullable=False),  # numbers with commas between
    Column("after", Text, nullable=False),
    Column("size", Whole, nullable=False),  # bytes of its spec
    Column("state", Text, nullable=False),
    Column("attempt", Whole, nullable=False),
    Column("failures", Whole, nullable=False),
    Column("crashes", Whole, nullable=False),
    Column("isolated", Boolean, nullable=False),
    Column("execution", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("chunk", Text),  # the unfinished chunk in a class queue that holds it
    Column("worker", Text, nullable=False),
    Column("boot", Text, nullable=False),
    Column("taken", Boolean, nullable=False),
    Column("due_ms", BigInteger),
    Column("started_ms", BigInteger),
    Column("ended_ms", BigInteger),
    Column("progress", Float),
    Column("progress_text", Text, nullable=False),
    Column("changed", BigInteger, nullable=False),  # the job's version that this change made
)
Index("tasks_by_change", tasks.c.job, tasks.c.changed)

specs: Final = Table(
    "specs",
    metadata,
    Column("job", Whole, primary_key=True, autoincrement=False),
    Column("number", Whole, primary_key=True, autoincrement=False),
    Column("spec", LargeBinary, nullable=False),
)

outcomes: Final = Table(
    "outcomes",
    metadata,
    Column("job", Whole, primary_key=True, autoincrement=False),
    Column("number", Whole, primary_key=True, autoincrement=False),
    Column("outcome", LargeBinary, nullable=False),
    Column("stdout", LargeBinary, nullable=False),
    Column("stderr", LargeBinary, nullable=False),
    Column("host", Text, nullable=False),
)

# Tasks of one chunk that have done nothing yet that they could not do together: they have no rows in `tasks` and `specs`; see `packs.py`.
packs: Final = Table(
    "packs",
    metadata,
    Column("job", Whole, primary_key=True, autoincrement=False),
    Column("first", Whole, primary_key=True, autoincrement=False),
    Column("length", Whole, nullable=False),
    Column("chunk", Text, nullable=False),  # in which they came into a class queue; empty where they wait here
    Column("options", Whole, nullable=False),
    Column("kind", Text, nullable=False),
    Column("names", Text, nullable=False),  # a JSON list, or empty
    Column("changed", BigInteger, nullable=False),  # the job's version that the first of them made
    Column("size", Whole, nullable=False),  # bytes of the spec of each, on average
    Column("needs", LargeBinary, nullable=False),  # what each waits for, or empty
    Column("specs", LargeBinary, nullable=False),
)

# Tasks in packs that have come into a state together, instead of new values for their rows.
moves: Final = Table(
    "moves",
    metadata,
    Column("job", Whole, primary_key=True, autoincrement=False),
    Column("changed", BigInteger, primary_key=True, autoincrement=False),
    Column("length", Whole, nullable=False),
    Column("low", Whole, nullable=False),
    Column("high", Whole, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Whole, nullable=False),
    Column("chunk", Text),
    Column("reason", Text, nullable=False),
    Column("ended_ms", BigInteger),
    Column("numbers", LargeBinary, nullable=False),  # empty where they are all from low to high
)

# Replies that tell of their successes, instead of rows in `outcomes`.
successes: Final = Table(
    "successes",
    metadata,
    Column("job", Whole, primary_key=True, autoincrement=False),
    Column("changed", BigInteger, primary_key=True, autoincrement=False),
    Column("length", Whole, nullable=False),
    Column("low", Whole, nullable=False),
    Column("high", Whole, nullable=False),
    Column("host", Text, nullable=False),
    Column("reply", LargeBinary, nullable=False),
)

options: Final = Table(
    "options",
    metadata,
    Column("job", Whole, primary_key=True, autoincrement=False),
    Column("number", Whole, primary_key=True, autoincrement=False),
    Column("options", LargeBinary, nullable=False),
    Column("resource_class", Text, nullable=False),
    Column("origin", LargeBinary),  # where its functions come from, if not from where the job's do
)

blobs: Final = Table(
    "blobs",
    metadata,
    Column("job", Whole, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

reservations: Final = Table(
    "reservations",
    metadata,
    Column("job", Whole, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("first", Whole, nullable=False),
    Column("tasks", Whole, nullable=False),
)

# What tasks still wait for in other jobs.
links: Final = Table(
    "links",
    metadata,
    Column("job", Whole, primary_key=True, autoincrement=False),
    Column("number", Whole, primary_key=True, autoincrement=False),
    Column("other", Text, primary_key=True),
    Column("other_number", Whole, primary_key=True, autoincrement=False),
    Column("after", Boolean, primary_key=True),  # any end will do
    Column("value", Boolean, nullable=False),  # the other's result is an argument
)

chunks: Final = Table(
    "chunks",
    metadata,
    Column("job", Whole, primary_key=True, autoincrement=False),
    Column("chunk", Text, primary_key=True),
)

early: Final = Table(
    "early",
    metadata,
    Column("id", Whole, primary_key=True, autoincrement=False),
    Column("job_id", Text, nullable=False),
    Column("task", Whole, nullable=False),
    Column("reply", LargeBinary, nullable=False),
    Column("heard_ms", BigInteger, nullable=False),
)
Index("early_by_job", early.c.job_id, early.c.task)

outbox: Final = Table(
    "outbox",
    metadata,
    Column("id", Whole, primary_key=True, autoincrement=False),
    Column("exchange", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("mandatory", Boolean, nullable=False),
)

workers: Final = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("boot", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Whole, nullable=False),
    Column("version", Text, nullable=False),
    Column("resources", LargeBinary, nullable=False),
    Column("free", LargeBinary, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    Column("asked", LargeBinary),  # to end, and how
    Column("reason", Text, nullable=False, server_default=""),
)

# What must not start although a message of it may still stand in a class queue.
revocations: Final = Table(
    "revocations",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("task", Whole, primary_key=True, autoincrement=False),  # -1 is every task of the job
    Column("queue", Text, primary_key=True),
    Column("attempt", Whole),  # the last one; null is every attempt
    Column("reason", Text, nullable=False),
    Column("unstarted_only", Boolean, nullable=False),
)

# What workers have announced.
steps: Final = Table(
    "steps",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("spec", LargeBinary, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
)

# What users have put into the store, and what tasks have made.
data: Final = Table(
    "data",
    metadata,
    Column("id", Text, primary_key=True),
    Column("ref", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),
    Column("tags", Text, nullable=False),  # a JSON list
    Column("user", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("job", Text),  # that has made it
    Column("task", Whole, nullable=False),
    Column("slot", Text, nullable=False),
    Column("step", Text, nullable=False),
)
Index("data_by_job", data.c.job)
Index("data_by_time", data.c.created_ms)

uses: Final = Table(
    "uses",
    metadata,
    Column("job", Whole, primary_key=True, autoincrement=False),
    Column("number", Whole, primary_key=True, autoincrement=False),
    Column("place", Whole, primary_key=True, autoincrement=False),  # among all that the task takes
    Column("slot", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("job_id", Text, nullable=False),
)
Index("uses_by_data", uses.c.data)

# What has happened; nothing of it is ever removed.
log: Final = Table(
    "log",
    metadata,
    Column("number", Whole, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("job", Text),
)
Index("log_by_subject", log.c.subject)
Index("log_by_job", log.c.job)

classes: Final = Table(
    "classes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("needs", LargeBinary, nullable=False),
    Column("used_ms", BigInteger, nullable=False),
)
