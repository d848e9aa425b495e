"""The command line: ``broker-jobs``, short ``bj``."""

from __future__ import annotations


def main() -> None:
    """Run the command line; the heavy imports happen here, not when a library imports this package."""
    from broker_jobs.cli.app import app

    app()
