"""Rows of the embedded broker that anything may have written to its file: they are handed over as a message, or as a letter."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any, Final

import pytest

from broker_jobs.broker.embedded.lock import LockFile
from broker_jobs.broker.embedded.place import Place
from broker_jobs.broker.embedded.store import Store
from broker_jobs.broker.port import Outgoing, Receipt
from broker_jobs.cli import dead
from broker_jobs.errors import MessageError
from broker_jobs.wire.topology import Binding, Exchange, Queue, QueueKind
from tests.fuzz.test_decoders import FRAMES, SIGNER
from tests.support.mutations import FACTORS, Mutator, feed

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

ONE: Final = Queue("one", QueueKind.tasks, (Binding("x", "#"),))
COLUMNS: Final = ("exchange", "key", "headers", "body")
HEADERS: Final = '{"reason": "decode: x", "at": "1"}'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    place = Place(tmp_path / "queue.db")
    lock = LockFile(place.lock)
    assert lock.acquire()
    with contextlib.closing(Store(place, lock)) as found:
        assert found.begin()
        found.attach("test", "address")
        found.declare([Exchange("x")], [ONE])
        found.commit()
        yield found


@pytest.mark.parametrize("factor", FACTORS)
def test_rows_of_the_embedded_broker(store: Store, tmp_path: Path, factor: int) -> None:
    queue = store.directory.queues["one"].id

    def make(chance: random.Random) -> tuple[str, Any, bytes]:
        mutator = Mutator(chance)
        frame = chance.choice(FRAMES)
        column = chance.choice(COLUMNS)
        wrong: Any = mutator.text(HEADERS)
        if column == "body" and chance.random() < 0.6:
            wrong = mutator.octets(frame)
        if chance.random() < 0.3:
            wrong = chance.choice(
                (None, 0, -1, 2.5, 2**62, "text", "", "[1]", '"x"', "[" * 5000, '{"reason": 5}', '{"at": "' + "9" * 5000 + '"}')
            )
        return column, wrong.encode(errors="replace").decode() if isinstance(wrong, str) else wrong, frame

    def take(given: tuple[str, Any, bytes]) -> None:
        column, wrong, frame = given
        assert store.begin()
        assert store.publish([Outgoing("x", "a.b", frame, headers={"reason": "decode: x"})]) == [Receipt.confirmed]
        store.commit()
        with contextlib.closing(sqlite3.connect(tmp_path / "queue.db", isolation_level=None)) as other:
            other.execute(f"UPDATE bodies SET {column} = ?", (wrong,))
        assert store.begin()
        try:
            [letter] = store.letters("one", 10)
            assert {type(text) for item in letter.headers.items() for text in item} <= {str}
            dead._dead(letter).as_json()  # noqa: SLF001 (what `dead list` shows)
            [claimed] = store.claim(queue, 10)
            assert (letter.exchange, letter.key, letter.body) == (claimed.exchange, claimed.key, claimed.body)
            assert [type(each) for each in (claimed.exchange, claimed.key, claimed.body)] == [str, str, bytes]
            store.settle([claimed.held])
        finally:
            store.commit()
        SIGNER.open(claimed.body)

    feed("rows of the embedded broker", factor, make, take, MessageError)
