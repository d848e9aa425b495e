"""What docs/guarantees.md promises and docs/known-pains.md tells is held by tests that exist."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
DECIDED = re.compile(r"\]\((decisions/[\w-]+\.md)\)")

pages = pytest.mark.parametrize("page", [TOP / "docs" / "guarantees.md", TOP / "docs" / "known-pains.md"], ids=lambda page: page.stem)


def _names(path: Path) -> set[str]:
    """Tests of a file: functions, and state machines, which are assigned."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in found if name.startswith(("test_", "Test"))}


@pages
def test_every_test_that_is_named_exists(page: Path) -> None:
    named = set(NAMED.findall(page.read_text(encoding="utf-8")))
    assert named
    assert not [f"{file}::{name}" for file, name in sorted(named) if not (TOP / file).is_file() or name not in _names(TOP / file)]


@pages
def test_every_row_names_a_test_or_the_decision_that_there_is_none(page: Path) -> None:
    lines = [*page.read_text(encoding="utf-8").splitlines(), ""]
    rows = [line for line, after in pairwise(lines) if line.startswith("| ") and not {line[:5], after[:5]} & {"| ---"}]
    assert rows
    last = {row: row.rpartition(" | ")[2] for row in rows}
    assert not [row for row, held in last.items() if not NAMED.search(held) and not DECIDED.search(held)]
    decided = {found for held in last.values() for found in DECIDED.findall(held)}
    assert not [name for name in decided if not (page.parent / name).is_file()]


def test_all_groups_of_pains_are_there() -> None:
    text = (TOP / "docs" / "known-pains.md").read_text(encoding="utf-8")
    assert [int(number) for number in re.findall(r"^\| (\d+)\. ", text, re.MULTILINE)] == list(range(1, 38))
