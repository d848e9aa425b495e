"""What failed, a line each, in the file that ``BROKER_JOBS_TEST_FAILURES`` names: `scripts/test` shows it at the end of all stages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

FILE = "BROKER_JOBS_TEST_FAILURES"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note a test that failed."""
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note a file that could not be read."""
    _note(report)


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Write it down, once: workers of pytest-xdist hand theirs on to the process that started them."""
    file = os.environ.get(FILE)
    if file and report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        crash = getattr(report.longrepr, "reprcrash", None)
        why = str(crash.message if crash is not None else report.longrepr).strip().partition("\n")[0]
        with Path(file).open("a", encoding="utf-8") as notes:
            notes.write(f"{report.nodeid} ({report.when}): {why[:300]}\n")
