"""``python -m broker_jobs_worker``."""

from broker_jobs_worker.cli import main

main()
