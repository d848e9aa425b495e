"""What is done to the tables, without a loop: each `Store` here is a connection of its own."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from broker_jobs.broker.embedded import store as store_module
from broker_jobs.broker.embedded.consuming import LEFT_TO_OTHERS, Consuming, EmbeddedSubscription, Entry, Haul
from broker_jobs.broker.embedded.lock import LockFile
from broker_jobs.broker.embedded.place import Place
from broker_jobs.broker.embedded.store import LARGEST_BODY, Store
from broker_jobs.broker.port import Depth, Outgoing, Receipt
from broker_jobs.wire.topology import Binding, Exchange, Queue, QueueKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from broker_jobs.broker.port import Delivery

X = Exchange("x")
RETURNED = Exchange("returned")
ONE = Queue("one", QueueKind.tasks, (Binding("x", "#"),))
TWO = Queue("two", QueueKind.ledger, (Binding("x", "*.both"),))
PRIVATE = Queue("private", QueueKind.private, (Binding("x", "private"),))
LEASE = Queue("lease", QueueKind.lease, dead_letter_exchange="returned")
ROUND = Queue("round", QueueKind.tasks, (Binding("returned", "#"),))
TOKEN = Outgoing("lease", "w1.0", b"token")


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Makes connections with exchange x and queue one."""
    with contextlib.ExitStack() as stack:

        def make() -> Store:
            place = Place(tmp_path / "queue.db")
            lock = LockFile(place.lock)
            assert lock.acquire()
            store = Store(place, lock)
            stack.callback(store.close)
            assert store.begin()
            store.attach("test", f"address {store.connection}")
            store.declare([X], [ONE])
            store.commit()
            return store

        yield make


@contextlib.contextmanager
def writing(store: Store) -> Iterator[Store]:
    assert store.begin()
    try:
        yield store
    except BaseException:
        store.rollback()
        raise
    store.commit()


def rows(folder: Path) -> tuple[int, int]:
    """Number of bodies, and of messages."""
    with contextlib.closing(sqlite3.connect(folder / "queue.db")) as database:
        bodies, messages = (database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("bodies", "messages"))
        return bodies, messages


def queue_id(store: Store, queue: Queue) -> int:
    return store.directory.queues[queue.name].id


def test_a_body_of_two_queues_is_stored_once_and_goes_with_the_last(connect: Callable[[], Store], tmp_path: Path) -> None:
    store = connect()
    with writing(store):
        store.declare([], [TWO])
        assert store.publish([Outgoing("x", "a.both", b"body")]) == [Receipt.confirmed]
    assert rows(tmp_path) == (1, 2)
    with writing(store):
        (first,) = store.claim(queue_id(store, ONE), 10)
        store.settle([first.held])
    assert rows(tmp_path) == (1, 1)
    with writing(store):
        (second,) = store.claim(queue_id(store, TWO), 10)
        assert (second.exchange, second.key, second.body, second.redelivered) == ("x", "a.both", b"body", False)
        store.settle([second.held])
    assert rows(tmp_path) == (0, 0)


def test_a_ledger_has_time_for_a_copy_of_what_goes_to_a_queue_of_tasks_and_for_nothing_else(connect: Callable[[], Store]) -> None:
    store = connect()
    with writing(store):
        store.declare([Exchange("y")], [TWO, Queue("private", QueueKind.private, (Binding("y", "private.*"),))])
        store.declare([], [Queue("two", QueueKind.ledger, (Binding("y", "#"),))])
    one, two, private = (store.directory.queues[name].id for name in ("one", "two", "private"))
    for messages, touched, copied in (
        ([Outgoing("x", "a.both", b"")], {one}, {two}),
        ([Outgoing("y", "ledger", b"")], {two}, set()),
        ([Outgoing("y", "private.both", b"")], {two, private}, set()),
        ([Outgoing("y", "private.both", b"", leisurely=True)], {private}, {two}),
        ([Outgoing("y", "ledger", b"", leisurely=True)], {two}, set()),
        ([Outgoing("x", "a.both", b""), Outgoing("y", "ledger", b"")], {one, two}, {two}),
    ):
        with writing(store):
            store.publish(messages)
        assert (store.touched, store.copied) == (touched, copied)


def test_a_rollback_undoes_everything_and_is_not_remembered(connect: Callable[[], Store]) -> None:
    store, other = connect(), connect()
    with contextlib.suppress(ZeroDivisionError), writing(store):
        store.declare([], [TWO])
        assert "two" in store.directory.queues
        raise ZeroDivisionError
    with writing(other):
        other.declare([Exchange("y")], [])
    with writing(store):
        assert "two" not in store.directory.queues
        assert store.directory.routes.exchanges == {"x", "y"}


def test_a_dead_connection_is_buried_once(connect: Callable[[], Store]) -> None:
    dying, first, second = connect(), connect(), connect()
    with writing(first):
        first.declare([RETURNED], [ROUND])
        first.publish([Outgoing("x", "a", b"%d" % number) for number in range(3)])
    with writing(dying):
        dying.declare([], [PRIVATE])
        dying.hold_token(LEASE, TOKEN)
        dying.subscribe(dying.readable("one"))
        assert len(dying.claim(queue_id(dying, ONE), 2)) == 2
    first.refresh()
    second.refresh()
    assert not first.dead()
    dying.close()
    assert first.dead()
    assert second.dead()
    for store in (first, second):
        with writing(store):
            store.bury_dead()
    assert not first.dead()
    with writing(first):
        assert "private" not in first.directory.queues
        assert "lease" not in first.directory.queues
        assert first.depth("one") == Depth(3, 0)
        back = first.claim(queue_id(first, ONE), 10)
        assert [(each.body, each.redelivered) for each in back] == [(b"0", True), (b"1", True), (b"2", False)]
        (token,) = first.claim(queue_id(first, ROUND), 10)
        assert (token.exchange, token.key, token.body) == ("returned", "w1.0", b"token")


def test_a_token_without_a_way_waits_for_one(connect: Callable[[], Store]) -> None:
    dying, store = connect(), connect()
    with writing(dying):
        dying.hold_token(LEASE, TOKEN)
    dying.close()
    with writing(store):
        store.bury_dead()
        assert store.directory.queues["lease"].kind is QueueKind.lease
    with writing(store):
        store.declare([RETURNED], [ROUND])
        assert "lease" not in store.directory.queues
        assert [each.body for each in store.claim(queue_id(store, ROUND), 10)] == [b"token"]


def test_a_token_replaces_the_one_held_before(connect: Callable[[], Store]) -> None:
    store, other = connect(), connect()
    with writing(other):
        other.declare([RETURNED], [ROUND])
    for body in (b"old", b"new"):
        with writing(store):
            store.hold_token(LEASE, Outgoing("lease", "w1.0", body))
    with writing(store):
        store.detach()
    with writing(other):
        assert [each.body for each in other.claim(queue_id(other, ROUND), 10)] == [b"new"]


def test_a_private_queue_drops_its_oldest(connect: Callable[[], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PRIVATE_LIMIT", 5)
    store, other = connect(), connect()
    with writing(store):
        store.declare([], [PRIVATE])
    for start in (0, 4):
        with writing(other):
            other.publish([Outgoing("x", "private", b"%d" % number) for number in range(start, start + 4)])
    with writing(store):
        assert [each.body for each in store.claim(queue_id(store, PRIVATE), 10)] == [b"3", b"4", b"5", b"6", b"7"]


def private_reader(store: Store, credit: int) -> tuple[Consuming, EmbeddedSubscription]:
    """One that reads a private queue."""
    consuming = Consuming()
    consuming.connected()
    with writing(store):
        store.declare([], [PRIVATE])
        own = EmbeddedSubscription("private", credit, lambda _: None, _never, private=True)
        consuming.add(Entry(own, queue_id(store, PRIVATE), store.subscribe(store.readable("private"))))
    return consuming, own


def test_all_that_was_put_back_comes_again_however_few_at_a_time(connect: Callable[[], Store]) -> None:
    store, other = connect(), connect()
    consuming, own = private_reader(store, 5)
    with writing(other):
        other.publish([Outgoing("x", "private", b"%d" % number) for number in range(6)])

    def read() -> list[Delivery]:
        return [delivery for haul in consuming.read(store, 0.0) for delivery in consuming.received(haul)]

    assert len(read()) == 5
    for held in consuming.settle_all(own):
        consuming.put_back(held)
    again = []
    for credit in range(1, 10):
        own.credit = credit
        again += read()
    assert [each.body for each in again] == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_a_private_queue_is_read_without_a_transaction_and_each_message_once(connect: Callable[[], Store]) -> None:
    store, other = connect(), connect()
    consuming, _ = private_reader(store, 5)

    def read() -> list[Delivery]:
        return [delivery for haul in consuming.read(store, 0.0) for delivery in consuming.received(haul)]

    def put(*numbers: int) -> None:
        with writing(other):
            other.publish([Outgoing("x", "private", b"%d" % number) for number in numbers])

    def give_back(delivery: Delivery) -> None:
        held = consuming.settle(delivery.tag)
        assert held is not None
        consuming.put_back(held)
        with writing(store):
            store.release([held])

    put(0, 1, 2)
    assert not consuming.has_reason(store, 0.0), "nothing has to be written for it"
    first = read()
    assert [(each.body, each.redelivered) for each in first] == [(b"0", False), (b"1", False), (b"2", False)]
    assert read() == []
    give_back(first[1])
    put(3)
    assert [(each.body, each.redelivered) for each in read()] == [(b"1", True), (b"3", False)], "what is held does not come again"
    give_back(first[0])
    put(4, 5)
    assert [(each.body, each.redelivered) for each in read()] == [(b"0", True), (b"4", False)], "credit is for five"
    assert read() == []


def test_what_was_put_back_and_is_gone_holds_nobody_up(connect: Callable[[], Store]) -> None:
    store, other = connect(), connect()
    consuming, own = private_reader(store, 10)
    with writing(other):
        other.publish([Outgoing("x", "private", b"%d" % number) for number in range(3)])
    first, *_ = (delivery for haul in consuming.read(store, 0.0) for delivery in consuming.received(haul))
    held = consuming.settle(first.tag)
    assert held is not None
    consuming.put_back(held)
    with writing(store):
        store.purge("private")
    with writing(other):
        other.publish([Outgoing("x", "private", b"new")])
    with writing(store):
        [haul] = consuming.claim(store, 0.0)
    [new] = haul.claimed
    assert (new.body, len(consuming.received(haul))) == (b"new", 1)
    with mock.patch.object(store, "read", wraps=store.read) as reading:
        assert consuming.read(store, 0.0) == [Haul(own, [])]
    reading.assert_called_once_with(queue_id(store, PRIVATE), new.held.message, mock.ANY)


def test_what_a_private_queue_drops_goes_where_it_says(connect: Callable[[], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PRIVATE_LIMIT", 3)
    telling = Queue("private", QueueKind.private, PRIVATE.bindings, dead_letter_exchange="returned", dead_letter_key="dropped")
    watching = Queue("watching", QueueKind.tasks, (Binding("returned", "dropped"),))
    store, other = connect(), connect()
    with writing(store):
        store.declare([RETURNED], [telling, watching])
    with writing(other):
        other.publish([Outgoing("x", "private", b"%d" % number) for number in range(5)])
    with writing(other):
        found = other.claim(queue_id(other, watching), 10)
    assert [(each.exchange, each.body) for each in found] == [("returned", b"0"), ("returned", b"1")]
    with writing(store):
        assert [each.body for each in store.claim(queue_id(store, telling), 10)] == [b"2", b"3", b"4"]


async def _never(_subscription: EmbeddedSubscription, _requeue: bool) -> None:
    raise AssertionError


def test_a_consumer_behind_others_leaves_each_message_to_them_for_as_long(connect: Callable[[], Store]) -> None:
    store, other = connect(), connect()
    consuming = Consuming()
    consuming.connected()

    behind = EmbeddedSubscription("one", 10, lambda _: None, _never, behind=True)
    with writing(store):
        consuming.add(Entry(behind, queue_id(store, ONE), store.subscribe(store.readable("one"))))

    def claimed(now: float) -> list[bytes]:
        with writing(store):
            hauls = consuming.claim(store, now)
        return [delivery.body for haul in hauls for delivery in consuming.received(haul)]

    def put(body: bytes) -> None:
        with writing(other):
            other.publish([Outgoing("x", "a", body)])

    put(b"1")
    assert claimed(0.0) == []
    with writing(other):
        other.claim(queue_id(other, ONE), 1)
    put(b"2")
    assert claimed(LEFT_TO_OTHERS) == [], "nobody has had that one for so long"
    assert not consuming.has_reason(store, 1.9 * LEFT_TO_OTHERS)
    assert consuming.ripe_in(1.9 * LEFT_TO_OTHERS) == pytest.approx(0.1 * LEFT_TO_OTHERS)
    assert consuming.has_reason(store, 2 * LEFT_TO_OTHERS)
    assert claimed(2 * LEFT_TO_OTHERS) == [b"2"]
    assert consuming.ripe_in(2 * LEFT_TO_OTHERS) is None


def test_numbers_are_never_used_again(connect: Callable[[], Store], tmp_path: Path) -> None:
    store = connect()
    with writing(store):
        store.publish([Outgoing("x", "a", b"old")])
        (old,) = store.claim(queue_id(store, ONE), 1)
        store.delete("one")
    with writing(store):
        store.declare([], [ONE])
        store.publish([Outgoing("x", "a", b"new")])
        (new,) = store.claim(queue_id(store, ONE), 1)
        store.settle([old.held])
    assert new.held.message > old.held.message
    assert new.held.queue > old.held.queue
    assert rows(tmp_path) == (1, 1)


def test_a_ledger_has_one_active_consumer(connect: Callable[[], Store]) -> None:
    first, second = connect(), connect()
    with writing(first):
        first.declare([], [TWO])
        one = first.subscribe(first.readable("two"))
    with writing(second):
        two = second.subscribe(second.readable("two"))
        ledger = queue_id(second, TWO)
        assert (second.directory.active(ledger, one), second.directory.active(ledger, two)) == (True, False)
    with writing(first):
        first.unsubscribe(one)
        assert first.touched == {ledger}
        assert first.directory.listeners(first.touched) == ["address 0"]
    second.refresh()
    assert second.directory.active(ledger, two)


def test_what_is_released_keeps_its_place(connect: Callable[[], Store]) -> None:
    store = connect()
    with writing(store):
        store.publish([Outgoing("x", "a", b"%d" % number) for number in range(4)])
        taken = store.claim(queue_id(store, ONE), 3)
        store.release([taken[2].held, taken[0].held])
        assert [each.body for each in store.claim(queue_id(store, ONE), 3)] == [b"0", b"2", b"3"]


def test_receipts(connect: Callable[[], Store]) -> None:
    store = connect()
    with writing(store):
        store.declare([Exchange("deaf")], [])
        assert store.publish(
            [
                Outgoing("x", "a", b"", headers={"job": "9f2c"}),
                Outgoing("deaf", "a", b""),
                Outgoing("deaf", "a", b"", mandatory=False),
                Outgoing("nowhere", "a", b""),
                Outgoing("x", "a", bytes(LARGEST_BODY + 1)),
            ]
        ) == [Receipt.confirmed, Receipt.unroutable, Receipt.confirmed, Receipt.refused, Receipt.refused]


def test_files_that_moved_are_noticed(connect: Callable[[], Store], tmp_path: Path) -> None:
    store = connect()
    assert store.in_place()
    (tmp_path / "queue.db-lock").unlink()
    assert not store.in_place()
