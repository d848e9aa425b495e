"""One call at a time on an idle system, beside the bare flow: the same messages, queues and confirms without broker-jobs."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import ours, work
from benchmarks.bare import amqp, embedded
from benchmarks.case import EMBEDDED, RABBITMQ, SAFE, SAFE_EMBEDDED, Better, Bound, Case, Figure, Side, Target
from benchmarks.measure import Measure
from benchmarks.peers import settings

if TYPE_CHECKING:
    from benchmarks.measure import Setting

BARE: Final = "bare flow, RabbitMQ"
BARE_EMBEDDED: Final = "bare flow, embedded"
BARE_SAFE: Final = "the same queues, messages and confirms, by three short programs; no signature, no ledger, no child process"
WARM_UP: Final = 50


def called(setting: Setting) -> Measure:
    """`Client.call`."""
    taken = []
    with ours.cluster(setting) as (_, client):
        for number in range(WARM_UP + setting.tasks):
            begun = time.perf_counter()
            assert client.call(work.same, number) == number
            taken.append(time.perf_counter() - begun)
    return _measure(taken[WARM_UP:])


def bare(setting: Setting) -> Measure:
    """The bare flow."""
    if setting.url:
        return _measure(amqp.measure(setting.url, calls=setting.tasks, steps=2)[0])
    return _measure(embedded.measure(f"sqlite:///{Path(setting.folder, 'bare.db')}", calls=setting.tasks, steps=2)[0])


def _measure(taken: list[float]) -> Measure:
    return Measure(len(taken), {"p50": statistics.median(taken) * 1000, "p99": statistics.quantiles(taken, n=100)[98] * 1000})


CASE = Case(
    name="latency",
    title="round trip of one call, warm, on an idle system",
    counted="milliseconds from the call to its value, median and 99th percentile of 1,000 calls",
    tasks=1000,
    sides=(
        Side(RABBITMQ, called, SAFE, rabbitmq=True),
        Side(EMBEDDED, called, SAFE_EMBEDDED),
        Side(BARE, bare, BARE_SAFE, rabbitmq=True),
        Side(BARE_EMBEDDED, bare, BARE_SAFE),
        settings.celery("called", settings.CELERY_FAST),
    ),
    figures=(Figure("p50", "ms p50", Better.lower, 2), Figure("p99", "ms p99", Better.lower, 2)),
    targets=(
        Target(RABBITMQ, "p50", Bound.most, 1.5, other=(BARE, "p50")),
        Target(RABBITMQ, "p50", Bound.most, 1, other=(settings.CELERY_FAST, "p50")),
        Target(RABBITMQ, "p99", Bound.most, 4, other=(BARE, "p50")),
        Target(EMBEDDED, "p50", Bound.most, 1.5),
        Target(EMBEDDED, "p99", Bound.most, 5),
    ),
)
