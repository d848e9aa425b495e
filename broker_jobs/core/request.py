"""What a task asks of a worker: as a user writes it, and in the form in which it is kept and sent.

A request is one or several *variants*, in order of preference; a worker chooses one when the task starts. A variant is how
much of which resources, and from which of their groups (`Policy`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final

from broker_jobs.core.quantities import UNIT, Duration, Size, amount, milliseconds, shown_amount, shown_size, size_bytes
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable

RESOURCE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_/-]{0,63}")
MEMORY: Final = "memory"
"""The one resource that is counted in bytes; all others in 1/10,000."""
MOST_NODES: Final = 10_000
"""No task runs on more workers than this."""
_FEATURE: Final = re.compile(r"[a-z]+ [A-Za-z0-9_.+-][A-Za-z0-9_.+ -]{0,399}")


class Policy(StrEnum):
    """From which groups of a resource single ones are taken: groups are the NUMA nodes of processors, or what the worker was told."""

    compact = "compact"
    """From as few groups as possible now, evenly."""

    strict_compact = "compact!"
    """The same, and it waits until the least number of groups suffices that ever could."""

    tight = "tight"
    """From as few groups as possible now, one after the other."""

    strict_tight = "tight!"
    """The same, and it waits until the least number of groups suffices that ever could."""

    scatter = "scatter"
    """From as many groups as possible now, evenly."""

    everything = "all"
    """All that the worker has of it, when nobody else holds any."""


STRICT: Final = frozenset({Policy.strict_compact, Policy.strict_tight})
"""Policies that wait for the least number of groups."""


@dataclass(frozen=True, slots=True)
class Need:
    """One resource of a variant.

    Attributes:
        amount: ``memory`` in bytes, everything else in 1/10,000; 0 for all that a worker has

    Raises:
        ValidationError: the name is none, or amount and policy do not agree
    """

    tag: ClassVar[str] = "need"
    name: str
    amount: int
    policy: Policy = Policy.compact

    def __post_init__(self) -> None:
        if not RESOURCE_NAME.fullmatch(self.name):
            raise ValidationError(f"{self.name!r} cannot be the name of a resource: use letters, digits, '_', '-' and '/'")
        if not self.amount >= (self.policy is not Policy.everything) or (self.amount and self.policy is Policy.everything):
            raise ValidationError(f"amounts must be positive, or 0 for 'all', not {self.amount} of {self.name!r} with {self.policy!r}")

    def __str__(self) -> str:
        if self.policy is Policy.everything:
            return self.policy.value
        shown = str(self.amount) if self.name == MEMORY else shown_amount(self.amount)
        return shown if self.policy is Policy.compact else f"{shown} {self.policy.value}"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to meet a request.

    Attributes:
        needs: each resource once, in the order of their names
        nodes: so many whole workers of one group, each of which has what is needed; 0 for a part of one worker
        min_time: milliseconds that the worker must have left; how many is no part of the class of a request
        features: what a worker must offer besides, and does not run out of: ``step simulate 1.2.0``; sorted, each once

    Raises:
        ValidationError: the needs are not in this form, or nothing is asked for
    """

    tag: ClassVar[str] = "variant"
    needs: tuple[Need, ...]
    nodes: int = 0
    min_time: int = 0
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_order(tuple((need.name, 1) for need in self.needs))
        check_features(self.features)
        if min(self.nodes, self.min_time) < 0 or not (self.needs or self.nodes):
            raise ValidationError(f"a variant must ask for something: {self!r}")

    @property
    def amounts(self) -> tuple[tuple[str, int], ...] | None:
        """Pairs of name and amount, where they say everything."""
        if self.nodes or self.min_time or self.features or any(need.policy is not Policy.compact for need in self.needs):
            return None
        return tuple((need.name, need.amount) for need in self.needs)


@dataclass(frozen=True, slots=True)
class Request:
    """A resource request in its canonical form; made by `of`.

    Attributes:
        amounts: pairs of name and amount, sorted by name, none of them zero: a single variant of which nothing else is to be said
        variants: everything else, in order of preference; `amounts` is empty then. Whole workers have no alternative

    Raises:
        ValidationError: it is not in this form
    """

    tag: ClassVar[str] = "request"
    amounts: tuple[tuple[str, int], ...] = (("cpus", UNIT),)
    variants: tuple[Variant, ...] = ()

    def __post_init__(self) -> None:
        _check_order(self.amounts)
        if self.variants and (self.amounts or (len(self.variants) == 1 and self.variants[0].amounts is not None)):
            raise ValidationError("a request that is no more than amounts is written as amounts, and any other as variants")
        if len(self.variants) > 1 and any(variant.nodes for variant in self.variants):
            raise ValidationError("a request for whole workers (nodes=) has no alternatives: give it alone")

    @classmethod
    def of(cls, variants: Iterable[Variant]) -> Request:
        """The request that any of these variants meets."""
        chosen = tuple(dict.fromkeys(variants))
        plain = chosen[0].amounts if len(chosen) == 1 else None
        return cls((), chosen) if plain is None else cls(plain)

    @property
    def alternatives(self) -> tuple[Variant, ...]:
        """Its variants in order of preference; none where it asks for nothing."""
        return self.variants or ((Variant(tuple(Need(name, value) for name, value in self.amounts)),) if self.amounts else ())

    @property
    def nodes(self) -> int:
        """How many whole workers it asks for; 0 for a part of one."""
        return self.variants[0].nodes if self.variants else 0

    def offering(self, feature: str) -> Request:
        """The same, of a worker that offers this feature."""
        features = {one: tuple(sorted({*one.features, feature})) for one in self.alternatives}
        return Request.of(replace(one, features=wanted) for one, wanted in features.items())

    def demands(self, feature: str) -> bool:
        """Whether only workers that offer this feature meet it."""
        return all(feature in variant.features for variant in self.alternatives)

    @property
    def lasting(self) -> bool:
        """Whether a variant of it needs a worker that has some time left."""
        return any(variant.min_time for variant in self.variants)

    def __str__(self) -> str:
        """All of it, for people: ``cpus=2 memory=4GiB or cpus=8 scatter``."""
        return " or ".join(_shown(variant) for variant in self.alternatives) or "nothing"


def _check_order(amounts: tuple[tuple[str, int], ...]) -> None:
    before = ""
    for name, value in amounts:
        if not RESOURCE_NAME.fullmatch(name) or name <= before or value <= 0:
            raise ValidationError(f"amounts must be positive, each resource once, in the order of their names: {amounts!r}")
        before = name


def executor_feature(name: str) -> str:
    """The feature of a worker that runs programs by an executor of this name."""
    return f"executor {name}"


def check_features(features: tuple[str, ...]) -> None:
    """`ValidationError` where these are no features, or are not sorted, each once."""
    if features and (list(features) != sorted(set(features)) or not all(map(_FEATURE.fullmatch, features))):
        raise ValidationError(f"features are texts such as 'step simulate 1.2.0', sorted, each once: {features!r}")


def _shown(variant: Variant) -> str:
    parts = [
        f"{need.name}={shown_size(need.amount) if need.name == MEMORY and need.policy is not Policy.everything else need}"
        for need in variant.needs
    ]
    if variant.nodes:
        parts.append(f"nodes={variant.nodes}")
    if variant.min_time:
        parts.append(f"min_time={variant.min_time / 1000:g}s")
    parts.extend(f"({feature})" for feature in variant.features)
    return " ".join(parts)


# --- as the user writes it -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """What a task needs of a worker.

    An amount is a number in steps of 0.0001, ``"all"``, or a text of a number and a policy, such as ``"4 scatter"``,
    ``"8 compact!"`` or ``"2 tight"``: from which groups of the worker (NUMA nodes, for processors) single ones are taken.

    Args:
        cpus: processors (default 1)
        memory: bytes, a text such as ``"4 GiB"``, or ``"all"``; reserved, not enforced (see ``memory_limit``)
        gpus: graphics processors of any kind; ``resources={"gpus/amd": 1}`` asks for those of a kind
        resources: further named resources and how much of each
        nodes: so many whole workers of one group, for this task alone; each has at least what else is asked for. It starts on one
            of them, which `BROKER_JOBS_NODE_FILE` lists first
        min_time: seconds, a timedelta or a text such as ``"1h30m"`` that the worker must have left; one without a time limit always has

    Raises:
        ValidationError: an amount is negative, too fine, or not a number, or nothing at all is asked for
    """

    cpus: float | str = 1
    memory: Size | None = None
    gpus: float | str = 0
    resources: Mapping[str, float | str] = field(default_factory=dict)
    nodes: int = 0
    min_time: Duration | None = None

    def __post_init__(self) -> None:
        self.variant()

    def variant(self) -> Variant:
        """The same in integers."""
        needs = [_need("cpus", self.cpus, "cpus"), _need("gpus", self.gpus, "gpus")]
        if self.memory == Policy.everything.value:
            needs.append(Need(MEMORY, 0, Policy.everything))
        elif self.memory is not None:
            needs.append(Need(MEMORY, size_bytes(self.memory, MEMORY)))
        if not isinstance(self.resources, Mapping):
            raise ValidationError(f"resources must be a mapping of names to amounts, such as {{'fpga': 1}}, not {self.resources!r}")
        for name, value in self.resources.items():
            if not isinstance(name, str) or not RESOURCE_NAME.fullmatch(name) or name in {"cpus", "gpus", MEMORY}:
                raise ValidationError(f"{name!r} cannot be the name of a further resource: use letters, digits, '_', '-' and '/'")
            needs.append(_need(name, value, f"resource {name!r}"))
        wanted = tuple(sorted((need for need in needs if need is not None), key=lambda need: need.name))
        if isinstance(self.nodes, bool) or not isinstance(self.nodes, int) or not 0 <= self.nodes <= MOST_NODES:
            raise ValidationError(f"nodes must be a whole number of workers, from 0 to {MOST_NODES}, not {self.nodes!r}")
        if not wanted and not self.nodes:
            raise ValidationError("a task must ask for some resource: cpus=0 needs another one")
        return Variant(wanted, self.nodes, 0 if self.min_time is None else milliseconds(self.min_time, "min_time"))

    def canonical(self) -> Request:
        """The request that has this one variant."""
        return Request.of((self.variant(),))


def canonical(wanted: ResourceRequest | Sequence[ResourceRequest] | None) -> Request:
    """The canonical form of what a user asked for: one request, several in order of preference, or none (one processor).

    Raises:
        ValidationError: it is none of these
    """
    match wanted:
        case None:
            return Request()
        case ResourceRequest():
            return wanted.canonical()
        case list() | tuple() if wanted and all(isinstance(each, ResourceRequest) for each in wanted):
            return Request.of(each.variant() for each in wanted)
        case _:
            raise ValidationError(f"resources must be a ResourceRequest, or a list of them in order of preference, not {wanted!r}")


def _need(name: str, value: float | str, what: str) -> Need | None:
    """An amount with its policy, such as ``"4 scatter"``; None for zero."""
    if not isinstance(value, str):
        scaled = amount(value, what)
        return Need(name, scaled) if scaled else None
    number, _, word = value.strip().partition(" ")
    if number == Policy.everything.value and not word:
        return Need(name, 0, Policy.everything)
    scaled = amount(number, what)
    try:
        policy = Policy(word.strip() or Policy.compact)
    except ValueError:
        policy = Policy.everything
    if policy is Policy.everything:
        choices = ", ".join(repr(each.value) for each in Policy if each is not Policy.everything)
        raise ValidationError(f"{what} must be a number, 'all', or a number with a policy ({choices}), not {value!r}")
    return Need(name, scaled, policy) if scaled else None
