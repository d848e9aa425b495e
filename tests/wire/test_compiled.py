"""Functions that are compiled for classes: what they look like, and of what they make classes."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import FrozenInstanceError, dataclass
from typing import ClassVar

import pytest

from broker_jobs.core.value import Encoding, Inline
from broker_jobs.wire import codec, compiled
from broker_jobs.wire.messages import Call


def test_the_text_of_the_module_shows_what_is_compiled() -> None:
    shown = textwrap.dedent((inspect.getdoc(compiled) or "").partition("::\n\n")[2].partition("\n\nHere")[0])
    write, read = shown.split("\n\n")
    made = compiled.source(Call)
    assert made.startswith(write)
    assert made.endswith(read)


def test_what_is_read_is_as_what_its_class_makes() -> None:
    call = Call("f", Inline(Encoding.msgpack, b""))
    read = codec.decode_part(Call, codec.encode_part(call))
    assert read == call
    assert hash(read) == hash(call)
    assert type(read) is Call
    with pytest.raises(FrozenInstanceError):
        read.function = "g"  # type: ignore[misc]


@dataclass(frozen=True)
class Loose:
    """A class without slots."""

    tag: ClassVar[str] = "loose"
    number: int
    text: str = ""


def test_a_class_without_slots_is_made_by_itself() -> None:
    assert codec.decode_part(Loose, codec.encode_part(Loose(1, "one"))) == Loose(1, "one")
