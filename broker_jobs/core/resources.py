"""What a worker has, and who holds how much of it: fixed-point amounts, all-or-nothing allocations, canonical classes.

Processors and graphics processors are single things with a number each (*indices*, from 0), so that a task can be told
which ones are its own. A request of 2.5 gets two whole ones and a share of a third, never three halves; two requests
of 0.5 share one. Other resources, memory among them, are plain sums.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from broker_jobs.core.spec import UNIT, Request
from broker_jobs.errors import IllegalTransition, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_CLASSES: Final = 200
"""More live classes than this are a typed error: each is three queues on the broker."""

INDEXED: Final = frozenset({"cpus", "gpus"})
"""Resources of which single ones are allocated."""

_READABLE_DIGITS: Final = 60
_HASH_DIGITS: Final = 8
_SIZES: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one holder has, until it is released.

    Attributes:
        number: names it inside its pool
        indices: for ``cpus`` and ``gpus``: the whole ones, ascending, then the one that is shared, where the amount is not whole
    """

    number: int
    request: Request
    indices: Mapping[str, tuple[int, ...]] = field(hash=False)


class Pool:
    """The resources of one worker.

    Args:
        total: what there is
    """

    def __init__(self, total: Request) -> None:
        self.total = total
        self._sums = {name: amount for name, amount in total.amounts if name not in INDEXED}
        self._singles = {name: _singles(amount) for name, amount in total.amounts if name in INDEXED}
        self._held: dict[int, Allocation] = {}
        self._last = 0

    @property
    def free(self) -> Request:
        """What nobody holds."""
        return _request(self._free())

    @property
    def held(self) -> tuple[Allocation, ...]:
        """The allocations that are not released, oldest first."""
        return tuple(self._held.values())

    def fits(self, request: Request) -> bool:
        """Whether `try_allocate` would grant it now."""
        return self._choose(request) is not None

    def could_ever_fit(self, request: Request) -> bool:
        """Whether it would be granted if nobody held anything."""
        total = dict(self.total.amounts)
        return all(total.get(name, 0) >= amount for name, amount in request.amounts)

    def how_many(self, request: Request) -> int:
        """How many such requests would be granted now, one after the other.

        Raises:
            ValidationError: it asks for nothing
        """
        if not request.amounts:
            raise ValidationError("a request for nothing fits any number of times")
        return min(
            _how_often(self._singles.get(name, []), amount) if name in INDEXED else self._sums.get(name, 0) // amount
            for name, amount in request.amounts
        )

    def try_allocate(self, request: Request) -> Allocation | None:
        """Take all that is asked for, or nothing (None)."""
        indices = self._choose(request)
        if indices is None:
            return None
        for name, amount in request.amounts:
            if name in INDEXED:
                for index, part in _parts(indices[name], amount):
                    self._singles[name][index] -= part
            else:
                self._sums[name] -= amount
        self._last += 1
        allocation = self._held[self._last] = Allocation(self._last, request, indices)
        return allocation

    def release(self, allocation: Allocation) -> None:
        """Give an allocation back.

        Raises:
            IllegalTransition: it is not held: it was released before, or belongs to another pool
        """
        if self._held.get(allocation.number) is not allocation:
            raise IllegalTransition(f"allocation {allocation.number} is not held, so it cannot be released")
        del self._held[allocation.number]
        for name, amount in allocation.request.amounts:
            if name in INDEXED:
                for index, part in _parts(allocation.indices[name], amount):
                    self._singles[name][index] += part
            else:
                self._sums[name] += amount

    def check(self) -> None:
        """What must always be true; `AssertionError` where it is not."""
        total, free = dict(self.total.amounts), self._free()
        held = dict.fromkeys(total, 0)
        singles = {name: list(_singles(total[name])) for name in self._singles}
        for allocation in self._held.values():
            for name, amount in allocation.request.amounts:
                held[name] += amount
                for index, part in _parts(allocation.indices.get(name, ()), amount):
                    singles[name][index] -= part
        for name, amount in total.items():
            assert 0 <= free[name] <= amount, f"free {name} lie between nothing and all"
            assert free[name] + held[name] == amount, f"{name} are free or held"
        assert self._singles == singles, "no index is held twice"
        assert all(0 <= left <= UNIT for lefts in singles.values() for left in lefts), "no index is held twice"

    def _choose(self, request: Request) -> dict[str, tuple[int, ...]] | None:
        """The indices to give, or None where something of the request is not free."""
        indices: dict[str, tuple[int, ...]] = {}
        for name, amount in request.amounts:
            if name in INDEXED:
                chosen = _take(self._singles.get(name, []), amount)
                if chosen is None:
                    return None
                indices[name] = chosen
            elif self._sums.get(name, 0) < amount:
                return None
        return indices

    def _free(self) -> dict[str, int]:
        return self._sums | {name: sum(lefts) for name, lefts in self._singles.items()}


def _request(amounts: Mapping[str, int]) -> Request:
    return Request(tuple(sorted((name, amount) for name, amount in amounts.items() if amount)))


# --- single things -------------------------------------------------------------------------------------------------


def _singles(amount: int) -> list[int]:
    """What is free of each index when nobody holds anything; a total of 2.5 has a last index that is never whole."""
    whole, rest = divmod(amount, UNIT)
    return [UNIT] * whole + ([rest] if rest else [])


def _take(lefts: list[int], amount: int) -> tuple[int, ...] | None:
    """The indices to give: the lowest whole ones, and for the rest the fullest that has it; None where there are none."""
    whole, rest = divmod(amount, UNIT)
    chosen = tuple([index for index, left in enumerate(lefts) if left == UNIT][:whole])
    if len(chosen) < whole:
        return None
    if not rest:
        return chosen
    shareable = [(left, index) for index, left in enumerate(lefts) if left >= rest and index not in chosen]
    return (*chosen, min(shareable)[1]) if shareable else None


def _parts(indices: tuple[int, ...], amount: int) -> Iterable[tuple[int, int]]:
    """How much of each of these indices an amount is."""
    return ((index, min(UNIT, amount - UNIT * place)) for place, index in enumerate(indices))


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
    while times * whole + _ceiling(max(0, times - shares), UNIT // rest) > untouched:
        times -= 1
    return times


def _ceiling(amount: int, step: int) -> int:
    """How many steps cover an amount."""
    return -(-amount // step)


# --- classes -------------------------------------------------------------------------------------------------------


def rounded(request: Request) -> Request:
    """The request of the class: memory is rounded up to an eighth of its power of two, so that classes stay few."""
    return Request(tuple((name, _rounded_up(amount) if name == "memory" else amount) for name, amount in request.amounts))


def class_name(request: Request) -> str:
    """The canonical name of a resource class, such as ``cpus1-3f2a91c0`` or ``cpus2-mem4GiB-66a1f0d9``.

    It has letters, digits, ``_`` and ``-``, and is the same for requests that are the same when `rounded`.

    Raises:
        ValidationError: the request asks for nothing
    """
    amounts = rounded(request).amounts
    if not amounts:
        raise ValidationError("a task must ask for some resource")
    readable = "-".join(_readable(name, amount) for name, amount in amounts)
    exact = ";".join(f"{name}={amount}" for name, amount in amounts)
    digest = hashlib.sha256(exact.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{re.sub('[^A-Za-z0-9_-]', '_', readable)[:_READABLE_DIGITS]}-{digest}"


def _rounded_up(size: int) -> int:
    step = max(1, (1 << size.bit_length() - 1) // 8)
    return _ceiling(size, step) * step


def _readable(name: str, amount: int) -> str:
    """A resource with its amount as a person writes it."""
    if name != "memory":
        return f"{name}{amount / UNIT:g}"
    power = min((amount.bit_length() - 1) // 10, len(_SIZES) - 1)
    return f"mem{amount / (1 << 10 * power):g}{_SIZES[power]}"
