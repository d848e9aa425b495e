"""A pool between holders that come and go."""

from __future__ import annotations

import copy
from itertools import combinations, product
from typing import TYPE_CHECKING

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import STRICT, Need, Policy, Request, Variant
from broker_jobs.core.resources import INDEXED, Allocation, Grant, Pool, Resources
from broker_jobs.errors import IllegalTransition

if TYPE_CHECKING:
    from collections.abc import Iterator

index = st.integers(0, 1_000_000)
shares = st.sampled_from([UNIT // 10, UNIT // 4, UNIT // 3, UNIT // 2, UNIT, UNIT * 3 // 2, 2 * UNIT, 5 * UNIT // 2, 3 * UNIT, 6 * UNIT])
policies = st.sampled_from([policy for policy in Policy if policy is not Policy.everything])

PARTS = {
    "cpus": [(), (2, 2), (1, 2, 1), (4, 4, 4), (3, 1, 2)],
    "gpus": [(), (1, 1)],
    "gpus/amd": [(), (2, 1)],
    "slots": [(2,), (2, 1)],
}
"""Sizes of the groups of single things that a worker may have; none for one group of plain numbers."""


def resources_of(sizes: dict[str, tuple[int, ...]], amounts: dict[str, int]) -> Resources:
    groups, given = [], dict(amounts)
    for name, each in sizes.items():
        if each:
            labels = iter(range(100))
            groups.append((name, tuple(tuple(f"{name}:{next(labels)}" for _ in range(size)) for size in each)))
            given[name] = sum(each) * UNIT
    demands = "step a 1.0.0" if len(given) % 3 == 0 else ""
    return Resources(tuple(sorted(given.items())), tuple(groups), ("step a 1.0.0", "step b 1.0.0"), demands)


totals = st.builds(
    resources_of,
    st.fixed_dictionaries(
        {"cpus": st.sampled_from(PARTS["cpus"])}, optional={name: st.sampled_from(PARTS[name]) for name in list(PARTS)[1:]}
    ),
    st.fixed_dictionaries(
        {"cpus": st.sampled_from([UNIT, 2 * UNIT, 4 * UNIT, 5 * UNIT // 2])},
        optional={"gpus": st.sampled_from([UNIT, 3 * UNIT]), "memory": st.integers(1, 100), "lab/fpga": st.integers(1, 3 * UNIT)},
    ),
)


def needs_of(name: str) -> st.SearchStrategy[Need]:
    everything = st.just(Need(name, 0, Policy.everything))
    return (
        st.builds(Need, st.just(name), st.integers(1, 120)) if name == "memory" else st.builds(Need, st.just(name), shares, policies)
    ) | everything


NAMES = ("cpus", "gpus", "gpus/amd", "lab/fpga", "memory", "nonsense", "slots")
variants = st.sets(st.sampled_from(NAMES), min_size=1, max_size=3).flatmap(
    lambda names: st.builds(
        lambda needs, features: Variant(needs, features=features),
        st.tuples(*map(needs_of, sorted(names))),
        st.sampled_from([(), (), (), ("step a 1.0.0",), ("step a 1.0.0", "step b 1.0.0"), ("step c 1.0.0",)]),
    )
)
wishes = needs_of("cpus").map(lambda need: Request.of([Variant((need,))])) | st.lists(variants, min_size=1, max_size=3).map(Request.of)


class PoolStory(RuleBasedStateMachine):
    """Allocations and releases in any order, counted by hand for each holder."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(Resources())
        self.held: list[Allocation] = []
        self.released: list[Allocation] = []

    @initialize(total=totals)
    def begin(self, total: Resources) -> None:
        self.pool = Pool(total)

    @rule(request=wishes)
    def allocate(self, request: Request) -> None:
        before = copy.deepcopy(self.pool)
        lefts, sums = self.lefts(), self.sums()
        possible = [number for number, variant in enumerate(request.alternatives) if self.possible(variant, lefts, sums)]
        assert self.pool.fits(request) is bool(possible)
        allocation = self.pool.try_allocate(request)
        assert (allocation is not None) is bool(possible)
        if allocation is None:
            assert (self.pool.free, self.pool.held) == (before.free, before.held), "all or nothing"
            return
        assert self.pool.could_ever_fit(request)
        assert (allocation.request, allocation.variant) == (request, possible[0]), "the first of its variants that is free"
        assert tuple(grant.need for grant in allocation.grants) == request.alternatives[allocation.variant].needs
        for grant in allocation.grants:
            self.check_grant(grant, lefts.get(grant.resource))
        self.held.append(allocation)

    def check_grant(self, grant: Grant, lefts: list[int] | None) -> None:
        name, policy = grant.resource, grant.need.policy
        total = dict(self.pool.total.amounts)[name]
        assert grant.amount == (total if policy is Policy.everything else grant.need.amount)
        assert name == grant.need.name or name.startswith(f"{grant.need.name}/")
        if lefts is None:
            assert grant.indices == grant.labels == ()
            return
        labels = [label for group in self.pool.total.labels(name) for label in group]
        assert grant.labels == tuple(labels[number] for number in grant.indices)
        whole, groups = grant.amount // UNIT, self.group_numbers(name)
        assert list(grant.indices[:whole]) == sorted(grant.indices[:whole])
        used = [groups[number] for number in grant.indices]
        wanted = sorted(self.group_counts(name, grant.amount, lefts))
        if policy is Policy.scatter:
            assert len(set(used)) == wanted[-1], "as many groups as possible"
        else:
            assert len(set(used)) == wanted[0], "as few groups as possible"
        if policy in {Policy.compact, Policy.strict_compact, Policy.scatter}:
            free = {group: sum(left == UNIT for left, own in zip(lefts, groups, strict=True) if own == group) for group in set(used)}
            counts = {group: sum(groups[number] == group for number in grant.indices[:whole]) for group in set(used)}
            for one, other in product(counts, counts):
                assert counts[one] <= counts[other] + 2 or counts[other] >= free[other] - 1, "evenly"

    @precondition(lambda self: self.held)
    @rule(pick=index)
    def release(self, pick: int) -> None:
        allocation = self.held.pop(pick % len(self.held))
        self.pool.release(allocation)
        self.released.append(allocation)

    @precondition(lambda self: self.released)
    @rule(pick=index)
    def release_again(self, pick: int) -> None:
        with pytest.raises(IllegalTransition, match="is not held"):
            self.pool.release(self.released[pick % len(self.released)])

    @precondition(lambda self: self.held)
    @rule(pick=index)
    def release_what_only_looks_the_same(self, pick: int) -> None:
        with pytest.raises(IllegalTransition, match="is not held"):
            self.pool.release(copy.copy(self.held[pick % len(self.held)]))

    @rule(request=wishes)
    def count(self, request: Request) -> None:
        pool, times = copy.deepcopy(self.pool), self.pool.how_many(request)
        for _ in range(times):
            assert pool.try_allocate(request) is not None
        assert pool.try_allocate(request) is None

    @rule(request=wishes)
    def ever(self, request: Request) -> None:
        assert self.pool.could_ever_fit(request) is Pool(self.pool.total).fits(request)

    @invariant()
    def adds_up(self) -> None:
        self.pool.check()
        assert list(self.pool.held) == self.held
        free = dict(self.pool.free.amounts)
        for name, amount in self.pool.total.amounts:
            held = sum(grant.amount for one in self.held for grant in one.grants if grant.resource == name)
            assert free.get(name, 0) + held == amount
        self.lefts()

    # --- the same, looked at from outside ---

    def group_numbers(self, name: str) -> list[int]:
        return [number for number, group in enumerate(self.pool.total.labels(name)) for _ in group]

    def lefts(self) -> dict[str, list[int]]:
        """What is left of each index, from what every holder was told."""
        found = {}
        grouped = {name for name, _ in self.pool.total.groups}
        for name, amount in self.pool.total.amounts:
            if name not in grouped and name.partition("/")[0] not in INDEXED:
                continue
            whole, rest = divmod(amount, UNIT)
            lefts = found[name] = [UNIT] * whole + [rest] * bool(rest)
            for grant in (grant for one in self.held for grant in one.grants if grant.resource == name):
                assert len(grant.indices) == len(set(grant.indices)) == -(-grant.amount // UNIT)
                for place, number in enumerate(grant.indices):
                    lefts[number] -= min(UNIT, grant.amount - UNIT * place)
            assert all(left >= 0 for left in lefts), "nothing is held twice"
        return found

    def sums(self) -> dict[str, int]:
        return dict(self.pool.free.amounts)

    def group_counts(self, name: str, amount: int, lefts: list[int]) -> Iterator[int]:
        """How many groups an amount may come from: every choice of groups, tried one by one."""
        whole, rest = divmod(amount, UNIT)
        groups = self.group_numbers(name)
        for count in range(1, max(groups) + 2):
            for some in combinations(range(max(groups) + 1), count):
                wholes = {group: sum(left == UNIT for left, own in zip(lefts, groups, strict=True) if own == group) for group in some}
                for share in some if rest else (None,):
                    broken = {group: wholes[group] - (group == share) for group in some}
                    shared = any(rest <= left < UNIT and own == share for left, own in zip(lefts, groups, strict=True))
                    for kept in (wholes, broken) if shared else (broken,):
                        least = sum(group != share for group in some)
                        enough = all(free >= (group != share) for group, free in kept.items())
                        if enough and least <= whole <= sum(kept.values()):
                            yield count

    def possible(self, variant: Variant, lefts: dict[str, list[int]], sums: dict[str, int]) -> bool:
        """Whether it is there, with every choice of kinds."""
        names = [name for name, _ in self.pool.total.amounts]
        kinds = [[name for name in names if name == need.name or name.startswith(f"{need.name}/")] for need in variant.needs]
        offered = set(variant.features) <= set(self.pool.total.features)
        return (
            offered
            and self.pool.total.demands in {"", *variant.features}
            and any(
                len(set(chosen)) == len(chosen)
                and all(self.has(need, name, lefts, sums) for need, name in zip(variant.needs, chosen, strict=True))
                for chosen in product(*kinds)
            )
        )

    def has(self, need: Need, name: str, lefts: dict[str, list[int]], sums: dict[str, int]) -> bool:
        total = dict(self.pool.total.amounts)[name]
        amount = total if need.policy is Policy.everything else need.amount
        if name not in lefts:
            return sums.get(name, 0) >= amount
        now = list(self.group_counts(name, amount, lefts[name]))
        if need.policy not in STRICT or not now:
            return bool(now)
        whole, rest = divmod(total, UNIT)
        ever = list(self.group_counts(name, amount, [UNIT] * whole + [rest] * bool(rest)))
        return min(now) == min(ever)


TestPoolStory = PoolStory.TestCase
