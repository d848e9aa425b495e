"""Whole streams of messages to a ledger: truncated, twice, in any order, a day late, of the next major version; the clock is a number."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest

from broker_jobs.coordinator.admission import admit
from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.states import JobState
from broker_jobs.errors import DecodeError, SecurityError, UnknownVersion
from broker_jobs.wire import messages as m
from tests.support.cast import call, job_chunks
from tests.support.ledger_world import GRACE, NAMES, SIGNER, World, of_attempt
from tests.support.mutations import SEED, Mutator

if TYPE_CHECKING:
    from collections.abc import Iterable

DAY: Final = 86_400.0
TASKS: Final = 8

Post = tuple[str, str, bytes]
"""Exchange, routing key and frame of a message."""


class Stream:
    """A world, everything that was ever sent to its ledger, and what became of it."""

    def __init__(self) -> None:
        self.world = World()
        self.sent: list[Post] = []
        self.taken = 0
        self.refused: list[str] = []

    def deliver(self, posts: Iterable[Post]) -> None:
        """Each in a batch of its own: what cannot be read is refused with a reason, as by the coordinator."""
        world = self.world
        for exchange, key, frame in posts:
            try:
                message = admit(SIGNER.open(frame), NAMES, exchange, key, 0)
            except (DecodeError, SecurityError) as error:
                self.refused.append(str(error))
                continue
            world.take(message, exchange)
            self.taken += 1
        world.check()

    def collect(self) -> list[Post]:
        """What was sent since the last time."""
        found = list(self.world.inbox)
        self.world.inbox.clear()
        self.sent += found
        return found

    def work(self) -> None:
        """The worker does what there is, and the ledger hears of it."""
        self.world.work_all()
        self.deliver(self.collect())


def begun(chunks: list[m.Chunk]) -> Stream:
    """A job whose chunks were sent, and not delivered yet."""
    stream = Stream()
    stream.deliver(stream.collect())
    for chunk in chunks:
        stream.world.submit(chunk)
    return stream


def graph() -> list[m.Chunk]:
    """A job in two chunks: half of its tasks wait for the other half."""
    tasks = [call(number) if number < TASKS // 2 else call(number, number - TASKS // 2) for number in range(TASKS)]
    return job_chunks(tasks, job=f"{1:032x}", size=TASKS // 2)


def values(stream: Stream, job: str) -> dict[int, object]:
    """The recorded outcomes."""
    facts = stream.world.store.look.job(job)
    assert facts is not None
    assert facts.state is JobState.succeeded
    views = stream.world.store.look.views(facts.key, list(range(TASKS)))
    return {number: (view.attempt, view.execution, view.changed) for number, view in views.items()}


@pytest.mark.parametrize("number", range(12))
def test_truncated_changed_doubled_and_mixed_it_ends_as_it_would(number: int) -> None:
    chance = random.Random(SEED << 32 | number)
    chunks = graph()
    stream = begun(chunks)
    bad = 0
    for _ in range(20):
        posts = stream.collect()
        broken = [(exchange, key, Mutator(chance).octets(frame)) for exchange, key, frame in posts]
        broken = [post for post, whole in zip(broken, posts, strict=True) if post != whole]
        broken += [(exchange, key, frame[:2] + b"\x02" + frame[3:]) for exchange, key, frame in posts]
        bad += len(broken)
        mixed = posts * 2 + broken
        chance.shuffle(mixed)
        stream.deliver(mixed)
        stream.world.work_all()
        if not (stream.world.inbox or stream.world.opened):
            break
    assert len(stream.refused) == bad
    assert bad > 0
    assert all(stream.refused)
    assert set(values(stream, chunks[0].job)) == set(range(TASKS))
    stream.world.close()


def test_all_of_it_again_a_day_later_changes_nothing() -> None:
    chunks = graph()
    stream = begun(chunks)
    while posts := stream.collect():
        stream.deliver(posts)
        stream.world.work_all()
    before = values(stream, chunks[0].job)
    changes = stream.world.store.look.job(chunks[0].job)
    stream.world.now += DAY
    stream.world.heartbeat()
    stream.deliver(stream.collect())
    again = [post for post in stream.sent if not isinstance(SIGNER.open(post[2]).message, m.Heartbeat)]
    stream.deliver(again)
    assert not stream.refused
    assert values(stream, chunks[0].job) == before
    assert stream.world.store.look.job(chunks[0].job) == changes
    assert not [standing for queue in stream.world.queues.values() for standing in queue], "nothing runs again"
    stream.world.close()


def test_what_was_lost_for_a_day_is_taken_when_it_comes() -> None:
    """Half of a job, and the replies to its tasks: the rest comes the next day."""
    first, second = graph()
    stream = begun([second])
    stream.deliver(stream.collect())
    stream.world.now += DAY - 10 * GRACE
    stream.world.heartbeat()
    stream.deliver(stream.collect())
    stream.world.submit(first)
    while posts := stream.collect():
        stream.deliver(posts)
        stream.world.work_all()
    assert set(values(stream, first.job)) == set(range(TASKS))
    stream.world.close()


def test_what_comes_too_late_to_be_of_use_is_counted() -> None:
    stream = begun([])
    world = stream.world
    world.ask(m.FindJob("last"))
    question = stream.collect()
    world.reply(f"{7:032x}", m.Ended(0, 1, "e1", Succeeded(of_attempt(call(0))), 1, 2))
    stream.deliver(stream.collect())
    world.now += 2 * DAY

    def counted(posts: list[Post]) -> dict[str, int]:
        with world.store.transaction():
            world.ledger.begin(world.now, world.now_ms)
            for exchange, key, frame in posts:
                world.ledger.take(admit(SIGNER.open(frame), NAMES, exchange, key, 0))
            return dict(world.ledger.finish().counted.dropped)

    assert counted(question) == {"late question": 1, "reply without a job": 1}
    assert counted([]) == {}
    stream.world.close()


def test_the_next_major_version_is_told_from_what_is_damaged() -> None:
    [chunk] = job_chunks([call(0)])
    frame = SIGNER.seal(chunk, m.Role.submitter)
    newer = frame[:2] + bytes((m.VERSION + 1,)) + frame[3:]
    with pytest.raises(UnknownVersion, match="update this program"):
        SIGNER.open(newer)
    with pytest.raises(DecodeError, match="not a frame"):
        SIGNER.open(b"XX" + frame[2:])
    stream = begun([])
    before = stream.taken
    stream.deliver([(NAMES.tasks, NAMES.ledger_key(0), newer)])
    assert [reason for reason in stream.refused if "version 2" in reason]
    assert stream.taken == before
    stream.world.close()
