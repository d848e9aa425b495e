"""Ids and the version."""

from __future__ import annotations

import broker_jobs

JobId = int
TaskId = int


def get_version() -> str:
    """The version of broker-jobs."""
    return broker_jobs.__version__
