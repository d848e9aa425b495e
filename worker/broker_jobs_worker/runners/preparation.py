"""The setup of a function: it runs once in each process, before the first call there, and what it returns stays for all further ones."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Preparation:
    """What the setup of this process has returned.

    Args:
        then: is called when it has run
    """

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self._then = then
        self._digest: str | None = None
        self._value: object = None

    def done(self, digest: str | None) -> bool:
        """Whether this setup has run here, and nothing has to be done."""
        return digest == self._digest or digest is None

    def value(self, digest: str | None) -> object:
        """What it returned."""
        return None if digest is None else self._value

    def run(self, digest: str, setup: Callable[[], Any]) -> None:
        """Run it, in place of the one before. Raises what it raises, and then it has not run."""
        self._digest = self._value = None
        value = setup()
        if inspect.iscoroutine(value):
            value.close()
            raise TypeError("a setup cannot be a coroutine function: each task has an event loop of its own")
        self._digest, self._value = digest, value
        self._then()
