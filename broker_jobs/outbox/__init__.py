"""Jobs that are submitted together with changes of your own database, or not at all: `OutboxSubmitter` and `OutboxRelay`."""

from broker_jobs.outbox.relay import OutboxRelay
from broker_jobs.outbox.submitter import OutboxSubmitter

__all__ = ["OutboxRelay", "OutboxSubmitter"]
