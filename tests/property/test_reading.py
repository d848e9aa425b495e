"""A stream is read in order, with nothing twice, and nothing missing that is not said, from whoever has a part of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.client.reading import Cursor, Part
from broker_jobs.wire.messages import Output, Piece

LONGEST = 60


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[str, bytes, list[tuple[int, int]], int]]:
    """Executions with what they print, the parts of it that come, and how long the tail at the end is."""
    found = []
    for number in range(draw(st.integers(1, 3))):
        data = bytes(draw(st.lists(st.integers(0, 255), max_size=LONGEST)))
        ends = st.integers(0, len(data))
        parts = draw(st.lists(st.tuples(ends, ends).map(lambda pair: (min(pair), max(pair))), max_size=8))
        found.append((f"boot.{number}", data, parts, draw(ends)))
    return found


@given(stories())
def test_what_is_read_is_what_was_printed_except_for_what_is_said_to_be_lost(
    story: list[tuple[str, bytes, list[tuple[int, int]], int]],
) -> None:
    cursor = Cursor()
    for execution, data, pieces, tail in story:
        at = 0
        parts = [cursor.take(Piece(execution, start, data[start:end], len(data))) for start, end in pieces]
        parts.append(cursor.finish(Output(data[len(data) - tail :], len(data)), execution))
        for part in parts:
            if part is None:
                continue
            assert part.lost or part.data, "a part says something"
            assert part.execution == execution
            at += part.lost
            assert part.data == data[at : at + len(part.data)]
            at += len(part.data)
        assert (cursor.execution, cursor.at) == (execution, at)
        if tail:
            assert at == len(data), "the end is always there"


@given(st.binary(min_size=1), st.integers(1, 20))
def test_pieces_that_are_asked_for_one_after_the_other_are_the_whole(data: bytes, most: int) -> None:
    cursor = Cursor()
    read = b""
    while cursor.at < len(data):
        part = cursor.take(Piece("boot.1", cursor.at, data[cursor.at : cursor.at + most], len(data)))
        assert part is not None
        assert not part.lost
        read += part.data
    assert read == data
    assert cursor.finish(Output(data[-most:], len(data)), "boot.1") is None


def test_another_execution_begins_at_its_first_byte() -> None:
    cursor = Cursor()
    assert cursor.take(Piece("boot.1", 0, b"first", 5)) == Part(b"first", 0, "boot.1")
    assert cursor.take(Piece("boot.2", 0, b"sec", 3)) == Part(b"sec", 0, "boot.2")
    assert cursor.finish(Output(b"nd", 8), "boot.2") == Part(b"nd", 3, "boot.2")
