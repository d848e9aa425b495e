"""Names of jobs, tasks, workers and executions.

A job id is 32 hexadecimal digits of a UUID: it sorts by time of creation, and its last 8 digits are random, so they serve as
the short form. It says which partition of the ledger keeps the job: a UUIDv8 has the number of the partition behind its version;
every other id is of partition 0, which makes UUIDv7. Nothing here reads a clock or draws a random number but `new_job_id`.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Final, NewType

JobId = NewType("JobId", str)
TaskNumber = NewType("TaskNumber", int)
WorkerId = NewType("WorkerId", str)
BootId = NewType("BootId", str)
ClientId = NewType("ClientId", str)
ExecutionId = NewType("ExecutionId", str)

SHORT_DIGITS: Final = 8
FEWEST_DIGITS: Final = 4
MOST_NUMBER: Final = 2**31 - 1
"""No task and no attempt has a larger number."""
MOST_PARTITIONS: Final = 64
"""Partitions are numbered below this: so many coordinators do more than one broker, and all can be looked at one after the other."""

_JOB: Final = re.compile(r"[0-9a-f]{32}")
_ELSEWHERE: Final = re.compile(r"[0-9a-f]{12}8([0-9a-f]{3})[89ab][0-9a-f]{15}")
"""A UUIDv8, with the number of a partition."""
_PROCESS: Final = re.compile(r"[A-Za-z0-9_:@+-]{1,120}")
"""Names of processes stand in routing keys, so there is no dot in them."""


def uuid7(unix_ms: int, noise: bytes) -> str:
    """A UUIDv7 (RFC 9562, section 5.7) of a time in milliseconds and 10 random bytes, as 32 hexadecimal digits."""
    value = (unix_ms & (1 << 48) - 1) << 80 | int.from_bytes(noise[:10], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{value:032x}"


def uuid8(unix_ms: int, partition: int, noise: bytes) -> str:
    """A UUIDv8 (RFC 9562, section 5.8): as `uuid7`, but with 12 bits of a partition where that has the first random ones."""
    text = uuid7(unix_ms, noise)
    return f"{text[:12]}8{partition:03x}{text[16:]}"


def new_job_id(partition: int = 0) -> JobId:
    """A fresh job id: now, the partition, and 62 random bits or more."""
    now, noise = time.time_ns() // 1_000_000, secrets.token_bytes(10)
    return JobId(uuid8(now, partition, noise) if partition else uuid7(now, noise))


def new_name(prefix: str) -> str:
    """A fresh name for a process of ours, such as ``client-9f2c01ab33d0e1f4``."""
    return f"{prefix}-{secrets.token_hex(8)}"


def is_job_id(text: str) -> bool:
    """Whether this can be the id of a job."""
    return _JOB.fullmatch(text) is not None


def is_process_name(text: str) -> bool:
    """Whether this can be the name of a worker, a boot or a client."""
    return _PROCESS.fullmatch(text) is not None


def made_ms(job_id: str) -> int:
    """When a job id was made, in milliseconds since 1970."""
    return int(job_id[:12], 16)


def short(job_id: str) -> str:
    """The last 8 digits of a job id, as shown to people."""
    return job_id[-SHORT_DIGITS:]


def reference(job_id: str) -> str:
    """What a command that is told to people calls a job: its short form, which is looked for in the first partition, else its whole id."""
    return job_id if partition_of(job_id) else short(job_id)


def partition_of(job_id: str) -> int:
    """The partition of the ledger that keeps a job."""
    found = _ELSEWHERE.fullmatch(job_id)
    return int(found[1], 16) if found else 0


def is_partition(number: int) -> bool:
    """Whether there can be a partition of this number."""
    return 0 <= number < MOST_PARTITIONS
