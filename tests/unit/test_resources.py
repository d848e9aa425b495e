"""Pools and class names by example; the names are golden, since queues are called by them."""

from __future__ import annotations

import pytest

from broker_jobs.core.resources import MAX_CLASSES, Pool, class_name, rounded
from broker_jobs.core.spec import Request, ResourceRequest
from broker_jobs.errors import IllegalTransition, ValidationError

GIB = 2**30


def ask(cpus: float = 0, memory: int | None = None, gpus: float = 0, **resources: float) -> Request:
    return ResourceRequest(cpus, memory, gpus, resources).canonical()


def test_whole_ones_come_first_and_a_rest_is_shared() -> None:
    pool = Pool(ask(4, gpus=2))
    first, second = pool.try_allocate(ask(1.5, gpus=0.5)), pool.try_allocate(ask(0.5, gpus=0.25))
    assert first is not None
    assert second is not None
    assert first.indices == {"cpus": (0, 1), "gpus": (0,)}
    assert second.indices == {"cpus": (1,), "gpus": (0,)}
    assert pool.free == ask(2, gpus=1.25)
    assert pool.held == (first, second)
    third = pool.try_allocate(ask(2, gpus=1))
    assert third is not None
    assert third.indices == {"cpus": (2, 3), "gpus": (1,)}
    assert pool.free == ask(gpus=0.25)
    pool.release(second)
    pool.release(first)
    assert pool.try_allocate(ask(2)) is not None
    pool.check()


def test_halves_of_two_are_not_one_whole() -> None:
    pool = Pool(ask(gpus=2))
    held = [pool.try_allocate(ask(gpus=0.6)) for _ in range(2)]
    assert [one.indices for one in held if one] == [{"gpus": (0,)}, {"gpus": (1,)}]
    assert pool.free == ask(gpus=0.8)
    assert not pool.fits(ask(gpus=0.8))
    assert pool.try_allocate(ask(gpus=0.5)) is None
    assert pool.fits(ask(gpus=0.4))


def test_a_rest_goes_where_the_least_is_left() -> None:
    pool = Pool(ask(3))
    for cpus in (0.5, 0.75):
        pool.try_allocate(ask(cpus))
    third = pool.try_allocate(ask(0.25))
    assert third is not None
    assert third.indices == {"cpus": (1,)}


def test_all_or_nothing() -> None:
    pool = Pool(ask(2, memory=100, fpga=1))
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
    assert Pool(ask(4, memory=100)).how_many(request_) == times


def test_how_many_of_nothing() -> None:
    with pytest.raises(ValidationError, match="a request for nothing"):
        Pool(ask(4)).how_many(Request(()))


def test_a_release_counts_once() -> None:
    pool = Pool(ask(2))
    allocation, other = pool.try_allocate(ask(1)), Pool(ask(2)).try_allocate(ask(1))
    assert allocation is not None
    assert other is not None
    with pytest.raises(IllegalTransition, match="allocation 1 is not held"):
        pool.release(other)
    pool.release(allocation)
    with pytest.raises(IllegalTransition, match="allocation 1 is not held"):
        pool.release(allocation)
    assert pool.free == ask(2)


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
