"""Valid input, made wrong: bytes, plain data and texts, changed at random in the ways in which decoders go wrong.

Everything follows from a seed and a number, so each input can be made again. Much faster than hypothesis, which shrinks and remembers.
"""

from __future__ import annotations

import copy
import os
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LONG: Final = 16
"""The long form has so many times the inputs of the short one."""

Allowed = type[Exception] | tuple[type[Exception], ...]

SEED: Final = int(os.environ.get("BROKER_JOBS_FUZZ_SEED", "7"))

INPUTS: Final = {
    # decoders of the wire
    "messages": 16_000,
    "frames": 6_000,
    "frames that are signed": 4_000,
    "parts": 8_000,
    "news of children": 6_000,
    "streams of children": 1_000,
    "columns of the ledger": 3_000,
    "arguments and values": 2_000,
    "rows of the embedded broker": 500,
    "lists of batch systems": 1_000,
    # what people write
    "job files": 1_500,
    "configurations": 500,
    "templates": 500,
    "items and lines": 1_000,
    "directives": 500,
    "words": 12_000,
    # machines
    "messages to a ledger": 2_500,
    "messages to a worker": 3_000,
    "replies to a client": 3_000,
}
"""How many inputs each decoder gets in the short form."""

FACTORS: Final = (1, pytest.param(LONG, marks=[pytest.mark.long, pytest.mark.hours, pytest.mark.timeout(600)]))

NUMBERS: Final = (
    0, 1, -1, 2, 127, 128, 255, 256, 4096, 2**16, 2**31 - 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -(2**31),
    -(2**63), 10**18,
)  # fmt: skip
FLOATS: Final = (0.0, -0.0, 0.5, 1.0, -1.5, 1e300, 1e-300, float("inf"), float("-inf"), float("nan"))
TEXTS: Final = (
    "", " ", "0", "-1", "_", "x" * 300, "a.b", "a/b", "../..", "/", "\0", "\n", "\ud800", "ä", "\u2603", "²", "٣", "1e999", "nan", "inf",
    "0" * 32, "f" * 64, "*", "#", "all", "direct", "%00", "{}", "'", '"', "0" * 5000, "9" * 30, "[" * 200, "None", "\u202e",
)  # fmt: skip
BYTES: Final = (
    b"",
    b"\0",
    b"\xff",
    b"BJ\x01",
    bytes(100),
    b"\xc1",
    b"\xc7\x00\x00",
    b"\xd6\xff\0\0\0\0",
    b"\xdd\xff\xff\xff\xff",
    b"\x91" * 2000,
)
TOKENS: Final = (
    "=",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    ",",
    ":",
    '"',
    "'",
    '"""',
    "\n",
    "\r",
    "#",
    "-",
    ".",
    "_",
    "@",
    "/",
    "?",
    "&",
    "%",
    "\\",
    "e",
    "+",
)


class Mutator:
    """Makes valid input wrong.

    Args:
        chance: what it does follows from this
        pieces: parts of other valid input, to be put where they do not belong
    """

    def __init__(self, chance: random.Random, pieces: Sequence[object] = ()) -> None:
        self._chance = chance
        self._pieces = pieces

    def several(self, change: Callable[[Any], Any], value: Any) -> Any:
        """Changed once, mostly, or a few times."""
        for _ in range(self._chance.choice((1, 1, 1, 2, 4))):
            value = change(value)
        return value

    # --- bytes ---

    def octets(self, data: bytes) -> bytes:
        """Bytes that were cut, flipped, repeated, exchanged, or had others put between them."""
        chance = self._chance
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((1, 2, 4, 9, 60)))
        match chance.randrange(8):
            case 0:
                return data[:at]
            case 1:
                return data[at:]
            case 2 if data:
                at = min(at, len(data) - 1)
                return data[:at] + bytes((data[at] ^ (1 << chance.randrange(8)),)) + data[at + 1 :]
            case 3:
                return data[:at] + data[end:]
            case 4:
                return data[:end] + data[at:]
            case 5:
                return data[:at] + chance.randbytes(end - at) + data[end:]
            case 6:
                return data[:at] + chance.choice(BYTES) + data[at:]
            case _:
                return data[:at] + bytes((chance.randrange(256),)) + data[at + 1 :]

    # --- plain data ---

    def tree(self, raw: Any) -> Any:
        """Plain data, changed in one place; containers are changed where they are."""
        chance = self._chance
        if not (isinstance(raw, dict | list) and raw) or chance.random() < 0.01:
            return self.leaf(raw)
        container, key = raw, self._key(raw)
        while isinstance(container[key], dict | list) and container[key] and chance.random() < 0.85:
            container = container[key]
            key = self._key(container)
        match chance.randrange(10):
            case 0:
                del container[key]
            case 1 if isinstance(container, dict):
                container[self._text(key) if isinstance(key, str) else key] = container.pop(key)
            case 1:
                container.insert(key, container[key])
            case 2 if self._pieces:
                container[key] = copy.deepcopy(chance.choice(self._pieces))  # what is changed later is this input alone
            case 3:
                other = self._key(container)
                container[key], container[other] = container[other], container[key]
            case 4 if isinstance(container, dict):
                container[chance.choice(("_", "", 0, "new", *container))] = self._any()
            case 5:
                container[key] = [container[key]] if chance.random() < 0.5 else {"_": container[key]}
            case _:
                container[key] = self.leaf(container[key])
        return raw

    def _key(self, container: dict[Any, Any] | list[Any]) -> Any:
        return self._chance.choice(list(container)) if isinstance(container, dict) else self._chance.randrange(len(container))

    def _any(self) -> Any:
        kind = self._chance.choice((NUMBERS, NUMBERS, FLOATS, TEXTS, TEXTS, BYTES, (None, True, False, [], {}, [[]], {"_": []})))
        return copy.deepcopy(self._chance.choice(kind))

    def leaf(self, value: Any) -> Any:
        """Another value, of the same type more often than not."""
        chance = self._chance
        if chance.random() < 0.3:
            return self._any()
        match value:
            case bool():
                return not value
            case int():
                return max(-(2**63), min(2**64 - 1, chance.choice((value + 1, value - 1, -value, chance.choice(NUMBERS)))))
            case float():
                return chance.choice(FLOATS)
            case str():
                return self._text(value)
            case bytes():
                return self.octets(value)
            case _:
                return self._any()

    def _text(self, text: str) -> str:
        return self._chance.choice(TEXTS) if self._chance.random() < 0.4 else self.text(text)

    # --- texts ---

    def text(self, text: str) -> str:
        """A text in which something is missing, doubled, exchanged or new."""
        chance = self._chance
        at = chance.randrange(len(text) + 1)
        end = min(len(text), at + chance.choice((1, 2, 5, 30)))
        match chance.randrange(8):
            case 0:
                return text[:at]
            case 1:
                return text[:at] + text[end:]
            case 2:
                return text[:end] + text[at:]
            case 3:
                return text[:at] + chance.choice(TEXTS) + text[end:]
            case 4:
                return text[:at] + chance.choice(TOKENS) + text[at:]
            case 5:
                other = chance.randrange(len(text) + 1)
                return text[:at] + text[other : other + 20] + text[end:]
            case 6:
                return text[:at] + str(chance.choice(NUMBERS)) + text[end:]
            case _:
                return text[:at] + chr(chance.choice((chance.randrange(32, 127), chance.randrange(0x3000)))) + text[at + 1 :]

    def lines(self, text: str) -> str:
        """A text of which a line is missing, doubled or somewhere else."""
        found = text.split("\n")
        chance = self._chance
        at, to = chance.randrange(len(found)), chance.randrange(len(found))
        match chance.randrange(3):
            case 0:
                del found[at]
            case 1:
                found.insert(to, found[at])
            case _:
                found.insert(to, found.pop(at))
        return "\n".join(found)


def pieces(raw: object) -> Iterator[object]:
    """Every part of a piece of plain data, itself included."""
    yield raw
    for part in raw.values() if isinstance(raw, dict) else raw if isinstance(raw, list) else ():
        yield from pieces(part)


def places(raw: object) -> Iterator[tuple[Any, Any]]:
    """Every container in a piece of plain data, with every key of it."""
    items = list(raw.items()) if isinstance(raw, dict) else list(enumerate(raw)) if isinstance(raw, list) else ()
    for key, part in items:
        yield raw, key
        yield from places(part)


def feed(name: str, factor: int, make: Callable[[random.Random], Any], take: Callable[[Any], object], allowed: Allowed) -> Counter[str]:
    """Give a decoder as many inputs as `INPUTS` says, times a factor; how many it took, and how many it refused.

    Args:
        make: an input, which follows from the chance alone
        take: the decoder
        allowed: what it may raise
    """
    ends: Counter[str] = Counter()
    count = INPUTS[name] * factor
    print(f"{name}: {count:,} inputs of BROKER_JOBS_FUZZ_SEED={SEED}")
    for number in range(count):
        given = make(random.Random(SEED << 32 | number))
        try:
            take(given)
        except allowed:
            ends["refused"] += 1
        except Exception as error:
            raise AssertionError(f"{name}: input {number} of BROKER_JOBS_FUZZ_SEED={SEED} raises {error!r}: {given!r:.3000}") from error
        else:
            ends["taken"] += 1
    assert ends.total() == count
    assert min(ends["taken"], ends["refused"]) > 0, f"{name}: {ends}: nothing is found by inputs that are all alike"
    return ends
