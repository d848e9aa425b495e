"""What is known of the tasks of a live job besides their records, until they have ended.

A task that came in a pack has nothing of its own as long as it waits for its turn: what all of its pack have in common does for it, and
a million of them take no memory.
"""

from __future__ import annotations

from bisect import bisect, insort
from dataclasses import dataclass, fields, replace
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

from broker_jobs.core.many import many

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(slots=True)
class TaskFacts:
    """What is known of a task besides its record, until it has ended.

    Attributes:
        options: index into `LiveJob.shared`
        size: bytes of its spec
        chunk: the unfinished chunk in a class queue that holds it
        worker: where its current attempt runs
        due_ms: when its next attempt is due
        ready_ms: when its current attempt was released; not kept in its row
        pack: the number of the first task of the pack that it is in; a task that is in one has no row, and its size is the average
    """

    options: int
    size: int
    chunk: str | None = None
    worker: str = ""
    boot: str = ""
    due_ms: int | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    ready_ms: int = 0
    pack: int | None = None


class _Pack(NamedTuple):
    """Tasks that came together.

    Attributes:
        common: what is known of each as long as it has nothing of its own
        gone: which of them have ended
    """

    common: TaskFacts
    gone: bytearray

    @property
    def numbers(self) -> list[int]:
        """Those of all that came."""
        first = self.common.pack or 0
        return list(range(first, first + len(self.gone)))


class Kept(dict[int, TaskFacts]):
    """By number. What is asked for by its number may be changed; `seen` is for those who only look, and `get` finds what is its own."""

    def __init__(self) -> None:
        super().__init__()
        self._firsts: list[int] = []
        self._packs: dict[int, _Pack] = {}

    def add_pack(self, common: TaskFacts, first: int, length: int) -> None:
        """New tasks, of all of which the same is known."""
        insort(self._firsts, first)
        self._packs[first] = _Pack(replace(common, pack=first), bytearray(length))

    def restore(self, number: int, facts: TaskFacts) -> None:
        """What was known of a task that has not ended; packs come first."""
        pack = self._pack(number)
        facts.pack = pack.common.pack if pack is not None else None
        if pack is None or facts != pack.common:
            self[number] = facts

    def take_apart(self, first: int) -> None:
        """The tasks of a pack have each their own from now on; what was known of all is no more."""
        for number, gone in enumerate(self._packs[first].gone, first):
            if not gone:
                self[number].pack = None
        del self._packs[first]
        self._firsts.remove(first)

    def seen(self, number: int) -> TaskFacts:
        """What is known of a task that has not ended, not to be changed."""
        facts = self.get(number)
        if facts is not None:
            return facts
        pack = self._pack(number)
        if pack is None:
            raise KeyError(number)
        return pack.common

    def find(self, number: int) -> TaskFacts | None:
        """What is known of a task; None where it has ended, or is not known."""
        try:
            return self[number]
        except KeyError:
            return None

    def drop(self, number: int) -> None:
        """A task has ended."""
        facts = self.pop(number, None)
        if facts is None:
            pack = self._pack(number)
            facts = pack.common if pack is not None else None
        if facts is not None and facts.pack is not None:
            self._packs[facts.pack].gone[number - facts.pack] = 1

    def released(self, number: int, now_ms: int) -> None:
        """A task may go out from now on."""
        if self.seen(number).ready_ms != now_ms:
            self[number].ready_ms = now_ms

    def put_into(self, chunk: str, numbers: Sequence[int]) -> None:
        """These tasks are in a chunk from now on."""
        pack = self._pack(numbers[0])
        if pack is not None and numbers == pack.numbers and self.keys().isdisjoint(numbers) and not any(pack.gone):
            alike = replace(pack.common, chunk=chunk)
            columns = [repeat(getattr(alike, entry.name), len(numbers)) for entry in fields(alike)]
            self.update(zip(numbers, many(TaskFacts, *columns), strict=True))
        else:
            for number in numbers:
                self[number].chunk = chunk

    def everything(self) -> Iterator[tuple[int, TaskFacts]]:
        """All tasks that have not ended, in no order."""
        yield from self.items()
        for first, pack in self._packs.items():
            yield from (
                (number, pack.common) for number, gone in enumerate(pack.gone, first) if not gone and not dict.__contains__(self, number)
            )

    def __missing__(self, number: int) -> TaskFacts:
        pack = self._pack(number)
        if pack is None:
            raise KeyError(number)
        common = pack.common
        facts = self[number] = TaskFacts(common.options, common.size, None, "", "", None, None, None, common.ready_ms, common.pack)
        return facts

    def __contains__(self, number: object) -> bool:
        return dict.__contains__(self, number) or (isinstance(number, int) and self._pack(number) is not None)

    def _pack(self, number: int) -> _Pack | None:
        """The pack that a task is in which has not ended."""
        place = bisect(self._firsts, number) - 1
        if place < 0:
            return None
        first = self._firsts[place]
        pack = self._packs[first]
        return pack if number - first < len(pack.gone) and not pack.gone[number - first] else None
