"""The chaos suite's own cores: schedules that follow from a seed, and how long a victim took to come back."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from hypothesis import given
from hypothesis import strategies as st

from tests.system.chaos.faults import LONG, SHORT, Fault, Kind, Role, Target, can_be, can_step, schedule
from tests.system.chaos.performing import Done
from tests.system.chaos.plans import Failure, Shape, plan
from tests.system.chaos.recovery import recoveries

if TYPE_CHECKING:
    from tests.system.chaos.faults import Pace

CROWD: Final = {Role.worker: 4, Role.coordinator: 2, Role.submitter: 3, Role.node: 3, Role.store: 1}
CROWDS: Final = (CROWD, {**CROWD, Role.coordinator: 4, Role.submitter: 4})
"""Of one partition, and of two."""
seeds = st.integers(0, 2**32)
paces = st.sampled_from((LONG, SHORT))
WORKER = Target(Role.worker, 1)
PARTITION = 0


@given(seeds, paces, st.floats(0, 300), st.sets(st.tuples(st.sampled_from(Kind), st.sampled_from(Role))))
def test_a_schedule_follows_from_its_seed_and_leaves_each_target_time_to_come_back(
    seed: int, pace: Pace, seconds: float, impossible: set[tuple[Kind, Role]]
) -> None:
    faults = schedule(seed, seconds, CROWD, pace, impossible)
    assert faults == schedule(seed, seconds, CROWD, pace, set(impossible))
    done_to = {(fault.kind, fault.target.role) for fault in faults}
    assert not done_to & impossible
    assert all(can_be(kind, role) for kind, role in done_to)
    free: dict[Target, float] = {}
    for fault in faults:
        assert pace.quiet <= fault.begins < fault.ends <= seconds
        assert free.get(fault.target, 0.0) <= fault.begins
        assert fault.target.index < CROWD[fault.target.role]
        assert fault.kind is not Kind.clock_stepped or can_step(fault.target)
        free[fault.target] = fault.ends + pace.rest
    ground = [fault for fault in faults if fault.target.role in {Role.node, Role.store}]
    assert all(one.ends <= other.begins for one, other in itertools.pairwise(ground)), "one at a time"


@given(seeds, st.sampled_from(CROWDS))
def test_a_long_run_has_a_hundred_faults_of_all_kinds_some_at_the_same_time(seed: int, crowd: dict[Role, int]) -> None:
    faults = schedule(seed, 1500, crowd, LONG)
    assert len(faults) >= 100
    assert {fault.kind for fault in faults} == set(Kind)
    assert {fault.target for fault in faults} == {Target(role, index) for role, count in crowd.items() for index in range(count)}
    assert any(other.begins < one.ends for one, other in itertools.pairwise(faults))
    assert faults != schedule(seed + 1, 1500, crowd, LONG)


@given(seeds, st.integers(0, 2), st.integers(0, 50))
def test_a_plan_says_what_comes_of_each_task(seed: int, submitter: int, ordinal: int) -> None:
    found = plan(seed, submitter, ordinal, 0.1)
    expected = found.expected()
    assert list(expected) == list(range(len(found.parents)))
    assert all(parent < number for number, parents in enumerate(found.parents) for parent in parents)
    assert (found.shape is Shape.failing) == any(isinstance(value, Failure) for value in expected.values())
    values = [value for value in expected.values() if isinstance(value, str)]
    assert len(set(values)) == len(values)


def done(target: Target, begun: float, ended: float) -> Done:
    return Done(Fault(Kind.killed, target, begun, ended), begun, ended)


def test_recovery_counts_to_the_first_thing_begun_afterwards() -> None:
    [found] = recoveries([done(WORKER, 1, 2)], {WORKER: [0.5, 1.5, 7, 4], PARTITION: [2.5]})
    assert found.seconds == 2


def test_recovery_without_a_proof() -> None:
    [found] = recoveries([done(WORKER, 1, 2)], {WORKER: [1.5]})
    assert found.seconds is None


def test_recovery_counts_from_the_end_of_what_troubles_everybody_meanwhile() -> None:
    faults = [
        done(WORKER, 1, 2),
        done(Target(Role.node), 3, 10),
        done(Target(Role.coordinator), 9, 12),
        done(Target(Role.worker, 2), 11, 20),
    ]
    found = recoveries(faults, {WORKER: [13.0], PARTITION: [12.5]})
    assert [each.seconds for each in found] == [11.0, 2.5, 0.5, None]
    assert [each.undisturbed for each in found] == [1.0, 0.5, 0.5, None]


def test_recovery_of_what_all_need_is_proven_in_each_partition_and_that_of_a_coordinator_in_its_own() -> None:
    faults = [done(Target(Role.node), 1, 2), done(Target(Role.coordinator, 2), 20, 21), done(Target(Role.coordinator, 3), 20, 22)]
    found = recoveries(faults, {0: [3.0, 30.0], 1: [5.0, 24.0]}, partitions=2)
    assert [each.seconds for each in found] == [3.0, 9.0, 2.0]
    assert [each.seconds for each in recoveries(faults, {0: [3.0, 30.0], 1: []}, partitions=2)] == [None, 9.0, None]


def test_what_troubles_one_partition_is_no_excuse_for_another() -> None:
    submitters = [Target(Role.submitter, number) for number in range(2)]
    faults = [*(done(each, 1, 2) for each in submitters), done(Target(Role.coordinator), 3, 10)]
    found = recoveries(faults, {**{each: [11.0] for each in submitters}, 0: [12.0]}, partitions=2)
    assert [each.undisturbed for each in found] == [1.0, 9.0, 2.0]


def test_what_troubles_everybody_later_is_no_excuse() -> None:
    found = recoveries([done(WORKER, 1, 2), done(Target(Role.node), 50, 60)], {WORKER: [40.0], PARTITION: [61.0]})
    assert [each.undisturbed for each in found] == [38.0, 1.0]
