"""Who does a task: a child without being asked again, or somebody else after all.

With a line of tasks a child gets a ticket for each that follows the first one: a byte in a pipe that both can read. The child takes one
before it begins the next task, the parent takes back what is left; the kernel gives each byte to one of them. So a task that has not begun
can be had back at any moment, while the child is busy with user code, and whoever has the ticket knows it for certain.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

_READ: Final = 64 * 1024


class Tickets:
    """The tickets of one child."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def lend(self) -> int:
        """A descriptor for the child, from which it takes its tickets."""
        return os.dup(self._reading)

    def give(self, number: int) -> None:
        """Let the child begin so many tasks more."""
        os.write(self._writing, bytes(number))

    def take_back(self) -> int:
        """How many the child has not taken; it gets none of them any more."""
        with contextlib.suppress(BlockingIOError):
            return len(os.read(self._reading, _READ))
        return 0

    def close(self) -> None:
        """Give the pipe up."""
        os.close(self._reading)
        os.close(self._writing)
