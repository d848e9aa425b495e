"""Which queues a key leads to."""

from __future__ import annotations

import functools
from collections import defaultdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_REMEMBERED: Final = 4096


def fits(pattern: Sequence[str], key: Sequence[str]) -> bool:
    """Whether the words of a key fit a pattern: ``*`` is one word, ``#`` any number of words."""
    reached = {0}  # how many words of the key the part of the pattern before this word can have used
    for word in pattern:
        match word:
            case "#":
                reached = set(range(min(reached), len(key) + 1))
            case "*":
                reached = {at + 1 for at in reached if at < len(key)}
            case _:
                reached = {at + 1 for at in reached if at < len(key) and key[at] == word}
        if not reached:
            return False
    return len(key) in reached


class Routes:
    """The bindings of one version of the topology.

    Args:
        exchanges: names of all exchanges
        bindings: exchange, pattern and number of a queue
    """

    def __init__(self, exchanges: Iterable[str], bindings: Iterable[tuple[str, str, int]]) -> None:
        self.exchanges = frozenset(exchanges)
        self._bindings: defaultdict[str, list[tuple[list[str], int]]] = defaultdict(list)
        for exchange, pattern, queue in bindings:
            self._bindings[exchange].append((_words(pattern), queue))
        self.queues = functools.lru_cache(_REMEMBERED)(self._queues)
        """Numbers of the queues that a message with this exchange and key goes to, each once."""

    def _queues(self, exchange: str, key: str) -> tuple[int, ...]:
        words = _words(key)
        return tuple(sorted({queue for pattern, queue in self._bindings.get(exchange, ()) if fits(pattern, words)}))


def _words(text: str) -> list[str]:
    return text.split(".") if text else []
