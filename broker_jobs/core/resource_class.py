"""Resource classes: requests that are the same once they are rounded share their queues, under a canonical name."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import MEMORY, Policy, Request
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from broker_jobs.core.request import Need, Variant

MAX_CLASSES: Final = 200
"""More live classes than this are a typed error: each is three queues on the broker."""

LASTING: Final = 1
"""The lifetime in the request of a class: of a worker that ends, nobody can say here whether it is enough."""

_REMEMBERED: Final = 1000
"""So many requests are remembered with what they are rounded to: each message has one, and nearly all have the same."""
_READABLE_DIGITS: Final = 60
_HASH_DIGITS: Final = 8
_SIZES: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


@lru_cache(_REMEMBERED)
def rounded(request: Request) -> Request:
    """The same with memory rounded up to an eighth of its power of two, so that classes stay few."""
    if not request.variants:
        return Request(tuple((name, _rounded_up(amount) if name == MEMORY else amount) for name, amount in request.amounts))
    return Request.of(replace(variant, needs=tuple(map(_rounded_need, variant.needs))) for variant in request.variants)


def class_of(request: Request) -> Request:
    """What all requests of a class have in common: `rounded`, and of a lifetime of the worker no more than that there is one."""
    if not request.variants:
        return rounded(request)
    return Request.of(replace(variant, min_time=min(variant.min_time, LASTING)) for variant in rounded(request).variants)


@lru_cache(_REMEMBERED)
def class_name(request: Request) -> str:
    """The canonical name of a resource class, such as ``cpus1-3f2a91c0`` or ``cpus2-mem4GiB-66a1f0d9``.

    It has letters, digits, ``_`` and ``-``, and is the same for requests of which `class_of` is the same.

    Raises:
        ValidationError: the request asks for nothing
    """
    variants = class_of(request).alternatives
    if not variants:
        raise ValidationError("a task must ask for some resource")
    readable = "-or-".join(_readable_variant(variant) for variant in variants)
    exact = "|".join(_exact(variant) for variant in variants)
    digest = hashlib.sha256(exact.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{re.sub('[^A-Za-z0-9_-]', '_', readable)[:_READABLE_DIGITS]}-{digest}"


def _exact(variant: Variant) -> str:
    """All of a variant that belongs to its class: no name begins with ``*`` or ``+`` or has ``;`` or ``|``, so no two read alike."""
    parts = [
        f"{need.name}={need.amount}" if need.policy is Policy.compact else f"{need.name}={need.amount} {need.policy.value}"
        for need in variant.needs
    ]
    parts.extend([f"*{variant.nodes}"] if variant.nodes else [])
    parts.extend(f"+{feature}" for feature in variant.features)
    return ";".join([*parts, "lasting"] if variant.min_time else parts)


def _rounded_need(need: Need) -> Need:
    return replace(need, amount=_rounded_up(need.amount)) if need.name == MEMORY and need.amount else need


def _rounded_up(size: int) -> int:
    step = max(1, (1 << size.bit_length() - 1) // 8)
    return -(-size // step) * step


def _readable_variant(variant: Variant) -> str:
    parts = [_readable(need) for need in variant.needs]
    parts = [f"{variant.nodes}nodes", *parts] if variant.nodes else parts
    parts = [*map(_readable_feature, variant.features), *parts]
    return "-".join([*parts, "lasting"] if variant.min_time else parts)


def _readable_feature(feature: str) -> str:
    """A feature without what kind of one it is."""
    return feature.partition(" ")[2]


def _readable(need: Need) -> str:
    """A resource with its amount as a person writes it."""
    if need.policy is Policy.everything:
        return f"{need.name}_all"
    if need.name != MEMORY:
        amount = f"{need.name}{need.amount / UNIT:g}"
    else:
        power = min((need.amount.bit_length() - 1) // 10, len(_SIZES) - 1)
        amount = f"mem{need.amount / (1 << 10 * power):g}{_SIZES[power]}"
    return amount if need.policy is Policy.compact else f"{amount}_{need.policy.value}"
