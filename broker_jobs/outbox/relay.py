"""Sending what was committed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from broker_jobs.errors import BrokerError, SubmitUnknown
from broker_jobs.outbox.store import TABLE, OutboxTable

if TYPE_CHECKING:
    import threading

    import sqlalchemy as sa

    from broker_jobs.client.client import Client

_LOG: Final = logging.getLogger("broker_jobs.outbox")


class OutboxRelay:
    """Sends jobs that an `OutboxSubmitter` has written, each until the broker has confirmed it.

    One that ends in between sends a job again, which changes nothing; so several may run.

    Args:
        engine: of the database; the relay has short transactions of its own
        client: through which jobs are sent, of the same namespace and with a key that is accepted there
        table: name of the table
    """

    def __init__(self, engine: sa.Engine, client: Client, *, table: str = TABLE) -> None:
        self._engine = engine
        self._client = client
        self._table = OutboxTable(table)

    def send(self, *, most: int = 100, timeout: float = 30.0) -> list[str]:
        """Send jobs that wait, those first that have waited longest; the ids of those that were sent.

        Args:
            most: so many at most
            timeout: seconds in which the broker must confirm each

        Raises:
            BrokerError, SubmitUnknown: the broker did not take one in time; it and those behind it stay
        """
        sent = []
        for job in self._table.jobs(self._engine, most):
            frames = self._table.frames(self._engine, job)
            self._client.runtime.run(lambda core, job=job, frames=frames: core.link.send(job, frames, timeout))  # type: ignore[misc] # mypy infers no lambda with defaults
            self._table.remove(self._engine, job)
            sent.append(job)
        return sent

    def run(self, stop: threading.Event, *, pause: float = 1.0, timeout: float = 30.0) -> None:
        """Send until told to stop; what the broker does not take is tried again.

        Args:
            stop: set from another thread, it ends this after the job that is under way
            pause: seconds between two looks into an empty table
            timeout: seconds in which the broker must confirm each job
        """
        while not stop.is_set():
            try:
                if self.send(most=1, timeout=timeout):
                    continue
            except (BrokerError, SubmitUnknown) as error:
                _LOG.warning("%s; trying again", error)
            stop.wait(pause)
