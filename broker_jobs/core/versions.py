"""Versions of steps, as Semantic Versioning 2.0.0 orders them, and ranges of them: ``^1.2``, ``~1.2.3``, ``>=1.0 <2.1.3``, ``1.*``.

A version is the identity of what was released, so build metadata, which makes no difference to the order, has no place in it.
Ranges are read as npm and Cargo read them, with one rule for what nobody should get by accident: a pre-release is in a range
only if the range itself names a pre-release of the same three numbers, and what is deprecated is found by its whole version alone.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final, assert_never

from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST: Final = 999_999_999
"""No number of a version is larger."""

LONGEST_PRE: Final = 40
"""Characters of what stands behind the hyphen of a pre-release."""

_NUMBER: Final = r"0|[1-9]\d{0,8}"
_LABEL: Final = rf"(?:{_NUMBER}|\d*[A-Za-z-][0-9A-Za-z-]*)"
_PRE: Final = rf"{_LABEL}(?:\.{_LABEL})*"
_VERSION: Final = re.compile(rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_PRE}))?", re.ASCII)
_PLACE: Final = rf"{_NUMBER}|[xX*]"
_TERM: Final = re.compile(
    rf"(?P<sign>\^|~|>=|<=|>|<|=)?\s*(?P<major>{_PLACE})(?:\.(?P<minor>{_PLACE})(?:\.(?P<patch>{_PLACE})(?:-(?P<pre>{_PRE}))?)?)?(?:\s+|$)",
    re.ASCII,
)


@functools.total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """One version; a pre-release comes before what it is one of.

    Attributes:
        major, minor, patch: from 0 to `MOST`
        pre: what stands behind the hyphen, split at its dots: numbers as integers

    Raises:
        ValidationError: it is none
    """

    tag: ClassVar[str] = "version"
    major: int
    minor: int
    patch: int
    pre: tuple[int | str, ...] = ()

    def __post_init__(self) -> None:
        found = _VERSION.fullmatch(str(self))
        if not found or len(found[4] or "") > LONGEST_PRE or _labels(found[4]) != self.pre:
            raise _no_version(str(self))

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read a whole version such as ``1.2.0`` or ``1.2.0-rc.1``; `ValidationError` where it is none."""
        found = _VERSION.fullmatch(text)
        if not found:
            raise _no_version(text)
        return cls(int(found[1]), int(found[2]), int(found[3]), _labels(found[4]))

    @property
    def numbers(self) -> tuple[int, int, int]:
        """Major, minor and patch."""
        return self.major, self.minor, self.patch

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.major}.{self.minor}.{self.patch}" + ("-" + ".".join(map(str, self.pre)) if self.pre else "")

    def __lt__(self, other: Version) -> bool:
        """Whether it comes before another, by precedence (Semantic Versioning 2.0.0, 11)."""
        return self._rank < other._rank

    @property
    def _rank(self) -> tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]]:
        labels = tuple((False, label, "") if isinstance(label, int) else (True, 0, label) for label in self.pre)
        return self.numbers, not self.pre, labels


class Relation(StrEnum):
    """How a version stands to a bound."""

    least = ">="
    above = ">"
    most = "<="
    below = "<"
    same = "="


@dataclass(frozen=True, slots=True)
class Bound:
    """One condition of a range."""

    relation: Relation
    version: Version

    def __contains__(self, version: Version) -> bool:
        """Whether a version meets it, by order alone."""
        match self.relation:
            case Relation.least:
                return version >= self.version
            case Relation.above:
                return version > self.version
            case Relation.most:
                return version <= self.version
            case Relation.below:
                return version < self.version
            case Relation.same:
                return version == self.version
            case _:
                assert_never(self.relation)


@dataclass(frozen=True, slots=True)
class Range:
    """Which versions are wanted: those that meet all of its bounds; made by `parse`."""

    bounds: tuple[Bound, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Range:
        """Read a range.

        Args:
            text: conditions with spaces between, all of which must hold. Each is a version of one to three numbers, ``*`` or ``x`` for
                any, behind one of ``=`` (which may be left out), ``>``, ``>=``, ``<``, ``<=``, ``^`` (the first number that is not
                zero stays) and ``~`` (the first two stay)

        Raises:
            ValidationError: it cannot be read, or nothing could be in it; the text says which part
        """
        bounds: list[Bound] = []
        rest = text.strip()
        while True:
            term = _TERM.match(rest)
            if not term:
                raise ValidationError(f"{rest!r} in the range {text!r} is no version: write '1.2.0', '^1.2', '~1.2.3', '>=1.0 <2.1' or '*'")
            bounds += _bounds(term, text)
            rest = rest[term.end() :]
            if not rest:
                return cls(tuple(bounds))

    @property
    def exact(self) -> Version | None:
        """The version, if one whole version is all that it asks for."""
        match self.bounds:
            case (Bound(Relation.same, version),):
                return version
            case _:
                return None

    def __contains__(self, version: Version) -> bool:
        """Whether a version is in it."""
        named = not version.pre or any(bound.version.pre and bound.version.numbers == version.numbers for bound in self.bounds)
        return named and all(version in bound for bound in self.bounds)


ANY: Final = Range()
"""Every version that is no pre-release."""


@dataclass(frozen=True, slots=True)
class Release:
    """A version that there is."""

    version: Version
    deprecated: bool = False


def eligible(wanted: Range, releases: Iterable[Release]) -> list[Version]:
    """What of the releases is meant, each once, the latest last.

    A whole version is found whatever is said of it, a range finds no deprecated one.
    """
    if wanted.exact is not None:
        return sorted({release.version for release in releases} & {wanted.exact})
    return sorted({release.version for release in releases if not release.deprecated and release.version in wanted})


def _no_version(text: str) -> ValidationError:
    rule = "write three numbers without leading zeros, such as '1.2.0', and for a pre-release '1.2.0-rc.1'"
    return ValidationError(f"{text!r} is no version: {rule}")


def _labels(text: str | None) -> tuple[int | str, ...]:
    return tuple(int(label) if label.isdecimal() else label for label in text.split(".")) if text else ()


def _bounds(term: re.Match[str], text: str) -> list[Bound]:
    """What one condition says, as bounds."""
    places = [place for place in term.group("major", "minor", "patch") if place is not None]
    known = [int(place) for place in places if place.isdecimal()]
    if [place.isdecimal() for place in places] != [True] * len(known) + [False] * (len(places) - len(known)):
        raise ValidationError(f"{term[0].strip()!r} in the range {text!r} has a number behind a '*'")
    pre = _labels(term["pre"])
    whole = len(known) == 3  # noqa: PLR2004 -- as many as a version has
    if pre and not whole:
        raise ValidationError(f"{term[0].strip()!r} in the range {text!r} is a pre-release of no whole version")
    major, minor, patch = (*known, 0, 0, 0)[:3]
    first = Version(major, minor, patch, pre)
    sign = term["sign"] or "="
    if not known:
        if sign in {">", "<"}:
            raise ValidationError(f"no version is in {term[0].strip()!r}: leave it out of the range {text!r}")
        return []
    return _of_sign(sign, first, known, whole=whole)


def _of_sign(sign: str, first: Version, known: list[int], *, whole: bool) -> list[Bound]:
    last = len(known) - 1
    match sign:
        case "^":
            stays = next((place for place, number in enumerate(known) if number), last)
            return [Bound(Relation.least, first), _below(first, stays)]
        case "~":
            return [Bound(Relation.least, first), _below(first, min(1, last))]
        case "=" if not whole:
            return [Bound(Relation.least, first), _below(first, last)]
        case ">" if not whole:
            return [Bound(Relation.least, _below(first, last).version)]
        case "<=" if not whole:
            return [_below(first, last)]
        case _:
            return [Bound(Relation(sign), first)]


def _below(first: Version, place: int) -> Bound:
    """Before the next version in which the number at a place is another."""
    major, minor, patch = (number if index < place else number + 1 if index == place else 0 for index, number in enumerate(first.numbers))
    return Bound(Relation.below, Version(major, minor, patch))
