"""What tasks do in benchmarks: as little as possible, so that the rest is the system's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def same(value: object, *_: object) -> object:
    """The least a function can do."""
    return value


def add(number: int) -> int:
    """A step of a chain."""
    return number + 1


def turned(value: bytes) -> bytes:
    """Another value of the same size, so that it really travels back."""
    return value[1:] + value[:1]


def shares(tasks: int, parts: int) -> Iterator[int]:
    """So many tasks in so many parts, as even as can be."""
    return (tasks * (part + 1) // parts - tasks * part // parts for part in range(parts))
