"""Notes of a child: each arrives, in its order, however large they are and whenever they are read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
from typing import TYPE_CHECKING

import pytest

from broker_jobs.core.value import INLINE_LIMIT, Encoding, Inline, Stored
from broker_jobs.errors import DecodeError
from broker_jobs_worker.executors.notes import ROOM, Notes
from broker_jobs_worker.runners import notes as runner
from broker_jobs_worker.runners.protocol import NOTE

if TYPE_CHECKING:
    from collections.abc import Iterator

STORED = Stored(Encoding.pickle, "/store", "key", b"", 1)


@pytest.fixture
def parent() -> Iterator[Notes]:
    notes = Notes()
    yield notes
    notes.close()


@pytest.mark.parametrize("size", [0, 1, 1000, INLINE_LIMIT - 1, INLINE_LIMIT])
def test_each_arrives_though_more_is_written_than_there_is_room_for(parent: Notes, size: int) -> None:
    rung = []

    def ring() -> None:
        rung.append(len(parent.unheeded))
        parent.read()

    child = runner.Notes(parent.lend(), ring)
    count = 3 * ROOM // (size + NOTE.size)
    for place in range(count):
        assert child.write(place, Inline(Encoding.pickle, bytes([place % 256]) * size))
    parent.read()
    assert rung, "the parent was told in time"
    assert [note.place for note in parent.unheeded] == list(range(count))
    assert all(note.value == Inline(Encoding.pickle, bytes([note.place % 256]) * size) for note in parent.unheeded)


def test_a_function_may_have_many_files_open(parent: Notes) -> None:
    pipe = parent.lend()
    high = fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, 1024)
    child = runner.Notes(high, parent.read)
    count = 3 * ROOM // (1000 + NOTE.size)
    for place in range(count):
        assert child.write(place, Inline(Encoding.pickle, bytes(1000)))
    parent.read()
    assert [note.place for note in parent.unheeded] == list(range(count))
    os.close(high)
    os.close(pipe)


def test_what_has_no_value_and_what_is_no_matter_for_a_note(parent: Notes) -> None:
    child = runner.Notes(parent.lend(), lambda: None)
    assert child.write(0, None)
    assert not child.write(1, Inline(Encoding.msgpack, bytes(INLINE_LIMIT + 1)))
    assert not child.write(1, STORED)
    parent.read()
    assert [(note.place, note.value) for note in parent.unheeded] == [(0, None)]


@pytest.mark.parametrize("seed", range(20))
def test_any_other_bytes_are_refused(parent: Notes, seed: int) -> None:
    chance = random.Random(seed)
    good = NOTE.pack(1, 0, 0, b"m") + b"\xc0"
    body = bytearray(good * 3)
    for _ in range(chance.randint(1, 5)):
        body[chance.randrange(len(body))] = chance.randrange(256)
    pipe = parent.lend()
    runner.Notes(pipe, lambda: None)._put(bytes(body))  # noqa: SLF001 (as a task may that finds the pipe)
    with contextlib.suppress(DecodeError):
        parent.read()
    assert all(note.encoding in {None, *Encoding} and len(note.data) <= INLINE_LIMIT for note in parent.unheeded)
