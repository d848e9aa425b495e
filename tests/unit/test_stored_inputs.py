"""Values from the store in a child: what is kept of them, and what is read anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker_jobs.core.value import Encoding, Stored
from broker_jobs.data.store import ValueStore, fetch
from broker_jobs_worker.runners import inputs
from broker_jobs_worker.runners.inputs import Inputs

if TYPE_CHECKING:
    from pathlib import Path

    from broker_jobs.core.value import Inline, Pieces

JOB = "0198" + "0" * 28


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Stored]:
    """What was read from the store."""
    found: list[Stored] = []

    def noted(value: Stored) -> Inline | Pieces:
        found.append(value)
        return fetch(value)

    monkeypatch.setattr(inputs, "fetch", noted)
    return found


def test_a_value_is_kept_once_it_was_read_twice(tmp_path: Path, read: list[Stored]) -> None:
    store, known = ValueStore(tmp_path), Inputs()
    first, second = (store.put(JOB, Encoding.pickle, data) for data in (b"first", b"second"))
    for _ in range(4):
        assert known.inline(first).data == b"first"
    assert known.inline(second).data == b"second"
    assert read == [first, first, second]


def test_what_was_read_longest_ago_makes_room(tmp_path: Path, read: list[Stored], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MOST_READ", 25)
    store, known = ValueStore(tmp_path), Inputs()
    values = [store.put(JOB, Encoding.pickle, bytes([number]) * 10) for number in range(3)]
    for value in values:
        assert [known.inline(value).data for _ in range(2)] == [bytes([values.index(value)]) * 10] * 2
    read.clear()
    for value in (values[2], values[1], values[0]):
        known.inline(value)
    assert read == [values[0]]
    huge = store.put(JOB, Encoding.pickle, b"x" * 26)
    assert [len(known.inline(huge).data) for _ in range(3)] == [26] * 3
    assert read == [values[0], huge, huge, huge]


def test_only_so_many_are_known_to_have_been_read(tmp_path: Path, read: list[Stored], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_MOST_ONCE", 2)
    store, known = ValueStore(tmp_path), Inputs()
    values = [store.put(JOB, Encoding.pickle, bytes([number])) for number in range(3)]
    for value in (*values, values[0], values[0]):
        known.inline(value)
    assert read == [*values, values[0], values[0]]
