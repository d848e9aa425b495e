"""Seeded bugs in columns, and in what a client knows of its calls."""

from __future__ import annotations

from typing import Final

_COLUMNS: Final = "broker_jobs/wire/columns.py"
_TESTS: Final = "tests/wire/test_columns.py"
_PACE: Final = "broker_jobs/core/pace.py"
_PACE_TESTS: Final = "tests/unit/test_pace.py"

MUTANTS: Final = (
    # (what is broken, file, text, text of the mutant, tests that must find it)
    ("columns: take what differs for the same", _COLUMNS, "values.count(first) != len(values)", "values.count(first) < 2", _TESTS),
    ("columns: take what is of several classes for one", _COLUMNS, "alike = len(set(map(type, values))) == 1", "alike = True", _TESTS),
    (
        "columns: forget the class",
        _COLUMNS,
        "columns = self._columns(values, tagged=union)",
        "columns = self._columns(values, tagged=False)",
        _TESTS,
    ),
    ("columns: read columns of any length", _COLUMNS, "if len(lengths) != 1:", "if not lengths:", _TESTS),
    (
        "columns: trust what stands in a column",
        _COLUMNS,
        "return [value if type(value) in exact else read(value) for value in column]",
        "return column",
        _TESTS,
    ),
    (
        "columns: trust what is shared",
        _COLUMNS,
        "return repeat(value if type(value) in field.exact else field.read(value))",
        "return repeat(value)",
        _TESTS,
    ),
    (
        "columns: change the order",
        _COLUMNS,
        "groupby(items, type)",
        "groupby(sorted(items, key=lambda item: type(item).__name__), type)",
        _TESTS,
    ),
    ("columns: write none", _COLUMNS, "if len(run) >= FEWEST and kind in self._kinds else None", "if False else None", _TESTS),
    (
        "pace: count several as one",
        _PACE,
        "1 - (1 - _WEIGHT) ** count",
        "_WEIGHT",
        _PACE_TESTS,
    ),
    ("pace: no task is known to be quick", _PACE, "_LEAST_MS: Final = 0.02", "_LEAST_MS: Final = 0.05", _PACE_TESTS),
    (
        "pace: a map's jobs as large as those of a job.map",
        "broker_jobs/client/calls.py",
        ", MOST_WORTH)",
        ", 10**6)",
        "tests/unit/test_calls.py",
    ),
    ("pace: believe a busy machine", _PACE, "            weight /= _OF_WEATHER if", "            weight /= 1 if", _PACE_TESTS),
    ("pace: believe a machine that is very busy", _PACE, "else _RELUCTANCE\n", "else 1\n", _PACE_TESTS),
    ("pace: take slow tasks for weather", _PACE, "if milliseconds <= _WEATHER_MS else", "if milliseconds <= 1e9 else", _PACE_TESTS),
    (
        "values: hand out the head for the bytes",
        "broker_jobs/wire/payload.py",
        "return value.pieces[1]",
        'return b"".join(value.pieces)',
        "tests/unit/test_stores.py",
    ),
    (
        "values: take for one bytes object what only begins so",
        "broker_jobs/wire/codec.py",
        " and head == _head(size - HEAD)",
        ' and head[:1] == b"\\xc6"',
        "tests/unit/test_stores.py",
    ),
    ("pace: count failures", "broker_jobs/client/core.py", " and isinstance(item.outcome, Succeeded)", "", _PACE_TESTS),
    ("share: no more of what is quick", "broker_jobs/client/chunking.py", "(SHARE if worth == 1 else QUICK_SHARE)", "SHARE", _PACE_TESTS),
    (
        "share: as many large chunks as small ones",
        "broker_jobs/client/chunking.py",
        "WINDOW * USUAL * worth) // most)",
        "most * WINDOW) // most)",
        _PACE_TESTS,
    ),
    (
        "share: forget what programs took",
        "broker_jobs/client/submission.py",
        "            return argv[:1]\n",
        "            return None\n",
        "tests/unit/test_submission.py",
    ),
    (
        "share: take all programs for one",
        "broker_jobs/client/submission.py",
        "            return argv[:1]\n",
        "            return argv[:0]\n",
        "tests/unit/test_submission.py",
    ),
    (
        "share: all chunks to class queues",
        "broker_jobs/client/submission.py",
        ", window=window(most, worth)",
        "",
        "tests/unit/test_submission.py",
    ),
    (
        "share: never more than of unknown ones",
        "broker_jobs/client/chunking.py",
        "max(most, min(LARGEST * worth, MOST_WAITING))",
        "most",
        _PACE_TESTS,
    ),
)
