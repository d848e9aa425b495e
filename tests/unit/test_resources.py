"""Pools and class names by example; the names are golden, since queues are called by them."""

from __future__ import annotations

import datetime

import pytest

from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import Need, Request, ResourceRequest, Variant, canonical
from broker_jobs.core.resource_class import MAX_CLASSES, class_name, rounded
from broker_jobs.core.resources import Allocation, Groups, Pool, Resources
from broker_jobs.errors import IllegalTransition, ValidationError

GIB = 2**30


def has(cpus: float = 0, memory: int | None = None, gpus: float = 0, **resources: float) -> Resources:
    return Resources(ask(cpus, memory, gpus, **resources).amounts)


def indices(allocation: Allocation | None) -> dict[str, tuple[int, ...]]:
    assert allocation is not None
    return {grant.resource: grant.indices for grant in allocation.grants}


def ask(cpus: float = 0, memory: int | None = None, gpus: float = 0, **resources: float) -> Request:
    return ResourceRequest(cpus, memory, gpus, resources).canonical()


def test_whole_ones_come_first_and_a_rest_is_shared() -> None:
    pool = Pool(has(4, gpus=2))
    first, second = pool.try_allocate(ask(1.5, gpus=0.5)), pool.try_allocate(ask(0.5, gpus=0.25))
    assert first is not None
    assert second is not None
    assert indices(first) == {"cpus": (0, 1), "gpus": (0,)}
    assert indices(second) == {"cpus": (1,), "gpus": (0,)}
    assert pool.free == has(2, gpus=1.25)
    assert pool.held == (first, second)
    third = pool.try_allocate(ask(2, gpus=1))
    assert third is not None
    assert indices(third) == {"cpus": (2, 3), "gpus": (1,)}
    assert pool.free == has(gpus=0.25)
    pool.release(second)
    pool.release(first)
    assert pool.try_allocate(ask(2)) is not None
    pool.check()


def test_halves_of_two_are_not_one_whole() -> None:
    pool = Pool(has(gpus=2))
    held = [pool.try_allocate(ask(gpus=0.6)) for _ in range(2)]
    assert [indices(one) for one in held] == [{"gpus": (0,)}, {"gpus": (1,)}]
    assert pool.free == has(gpus=0.8)
    assert not pool.fits(ask(gpus=0.8))
    assert pool.try_allocate(ask(gpus=0.5)) is None
    assert pool.fits(ask(gpus=0.4))


def test_a_rest_goes_where_the_least_is_left() -> None:
    pool = Pool(has(3))
    for cpus in (0.5, 0.75):
        pool.try_allocate(ask(cpus))
    third = pool.try_allocate(ask(0.25))
    assert third is not None
    assert indices(third) == {"cpus": (1,)}


def test_a_need_of_any_kind_and_a_need_of_one_kind_never_share_a_thing() -> None:
    both = ask(**{"gpus/nvidia": 1}, gpus=1)
    assert not Pool(has(**{"gpus/nvidia": 1})).could_ever_fit(both)
    # Not even where there are enough of that kind: a grant names each resource once.
    assert not Pool(has(**{"gpus/nvidia": 2})).could_ever_fit(both)
    allocation = Pool(has(**{"gpus/nvidia": 1, "gpus/amd": 1})).try_allocate(both)
    assert indices(allocation) == {"gpus/nvidia": (0,), "gpus/amd": (0,)}


def test_all_or_nothing() -> None:
    pool = Pool(has(2, memory=100, fpga=1))
    assert pool.try_allocate(ask(1, memory=101)) is None
    assert pool.try_allocate(ask(1, fpga=1, other=1)) is None
    assert pool.try_allocate(ask(1, gpus=1)) is None
    assert pool.free == pool.total
    assert not pool.could_ever_fit(ask(1, memory=101))
    assert pool.could_ever_fit(ask(2, memory=100, fpga=1))


@pytest.mark.parametrize(
    ("request_", "times"),
    [
        (ask(1), 4),
        (ask(0.25), 16),
        (ask(0.3), 12),
        (ask(1.5), 2),
        (ask(2.5), 1),
        (ask(1, memory=30), 3),
        (ask(memory=100), 1),
        (ask(1, gpus=1), 0),
        (ask(5), 0),
    ],
)
def test_how_many(request_: Request, times: int) -> None:
    assert Pool(has(4, memory=100)).how_many(request_) == times


def test_how_many_depends_on_the_groups_where_shares_are_asked_for() -> None:
    two_by_two = Resources((("cpus", 4 * UNIT),), (("cpus", (("0", "1"), ("2", "3"))),))
    assert Pool(two_by_two).how_many(ask(1.25)) == 2
    assert Pool(has(4)).how_many(ask(1.25)) == 3


def test_how_many_of_nothing() -> None:
    with pytest.raises(ValidationError, match="a request for nothing"):
        Pool(has(4)).how_many(Request(()))


THREE_BY_FOUR = Resources((("cpus", 12 * UNIT),), (("cpus", tuple(tuple(f"{group}{place}" for place in "abcd") for group in "xyz")),))


def split(cpus: str, *before: str) -> str:
    """How many of each of three groups of four a request gets, after others."""
    pool = Pool(THREE_BY_FOUR)
    for other in before:
        assert pool.try_allocate(ResourceRequest(other).canonical()) is not None
    allocation = pool.try_allocate(ResourceRequest(cpus).canonical())
    pool.check()
    if allocation is None:
        return "waits"
    labels = allocation.labels("cpus")
    return " ".join(str(sum(label.startswith(group) for label in labels)) for group in "xyz")


@pytest.mark.parametrize(
    ("cpus", "before", "counts"),
    [
        ("4", (), "4 0 0"),
        ("6", (), "3 3 0"),
        ("6 compact!", (), "3 3 0"),
        ("6 tight", (), "4 2 0"),
        ("6 tight!", (), "4 2 0"),
        ("6 scatter", (), "2 2 2"),
        ("2 scatter", (), "1 1 0"),
        ("2 scatter", ("4",), "0 1 1"),
        ("all", (), "4 4 4"),
        ("all", ("0.5",), "waits"),
        ("12 scatter", (), "4 4 4"),
        ("13", (), "waits"),
        ("4", ("3 scatter",), "2 2 0"),
        ("4 compact!", ("3 scatter",), "waits"),
        ("4 tight", ("3 scatter",), "3 1 0"),
        ("4 tight!", ("3 scatter",), "waits"),
        ("3 compact!", ("3 scatter",), "3 0 0"),
        ("1", ("3",), "1 0 0"),
        ("2", ("3",), "0 2 0"),
        ("3.5", (), "4 0 0"),
        ("4.5 compact!", (), "3 2 0"),
        ("3.5 compact!", ("3.5",), "0 4 0"),
        ("0.5", ("3.5", "3.5"), "1 0 0"),
        ("1.5 scatter", ("3.5",), "1 1 0"),
        ("0.5 scatter", ("3.5",), "1 0 0"),
    ],
)
def test_the_groups_of_each_policy(cpus: str, before: tuple[str, ...], counts: str) -> None:
    assert split(cpus, *before) == counts


def test_a_share_comes_last_and_from_one_that_is_shared_already() -> None:
    pool = Pool(THREE_BY_FOUR)
    first, second = (pool.try_allocate(ask(cpus)) for cpus in (2.5, 0.5))
    assert indices(first) == {"cpus": (0, 1, 2)}
    assert indices(second) == {"cpus": (2,)}


def test_the_first_variant_that_is_free_is_chosen() -> None:
    pool = Pool(has(4, gpus=1))
    either = canonical([ResourceRequest(1, gpus=1), ResourceRequest(3)])
    found = [pool.try_allocate(either) for _ in range(3)]
    assert [one.variant for one in found if one is not None] == [0, 1]
    assert Pool(has(4, gpus=1)).how_many(either) == 2
    assert Pool(has(2)).could_ever_fit(either) is False


def test_who_asks_for_graphics_processors_gets_those_of_one_kind() -> None:
    pool = Pool(Resources((("cpus", 8 * UNIT), ("gpus/amd", UNIT), ("gpus/nvidia", 2 * UNIT)), (("gpus/nvidia", (("GPU-1", "GPU-2"),)),)))
    assert pool.how_many(ask(1, gpus=1)) == 3
    assert not pool.could_ever_fit(ask(1, gpus=3))
    first = pool.try_allocate(ask(1, gpus=1))
    second = pool.try_allocate(ask(1, gpus=2))
    assert first is not None
    assert second is not None
    assert first.labels("gpus/amd") == ("0",)
    assert second.labels("gpus/nvidia") == ("GPU-1", "GPU-2")
    assert pool.try_allocate(ResourceRequest(1, resources={"gpus/nvidia": 1}).canonical()) is None


def test_all_of_a_sum() -> None:
    pool = Pool(has(2, memory=100, fairy=10))
    everything = ResourceRequest(memory="all", resources={"fairy": "all"}).canonical()
    assert pool.how_many(everything) == 1
    allocation = pool.try_allocate(everything)
    assert allocation is not None
    assert pool.free == has(1)
    assert not pool.could_ever_fit(ResourceRequest(gpus="all").canonical())


@pytest.mark.parametrize(
    ("groups", "amount"), [((("a", "a"),), 2 * UNIT), ((("a",), ("a",)), 2 * UNIT), ((("a",),), 2 * UNIT), (((), ("a",)), UNIT)]
)
def test_groups_that_do_not_agree_with_their_amount_are_refused(groups: Groups, amount: int) -> None:
    with pytest.raises(ValidationError, match="as many different labels as there are single ones"):
        Resources((("slots", amount),), (("slots", groups),))


def test_a_release_counts_once() -> None:
    pool = Pool(has(2))
    allocation, other = pool.try_allocate(ask(1)), Pool(has(2)).try_allocate(ask(1))
    assert allocation is not None
    assert other is not None
    with pytest.raises(IllegalTransition, match="allocation 1 is not held"):
        pool.release(other)
    pool.release(allocation)
    with pytest.raises(IllegalTransition, match="allocation 1 is not held"):
        pool.release(allocation)
    assert pool.free == has(2)


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (ask(1), "cpus1-f14cc283"),
        (ask(2, memory=4 * GIB), "cpus2-mem4GiB-74e13a30"),
        (ask(2, memory=4 * GIB - 5), "cpus2-mem4GiB-74e13a30"),
        (ask(0.5), "cpus0_5-"),
        (ask(1, gpus=1), "cpus1-gpus1-"),
        (ask(1, memory=int(4.3 * GIB)), "cpus1-mem4_5GiB-"),
        (ask(1, memory=100), "cpus1-mem104B-"),
        (ResourceRequest(1, resources={"lab/fpga": 2}).canonical(), "cpus1-lab_fpga2-"),
        (ResourceRequest("4 scatter").canonical(), "cpus4_scatter-"),
        (ResourceRequest("8 compact!", memory="all").canonical(), "cpus8_compact_-memory_all-"),
        (canonical([ResourceRequest(1, gpus=1), ResourceRequest(4)]), "cpus1-gpus1-or-cpus4-"),
        (canonical([ResourceRequest(1), ResourceRequest(1)]), "cpus1-f14cc283"),
        (Request.of([Variant((Need("cpus", UNIT),), min_time=42_000)]), "cpus1-lasting-"),
        (Request.of([Variant((), nodes=3)]), "3nodes-"),
    ],
)
def test_class_names(request_: Request, name: str) -> None:
    assert class_name(request_).startswith(name)
    assert len(class_name(request_).rsplit("-", 1)[1]) == 8


def test_a_long_name_is_cut_and_still_its_own() -> None:
    long, other = (ask(1, **{letter * 64: count for letter in "abc"}) for count in (1, 2))
    assert len(class_name(long)) == len(class_name(other)) == 69
    assert class_name(long) != class_name(other)


def test_nothing_has_no_class() -> None:
    with pytest.raises(ValidationError, match="a task must ask for some resource"):
        class_name(Request(()))


@pytest.mark.parametrize(
    ("size", "more"), [(1, 1), (15, 15), (16, 16), (17, 18), (31, 32), (4 * GIB, 4 * GIB), (4 * GIB + 1, 4 * GIB + GIB // 2)]
)
def test_memory_is_rounded_up_to_an_eighth_of_its_power_of_two(size: int, more: int) -> None:
    assert rounded(ask(1, memory=size)) == ask(1, memory=more)


def test_the_number_of_classes_has_a_limit() -> None:
    assert MAX_CLASSES == 200


def test_a_request_for_whole_workers() -> None:
    request = ResourceRequest(nodes=3, memory="4 GiB").canonical()
    assert request.nodes == 3
    assert str(request) == "cpus=1 memory=4GiB nodes=3"
    assert ResourceRequest(cpus=0, nodes=1).canonical().alternatives == (Variant((), nodes=1),)
    assert Request().nodes == 0


@pytest.mark.parametrize("nodes", [-1, 1.5, True, "2", 10_001])
def test_a_number_of_workers_is_one(nodes: int) -> None:
    with pytest.raises(ValidationError, match=r"nodes must be a whole number of workers, from 0 to 10000, not"):
        ResourceRequest(nodes=nodes)


def test_whole_workers_have_no_alternative() -> None:
    with pytest.raises(ValidationError, match=r"has no alternatives: give it alone"):
        canonical([ResourceRequest(nodes=2), ResourceRequest(cpus=4)])


def test_whole_workers_are_given_out_whole() -> None:
    pool = Pool(Resources((("cpus", 4 * UNIT), ("memory", 8 << 30))))
    two = ResourceRequest(nodes=2, cpus=3).canonical()
    assert not pool.could_ever_fit(ResourceRequest(nodes=2, cpus=5).canonical())
    assert pool.how_many(two) == 1
    small = pool.try_allocate(Request())
    assert small is not None
    assert pool.how_many(two) == 0
    assert pool.try_allocate(two) is None
    pool.release(small)
    allocation = pool.try_allocate(two)
    assert allocation is not None
    assert allocation.labels("cpus") == ("0", "1", "2", "3")
    assert pool.free == Resources(())
    pool.check()


@pytest.mark.parametrize(("written", "ms"), [(90, 90_000), ("1h30m", 5_400_000), (datetime.timedelta(seconds=42), 42_000)])
def test_a_minimum_lifetime_is_kept_in_the_request(written: float | str | datetime.timedelta, ms: int) -> None:
    request = ResourceRequest(min_time=written).canonical()
    assert [variant.min_time for variant in request.alternatives] == [ms]
    assert request.lasting
    assert str(request) == f"cpus=1 min_time={ms / 1000:g}s"
    assert class_name(request) == class_name(ResourceRequest(min_time=1).canonical()) != class_name(Request())
