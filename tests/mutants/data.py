"""Bugs that could be in what the ledger knows of data, and in slots and stores; the tests named below must find each."""

from __future__ import annotations

from typing import Final

TESTS: Final = "tests/unit/test_datasets.py"

_SLOTS: Final = "tests/unit/test_slots.py"
_STORES: Final = "tests/unit/test_stores.py"
_LEDGER: Final = "broker_jobs/coordinator/datasets.py"
_ROWS: Final = "broker_jobs/coordinator/store/datalookups.py"
_LOOKUPS: Final = "broker_jobs/coordinator/store/lookups.py"
_CORE: Final = "broker_jobs/core/data.py"

MUTANTS: Final = (
    # (what is broken, file, text, text of the mutant[, tests that must find it])
    ("data: delete what a job takes", _LEDGER, "        if users:\n", "        if users and not users:\n"),
    ("data: forget a job that has made some", _LEDGER, "        if made:\n", "        if made and not made:\n"),
    ("data: forget a job with jobs inside", _LEDGER, "        if below:\n", "        if below and not below:\n"),
    ("data: keep a job for what goes with it", _LEDGER, "if one not in going]", "if one]"),
    ("data: add it twice", _LEDGER, "        if isinstance(known, Refused):\n            name", "        if True:\n            name"),
    (
        "data: note only the first that a task takes",
        _LEDGER,
        "    for place, (slot, data) in enumerate(taken):\n",
        "    for place, (slot, data) in enumerate(taken[:1]):\n",
    ),
    ("data: say of no data what made it", _LEDGER, "work.step if isinstance(work, StepCall) else", '"" if isinstance(work, StepCall) else'),
    (
        "data: keep no log of what is deleted",
        _LEDGER,
        "LogRow(batch.now_ms, LogKind.data_deleted,",
        "LogRow(batch.now_ms, LogKind.data_added,",
    ),
    ("data: count places, not jobs", _ROWS, "sa.distinct(uses.c.job)", "uses.c.job"),
    ("data: find what any job takes for what this one does", _ROWS, ", uses.c.job_id == used_by)", ")"),
    ("data: any of the tags will do", _ROWS, "and tags <= labels and", "and (not tags or bool(tags & labels)) and"),
    ("data: skip nothing", _ROWS, "return found[skip : skip + limit]", "return found[:limit]"),
    ("data: read the log from the beginning", _ROWS, "log.c.number < before", "log.c.number > before"),
    ("data: forget by time what has made some", _LOOKUPS, "sa.not_(sa.exists().where(data.c.job == jobs.c.id)),", ""),
    ("data: forget by time what jobs are inside of", _LOOKUPS, "sa.not_(sa.exists().where(below.c.parent == jobs.c.id)),", ""),
    (
        "data: let what runs again take nothing",
        "broker_jobs/coordinator/resubmission.py",
        "        batch.writes.uses.extend(",
        "        [].extend(",
    ),
    ("slots: let one more in", _CORE, "len(data) > self.most)", "len(data) > self.most + 1)", _SLOTS),
    ("slots: let in too few", _CORE, "if len(data) < self.least or", "if len(data) < self.least - 1 or", _SLOTS),
    ("slots: let any type in", _CORE, "if not fnmatch.fnmatchcase(each.media_type, self.media_type):", "if not each.media_type:", _SLOTS),
    (
        "slots: let a path lead outside",
        _CORE,
        'any(part in {"", ".", ".."} for part in parts)',
        'any(part in {"", "."} for part in parts)',
        _SLOTS,
    ),
    ("slots: let a key lead outside", _CORE, "(?:/[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}){1,8}", "(?:/[A-Za-z0-9_.-]{1,255}){1,8}", _SLOTS),
    (
        "slots: read what was changed",
        "broker_jobs/data/files.py",
        "    if files.digest(data.key) != (data.size, data.sha256):",
        "    if not files.digest(data.key):",
        _STORES,
    ),
    (
        "slots: leave half a copy behind",
        "broker_jobs/data/files.py",
        "        temporary.unlink(missing_ok=True)\n",
        "        pass\n",
        _STORES,
    ),
)
