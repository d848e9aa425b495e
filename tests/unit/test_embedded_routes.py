"""Patterns of bindings."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.broker.embedded.routes import Routes, fits

WORDS = st.lists(st.sampled_from("ab"), min_size=1, max_size=6)
PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=6)


def model(pattern: list[str]) -> re.Pattern[str]:
    """The same as a regular expression over words that each end with a dot."""
    return re.compile("".join({"*": r"[^.]+\.", "#": r"(?:[^.]+\.)*"}.get(word, rf"{word}\.") for word in pattern))


@given(PATTERNS, WORDS)
def test_patterns_fit_as_their_regular_expression_does(pattern: list[str], key: list[str]) -> None:
    assert fits(pattern, key) == bool(model(pattern).fullmatch("".join(f"{word}." for word in key)))


def test_each_queue_comes_once_and_in_order() -> None:
    routes = Routes(["x", "y"], [("x", "a.#", 7), ("x", "#", 7), ("x", "*.b", 3), ("y", "#", 1)])
    assert routes.queues("x", "a.b") == (3, 7)
    assert routes.queues("x", "") == (7,)
    assert routes.queues("z", "a.b") == ()
