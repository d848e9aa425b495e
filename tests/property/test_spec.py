"""Durations, sizes and amounts: what is understood is exact, everything else is refused by name."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.quantities import MOST, UNIT, amount, milliseconds, size_bytes
from broker_jobs.core.request import Request, ResourceRequest
from broker_jobs.core.spec import Retry
from broker_jobs.errors import ValidationError

UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
POWERS = {"": 0, "k": 1, "M": 2, "g": 3, "T": 4, "P": 5, "E": 6}
SIZES = {
    f"{prefix}{suffix}": base**power
    for prefix, power in POWERS.items()
    for suffix, base in (("", 1000), ("B", 1000), ("iB", 1024))
    if prefix or not suffix.startswith("i")
}


@given(st.lists(st.tuples(st.sampled_from(list(UNITS)), st.integers(1, 10_000)), min_size=1, unique_by=lambda part: part[0]), st.booleans())
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[str, int]], spaced: bool) -> None:
    parts.sort(key=lambda part: list(UNITS).index(part[0]))
    text = (" " if spaced else "").join(f"{count}{unit}" for unit, count in parts)
    assert milliseconds(text, "limit") == sum(count * UNITS[unit] for unit, count in parts)
    assert milliseconds(text.upper(), "limit") == milliseconds(text, "limit")


@given(st.integers(1, 10**12))
def test_the_ways_to_say_a_duration_agree(count: int) -> None:
    seconds = Decimal(count) / 1000
    assert milliseconds(str(seconds), "limit") == milliseconds(f"{seconds} s", "limit") == count
    assert milliseconds(datetime.timedelta(milliseconds=count), "limit") == count
    assert milliseconds(count, "limit") == count * 1000


@given(st.sampled_from(list(SIZES)), st.integers(1, 9), st.integers(0, 999), st.booleans())
def test_a_size_is_a_number_times_its_unit(unit: str, whole: int, part: int, spaced: bool) -> None:
    number = f"{whole}.{part:03}"
    exact = Decimal(number) * SIZES[unit]
    if exact <= MOST:
        assert abs(size_bytes(f"{number}{' ' * spaced}{unit}", "memory") - exact) <= Decimal("0.5")


@given(st.integers(0, 10**9))
def test_an_amount_has_four_decimals(scaled: int) -> None:
    text = str(Decimal(scaled) / UNIT)
    assert amount(text, "cpus") == scaled
    assert amount(float(text), "cpus") == scaled


anything: st.SearchStrategy[Any] = (
    st.text(max_size=12)
    | st.from_regex(r"[-+0-9. dhmsKMGTiBe²]{0,9}", fullmatch=True)
    | st.floats()
    | st.integers()
    | st.booleans()
    | st.none()
    | st.binary(max_size=3)
    | st.timedeltas()
    | st.lists(st.integers(), max_size=2)
)


@given(anything)
def test_whatever_comes_is_a_quantity_or_refused_by_name(value: Any) -> None:
    for read, least in ((milliseconds, 1), (size_bytes, 1), (amount, 0)):
        try:
            result = read(value, "the thing")
        except ValidationError as refusal:
            text = str(refusal)
            assert text.startswith("the thing m")
            assert repr(value) in text
        else:
            assert least <= result <= MOST
            assert type(result) is int


@given(st.dictionaries(st.sampled_from(["cpus", "memory", "gpus", "fpga", "lab/x"]), anything))
def test_a_resource_request_is_canonical_or_refused(wishes: dict[str, Any]) -> None:
    named: dict[str, Any] = {name: wishes.pop(name) for name in ("fpga", "lab/x") if name in wishes}
    try:
        request = ResourceRequest(resources=named, **wishes).canonical()
    except ValidationError:
        return
    assert request == Request(tuple(sorted(request.amounts)))
    assert all(value > 0 for _, value in request.amounts)
    assert request.amounts


@given(st.dictionaries(st.sampled_from(["backoff", "factor", "max_backoff", "jitter", "max_attempts", "on"]), anything))
def test_a_retry_policy_is_valid_or_refused(wishes: dict[str, Any]) -> None:
    try:
        policy = Retry(**wishes)
    except ValidationError:
        return
    assert policy.max_attempts >= 1
    assert all(type(value) is float and value >= 0 for value in (policy.backoff, policy.factor, policy.max_backoff, policy.jitter))
    assert Retry(policy.max_attempts, policy.backoff, policy.factor, policy.max_backoff, policy.jitter, policy.on) == policy


def test_a_wrong_request_cannot_be_made() -> None:
    for amounts in ((("cpus", 0),), (("cpus", -1),), (("memory", 1), ("cpus", 1)), (("cpus", 1), ("cpus", 1)), (("", 1),), (("a b", 1),)):
        with pytest.raises(ValidationError, match="amounts must be positive, each resource once"):
            Request(amounts)
