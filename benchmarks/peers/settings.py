"""The sides of the peers, in words: what each is called, how it is set up, and what it promises. Imports none of them."""

from __future__ import annotations

from typing import Final

from benchmarks.case import Side

CELERY_SAFE: Final = "Celery, as safe as it gets"
CELERY_FAST: Final = "Celery, fastest settings"
CELERY_CHUNKS: Final = "Celery, fastest, chunks of 100"
DRAMATIQ: Final = "Dramatiq"
TASKIQ: Final = "taskiq"
DASK: Final = "dask.distributed"
HYPERQUEUE: Final = "HyperQueue"
XQUTE: Final = "xqute"

_CELERY: Final = "prefork -c 2, prefetch 128 a child, no gossip, mingle, heartbeat, rate limits or events; results by rpc"
_CELERY_FAST: Final = "transient messages, no confirms, acknowledged before the task runs; results in a transient queue"
_SAFETY: Final = {
    CELERY_SAFE: f"quorum queue, persistent messages, confirm_publish, acks_late; results in a transient queue, no record. {_CELERY}",
    CELERY_FAST: f"{_CELERY_FAST}. {_CELERY}",
    CELERY_CHUNKS: f"{_CELERY_FAST}; `chunks`: 100 calls are one task, which fails as a whole. {_CELERY}",
}


def celery(function: str, level: str) -> Side:
    """A side of Celery."""
    suffix = {CELERY_SAFE: "safe", CELERY_FAST: "fast", CELERY_CHUNKS: "fast"}[level]
    return Side(level, f"benchmarks.peers.celery_side:{function}_{suffix}", _SAFETY[level], rabbitmq=True)


def dramatiq(function: str) -> Side:
    """A side of Dramatiq."""
    safety = (
        "its defaults: durable classic queue, persistent messages, no confirms, acknowledged after the task; no results (RabbitMQ cannot "
        "keep them for it). --processes 2 --threads 8, prefetch 1,000"
    )
    return Side(DRAMATIQ, f"benchmarks.peers.dramatiq_side:{function}", safety, rabbitmq=True)


def taskiq(function: str) -> Side:
    """A side of taskiq."""
    safety = (
        "its defaults: quorum queue, persistent messages, publisher confirms, acknowledged after the task; no results. --workers 2, a "
        "coroutine as the task, prefetch 1,000, 100 publishes under way at once"
    )
    return Side(TASKIQ, f"benchmarks.peers.taskiq_side:{function}", safety, rabbitmq=True)


def dask(function: str) -> Side:
    """A side of dask."""
    safety = "nothing is on disk: lost with the scheduler; results in the memory of workers. `dask scheduler`, `dask worker --nworkers 2`"
    return Side(DASK, f"benchmarks.peers.dask_side:{function}", safety)


def hyperqueue(function: str, tasks: int | None = None, seconds: float = 12) -> Side:
    """A side of HyperQueue."""
    safety = (
        "no journal: lost with the server; no results of functions. Server and worker of its LocalCluster, 2 cores, no files for standard "
        "output and error, a wait that looks once a second"
    )
    return Side(HYPERQUEUE, f"benchmarks.peers.hyperqueue_side:{function}", safety, tasks=tasks, seconds=seconds)


def xqute(function: str) -> Side:
    """A side of xqute."""
    return Side(XQUTE, f"benchmarks.peers.xqute_side:{function}", "files of each job in its folder, local scheduler, forks=100", tasks=200)
