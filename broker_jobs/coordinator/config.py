"""What a coordinator is told when it is started."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker_jobs.metrics import MetricsPort
    from broker_jobs.wire.signing import SigningKey


class Durability(StrEnum):
    """What a committed transaction of the ledger survives."""

    process = "process"
    """The death of the coordinator (SQLite: ``synchronous=NORMAL``): what the embedded broker survives too."""
    power = "power"
    """A loss of power (``synchronous=FULL``): what goes with RabbitMQ, which keeps what it confirmed."""


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """Address, store and patience of a coordinator. Durations are seconds.

    Attributes:
        url: of the broker
        store: URL of the ledger's database, ``sqlite:////folder/ledger.db`` or ``postgresql://user:password@host/database``
        partition: which one of the namespace it keeps
        name: of this coordinator, for people
        metrics_port: where ``/metrics`` and ``/healthz`` are served; 0 is off, ``"auto"`` any free one
        metrics_host: address on which they are served
        grace: how long a worker whose connection is gone may take to come back
        reconnect_grace: the same, after the coordinator's own connection was gone, and at its start
        incomplete_after: a job is void when its submitter sent nothing for so long before it was whole
        retain: ended jobs are forgotten after so long; None keeps them
        retain_ephemeral: the same for jobs of ``call``, ``map`` and ``executor``
        republish_after: a published task that nobody holds is looked for after so long
    """

    url: str = field(repr=False)
    key: SigningKey = field(repr=False)
    store: str = field(repr=False)
    namespace: str = "bj"
    partition: int = 0
    name: str = "coordinator"
    durability: Durability = Durability.process
    metrics_port: MetricsPort = 0
    metrics_host: str = "127.0.0.1"
    grace: float = 3.0
    reconnect_grace: float = 30.0
    incomplete_after: float = 86_400.0
    retain: float | None = None
    retain_ephemeral: float = 3600.0
    republish_after: float = 15.0
    connect_timeout: float = 30.0

    @property
    def look(self) -> float:
        """Seconds between two looks for what was published and is nowhere."""
        return self.republish_after / 3
