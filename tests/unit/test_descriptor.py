"""What a worker has, as people write it."""

from __future__ import annotations

import pytest

from broker_jobs.core.descriptor import described
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.resources import Resources
from broker_jobs.errors import ValidationError


@pytest.mark.parametrize(
    ("name", "text", "groups"),
    [
        ("cpus", "3", (("0", "1", "2"),)),
        ("cpus", "2x2", (("0", "1"), ("2", "3"))),
        ("cpus", "[[0,1],[2,3]]", (("0", "1"), ("2", "3"))),
        ("cpus", "[0-3]", (("0", "1", "2", "3"),)),
        ("cpus", "[[0-1], [8-9, 12]]", (("0", "1"), ("8", "9", "12"))),
        ("cpus", "range(1-3)", (("1", "2", "3"),)),
        ("gpus", "[0,1]", (("0", "1"),)),
        ("gpus/nvidia", "[GPU-8f6d1f0a-5b1e, MIG-41b3]", (("GPU-8f6d1f0a-5b1e", "MIG-41b3"),)),
        ("lab/fpga", "[a,b]", (("a", "b"),)),
        ("fairy", "2x1", (("0",), ("1",))),
        ("fairy", '["a b","c,d"]', (("a b", "c,d"),)),
        ("fairy", "sum(1000)", ()),
        ("fairy", "2.5", ()),
        ("memory", "4 GiB", ()),
        ("memory", "sum(100)", ()),
    ],
)
def test_descriptors(name: str, text: str, groups: tuple[tuple[str, ...], ...]) -> None:
    assert described({name: text}).labels(name) == groups


def test_amounts_of_what_is_described() -> None:
    found = described({"cpus": "2x8", "gpus": "[1,0]", "memory": "1 GiB", "fairy": "sum(2.5)", "none": "0", "gpus/amd": "0x4"})
    assert found.amounts == (("cpus", 16 * UNIT), ("fairy", 25_000), ("gpus", 2 * UNIT), ("memory", 1 << 30))
    assert [name for name, _ in found.groups] == ["cpus", "gpus"]
    assert described({"cpus": "4"}) == described({"cpus": "[0-3]"}) == Resources((("cpus", 4 * UNIT),))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("cpus", "sum(4)", "no sum"),
        ("cpus", "many", "cannot be read: write a number"),
        ("cpus", "[0,", "cannot be read"),
        ("cpus", "[]", "cannot be read"),
        ("cpus", "[[0],1]", "cannot be read"),
        ("cpus", "[0,1]]", "cannot be read"),
        ("cpus", "[0;1]", "cannot be read"),
        ("cpus", "[a,b]", "by their numbers"),
        ("cpus", "9" * 5000, "cannot be read|must be a number"),
        ("cpus", f"{'9' * 5000}x2", "cannot be read"),
        ("cpus", "[0,0]", "has '0' twice"),
        ("cpus", "[[0,1],[1,2]]", "has '1' twice"),
        ("cpus", "range(3-1)", "runs backwards"),
        ("cpus", "[3-1]", "runs backwards"),
        ("cpus", "100x101", "no more|more than 10000"),
        ("x", "range(0-1000000000)", "what is only counted"),
        ("x", "-1", "cannot be read"),
        ("memory", "[1,2]", "memory must be bytes"),
        ("a b", "1", "cannot be the name"),
    ],
)
def test_what_cannot_be_read(name: str, text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        described({name: text})
