"""How queues are declared on RabbitMQ."""

from __future__ import annotations

import itertools

import pytest

from broker_jobs.broker.amqp.address import QueueStyle
from broker_jobs.broker.amqp.arguments import declaration
from broker_jobs.core.spec import Lane
from broker_jobs.wire.topology import Queue, QueueKind, Topology

NAMES = Topology("t")
ALL = list(itertools.product(QueueKind, QueueStyle))


@pytest.mark.parametrize(("kind", "style"), ALL)
def test_rules_that_were_learned_by_measuring(kind: QueueKind, style: QueueStyle) -> None:
    how = declaration(Queue("q", kind, dead_letter_exchange="returned"), style)
    assert "x-delivery-limit" not in how.arguments, "-1 means: drop at the first redelivery"
    assert ("x-expires" in how.arguments) == (kind is QueueKind.lease), "it drops what waits"
    assert how.exclusive == (kind is QueueKind.private)
    assert how.arguments["x-dead-letter-exchange"] == "returned"
    assert ("x-max-length" in how.arguments) == how.exclusive
    if how.exclusive:
        assert how.arguments["x-overflow"] == "drop-head", "a full reply queue must not nack the replies of workers"


@pytest.mark.parametrize(
    ("queue", "quorum", "classic"),
    [
        (NAMES.ledger(0), "quorum", "classic"),
        (NAMES.class_queue("cpu1", Lane.normal), "quorum", "classic"),
        (NAMES.dead_letters(), "quorum", "classic"),
        (NAMES.lease_queue("w1"), "quorum", "quorum"),
        (NAMES.control_queue("w1"), "classic", "classic"),
    ],
)
def test_what_is_replicated(queue: Queue, quorum: str, classic: str) -> None:
    assert declaration(queue, QueueStyle.quorum).arguments["x-queue-type"] == quorum
    assert declaration(queue, QueueStyle.classic).arguments["x-queue-type"] == classic


def test_a_ledger_has_one_active_consumer() -> None:
    arguments = declaration(NAMES.ledger(0), QueueStyle.quorum).arguments
    assert arguments == {"x-queue-type": "quorum", "x-single-active-consumer": True, "x-dead-letter-exchange": "t.dead"}


def test_a_token_is_never_lost() -> None:
    arguments = declaration(NAMES.lease_queue("w1"), QueueStyle.classic).arguments
    assert arguments["x-dead-letter-strategy"] == "at-least-once"
    assert arguments["x-overflow"] == "reject-publish", "at-least-once needs it"
