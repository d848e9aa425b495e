"""Hypothesis strategies for every class that travels, made from the types of its fields."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from broker_jobs.core.data import Artifact, DataRef, SlotSpec
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import Need, Policy, Request, Variant
from broker_jobs.core.resources import Resources
from broker_jobs.core.spec import Lane, Retry
from broker_jobs.core.step import STEP_NAME, StepSpec
from broker_jobs.core.value import Value
from broker_jobs.core.versions import MOST, Version
from broker_jobs.wire.messages import DataInfo, Member, TagData, Team

_NAMES = {"Mapping": Mapping, "Value": Value}

_LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    str: st.text(st.characters(), max_size=20),
    bytes: st.binary(max_size=20),
    bool: st.booleans(),
    float: st.floats(allow_nan=False),
    type(None): st.none(),
}

_RETRY = st.builds(
    Retry,
    max_attempts=st.integers(1, 10**6),
    backoff=st.floats(0, 1e6),
    factor=st.floats(0, 1e3),
    max_backoff=st.floats(0, 1e6),
    jitter=st.floats(0, 1),
    on=st.none() | st.lists(st.text(max_size=5) | st.integers(-300, 300), max_size=3).map(tuple),
)

_RESOURCE = st.from_regex(r"[A-Za-z][A-Za-z0-9_/-]{0,8}", fullmatch=True)
_AMOUNTS = st.dictionaries(_RESOURCE, st.integers(1, 2**64 - 1), max_size=3).map(lambda amounts: tuple(sorted(amounts.items())))
_NEED = st.builds(Need, _RESOURCE, st.integers(1, 2**64 - 1), st.sampled_from([each for each in Policy if each is not Policy.everything]))
_NEEDS = st.lists(_NEED | st.builds(Need, _RESOURCE, st.just(0), st.just(Policy.everything)), max_size=3, unique_by=lambda need: need.name)
_FEATURES = st.sets(st.from_regex(r"[a-z]{1,3} [A-Za-z0-9_.+-]{1,5} [0-9.]{1,3}", fullmatch=True), max_size=2)
_VARIANT = st.builds(
    lambda needs, nodes, min_time, features: Variant(
        tuple(sorted(needs, key=lambda need: need.name)), nodes or int(not needs), min_time, tuple(sorted(features))
    ),
    _NEEDS,
    st.integers(0, 3),
    st.integers(0, 2**63),
    _FEATURES,
)
_REQUEST = (
    _AMOUNTS.map(Request)
    | _VARIANT.map(lambda variant: Request.of([variant]))
    | st.lists(_VARIANT.filter(lambda variant: not variant.nodes), min_size=1, max_size=3).map(Request.of)
)
_GROUPS = st.lists(st.lists(st.text(max_size=3), min_size=1, max_size=3), max_size=3).filter(
    lambda groups: len({label for group in groups for label in group}) == sum(map(len, groups))
)


def _resources(amounts: dict[str, int], groups: dict[str, list[list[str]]], features: tuple[str, ...]) -> Resources:
    groups = {name: each for name, each in groups.items() if each}
    single = {name: sum(map(len, each)) * UNIT for name, each in groups.items()}
    labels = tuple((name, tuple(tuple(group) for group in each)) for name, each in groups.items())
    return Resources(tuple(sorted({**amounts, **single}.items())), labels, features, features[0] if len(features) > 1 else "")


_RESOURCES = st.builds(
    _resources, _AMOUNTS.map(dict), st.dictionaries(_RESOURCE, _GROUPS, max_size=2), _FEATURES.map(lambda features: tuple(sorted(features)))
)

_MEMBERS = st.lists(st.builds(Member, *[st.text(max_size=5)] * 3), min_size=1, max_size=3, unique_by=lambda member: member.worker)
_TEAM = st.builds(Team, st.text(max_size=5), st.text(max_size=5), st.sampled_from(Lane), _MEMBERS.map(tuple))

_LABEL = st.integers(0, 999_999_999) | st.from_regex(r"[A-Za-z-][0-9A-Za-z-]{0,5}", fullmatch=True)
_VERSION = st.builds(Version, *[st.integers(0, MOST)] * 3, st.lists(_LABEL, max_size=3).map(tuple))
_STEP = st.builds(
    StepSpec,
    name=st.from_regex(STEP_NAME, fullmatch=True),
    version=_VERSION,
    title=_LEAVES[str],
    description=_LEAVES[str],
    tags=st.lists(_LEAVES[str].filter(lambda tag: tag == tag.strip() != ""), max_size=3).map(tuple),
    deprecated=st.none() | _LEAVES[str],
    parameters=_LEAVES[str],
    returns=_LEAVES[str],
    inputs=st.deferred(lambda: st.lists(_SLOT, max_size=2).map(tuple)),
    outputs=st.deferred(lambda: st.lists(_SLOT, max_size=2).map(tuple)),
)

_HEX = st.text("0123456789abcdef", min_size=32, max_size=32)
_TYPE = st.sampled_from(["text/csv", "application/vnd.x+json", "image/png"])
_TAGS = st.lists(_LEAVES[str].filter(lambda tag: tag == tag.strip() != ""), max_size=3).map(tuple)
_DATA = st.builds(
    DataRef,
    id=_HEX,
    name=_LEAVES[str].filter(lambda name: bool(name) and not set(name) & set("/\0") and name not in {".", ".."}),
    media_type=_TYPE,
    size=st.integers(0, 2**63),
    sha256=st.binary(min_size=32, max_size=32),
    store=_LEAVES[str],
    key=st.from_regex(r"data(?:/[A-Za-z0-9_][A-Za-z0-9_.-]{0,3}){1,3}", fullmatch=True),
)
_SLOT = st.builds(
    SlotSpec,
    name=st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True),
    title=_LEAVES[str],
    description=_LEAVES[str],
    media_type=_TYPE | st.sampled_from(["*/*", "image/*"]),
    collection=st.booleans(),
    least=st.integers(0, 1),
    most=st.none() | st.integers(1, 9),
)
_INFO = st.builds(
    DataInfo,
    _DATA,
    _TAGS,
    _LEAVES[str],
    st.integers(0, 2**53),
    st.none() | _LEAVES[str],
    st.integers(0, 9),
    _LEAVES[str],
    _LEAVES[str],
    st.integers(0, 9),
)

_OURS: dict[Any, st.SearchStrategy[Any]] = {
    Artifact: st.builds(Artifact, _LEAVES[str], _DATA, _TAGS),
    DataInfo: _INFO,
    DataRef: _DATA,
    Retry: _RETRY,
    SlotSpec: _SLOT,
    TagData: st.builds(TagData, _LEAVES[str], _TAGS),
    Request: _REQUEST,
    Resources: _RESOURCES,
    StepSpec: _STEP,
    Team: _TEAM,
    Version: _VERSION,
}


def from_hint(hint: Any) -> st.SearchStrategy[Any]:
    """Values of an annotation."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return st.one_of([from_hint(option) for option in arguments])
    if origin is tuple:
        if arguments[1:] == (...,):
            return st.lists(st.deferred(lambda: from_hint(arguments[0])), max_size=3).map(tuple)
        return st.tuples(*[from_hint(item) for item in arguments])
    if origin is Mapping:
        return st.dictionaries(_LEAVES[str], st.deferred(lambda: from_hint(arguments[1])), max_size=3)
    if hint in _OURS:
        return _OURS[hint]
    if is_dataclass(hint):
        hints = get_type_hints(hint, None, _NAMES)
        return st.builds(hint, **{entry.name: from_hint(hints[entry.name]) for entry in fields(hint)})
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    return _LEAVES[hint]
