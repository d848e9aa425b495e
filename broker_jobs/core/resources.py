"""What a worker has, and who holds how much of it: fixed-point amounts, all-or-nothing allocations.

Processors and graphics processors, and whatever was described as a list, are single things with a *label* each, in one or
several groups, so that a task can be told which ones are its own. A request of 2.5 gets two whole ones and a share of a
third, never three halves; two requests of 0.5 share one. Other resources, memory among them, are plain sums.

A resource may come in *kinds*: who asks for ``gpus`` gets ``gpus``, ``gpus/amd`` or ``gpus/nvidia``, of one kind.
"""

from __future__ import annotations

import math
from collections import Counter
from copy import copy
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, ClassVar, Final

from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import RESOURCE_NAME, STRICT, Need, Policy, Request, check_features
from broker_jobs.core.singles import Singles
from broker_jobs.errors import IllegalTransition, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.core.request import Variant

Groups = tuple[tuple[str, ...], ...]
"""The labels of single things, in their groups."""

INDEXED: Final = frozenset({"cpus", "gpus"})
"""Resources of which single ones are allocated in any case; of others where their groups are given."""

MOST_COUNTED: Final = 1024
"""What is counted by trying is not counted further."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a worker has, or has free.

    Attributes:
        amounts: pairs of name and amount, sorted by name, none of them zero; ``memory`` in bytes, everything else in 1/10,000
        groups: the labels of single things, by name, where they are not simply the numbers from 0 in one group
        features: what it offers besides, and does not run out of; sorted, each once
        demands: one of these, which a request has to ask for; empty where it takes others too

    Raises:
        ValidationError: it is not in this form
    """

    tag: ClassVar[str] = "resources"
    amounts: tuple[tuple[str, int], ...] = (("cpus", UNIT),)
    groups: tuple[tuple[str, Groups], ...] = ()
    features: tuple[str, ...] = ()
    demands: str = ""

    def __post_init__(self) -> None:
        before = ""
        for name, value in self.amounts:
            if not RESOURCE_NAME.fullmatch(name) or name <= before or value <= 0:
                raise ValidationError(f"amounts must be positive, each resource once, in the order of their names: {self.amounts!r}")
            before = name
        check_features(self.features)
        if self.demands and self.demands not in self.features:
            raise ValidationError(f"{self.demands!r} cannot be demanded by who does not offer it")
        given = dict(self.amounts)
        for name, groups in self.groups:
            labels = [label for group in groups for label in group]
            if given.get(name) != len(labels) * UNIT or len(set(labels)) != len(labels) or not all(groups):
                raise ValidationError(f"the groups of {name!r} must hold as many different labels as there are single ones: {groups!r}")

    def labels(self, name: str) -> Groups:
        """The labels of a resource in their groups; none where it is a sum."""
        for each, groups in self.groups:
            if each == name:
                return groups
        amount = dict(self.amounts).get(name, 0)
        return (tuple(map(str, range(-(-amount // UNIT)))),) if amount and name.partition("/")[0] in INDEXED else ()


@dataclass(frozen=True, slots=True)
class Grant:
    """One resource of an allocation.

    Attributes:
        need: what was asked for
        resource: its name at the worker: a kind of what was asked for, or the same
        amount: as of the need, except for ``"all"``
        indices: of single things: the whole ones, ascending, then the one that is shared, where the amount is not whole
        labels: of these indices
    """

    need: Need
    resource: str
    amount: int
    indices: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one holder has, until it is released.

    Attributes:
        number: names it inside its pool
        variant: which variant of the request was chosen, from 0
    """

    number: int
    request: Request
    variant: int
    grants: tuple[Grant, ...]

    def labels(self, resource: str) -> tuple[str, ...]:
        """The single things of a resource, by its name at the worker."""
        return next((grant.labels for grant in self.grants if grant.resource == resource), ())


@dataclass(frozen=True, slots=True)
class _Plan:
    """One way in which a worker can meet a request.

    Attributes:
        pieces: what is needed, the resource of the worker that it is taken from, and how much of it
    """

    variant: int
    pieces: tuple[tuple[Need, str, int], ...]


class _Free:
    """What is free of each resource.

    Args:
        total: what there is
    """

    __slots__ = ("_labels", "_singles", "_sums")

    def __init__(self, total: Resources) -> None:
        groups = {name: total.labels(name) for name, _ in total.amounts}
        self._labels = {name: tuple(label for group in each for label in group) for name, each in groups.items()}
        self._singles = {name: Singles(amount, [len(group) for group in groups[name]]) for name, amount in total.amounts if groups[name]}
        self._sums = {name: amount for name, amount in total.amounts if not groups[name]}

    def amounts(self) -> dict[str, int]:
        """What is free of each."""
        return self._sums | {name: each.free for name, each in self._singles.items()}

    def lefts(self) -> dict[str, list[int]]:
        """What is free of each single one."""
        return {name: each.lefts for name, each in self._singles.items()}

    def copy(self) -> _Free:
        """The same, to try something out."""
        other = copy(self)
        other._sums, other._singles = dict(self._sums), {name: each.copy() for name, each in self._singles.items()}  # noqa: SLF001 (ours)
        return other

    def choose(self, plan: _Plan) -> tuple[Grant, ...] | None:
        """All that a plan takes, or None where something of it is not free."""
        grants = []
        for need, name, amount in plan.pieces:
            singles = self._singles.get(name)
            if singles is not None:
                indices = singles.choose(amount, need.policy)
                if indices is None:
                    return None
                labels = self._labels[name]
                grants.append(Grant(need, name, amount, indices, tuple([labels[index] for index in indices])))
            elif self._sums[name] < amount:
                return None
            else:
                grants.append(Grant(need, name, amount))
        return tuple(grants)

    def take(self, grants: Iterable[Grant]) -> None:
        """Give out what was chosen."""
        for grant in grants:
            if grant.resource in self._singles:
                self._singles[grant.resource].take(grant.indices, grant.amount)
            else:
                self._sums[grant.resource] -= grant.amount

    def put_back(self, grants: Iterable[Grant]) -> None:
        """Take back what was given out."""
        for grant in grants:
            if grant.resource in self._singles:
                self._singles[grant.resource].put_back(grant.indices, grant.amount)
            else:
                self._sums[grant.resource] += grant.amount

    def how_often(self, plan: _Plan) -> int | None:
        """How often a plan could be met, one after the other; None where that must be tried."""
        times = []
        for need, name, amount in plan.pieces:
            singles = self._singles.get(name)
            if singles is None:
                times.append(self._sums[name] // amount)
            elif len(singles.groups) == 1 or (amount % UNIT == 0 and need.policy not in STRICT):
                times.append(singles.how_often(amount))
            else:
                return None
        return min(times)


class Pool:
    """The resources of one worker.

    Args:
        total: what there is
    """

    def __init__(self, total: Resources) -> None:
        self.total = total
        self._left = _Free(total)
        self._held: dict[int, Allocation] = {}
        self._last = 0
        self._plans: dict[Request, tuple[_Plan, ...]] = {}
        self._counted: dict[Request, int] = {}

    @property
    def free(self) -> Resources:
        """What nobody holds."""
        return Resources(tuple(sorted((name, amount) for name, amount in self._left.amounts().items() if amount)))

    @property
    def held(self) -> tuple[Allocation, ...]:
        """The allocations that are not released, oldest first."""
        return tuple(self._held.values())

    def fits(self, request: Request) -> bool:
        """Whether `try_allocate` would grant it now."""
        return any(self._left.choose(plan) is not None for plan in self._ways(request))

    def could_ever_fit(self, request: Request) -> bool:
        """Whether it would be granted if nobody held anything."""
        return bool(self._ways(request))

    def how_many(self, request: Request) -> int:
        """How many such requests would be granted now, one after the other; where that must be tried, `MOST_COUNTED` at most.

        Raises:
            ValidationError: it asks for nothing
        """
        if not (request.amounts or request.variants):
            raise ValidationError("a request for nothing fits any number of times")
        known = self._counted.get(request)
        if known is None:
            plans = self._ways(request)
            known = self._left.how_often(plans[0]) if len(plans) == 1 else None
            if known is None:
                known = self._tried(plans)
            self._counted[request] = known
        return known

    def try_allocate(self, request: Request, lifetime: float = math.inf) -> Allocation | None:
        """Take all that is asked for, of the first variant of which all is free, or nothing (None).

        Args:
            lifetime: milliseconds that the worker has left; variants that need more are left out
        """
        for plan in self._ways(request):
            if request.variants and request.variants[plan.variant].min_time > lifetime:
                continue
            grants = self._left.choose(plan)
            if grants is not None:
                self._left.take(grants)
                self._counted.clear()
                self._last += 1
                allocation = self._held[self._last] = Allocation(self._last, request, plan.variant, grants)
                return allocation
        return None

    def release(self, allocation: Allocation) -> None:
        """Give an allocation back.

        Raises:
            IllegalTransition: it is not held: it was released before, or belongs to another pool
        """
        if self._held.get(allocation.number) is not allocation:
            raise IllegalTransition(f"allocation {allocation.number} is not held, so it cannot be released")
        del self._held[allocation.number]
        self._counted.clear()
        self._left.put_back(allocation.grants)

    def without(self, allocations: Iterable[Allocation]) -> Pool:
        """Another pool, with what would be free if these were released."""
        other = Pool(self.total)
        other._left = self._left.copy()
        for allocation in allocations:
            other._left.put_back(allocation.grants)
        return other

    def check(self) -> None:
        """What must always be true; `AssertionError` where it is not."""
        total, free, again = dict(self.total.amounts), self._left.amounts(), _Free(self.total)
        held = dict.fromkeys(total, 0)
        for allocation in self._held.values():
            again.take(allocation.grants)
            for grant in allocation.grants:
                held[grant.resource] += grant.amount
        for name, amount in total.items():
            assert 0 <= free[name] <= amount, f"free {name} lie between nothing and all"
            assert free[name] + held[name] == amount, f"{name} are free or held"
        assert self._left.lefts() == again.lefts(), "no index is held twice"
        assert all(0 <= left <= UNIT for lefts in self._left.lefts().values() for left in lefts), "no index is held twice"

    def _ways(self, request: Request) -> tuple[_Plan, ...]:
        """In which ways this worker could meet a request if nobody held anything, the best first."""
        plans = self._plans.get(request)
        if plans is None:
            if len(self._plans) >= MOST_COUNTED:
                self._plans.clear()
            everything = _Free(self.total)
            plans = self._plans[request] = tuple(
                plan
                for number, variant in enumerate(request.alternatives)
                for plan in self._kinds(number, variant)
                if everything.choose(plan) is not None
            )
        return plans

    def _kinds(self, number: int, variant: Variant) -> Iterable[_Plan]:
        """A variant with each choice of kinds that there is of its resources."""
        total = dict(self.total.amounts)
        if not set(self.total.features).issuperset(variant.features) or (self.total.demands and self.total.demands not in variant.features):
            return
        if variant.nodes:
            # All of this worker, if it alone has what each must have.
            if not variant.needs or self.could_ever_fit(Request.of((replace(variant, nodes=0),))):
                yield _Plan(number, tuple((Need(name, 0, Policy.everything), name, amount) for name, amount in total.items()))
            return
        kinds = [[name for name in total if name == need.name or name.startswith(f"{need.name}/")] for need in variant.needs]
        for names in product(*kinds):
            if len(set(names)) == len(names):
                yield _Plan(
                    number,
                    tuple(
                        (need, name, total[name] if need.policy is Policy.everything else need.amount)
                        for need, name in zip(variant.needs, names, strict=True)
                    ),
                )

    def _tried(self, plans: tuple[_Plan, ...]) -> int:
        left, times = self._left.copy(), 0
        for plan in plans:
            while times < MOST_COUNTED and (grants := left.choose(plan)) is not None:
                left.take(grants)
                times += 1
        return times


def capacity(request: Request, workers: Iterable[tuple[str, Resources]]) -> int:
    """How many tasks with such a request workers could run at once, if they had nothing else to do.

    Args:
        workers: the group of each, and what it has
    """
    if not request.nodes:
        return sum(Pool(resources).how_many(request) for _, resources in workers)
    able = Counter(group for group, resources in workers if Pool(resources).could_ever_fit(request))
    return sum(count // request.nodes for count in able.values())
