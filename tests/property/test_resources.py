"""A pool between holders that come and go."""

from __future__ import annotations

import copy

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker_jobs.core.resources import INDEXED, Allocation, Pool
from broker_jobs.core.spec import UNIT, Request
from broker_jobs.errors import IllegalTransition

index = st.integers(0, 1_000_000)
shares = st.sampled_from([UNIT // 10, UNIT // 4, UNIT // 3, UNIT // 2, UNIT, UNIT * 3 // 2, 2 * UNIT, 5 * UNIT // 2])


def request_of(amounts: dict[str, int]) -> Request:
    return Request(tuple(sorted(amounts.items())))


totals = st.fixed_dictionaries(
    {"cpus": st.sampled_from([UNIT, 2 * UNIT, 4 * UNIT, 5 * UNIT // 2])},
    optional={"gpus": st.sampled_from([UNIT, 3 * UNIT]), "memory": st.integers(1, 100), "lab/fpga": st.integers(1, 3 * UNIT)},
).map(request_of)
wishes = st.dictionaries(st.sampled_from(["cpus", "gpus", "lab/fpga"]), shares, min_size=1).map(request_of) | st.fixed_dictionaries(
    {"memory": st.integers(1, 120)}, optional={"cpus": shares, "nonsense": shares}
).map(request_of)


class PoolStory(RuleBasedStateMachine):
    """Allocations and releases in any order, counted by hand for each holder."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(Request())
        self.held: list[Allocation] = []
        self.released: list[Allocation] = []

    @initialize(total=totals)
    def begin(self, total: Request) -> None:
        self.pool = Pool(total)

    @rule(request=wishes)
    def allocate(self, request: Request) -> None:
        before, possible = copy.deepcopy(self.pool), self.possible(request)
        assert self.pool.fits(request) is possible
        allocation = self.pool.try_allocate(request)
        assert (allocation is not None) is possible
        if allocation is None:
            assert (self.pool.free, self.pool.held) == (before.free, before.held), "all or nothing"
            return
        assert self.pool.could_ever_fit(request)
        assert allocation.request == request
        assert allocation.indices.keys() == {name for name, _ in request.amounts} & INDEXED
        self.held.append(allocation)

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
            assert free.get(name, 0) + sum(dict(one.request.amounts).get(name, 0) for one in self.held) == amount
        for name in INDEXED:
            self.lefts(name)

    def lefts(self, name: str) -> list[int]:
        """What is left of each index, from what every holder was told."""
        whole, rest = divmod(dict(self.pool.total.amounts).get(name, 0), UNIT)
        lefts = [UNIT] * whole + [rest] * bool(rest)
        for allocation in self.held:
            amount = dict(allocation.request.amounts).get(name, 0)
            indices = allocation.indices.get(name, ())
            assert len(indices) == len(set(indices)) == -(-amount // UNIT)
            assert list(indices[: amount // UNIT]) == sorted(indices[: amount // UNIT])
            for place, number in enumerate(indices):
                lefts[number] -= min(UNIT, amount - UNIT * place)
        assert all(left >= 0 for left in lefts), "nothing is held twice"
        return lefts

    def possible(self, request: Request) -> bool:
        """Whether it is there at all, looked at one resource after the other."""
        free = dict(self.pool.free.amounts)
        for name, amount in request.amounts:
            if free.get(name, 0) < amount:
                return False
            if name in INDEXED:
                lefts = sorted(self.lefts(name), reverse=True)
                whole, rest = divmod(amount, UNIT)
                others = lefts[whole:]
                if lefts[:whole] != [UNIT] * whole or (rest and not any(left >= rest for left in others)):
                    return False
        return True


TestPoolStory = PoolStory.TestCase
