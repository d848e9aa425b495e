"""The ledger's database: rows in, rows out. The one place that knows SQLAlchemy."""

from __future__ import annotations

from broker_jobs.coordinator.store.lookups import Lookups
from broker_jobs.coordinator.store.moves import Place, move_rows, numbers_of
from broker_jobs.coordinator.store.packs import Needs, dump_tasks, load_tasks
from broker_jobs.coordinator.store.rows import (
    ALL_TASKS,
    ClassRow,
    DataRow,
    EarlyRow,
    JobFacts,
    JobRow,
    LinkRow,
    LogRow,
    MoveRow,
    NewTaskRow,
    OptionsRow,
    OutboxRow,
    OutcomeRow,
    PackRow,
    ProgressRow,
    ReservationRow,
    RevocationRow,
    StepRow,
    SuccessesRow,
    SweepRow,
    TaskRow,
    TaskView,
    UseRow,
    WorkerRow,
    job_row,
)
from broker_jobs.coordinator.store.store import LedgerStore
from broker_jobs.coordinator.store.writes import Writes

__all__ = [
    "ALL_TASKS",
    "ClassRow",
    "DataRow",
    "EarlyRow",
    "JobFacts",
    "JobRow",
    "LedgerStore",
    "LinkRow",
    "LogRow",
    "Lookups",
    "MoveRow",
    "Needs",
    "NewTaskRow",
    "OptionsRow",
    "OutboxRow",
    "OutcomeRow",
    "PackRow",
    "Place",
    "ProgressRow",
    "ReservationRow",
    "RevocationRow",
    "StepRow",
    "SuccessesRow",
    "SweepRow",
    "TaskRow",
    "TaskView",
    "UseRow",
    "WorkerRow",
    "Writes",
    "dump_tasks",
    "job_row",
    "load_tasks",
    "move_rows",
    "numbers_of",
]
