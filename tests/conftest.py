"""Fixtures for all tests."""

from __future__ import annotations

import signal

pytest_plugins = (
    "tests.support.batches",
    "tests.support.failures",
    "tests.support.gridengine",
    "tests.support.postgres",
    "tests.support.quiet",
    "tests.support.rabbitmq",
)

# A shell starts what runs in the background with SIGINT ignored, and that is inherited: Ctrl-C could not be tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
