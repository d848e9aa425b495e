"""Placeholders: what is known is put in once, everything else stays as it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.placeholders import expand, names

NAMES = ("JOB_ID", "TASK_ID", "CWD")
plain = st.text("ab%{}/", max_size=4).filter(lambda text: "%{" not in text)
texts = st.lists(st.one_of(plain, st.sampled_from([f"%{{{name}}}" for name in (*NAMES, "OTHER", "")])), max_size=6).map("x".join)
values = st.dictionaries(st.sampled_from(NAMES), st.one_of(plain, st.just("%{TASK_ID}")))


@given(texts, values)
def test_what_is_known_is_put_in_and_the_rest_stays(text: str, known: dict[str, str]) -> None:
    expected, rest = "", text
    while (start := rest.find("%{")) >= 0:
        end = rest.index("}", start)
        name = rest[start + 2 : end]
        expected += rest[:start] + known.get(name, f"%{{{name}}}")
        rest = rest[end + 1 :]
    assert expand(text, known) == expected + rest


@given(texts)
def test_names_are_what_expand_asks_for(text: str) -> None:
    asked: list[str] = []

    class Noting(dict[str, str]):
        def get(self, key: str, default: str | None = None) -> str:  # type: ignore[override]
            asked.append(key)
            return default or ""

    expand(text, Noting())
    assert tuple(asked) == names(text)
