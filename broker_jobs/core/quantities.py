"""Durations, sizes and amounts as users write them, and as integers."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal, InvalidOperation
from typing import Final

from broker_jobs.errors import ValidationError

UNIT: Final = 10_000
"""Resource amounts are integers in 1/10,000; memory is an amount of bytes and is not scaled."""

Duration = float | int | str | datetime.timedelta
"""Seconds, a timedelta, or a text such as ``"1h30m"``."""

Size = int | str
"""Bytes, or a text such as ``"4 GiB"``."""


MOST: Final = 2**63 - 1
"""No quantity is larger: on the wire it has 64 bits."""

_NUMBER: Final = r"(\d+(?:\.\d*)?|\.\d+)"
_DURATION: Final = re.compile("".join(rf"(?:{_NUMBER}\s*{unit}\s*)?" for unit in ("d", "h", "m", "s", "ms")), re.IGNORECASE)
_DURATION_MS: Final = (86_400_000, 3_600_000, 60_000, 1000, 1)
_SIZE: Final = re.compile(rf"{_NUMBER}\s*(?:([KMGTPE])(i?))?B?", re.IGNORECASE)
_SIZE_POWER: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def milliseconds(value: Duration, what: str) -> int:
    """A duration in whole milliseconds; `ValidationError`, which names `what`, where it is none or shorter than one."""
    wrong = ValidationError(f"{what} must be seconds, a timedelta or a text such as '1h30m', not {value!r}")
    match value:
        case bool():
            raise wrong
        case datetime.timedelta():
            exact = Decimal(value // datetime.timedelta(microseconds=1)) / 1000
        case int() | float():
            exact = Decimal(str(value)) * 1000
        case str():
            text = value.strip()
            parts = _DURATION.fullmatch(text)
            if re.fullmatch(_NUMBER, text):
                exact = Decimal(text) * 1000
            elif text and parts:
                exact = sum((Decimal(part) * ms for part, ms in zip(parts.groups(), _DURATION_MS, strict=True) if part), Decimal(0))
            else:
                raise wrong
        case _:
            raise wrong
    return _whole(exact, f"{what} must be a millisecond or more", value)


def size_bytes(value: Size, what: str) -> int:
    """A size in bytes; `ValidationError`, which names `what`, where it is none or not positive."""
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip())
        if not found:
            raise ValidationError(f"{what} must be bytes or a text such as '4 GiB', not {value!r}")
        number, prefix, binary = found.groups(default="")
        exact = Decimal(number) * (1024 if binary else 1000) ** _SIZE_POWER[prefix.upper()]
    elif isinstance(value, int) and not isinstance(value, bool):
        exact = Decimal(value)
    else:
        raise ValidationError(f"{what} must be bytes or a text such as '4 GiB', not {value!r}")
    return _whole(exact, f"{what} must be a byte or more", value)


def _whole(exact: Decimal, rule: str, value: object) -> int:
    """The nearest whole number from 1 to `MOST`; `ValidationError` with this rule where there is none."""
    if not exact.is_finite() or not Decimal("0.5") < exact <= MOST:
        raise ValidationError(f"{rule}, and less than 2**63, not {value!r}")
    return int(exact.to_integral_value())


def amount(value: float | str, what: str) -> int:
    """A resource amount in 1/10,000; `ValidationError` where it is negative or has more than four decimals."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValidationError(f"{what} must be a number, not {value!r}")
    try:
        exact = Decimal(str(value))
    except InvalidOperation:
        raise ValidationError(f"{what} must be a number, not {value!r}") from None
    if not exact.is_finite() or not 0 <= exact <= MOST // UNIT:
        raise ValidationError(f"{what} must be a number, not negative, and less than 2**63, not {value!r}")
    scaled = exact * UNIT
    if scaled != scaled.to_integral_value():
        raise ValidationError(f"{what} may have four decimals at most, not {value!r}")
    return int(scaled)


def shown_amount(value: int) -> str:
    """An amount in 1/10,000 as a person writes it, exactly: ``2.5``."""
    return f"{value // UNIT}.{value % UNIT:04}".rstrip("0").rstrip(".")


_SIZES: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def shown_size(size: int) -> str:
    """Bytes as a person writes them, exactly: ``4GiB``."""
    power = min((size & -size).bit_length() - 1, 60) // 10 if size else 0
    return f"{size >> 10 * power}{_SIZES[power]}"
