"""The numbers of a worker, from what its machine heard and wanted done."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from broker_jobs.core.outcome import Crashed
from broker_jobs.wire.messages import Ended, Reply, Returned
from broker_jobs_worker.machine.commands import Publish, Start
from broker_jobs_worker.machine.events import Connected, Disconnected

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.metrics import WorkerMetrics
    from broker_jobs_worker.machine.commands import Command
    from broker_jobs_worker.machine.events import Event


class Observer:
    """Counts.

    Args:
        metrics: where to
    """

    def __init__(self, metrics: WorkerMetrics) -> None:
        self._metrics = metrics
        self._counted = 0

    def observe(self, event: Event, commands: Iterable[Command]) -> None:
        """Count an event with its commands."""
        match event:
            case Connected(generation):
                self._metrics.connected.set(1)
                if generation > 1:
                    self._metrics.reconnects.inc()
            case Disconnected():
                self._metrics.connected.set(0)
        for command in commands:
            match command:
                case Start(_, resource_class, waited, then):
                    self._metrics.wait.observe(resource_class, [round(1000 * waited)] * (1 + len(then)))
                # A reply that goes out again has a number that was counted.
                case Publish(number, _, Reply() as reply) if number > self._counted:
                    self._counted = number
                    self._replied(reply)

    def _replied(self, reply: Reply) -> None:
        ended = [item for item in reply.items if isinstance(item, Ended)]
        self._metrics.run.observe(reply.resource_class, [max(0, item.ended_ms - item.started_ms) for item in ended])
        for kind, number in Counter(type(item.outcome) for item in ended).items():
            self._metrics.tasks.labels(reply.resource_class, kind.tag).inc(number)
            if kind is Crashed:
                self._metrics.crashes.labels(reply.resource_class).inc(number)
        for item in reply.items:
            if isinstance(item, Returned):
                self._metrics.returned.labels(item.why.value).inc()
