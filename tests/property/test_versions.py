"""Versions are ordered as the specification says; a range holds what it is said to hold, by another way of saying it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.versions import ANY, LONGEST_PRE, MOST, Range, Release, Version, eligible
from broker_jobs.errors import ValidationError

numbers = st.integers(0, 3)
labels = st.one_of(st.integers(0, 12), st.sampled_from(["alpha", "beta", "rc", "x-1", "0a"]))
pre_releases = st.lists(labels, min_size=1, max_size=3).map(tuple)
releases = st.builds(Version, numbers, numbers, numbers)
versions = st.builds(Version, numbers, numbers, numbers, st.one_of(st.just(()), pre_releases))


@given(st.builds(Version, *[st.integers(0, MOST)] * 3, st.one_of(st.just(()), pre_releases)))
def test_a_version_is_read_as_it_was_written(version: Version) -> None:
    assert Version.parse(str(version)) == version
    assert Range.parse(str(version)).exact == version
    assert Range.parse(f"= {version}").exact == version


def test_the_order_is_that_of_the_specification() -> None:
    texts = (
        "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 1.0.1 1.0.9 1.0.10 1.2.0 2.0.0"
    )
    expected = [Version.parse(text) for text in texts.split()]
    assert all((one < other) == (i < k) for i, one in enumerate(expected) for k, other in enumerate(expected))


@given(versions, versions)
def test_two_versions_are_the_same_or_one_is_before_the_other(one: Version, other: Version) -> None:
    assert [one < other, one == other, one > other].count(True) == 1
    if one.numbers == other.numbers and bool(one.pre) != bool(other.pre):
        assert (one < other) == bool(one.pre), "a pre-release comes before what it is one of"
    elif one.numbers != other.numbers:
        assert (one < other) == (one.numbers < other.numbers)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "01.2.3",
            "1.2.3-",
            "1.2.3-01",
            "1.2.3-a..b",
            "1.2.3+build",
            "1.2.3-a_b",
            "v1.2.3",
            " 1.2.3",
            "1.2.3\n",
        ),
        *("\u0661.2.3", f"{MOST + 1}.0.0", "1.0.0-" + "a" * (LONGEST_PRE + 1)),
    ],
)
def test_what_is_no_version_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValidationError, match="is no version: write three numbers"):
        Version.parse(text)


@pytest.mark.parametrize("parts", [(-1, 0, 0), (True, 0, 0), (1, 0, 0, ("1",)), (1, 0, 0, ("a.b",)), (1, 0, 0, ("",)), (MOST + 1, 0, 0)])
def test_a_version_cannot_be_made_of_what_could_not_be_written(parts: tuple[object, ...]) -> None:
    with pytest.raises(ValidationError):
        Version(*parts)  # type: ignore[arg-type]


# --- ranges ---------------------------------------------------------------------------------------------------------


@given(releases, releases)
def test_a_caret_keeps_the_first_number_that_is_not_zero(base: Version, version: Version) -> None:
    first = next((place for place, number in enumerate(base.numbers) if number), 2)
    kept = version.numbers[: first + 1] == base.numbers[: first + 1]
    assert (version in Range.parse(f"^{base}")) == (kept and version >= base)


@given(releases, releases)
def test_a_tilde_keeps_major_and_minor(base: Version, version: Version) -> None:
    assert (version in Range.parse(f"~{base}")) == (version.numbers[:2] == base.numbers[:2] and version.patch >= base.patch)


@given(releases, releases)
def test_comparisons_compare(base: Version, version: Version) -> None:
    found = {sign for sign in (">=", ">", "<=", "<", "=", "") if version in Range.parse(f"{sign}{base}")}
    assert found == ({">=", "<=", "=", ""} if version == base else {">", ">="} if version > base else {"<", "<="})


@given(releases, releases, st.integers(1, 2), st.sampled_from(["", ".*", ".x", ".*.*"]))
def test_what_is_left_out_may_be_anything(base: Version, version: Version, count: int, rest: str) -> None:
    known, there = base.numbers[:count], version.numbers[:count]
    text = ".".join(map(str, known)) + (rest if count == 1 or rest.count(".") == 1 else "")
    assert (version in Range.parse(text)) == (there == known)
    assert (version in Range.parse(f">{text}")) == (there > known)
    assert (version in Range.parse(f">={text}")) == (there >= known)
    assert (version in Range.parse(f"<{text}")) == (there < known)
    assert (version in Range.parse(f"<={text}")) == (there <= known)
    assert (version in Range.parse(f"~{text}")) == (there == known)
    fixed = 1 if known[0] or count == 1 else 2
    assert (version in Range.parse(f"^{text}")) == (there[:fixed] == known[:fixed] and there >= known)


@given(st.lists(st.tuples(st.sampled_from([">", ">=", "<", "<=", "^", "~", ""]), versions), min_size=1, max_size=3), versions)
def test_all_conditions_hold(terms: list[tuple[str, Version]], version: Version) -> None:
    whole = Range.parse("  ".join(f"{sign}{bound}" for sign, bound in terms))
    parts = [Range.parse(f"{sign}{bound}") for sign, bound in terms]
    if version.pre:
        named = any(bound.pre and bound.numbers == version.numbers for _, bound in terms)
        assert named or version not in whole, "a pre-release is not found by accident"
    else:
        assert (version in whole) == all(version in part for part in parts)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("*", "0.0.0 1.0.0", "1.0.0-rc.1"),
        (">1.0.0 <2.1.3", "1.0.1 2.1.2", "1.0.0 2.1.3 2.1.3-rc.1"),
        ("0.1.*", "0.1.9 0.1.10", "0.2.0 0.1.0-a"),
        ("^2.0.0", "2.0.0 2.9.9", "3.0.0 1.9.9 3.0.0-a"),
        ("~2.0.0", "2.0.9", "2.1.0"),
        (">=1.0.0-beta", "1.0.0-beta 1.0.0-rc 1.0.0 2.0.0", "1.0.0-alpha 2.0.0-rc"),
        ("<2.0.0-rc", "1.9.9 2.0.0-beta", "2.0.0 2.0.0-rc 1.0.0-rc"),
        ("^1.2.3-beta.2", "1.2.3-beta.4 1.2.3 1.9.0", "1.2.3-beta.1 1.2.4-beta.4 2.0.0"),
    ],
)
def test_ranges_by_example(text: str, inside: str, outside: str) -> None:
    wanted = Range.parse(text)
    assert [version for version in inside.split() if Version.parse(version) not in wanted] == []
    assert [version for version in outside.split() if Version.parse(version) in wanted] == []


@pytest.mark.parametrize(
    "text", ["", "latest", "1.*.3", ">*", "<x", "^1.2-rc", "1.2.3 ||2.0.0", "1.2.3,2", ">>1", "1.2.3.4", "^", "1.2.3+b"]
)
def test_what_is_no_range_is_refused_and_shown(text: str) -> None:
    with pytest.raises(ValidationError, match="range"):
        Range.parse(text)


# --- what is chosen -------------------------------------------------------------------------------------------------


@given(st.lists(st.builds(Release, versions, st.booleans()), max_size=8), versions)
def test_deprecated_and_pre_release_versions_are_found_by_their_whole_version_alone(there: list[Release], wanted: Version) -> None:
    every = eligible(ANY, there)
    assert every == sorted({release.version for release in there if not release.deprecated and not release.version.pre})
    assert eligible(Range.parse(str(wanted)), there) == [wanted] * (wanted in {release.version for release in there})
    later = eligible(Range.parse(f">={wanted}"), there)
    assert set(later) <= {release.version for release in there if not release.deprecated}
    assert later == sorted(later)


def test_the_latest_is_the_largest_by_number() -> None:
    assert eligible(ANY, [Release(Version.parse(text)) for text in ("0.1.10", "0.1.9", "0.1.2")])[-1] == Version(0, 1, 10)
