"""Which single ones of a resource a task gets, out of which of their groups.

An amount is some whole ones and, where it is not whole, a share of one more, never shares of two. A share is taken from one
that others share already, where that costs no further group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import STRICT, Policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Singles:
    """Single things with a number each (*indices*, from 0), in groups, and how much of each is free.

    Args:
        amount: how much there is of all together; the last one may be less than whole
        sizes: how many are in each group (default: one group)

    Attributes:
        groups: the indices of each group
        lefts: what is free of each index
    """

    def __init__(self, amount: int, sizes: Sequence[int] = ()) -> None:
        whole, rest = divmod(amount, UNIT)
        self.lefts = [UNIT] * whole + [rest] * bool(rest)
        self._capacity = tuple(self.lefts)
        numbers = iter(range(len(self.lefts)))
        self.groups = tuple(tuple(next(numbers) for _ in range(size)) for size in sizes) or (tuple(numbers),)

    @property
    def free(self) -> int:
        """What is free of all together."""
        return sum(self.lefts)

    def choose(self, amount: int, policy: Policy) -> tuple[int, ...] | None:
        """The indices to give: whole ones ascending, then the one that is shared; None where the policy finds none."""
        whole, rest = divmod(amount, UNIT)
        if len(self.groups) == 1:
            return _take(_Group(self.groups[0], self.lefts, rest), whole, rest)
        groups = [_Group(members, self.lefts, rest) for members in self.groups]
        if policy is Policy.scatter:
            return _scattered(groups, whole, rest)
        fewest = _fewest(groups, whole, rest)
        if fewest is None:
            return None
        if policy in STRICT and len(fewest.groups) > self._fewest_ever(amount):
            return None
        return _gathered(fewest, whole, rest, evenly=policy in {Policy.compact, Policy.strict_compact})

    def take(self, indices: Iterable[int], amount: int) -> None:
        """Give out an amount that was chosen."""
        for index, part in parts(indices, amount):
            self.lefts[index] -= part

    def put_back(self, indices: Iterable[int], amount: int) -> None:
        """Take back what was given out."""
        for index, part in parts(indices, amount):
            self.lefts[index] += part

    def how_often(self, amount: int) -> int:
        """How often this amount could be chosen, one after the other, from a single group, or where it is whole."""
        return _how_often(self.lefts, amount)

    def empty(self) -> Singles:
        """The same with nothing given out."""
        return Singles(sum(self._capacity), [len(members) for members in self.groups])

    def copy(self) -> Singles:
        """The same, to try something out."""
        other = self.empty()
        other.lefts = list(self.lefts)
        return other

    def _fewest_ever(self, amount: int) -> int:
        """How many groups an amount needs at least when everything is free."""
        needed, count = -(-amount // UNIT), 0
        for size in sorted(map(len, self.groups), reverse=True):
            if needed <= 0:
                break
            needed, count = needed - size, count + 1
        return count


def parts(indices: Iterable[int], amount: int) -> Iterator[tuple[int, int]]:
    """How much of each of these indices an amount is."""
    return ((index, min(UNIT, amount - UNIT * place)) for place, index in enumerate(indices))


class _Group:
    """What is free in one group.

    Attributes:
        wholes: indices of which everything is free, ascending
        shared: of those of which a part is given out, the fullest that has the share that is looked for
    """

    __slots__ = ("shared", "wholes")

    def __init__(self, members: Sequence[int], lefts: Sequence[int], rest: int) -> None:
        self.wholes = [index for index in members if lefts[index] == UNIT]
        shareable = [(lefts[index], index) for index in members if rest <= lefts[index] < UNIT] if rest else []
        self.shared = min(shareable)[1] if shareable else None

    @property
    def free(self) -> int:
        return len(self.wholes)


@dataclass(frozen=True, slots=True)
class _Fewest:
    """The groups to take from, the fullest first, and the index to share where it is not one of the whole ones."""

    groups: list[_Group]
    shared: int | None


def _take(group: _Group, whole: int, rest: int) -> tuple[int, ...] | None:
    """From one group."""
    if len(group.wholes) < whole:
        return None
    if not rest:
        return tuple(group.wholes[:whole])
    if group.shared is not None:
        return (*group.wholes[:whole], group.shared)
    return tuple(group.wholes[: whole + 1]) if len(group.wholes) > whole else None


def _fewest(groups: list[_Group], whole: int, rest: int) -> _Fewest | None:
    """The fewest groups that have the amount; the last one has as little more as possible, so that large holes stay."""
    order = sorted(groups, key=lambda group: -group.free)
    sharing = [group for group in order if group.shared is not None]
    needed = whole + bool(rest)
    for count in range(1, len(order) + 1):
        if sharing:
            first = order[:count] if sharing[0] in order[:count] else [sharing[0], *order[: count - 1]]
            if sum(group.free for group in first) >= whole:
                kept = first[:-1]
                candidates = order if any(group.shared is not None for group in kept) else sharing
                found = _with_the_smallest(kept, candidates, whole)
                return _Fewest(found, next(group.shared for group in found if group.shared is not None))
        if sum(group.free for group in order[:count]) >= needed:
            return _Fewest(_with_the_smallest(order[: count - 1], order, needed), None)
    return None


def _with_the_smallest(kept: list[_Group], candidates: list[_Group], needed: int) -> list[_Group]:
    """These groups and, of the candidates, the one that has just enough."""
    missing = needed - sum(group.free for group in kept)
    enough = [group for group in candidates if group.free >= missing and not any(group is each for each in kept)]
    last = min(enough, key=lambda group: group.free)
    return [*kept, last]


def _gathered(fewest: _Fewest, whole: int, rest: int, *, evenly: bool) -> tuple[int, ...]:
    """From these groups, evenly or one after the other."""
    needed = whole + bool(rest and fewest.shared is None)
    wholes = _round_robin(fewest.groups, needed) if evenly else [index for group in fewest.groups for index in group.wholes]
    chosen = wholes[:needed]
    if not rest:
        return tuple(sorted(chosen))
    shared = chosen.pop() if fewest.shared is None else fewest.shared
    return (*sorted(chosen), shared)


def _scattered(groups: list[_Group], whole: int, rest: int) -> tuple[int, ...] | None:
    """From as many groups as possible, the emptiest last."""
    order = sorted(groups, key=lambda group: -group.free)
    free = sum(group.free for group in order)
    if free < whole:
        return None
    chosen = _round_robin(order, whole)
    if not rest:
        return tuple(sorted(chosen))
    given = set(chosen)
    unused = [group for group in order if given.isdisjoint(group.wholes)]
    for some in (unused, order):
        shared = [group.shared for group in some if group.shared is not None]
        spare = [index for group in some for index in group.wholes if index not in given]
        if shared or spare:
            return (*sorted(chosen), (shared or spare)[0])
    return None


def _round_robin(groups: list[_Group], count: int) -> list[int]:
    """So many whole ones, one from each group in turn."""
    chosen: list[int] = []
    for turn in range(max((group.free for group in groups), default=0)):
        for group in groups:
            if len(chosen) < count and turn < group.free:
                chosen.append(group.wholes[turn])
    return chosen


def _how_often(lefts: list[int], amount: int) -> int:
    """How many times `_take` would find this amount."""
    whole, rest = divmod(amount, UNIT)
    untouched = lefts.count(UNIT)
    if not rest:
        return untouched // whole
    shares = sum(left // rest for left in lefts if left < UNIT)
    if not whole:
        return shares + untouched * (UNIT // rest)
    times = untouched // whole
    # Where the shares of what is touched do not suffice, untouched ones are broken for theirs.
    while times * whole + -(-max(0, times - shares) // (UNIT // rest)) > untouched:
        times -= 1
    return times
