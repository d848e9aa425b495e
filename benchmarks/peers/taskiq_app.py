"""The broker and the task, as taskiq's workers and its client both load them."""

from __future__ import annotations

import os

from taskiq_aio_pika import AioPikaBroker

from benchmarks.peers.ticks import tick

broker = AioPikaBroker(os.environ["BENCH_URL"], qos=1000)


@broker.task
async def ticking(number: int) -> None:  # noqa: ARG001 (what others are given too; a coroutine needs no thread there)
    """A no-op that is counted."""
    tick(os.environ["BENCH_TICKS"])
