"""``python -m broker_jobs`` is ``broker-jobs``."""

from broker_jobs.cli import main

main()
