"""What tasks of the chaos suite do: each leaves a line when it has done its work, and its value cannot be right by chance."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Final

from broker_jobs import current

WORKER: Final = "CHAOS_WORKER"
"""Environment variable that says which worker this is."""
PAYLOAD: Final = 20_000
"""Bytes that a large value is padded to, about."""


class Deliberate(Exception):
    """A failure that belongs to the plan."""


def digest(key: str, number: int, parents: tuple[str, ...] = ()) -> str:
    """The value of a task."""
    return hashlib.sha256(repr((key, number, parents)).encode()).hexdigest()


def large(value: str) -> str:
    """The same, large."""
    return value * (PAYLOAD // len(value))


def work(folder: str, key: str, number: int, layer: int, seconds: float, *parents: str) -> str:
    """Take a while."""
    begun = time.monotonic()
    time.sleep(seconds)
    _leave(folder, key, number, layer, begun)
    return digest(key, number, parents)


def work_large(folder: str, key: str, number: int, layer: int, seconds: float, *parents: str) -> str:
    """The same with a large value."""
    return large(work(folder, key, number, layer, seconds, *parents))


def work_again(folder: str, key: str, number: int, layer: int, seconds: float, *parents: str) -> str:
    """Fail at first."""
    if current.attempt == 1:
        raise Deliberate(f"{key} {number}")
    return work(folder, key, number, layer, seconds, *parents)


def fail(folder: str, key: str, number: int, layer: int, seconds: float, *parents: str) -> str:
    """Fail always."""
    work(folder, key, number, layer, seconds, *parents)
    raise Deliberate(f"{key} {number}")


def _leave(folder: str, key: str, number: int, layer: int, begun: float) -> None:
    worker = os.environ.get(WORKER, "")
    line = {"key": key, "number": number, "layer": layer, "begun": begun, "worker": worker, "attempt": current.attempt}
    # One write to a file that is open for appending: lines of several processes do not mix.
    with Path(folder, f"effects-{worker}.jsonl").open("ab", buffering=0) as file:
        file.write(json.dumps(line).encode() + b"\n")
