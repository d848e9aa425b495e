"""Large values, through a task and back: by the value store, or in messages."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import ours, work
from benchmarks.case import RABBITMQ, SAFE, Bound, Case, Figure, Side, Target
from benchmarks.measure import Measure, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.measure import Setting
    from broker_jobs import Client

SIZE: Final = 10_000_000
MESSAGE_SIZE: Final = 8_000_000
"""Bytes of a value that fits into a message."""

STORE: Final = f"{RABBITMQ}, value store"
OTHERS: Final = f"{RABBITMQ}, value store, each value another"
MESSAGES: Final = f"{RABBITMQ}, in messages of 8 MB"
FILES: Final = "files, written and read"


def stored(setting: Setting) -> Measure:
    """Arguments and results in the store of the host; the digest of each is checked where it is read. A child reads what it knows once."""
    with ours.cluster(setting) as (_, client):
        return _measure(setting.tasks, SIZE, lambda value: _travel(client, value, setting.tasks))


def others(setting: Setting) -> Measure:
    """The same with values of which no two are equal, so that each is read; to make them counts, too."""

    def travel(client: Client, value: bytes) -> None:
        heads = [number.to_bytes(8, "big") for number in range(setting.tasks)]
        for head, result in zip(heads, client.map(work.turned, (head + value for head in heads)), strict=True):
            assert result.startswith(head[1:])
            assert result.startswith(value, 7)
            assert result.endswith(head[:1])

    with ours.cluster(setting) as (_, client):
        return _measure(setting.tasks, SIZE, lambda value: travel(client, value[8:]))


def in_messages(setting: Setting) -> Measure:
    """Arguments and results inside of messages, as without a store."""
    with ours.cluster(setting) as (_, client):
        client.settings = dataclasses.replace(client.settings, value_store=None)
        return _measure(setting.tasks, MESSAGE_SIZE, lambda value: _travel(client, value, setting.tasks))


def _travel(client: Client, value: bytes, tasks: int) -> None:
    expected = work.turned(value)
    for result in client.map(work.turned, (value for _ in range(tasks))):
        assert result == expected


def files(setting: Setting) -> Measure:
    """Each value written and read twice, as on the way there and back; no fsync, no check, one process."""

    def run(value: bytes) -> None:
        path = Path(setting.folder, "value")
        for _ in range(setting.tasks * 2):
            path.write_bytes(value)
            assert len(path.read_bytes()) == len(value)
            path.unlink()

    return _measure(setting.tasks, SIZE, run)


def _measure(tasks: int, size: int, run: Callable[[bytes], None]) -> Measure:
    """MB a second, counted there and back."""
    value = os.urandom(size)
    return Measure(tasks, {"rate": tasks * 2 * size / 1e6 / timed(lambda: run(value))})


CASE = Case(
    name="values",
    title="100 values of 10 MB, through a task and back",
    counted="MB a second, each value counted twice: there and back. Over the broker they are of 8 MB, since no message takes more",
    tasks=100,
    sides=(
        Side(STORE, stored, SAFE + "; values in files, checked by their BLAKE3 digest", rabbitmq=True),
        Side(OTHERS, others, SAFE + "; values in files, checked by their BLAKE3 digest", rabbitmq=True),
        Side(MESSAGES, in_messages, SAFE, rabbitmq=True),
        Side(FILES, files, "none: no fsync, no check"),
    ),
    figures=(Figure("rate", "MB/s"),),
    targets=(
        Target(STORE, "rate", Bound.least, 0.4, other=(FILES, "rate")),
        Target(MESSAGES, "rate", Bound.least, 25),
    ),
    once=True,
)
