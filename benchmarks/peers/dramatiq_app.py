"""The actor, as Dramatiq's workers and its client both load it."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from benchmarks.peers.ticks import tick

dramatiq.set_broker(RabbitmqBroker(url=os.environ["BENCH_URL"]))


@dramatiq.actor
def ticking(number: int) -> None:  # noqa: ARG001 (what others are given too)
    """A no-op that is counted."""
    tick(os.environ["BENCH_TICKS"])
