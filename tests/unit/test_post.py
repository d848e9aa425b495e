"""Which class queues the coordinator makes again: those that have died young, and no others. See tests/integration/test_amqp_node.py."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from broker_jobs.broker.port import Depth, Outgoing, Receipt
from broker_jobs.coordinator import post as module
from broker_jobs.coordinator.config import CoordinatorConfig
from broker_jobs.coordinator.effects import Effects
from broker_jobs.coordinator.post import Confirmed, Item, Looked, Opened, Post
from broker_jobs.coordinator.store import OutboxRow
from broker_jobs.core.spec import Lane
from broker_jobs.errors import TopologyMismatch
from broker_jobs.wire.signing import SigningKey
from broker_jobs.wire.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from broker_jobs.broker.port import Broker
    from broker_jobs.wire.topology import Exchange, Queue

NAMES = Topology("bj")
CONFIG = CoordinatorConfig("amqp://nowhere", SigningKey.parse("ab" * 32), "sqlite:///nowhere")
LANES = tuple(NAMES.class_name("cpus1", lane) for lane in Lane)
LEDGER = NAMES.ledger_name(0)


class QueuesOnly:
    """A broker that has queues, some of which are dead."""

    connected = True

    def __init__(self) -> None:
        self.queues = {LEDGER}
        self.silent: set[str] = set()
        self.depths: dict[str, Depth] = {}
        self.receipts: list[Receipt] = []
        self.published: list[Outgoing] = []
        self.asked: list[tuple[str, ...]] = []
        self.deleted: list[str] = []
        self.on_asked: Callable[[], None] = lambda: None

    def watch(self, up: Callable[[int], None], down: Callable[[str], None]) -> None:
        self.up, self.down = up, down

    async def declare(self, exchanges: Sequence[Exchange], queues: Sequence[Queue]) -> None:
        self.queues |= {queue.name for queue in queues}

    async def depth(self, queue: str) -> Depth | None:
        return self.depths.get(queue, Depth(0, 0)) if queue in self.queues else None

    async def dead(self, queues: Sequence[str]) -> frozenset[str]:
        self.asked.append(tuple(queues))
        found = frozenset(queues) & self.silent
        self.on_asked()
        await asyncio.sleep(0)
        return found

    async def publish(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        self.published += messages
        return [self.receipts.pop() for _ in messages]

    async def delete(self, queue: str) -> None:
        if queue in self.queues:
            self.queues.remove(queue)
            self.silent.discard(queue)
            self.deleted.append(queue)


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time can be put ahead."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class Stage:
    """A coordinator's post, and what it has told."""

    def __init__(self) -> None:
        self.broker = QueuesOnly()
        self.told: asyncio.Queue[Item] = asyncio.Queue()
        self.post = Post(CONFIG, cast("Broker", self.broker), NAMES, self.told.put_nowait)

    async def open(self) -> Opened:
        self.post.perform(Effects(open_classes=["cpus1"]))
        async with asyncio.timeout(10):
            item = await self.told.get()
        assert isinstance(item, Opened)
        return item

    async def look(self, after: float = 0.0, queues: Sequence[str] = LANES) -> list[Item]:
        cast("Clock", asyncio.get_running_loop()).ahead += after
        self.post.look(queues)
        await self.post.drain()
        return [self.told.get_nowait() for _ in range(self.told.qsize())]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEAD", "GONE", "AGAIN"):
        monkeypatch.setattr(module, name, 0.0)


def _play(story: Callable[[Stage], Coroutine[None, None, None]]) -> None:
    async def run() -> None:
        stage = Stage()
        await stage.post.open()
        await story(stage)
        await stage.post.close()

    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(run())


def test_queues_that_are_missing_are_made_and_not_asked() -> None:
    async def story(stage: Stage) -> None:
        assert await stage.open() == Opened("cpus1", LANES)
        assert stage.broker.asked == []

    _play(story)


def test_what_an_earlier_version_has_left_of_a_class_is_deleted_since_the_ledger_has_it() -> None:
    async def story(stage: Stage) -> None:
        former = {NAMES.former_name(queue) for queue in LANES}
        stage.broker.queues |= {*former, "bj.task.other.normal"}
        assert await stage.open() == Opened("cpus1", LANES), "all that is in them comes from the ledger"
        assert stage.broker.queues == {LEDGER, NAMES.dead_name, *LANES, "bj.task.other.normal"}
        assert set(stage.broker.deleted) == former

    _play(story)


@pytest.mark.parametrize("left", [[LEDGER], [NAMES.dead_name], [LEDGER, NAMES.dead_name]])
def test_where_an_earlier_version_has_left_what_only_it_reads_nothing_is_made(left: list[str]) -> None:
    async def run() -> None:
        stage = Stage()
        former = {NAMES.former_name(queue) for queue in left}
        stage.broker.queues = set(former)
        with pytest.raises(TopologyMismatch) as caught:
            await stage.post.open()
        assert stage.broker.queues == former
        assert str(caught.value).endswith(f"broker-jobs queue migrate {' '.join(queue.removeprefix('bj.v2.') for queue in left)}")
        assert all(f"{name} (0 waiting)" in str(caught.value) for name in former)
        assert (caught.value.argument, caught.value.wanted, caught.value.found) == ("version", "2", "1")

    asyncio.run(run())


def test_of_a_coordinator_that_starts_nobody_knows_how_old_queues_are() -> None:
    async def story(stage: Stage) -> None:
        stage.broker.queues.update(LANES)
        stage.broker.silent.add(LANES[1])
        assert await stage.open() == Opened("cpus1", (LANES[1],))
        assert stage.broker.asked == [(LEDGER, *LANES), (LEDGER, LANES[1])]
        assert stage.broker.deleted == [LANES[1]]
        assert stage.broker.queues == {LEDGER, NAMES.dead_name, *LANES}

    _play(story)


def test_queues_of_a_new_class_that_another_partition_has_just_made_are_not_asked() -> None:
    """That would take the first message of one, and mark it as redelivered: an attempt for nothing."""

    async def story(stage: Stage) -> None:
        stage.broker.queues.update(LANES)
        stage.broker.silent.update(LANES)
        stage.post.perform(Effects(new_classes=["cpus1"]))
        async with asyncio.timeout(10):
            assert await stage.told.get() == Opened("cpus1", ())
        assert stage.broker.asked == []

    _play(story)


def test_what_has_messages_or_consumers_has_answered_and_is_not_asked() -> None:
    """To ask it might take a message from under a consumer, and mark it as redelivered."""

    async def story(stage: Stage) -> None:
        stage.broker.queues.update(LANES)
        stage.broker.silent.update(LANES)
        stage.broker.depths = {LANES[0]: Depth(0, 1), LANES[1]: Depth(1, 0)}
        assert await stage.open() == Opened("cpus1", (LANES[2],))
        assert stage.broker.asked == [(LEDGER, LANES[2])] * 2
        await stage.look(queues=LANES[:2])
        assert len(stage.broker.asked) == 2
        await stage.look()
        assert stage.broker.asked[2:] == [(LEDGER, LANES[2])]

    _play(story)


def test_a_queue_that_was_made_just_before_the_connection_went_is_asked() -> None:
    async def story(stage: Stage) -> None:
        await stage.open()
        stage.broker.down("killed")
        stage.broker.silent.update(LANES)
        assert await stage.open() == Opened("cpus1", LANES)
        assert sorted(stage.broker.deleted) == sorted(LANES)

    _play(story)


def test_a_queue_that_is_older_is_left_alone_whatever_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no leader, and will have one."""
    monkeypatch.setattr(module, "YOUNG", 0.0)

    async def story(stage: Stage) -> None:
        await stage.open()
        stage.broker.down("killed")
        stage.broker.silent.update(LANES)
        assert await stage.open() == Opened("cpus1", ())
        assert (stage.broker.asked, stage.broker.deleted) == ([], [])

    _play(story)


def test_while_the_ledger_does_not_answer_nothing_counts_as_dead() -> None:
    async def story(stage: Stage) -> None:
        stage.broker.queues.update(LANES)
        stage.broker.silent.update({LEDGER, *LANES})
        assert await stage.open() == Opened("cpus1", ())
        assert stage.broker.deleted == []

    _play(story)


def test_what_answers_the_second_time_is_not_dead() -> None:
    async def story(stage: Stage) -> None:
        stage.broker.queues.update(LANES)
        stage.broker.silent.update(LANES[:2])
        stage.broker.on_asked = lambda: stage.broker.silent.discard(LANES[0])
        assert await stage.open() == Opened("cpus1", (LANES[1],))
        assert stage.broker.deleted == [LANES[1]]

    _play(story)


NOTHING_THERE = Looked(dict.fromkeys(LANES, Depth(0, 0)))


def test_a_queue_that_is_silent_for_long_is_made_again_however_old_it_is() -> None:
    async def story(stage: Stage) -> None:
        await stage.open()
        stage.broker.silent.add(LANES[1])
        assert await stage.look() == await stage.look(after=module.SILENT - 1) == [NOTHING_THERE]
        assert (stage.broker.asked, stage.broker.deleted) == ([(LEDGER, *LANES)] * 2, [])
        assert await stage.look(after=1) == [NOTHING_THERE, Opened("cpus1", (LANES[1],))]
        assert stage.broker.deleted == [LANES[1]]
        assert stage.broker.queues == {LEDGER, NAMES.dead_name, *LANES}

    _play(story)


def test_a_silent_queue_is_asked_until_it_answers_also_while_nobody_misses_its_tasks() -> None:
    async def story(stage: Stage) -> None:
        await stage.open()
        stage.broker.silent.add(LANES[1])
        await stage.look()
        assert await stage.look(after=1, queues=()) == [Looked({LANES[1]: Depth(0, 0)})]
        stage.broker.silent.clear()
        await stage.look(after=1, queues=())
        assert stage.broker.asked == [(LEDGER, *LANES)] * 3
        assert await stage.look(after=1, queues=()) == []

    _play(story)


def test_a_queue_that_confirms_nothing_is_asked_whatever_it_says_of_itself() -> None:
    """What is known of a dead one may be old."""

    async def story(stage: Stage) -> None:
        await stage.open()
        stage.broker.depths = dict.fromkeys(LANES, Depth(0, 1))
        stage.broker.receipts = [Receipt.confirmed, Receipt.confirmed, Receipt.unknown]
        key = NAMES.task_key("cpus1", Lane.normal, 0)
        rows = [OutboxRow(1, NAMES.ready, key, b"chunk", mandatory=True), OutboxRow(2, NAMES.events, "x.y", b"news", mandatory=False)]
        stage.post.perform(Effects(outbox=rows[:1]))
        stage.post.perform(Effects(outbox=rows[1:]))
        await stage.post.drain()
        queue = NAMES.class_name("cpus1", Lane.normal)
        stage.broker.silent.add(queue)
        stage.broker.depths[queue] = Depth(1, 1)
        await stage.look(queues=())
        assert stage.broker.asked == [(LEDGER, queue)]
        await stage.look(after=module.SILENT - 1, queues=())
        assert (await stage.look(after=1, queues=()))[-1] == Opened("cpus1", (queue,))
        assert await stage.look(queues=()) == [Looked({queue: Depth(1, 1)})], "one more look, at which it answers"
        assert await stage.look(queues=()) == []

    _play(story)


def test_what_goes_to_a_class_queue_is_published_apart() -> None:
    """It may be dead, and holds up what comes behind it."""

    async def story(stage: Stage) -> None:
        await stage.open()
        stage.broker.receipts = [Receipt.confirmed] * 3
        rows = [
            OutboxRow(1, NAMES.ready, NAMES.task_key("cpus1", Lane.normal, 0), b"chunk", mandatory=True),
            OutboxRow(2, NAMES.events, "x.y", b"news", mandatory=False),
        ]
        answer = Outgoing(NAMES.replies, NAMES.answer_key("c"), b"answer", mandatory=False)
        stage.post.perform(Effects(outbox=rows, sends=[answer]))
        await stage.post.drain()
        assert [(each.body, each.apart) for each in stage.broker.published] == [(b"chunk", True), (b"news", False), (b"answer", False)]

    _play(story)


def test_what_was_not_confirmed_as_the_connection_went_says_nothing_of_a_queue() -> None:
    async def story(stage: Stage) -> None:
        await stage.open()
        stage.broker.connected = False
        stage.broker.receipts = [Receipt.confirmed, Receipt.unknown]
        stage.post.perform(Effects(outbox=[OutboxRow(1, NAMES.ready, NAMES.task_key("cpus1", Lane.normal, 0), b"chunk", mandatory=True)]))
        assert await stage.told.get() == Confirmed((1,))
        stage.broker.connected = True
        assert await stage.look(queues=()) == []

    _play(story)


def test_while_the_ledger_says_nothing_no_queue_is_silent() -> None:
    async def story(stage: Stage) -> None:
        await stage.open()
        stage.broker.silent.update({LEDGER, *LANES})
        assert await stage.look() == await stage.look(after=module.SILENT) == [NOTHING_THERE]
        assert stage.broker.deleted == []

    _play(story)


def test_what_was_silent_before_the_connection_went_may_not_be_now() -> None:
    async def story(stage: Stage) -> None:
        await stage.open()
        stage.broker.silent.update(LANES)
        await stage.look()
        stage.broker.down("killed")
        assert await stage.look(after=1) == await stage.look(after=module.SILENT - 1) == [NOTHING_THERE]
        assert stage.broker.deleted == []

    _play(story)


def test_who_looks_while_another_look_still_asks_does_not_ask_too() -> None:
    async def story(stage: Stage) -> None:
        await stage.open()
        stage.post.look(LANES)
        assert await stage.look() == [NOTHING_THERE] * 2
        assert stage.broker.asked == [(LEDGER, *LANES)]
        await stage.look()
        assert stage.broker.asked == [(LEDGER, *LANES)] * 2

    _play(story)
