"""The names of resource classes."""

from __future__ import annotations

import re
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import Need, Policy, Request, Variant
from broker_jobs.core.resource_class import class_name, class_of, rounded

shares = st.sampled_from([UNIT // 10, UNIT // 4, UNIT // 2, UNIT, 2 * UNIT, 5 * UNIT // 2])
names = st.sampled_from(["cpus", "gpus", "memory", "lab/fpga", "lab_fpga", "lab-fpga", "x"])
policies = st.sampled_from([policy for policy in Policy if policy is not Policy.everything])
needs = st.builds(Need, names, st.integers(1, 2**40) | shares, policies) | st.builds(Need, names, st.just(0), st.just(Policy.everything))
variants = st.builds(
    lambda needs, nodes, min_time, features: Variant(
        tuple(sorted(needs, key=lambda need: need.name)), nodes, min_time, tuple(sorted(features))
    ),
    st.lists(needs, min_size=1, max_size=3, unique_by=lambda need: need.name),
    st.integers(0, 2),
    st.integers(0, 2),
    st.sets(st.sampled_from(["step x 1.0.0", "step x 1.0", "executor x", "step x-1.0.0 2"]), max_size=2),
)
plain = st.dictionaries(names, st.integers(1, 2**40) | shares, min_size=1).map(lambda amounts: Request(tuple(sorted(amounts.items()))))
alternatives = st.lists(variants.filter(lambda variant: not variant.nodes), min_size=1, max_size=3)
requests = plain | variants.map(lambda variant: Request.of([variant])) | alternatives.map(Request.of)


@given(requests)
def test_a_class_name_has_the_characters_of_a_routing_key_word(request: Request) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", class_name(request))


@given(requests, requests)
def test_classes_are_distinct_where_rounded_requests_are(one: Request, other: Request) -> None:
    assert (class_name(one) == class_name(other)) is (class_of(one) == class_of(other))


FEATURES = ["step b", "executor b"]


@given(requests, *[st.sets(st.sampled_from(FEATURES))] * 2)
def test_each_set_of_features_makes_another_class(request: Request, some: set[str], others: set[str]) -> None:
    one, other = reduce(Request.offering, some, request), reduce(Request.offering, others, request)
    assert (class_name(one) == class_name(other)) is (some == others)
    assert all(one.demands(feature) for feature in some)


@given(st.lists(needs, min_size=2, max_size=2), policies)
def test_each_part_of_a_request_makes_another_class(pair: list[Need], policy: Policy) -> None:
    one, other = (Request.of([Variant((need,))]) for need in pair)
    assert (class_name(one) == class_name(other)) is (rounded(one) == rounded(other))
    again = Request.of([Variant((Need(pair[0].name, 3 * UNIT, policy),))])
    assert (class_name(again) == class_name(Request(((pair[0].name, 3 * UNIT),)))) is (policy is Policy.compact)


@given(st.sampled_from(["cpus", "lab/fpga"]), st.sampled_from(["cpus", "lab_fpga"]), st.integers(10**11, 10**12), st.integers(0, 3))
def test_requests_that_read_alike_are_told_apart(name: str, other: str, amount: int, more: int) -> None:
    one, two = Request(((name, amount),)), Request(((other, amount + more),))
    assert (class_name(one) == class_name(two)) is (one == two)


@given(requests)
def test_a_class_is_named_for_what_its_requests_have_in_common(request: Request) -> None:
    assert class_name(request) == class_name(rounded(request)) == class_name(class_of(request))
    assert class_of(class_of(request)) == class_of(request)


@given(st.integers(1, 2**62))
def test_memory_is_rounded_up_by_an_eighth_at_most(size: int) -> None:
    request = Request((("memory", size),))
    ((_, more),) = rounded(request).amounts
    assert size <= more <= size + (1 << size.bit_length() - 1) // 8
    assert rounded(rounded(request)) == rounded(request)
    assert more < 16 or more % (1 << more.bit_length() - 4) == 0, "an eighth of its power of two"


@given(plain)
def test_only_memory_is_rounded(request: Request) -> None:
    assert [pair for pair in rounded(request).amounts if pair[0] != "memory"] == [pair for pair in request.amounts if pair[0] != "memory"]


@given(requests)
def test_a_request_is_the_same_in_whatever_way_it_is_made(request: Request) -> None:
    assert Request.of(request.alternatives) == request
    assert bool(request.variants) is not bool(request.amounts)
