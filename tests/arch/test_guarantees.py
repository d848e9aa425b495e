"""What docs/guarantees.md promises is held by tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "guarantees.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def _names(path: Path) -> set[str]:
    """Tests of a file: functions, and state machines, which are assigned."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in found if name.startswith(("test_", "Test"))}


def test_every_test_that_is_named_exists() -> None:
    named = set(NAMED.findall(PAGE.read_text(encoding="utf-8")))
    assert named
    assert not [f"{file}::{name}" for file, name in sorted(named) if not (TOP / file).is_file() or name not in _names(TOP / file)]


def test_every_promise_names_a_test() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    promises = [row for row in rows if not row.startswith("| promise |")]
    assert promises
    assert not [row for row in promises if not NAMED.search(row.rpartition(" | ")[2])]
