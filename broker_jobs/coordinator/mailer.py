"""Messages of the coordinator: sealed, addressed, and put where the batch sends them from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker_jobs.broker.port import Outgoing
from broker_jobs.coordinator.store import OutboxRow
from broker_jobs.core.states import JOB_ENDED, JobState
from broker_jobs.wire.messages import (
    Chunk,
    ClassOpened,
    DrainAsked,
    HelloAsked,
    JobNews,
    JobsForgotten,
    OutputAsked,
    Response,
    Revocation,
    Revoked,
    Role,
    TeamAsked,
    Welcome,
)
from broker_jobs.wire.topology import EVERYONE, Topology

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.coordinator.effects import Batch
    from broker_jobs.wire.messages import Answer, JobInfo, Message, ResourceClass
    from broker_jobs.wire.signing import Signer

UNSUCCESSFUL: Final = JOB_ENDED - {JobState.succeeded}

MOST_REVOCATIONS: Final = 1000
"""In one message."""


class Mailer:
    """Writes the coordinator's messages.

    Args:
        next_id: of the outbox
    """

    def __init__(self, signer: Signer, topology: Topology, partition: int, next_id: int) -> None:
        self._signer = signer
        self._topology = topology
        self._partition = partition
        self._next_id = next_id

    def chunk(self, batch: Batch, chunk: Chunk) -> None:
        """To its class queue, until that is confirmed."""
        key = self._topology.task_key(chunk.resource_class, chunk.lane, self._partition)
        self._keep(batch, self._topology.ready, key, chunk, mandatory=True)

    def news(self, batch: Batch, info: JobInfo, submitter: str) -> None:
        """To the submitter, and to those who follow events.

        Jobs of ``call`` and ``map`` concern their submitter alone, who hears of successes from the workers: it is told how else they end.
        """
        if info.ephemeral and info.state not in UNSUCCESSFUL:
            return
        news = JobNews(info)
        if submitter:
            self._keep(batch, self._topology.replies, Topology.answer_key(submitter), news, mandatory=False)
        if not info.ephemeral:
            self._keep(batch, self._topology.events, f"{info.state.value}.{info.job}", news, mandatory=False)

    def answer(self, batch: Batch, client: str, request: str, answer: Answer) -> None:
        """To the client that asked."""
        self._send(batch, self._topology.replies, Topology.answer_key(client), Response(request, answer))

    def welcome(self, batch: Batch, welcome: Welcome) -> None:
        """To a worker that said hello."""
        self._send(batch, self._topology.control, welcome.worker, welcome)

    def ask_hello(self, batch: Batch, coordinator: str, worker: str = EVERYONE) -> None:
        """To a worker, or to all."""
        self._send(batch, self._topology.control, worker, HelloAsked(coordinator))

    def ask_team(self, batch: Batch, message: TeamAsked) -> None:
        """To the worker that shall be in a team, or in none."""
        self._send(batch, self._topology.control, message.worker, message)

    def ask_drain(self, batch: Batch, message: DrainAsked) -> None:
        """To the worker that shall end."""
        self._send(batch, self._topology.control, message.worker, message)

    def class_opened(self, batch: Batch, resource_class: ResourceClass, *, anew: bool) -> None:
        """To all workers."""
        self._send(batch, self._topology.control, EVERYONE, ClassOpened(resource_class, anew))

    def ask_output(self, batch: Batch, worker: str, asked: OutputAsked) -> None:
        """To the worker that has it; it answers to the client."""
        self._send(batch, self._topology.control, worker, asked)

    def jobs_forgotten(self, batch: Batch, jobs: Sequence[str]) -> None:
        """To all workers."""
        for start in range(0, len(jobs), MOST_REVOCATIONS):
            self._send(batch, self._topology.control, EVERYONE, JobsForgotten(tuple(jobs[start : start + MOST_REVOCATIONS])))

    def revoke(self, batch: Batch, revocations: list[Revocation], worker: str = EVERYONE) -> None:
        """To a worker, or to all."""
        for start in range(0, len(revocations), MOST_REVOCATIONS):
            part = tuple(revocations[start : start + MOST_REVOCATIONS])
            self._send(batch, self._topology.control, worker, Revoked(part))

    def _send(self, batch: Batch, exchange: str, key: str, message: Message) -> None:
        batch.effects.sends.append(Outgoing(exchange, key, self._signer.seal(message, Role.coordinator), mandatory=False))

    def _keep(self, batch: Batch, exchange: str, key: str, message: Message, *, mandatory: bool) -> None:
        row = OutboxRow(self._next_id, exchange, key, self._signer.seal(message, Role.coordinator), mandatory)
        self._next_id += 1
        batch.writes.outbox.append(row)
        batch.effects.outbox.append(row)
