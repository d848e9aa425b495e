"""What only the embedded broker can meet: frozen writers, forks, full disks, deleted files."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker_jobs.broker import open_broker
from broker_jobs.broker.embedded import connection
from broker_jobs.broker.embedded.lock import LockFile
from broker_jobs.broker.port import Depth, Outgoing, Receipt
from broker_jobs.core.spec import Lane
from broker_jobs.errors import AddressError, BrokerError, BrokerUnavailable
from broker_jobs.wire.topology import Topology
from tests.support.holder import Holder
from tests.support.inbox import PATIENCE, Inbox, run, until
from tests.support.station import CLASS, LEDGER, NAMES, TO_CLASS, connected, drain, numbered, put, ready

if TYPE_CHECKING:
    from broker_jobs.broker.port import Delivery

GOLDEN = Path(__file__).parents[1] / "golden"

FORKS = """
import asyncio, os, signal, sys
from broker_jobs.broker import open_broker
from broker_jobs.broker.port import Outgoing
from broker_jobs.wire.topology import Topology

async def main():
    names = Topology("t")
    broker = await open_broker(sys.argv[1], name="forks", timeout=30)
    await broker.hold_token(names.lease_queue("w1"), Outgoing(names.lease, names.token_key("w1"), b"token"))
    child = os.fork()
    if child == 0:
        signal.pause()
    print(child, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file."""
    return tmp_path / "queue.db"


@pytest.fixture
def url(path: Path) -> str:
    """Its address."""
    return f"sqlite:///{path}"


def test_a_lock_that_another_process_keeps_blocks_but_does_not_freeze(path: Path, url: str) -> None:
    async def story() -> None:
        async with connected(url) as broker:
            frozen = os.open(f"{path}-lock", os.O_RDWR)
            try:
                fcntl.flock(frozen, fcntl.LOCK_EX)
                publishing = asyncio.ensure_future(broker.publish(ready(b"waits")))

                async def blocked() -> bool:
                    return broker.blocked is not None

                await until(blocked, "it says that it is blocked")
                assert "locked" in (broker.blocked or "")
                assert broker.connected
                assert not publishing.done()
                with pytest.raises(BrokerUnavailable, match="locked"):
                    await open_broker(url, name="late", timeout=0.1)
            finally:
                os.close(frozen)
            assert await asyncio.wait_for(publishing, PATIENCE) == [Receipt.confirmed]
            assert broker.blocked is None

    run(story())


def test_another_program_that_writes_is_waited_for(path: Path, url: str) -> None:
    async def story() -> None:
        async with connected(url) as broker:
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as shell:
                shell.execute("BEGIN IMMEDIATE")
                publishing = asyncio.ensure_future(broker.publish(ready(b"waits")))
                done, _ = await asyncio.wait([publishing], timeout=0.1)
                assert not done
                shell.execute("ROLLBACK")
            assert await asyncio.wait_for(publishing, PATIENCE) == [Receipt.confirmed]
            assert await drain(broker, CLASS.name, 1) == [b"waits"]

    run(story())


def test_a_full_disk_blocks_until_there_is_room(url: str) -> None:
    async def story() -> None:
        async with connected(url) as broker:
            database = broker._connection.store._database  # type: ignore[attr-defined]  # noqa: SLF001
            database.execute("PRAGMA max_page_count = 1")  # SQLite takes the present size, and says that the disk is full
            publishing = asyncio.ensure_future(broker.publish(ready(bytes(1024 * 1024))))

            async def blocked() -> bool:
                return broker.blocked is not None

            await until(blocked, "it says that it is blocked")
            assert "full" in (broker.blocked or "")
            assert broker.connected
            database.execute("PRAGMA max_page_count = 1000000")
            assert await asyncio.wait_for(publishing, PATIENCE) == [Receipt.confirmed]
            assert broker.blocked is None
            assert await drain(broker, CLASS.name, 1) == [bytes(1024 * 1024)]

    run(story())


def test_a_deleted_lock_file_costs_a_reconnect_and_no_message(path: Path, url: str) -> None:
    async def story() -> None:
        async with connected(url) as broker:
            inbox, news = Inbox(), asyncio.Queue[int | str]()
            broker.watch(news.put_nowait, news.put_nowait)
            await put(broker, ready(*numbered(3)))
            await broker.consume(CLASS.name, 2, inbox)
            stale = await inbox.take(2)
            Path(f"{path}-lock").unlink()
            async with connected(url) as other:
                await put(other, ready(b"000003"))
                assert isinstance(await asyncio.wait_for(news.get(), PATIENCE), str)
                assert await asyncio.wait_for(news.get(), PATIENCE) == 2
                assert not any(broker.done(each) for each in stale)
                seen = set[bytes]()
                while len(seen) < 4:
                    delivery = await inbox.next()
                    seen.add(delivery.body)
                    broker.done(delivery)
                assert seen == set(numbered(4))

    run(story())


def test_a_deleted_file_is_made_anew(path: Path, url: str) -> None:
    async def story() -> None:
        async with connected(url) as broker:
            inbox, news = Inbox(), asyncio.Queue[int | str]()
            broker.watch(news.put_nowait, news.put_nowait)
            await broker.declare([], [NAMES.control_queue("w1")])
            await broker.consume(NAMES.control_queue("w1").name, 5, inbox)
            await broker.consume(CLASS.name, 5, inbox)
            for file in path.parent.glob("queue.db*"):
                file.unlink()
            assert "moved or deleted" in str(await asyncio.wait_for(news.get(), PATIENCE))
            assert await asyncio.wait_for(news.get(), PATIENCE) == 2
            await put(broker, [Outgoing(NAMES.control, "w1", b"private")])
            assert (await inbox.next()).body == b"private"
            await broker.declare([], [CLASS])
            await put(broker, ready(b"declared again"))
            assert (await inbox.next()).body == b"declared again"

    run(story())


def test_a_child_does_not_keep_its_parents_connection_alive(url: str) -> None:
    async def story() -> None:
        async with connected(url) as broker:
            inbox = Inbox()
            await broker.consume(LEDGER.name, 10, inbox)
            parent = await asyncio.create_subprocess_exec(sys.executable, "-c", FORKS, url, stdout=asyncio.subprocess.PIPE)
            assert parent.stdout
            child = int(await asyncio.wait_for(parent.stdout.readline(), PATIENCE))
            try:
                parent.kill()
                assert (await inbox.next()).body == b"token"
                os.kill(child, 0)
            finally:
                os.kill(child, signal.SIGKILL)
            await parent.wait()
            # The child had it open as well: only its end lets ours be closed.
            assert await asyncio.wait_for(parent.stdout.read(), PATIENCE) == b""

    run(story())


@pytest.mark.parametrize("without", ["ticks", "pidfds"])
def test_a_death_is_noticed_in_two_ways(url: str, without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> int:
        raise PermissionError

    if without == "ticks":
        monkeypatch.setattr(connection, "_TICK", 3600.0)
    else:
        monkeypatch.setattr(os, "pidfd_open", refuse)

    async def story() -> None:
        async with connected(url) as broker:
            inbox = Inbox()
            await broker.consume(LEDGER.name, 10, inbox)
            async with await Holder.start(url) as holder:
                await holder.hold_token(NAMES.lease_queue("w1"), Outgoing(NAMES.lease, NAMES.token_key("w1"), b"token"))
                await holder.kill()
                assert (await inbox.next()).body == b"token"

    run(story())


@pytest.mark.parametrize("ends", [False, True])
def test_a_ledger_is_told_of_tasks_without_a_tick(url: str, ends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_TICK", 3600.0)
    if ends:
        monkeypatch.setattr(connection, "_NO_HURRY", 3600.0)

    async def story() -> None:
        async with connected(url) as ledger:
            inbox = Inbox()
            await ledger.consume(LEDGER.name, 10, inbox)
            async with connected(url) as broker:
                for _ in range(2):
                    await put(broker, [Outgoing(NAMES.tasks, TO_CLASS, b"both")])
                    if not ends:
                        assert (await inbox.next()).body == b"both"
            if ends:
                assert len(await inbox.take(2)) == 2

    run(story())


def test_a_receiver_that_fails_harms_nobody(url: str) -> None:
    async def story() -> None:
        failures: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
        async with connected(url) as broker:
            inbox = Inbox()

            def fail(delivery: Delivery) -> None:
                inbox(delivery)
                raise ZeroDivisionError

            await broker.consume(CLASS.name, 5, fail)
            await put(broker, ready(*numbered(3)))
            assert [each.body for each in await inbox.take(3)] == numbered(3)
            assert [type(each) for each in failures] == 3 * [ZeroDivisionError]
            assert broker.generation == 1
            assert broker.connected

    run(story())


def test_what_was_put_back_is_not_handed_over(url: str) -> None:
    async def story() -> None:
        async with connected(url) as broker:
            for turns in range(12):
                await put(broker, ready(*numbered(3)))
                inbox = Inbox()
                subscription = await broker.consume(CLASS.name, 3, inbox)
                for _ in range(turns):
                    await asyncio.sleep(0)
                handed_over = len(inbox)
                await subscription.cancel(requeue=True)
                assert len(inbox) == handed_over
                assert await drain(broker, CLASS.name, 3) == numbered(3)

    run(story())


def test_the_file_does_not_grow_under_a_continuous_load(path: Path, url: str) -> None:
    rounds, size = 60, 100

    async def story() -> None:
        async with connected(url) as broker, await Holder.start(url) as consumer:
            await consumer.consume(CLASS.name, 200, "done")
            await consumer.consume(LEDGER.name, 200, "done")
            for _ in range(rounds):
                await put(broker, [Outgoing(NAMES.tasks, TO_CLASS, bytes(20_000))] * size)
                await consumer.inbox.take(2 * size)
            published = rounds * size * 20_000
            assert sum(file.stat().st_size for file in path.parent.glob("queue.db*")) < published / 2

    run(story())


def test_a_private_queue_is_bounded(url: str) -> None:
    async def story() -> None:
        async with connected(url) as broker:
            await broker.declare([], [NAMES.reply_queue("c1")])
            await put(broker, [Outgoing(NAMES.replies, NAMES.answer_key("c1"), body) for body in numbered(10_300)])
            depth = await broker.depth(NAMES.reply_queue("c1").name)
            assert depth
            assert depth.ready == 10_000
            inbox = Inbox()
            await broker.consume(NAMES.reply_queue("c1").name, 1, inbox)
            assert (await inbox.next()).body == b"000300"

    run(story())


def test_nothing_is_left_after_an_orderly_end(path: Path, url: str) -> None:
    async def story() -> None:
        async with connected(url) as broker:
            await broker.declare([], [NAMES.reply_queue("c1")])
            await broker.hold_token(NAMES.lease_queue("w1"), Outgoing(NAMES.lease, NAMES.token_key("w1"), b"token"))
            await broker.drop_token()
        with contextlib.closing(sqlite3.connect(path)) as database:
            for table in ("connections", "consumers", "messages", "bodies"):
                assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
            assert {name for (name,) in database.execute("SELECT name FROM queues")} == {LEDGER.name, NAMES.dead_name, CLASS.name}

    run(story())


def test_the_queues_of_a_released_version_get_the_names_of_this_one_with_what_is_in_them(path: Path, url: str) -> None:
    shutil.copy(GOLDEN / "0.1.0" / "queue.db", path)
    names = Topology("bj")
    tasks = names.class_queue("cpus1-f14cc283", Lane.normal)

    async def story() -> None:
        for _ in range(2):
            broker = await open_broker(url, name="test", timeout=PATIENCE)
            await broker.declare(names.exchanges(), [names.ledger(0), names.dead_letters(), tasks])
            ledger, dead, ready = [await broker.depth(name) for name in (names.ledger_name(0), names.dead_name, tasks.name)]
            assert (ledger, dead, ready) == (Depth(3, 0), Depth(1, 0), Depth(1, 0))
            await broker.close()
        broker = await open_broker(url, name="test", timeout=PATIENCE)
        assert await drain(broker, names.ledger_name(0), 3) == [b"waits", b"is ready", b"a reply"]
        assert await drain(broker, tasks.name, 1) == [b"is ready"]
        await put(broker, [Outgoing(names.tasks, "_._.0", b"new")])
        assert await drain(broker, names.ledger_name(0), 1) == [b"new"]
        async with broker.browse(names.dead_name, 10) as browsing:
            assert [(letter.body, letter.headers["reason"]) for letter in browsing.letters] == [(b"a dead letter", "decode: odd")]
        await broker.close()
        with contextlib.closing(sqlite3.connect(path)) as database:
            found = {name for (name,) in database.execute("SELECT name FROM queues")}
        assert found == {names.ledger_name(0), names.dead_name, tasks.name}

    run(story())


def test_one_writes_at_a_time(tmp_path: Path) -> None:
    first, second = LockFile(tmp_path / "lock"), LockFile(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    first.close()
    second.close()
    second.close()


def test_no_place_for_a_broker(tmp_path: Path) -> None:
    (tmp_path / "diary").write_bytes(b"not a database, but long enough to be taken for one" * 20)

    async def story() -> None:
        for name, kind in {
            "missing/queue.db": BrokerUnavailable,
            "diary": BrokerError,
            "diary/queue.db": BrokerUnavailable,
            ".": BrokerError,
        }.items():
            with pytest.raises(kind):
                await open_broker(f"sqlite:///{tmp_path}/{name}", name="test", timeout=1)
        with pytest.raises(AddressError):
            await open_broker("sqlite:///:memory:", name="test", timeout=1)

    run(story())
