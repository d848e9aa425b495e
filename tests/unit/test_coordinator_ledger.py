"""Stories of the ledger, one fault each; queues are lists and the clock is a number."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from broker_jobs.broker.port import Depth
from broker_jobs.coordinator.ledger import KEEP_HOUSE
from broker_jobs.coordinator.window import MOST_TASKS, WINDOW
from broker_jobs.coordinator.workers import WorkerState
from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.request import Request
from broker_jobs.core.resource_class import class_name
from broker_jobs.core.spec import Retry, TaskOptions
from broker_jobs.wire import messages as m
from tests.support.cast import FOUR_CPUS, call, job_chunks, value
from tests.support.ledger_world import GRACE, SIGNER, Crash, World, class_news, of_attempt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs.coordinator.store import TaskView


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    step(world)
    yield world
    world.check()
    world.close()


def step(world: World, crash: Crash = Crash.never) -> None:
    """The coordinator takes everything that is there."""
    world.batch(range(len(world.inbox)), crash)


def submit(world: World, chunks: list[m.Chunk]) -> str:
    for chunk in chunks:
        world.submit(chunk)
    step(world)
    return chunks[0].job


def task(world: World, job: str, number: int = 0) -> TaskView:
    facts = world.store.look.job(job)
    assert facts is not None
    view = world.store.look.task(facts.key, number)
    assert view is not None
    return view


def standing(world: World) -> list[m.Chunk]:
    return [item.chunk for queue in world.queues.values() for item in queue]


def take(world: World) -> m.Chunk:
    """The worker receives the one chunk that there is."""
    (chunk,) = standing(world)
    world.queues.clear()
    return chunk


def take_task(world: World) -> m.Chunk:
    """The worker keeps the one task that there is."""
    chunk = take(world)
    world.reply(chunk.job, m.Taken(0, chunk.tasks[0].attempt, "e.1"))
    step(world)
    return chunk


def restart(world: World) -> None:
    """A coordinator that owes nothing to the broker dies, and another comes up."""
    world.batch((), confirms=len(world.unconfirmed))
    world.restart()


def test_a_reply_before_its_chunk_is_applied_when_that_comes(world: World) -> None:
    (chunk,) = job_chunks([call(0)])
    world.reply(chunk.job, world.ended(chunk.tasks[0], Succeeded(value("early"))))
    step(world)
    world.restart()
    submit(world, [chunk])
    assert task(world, chunk.job).state == "succeeded"
    assert world.ledger.jobs.live == {}


def test_it_is_calm_as_long_as_no_outcome_sets_anything_free(world: World) -> None:
    assert world.ledger.calm
    job = submit(world, job_chunks([call(0)]))
    assert world.ledger.calm, "all there is has gone out"
    world.ask(m.GetChanges(job, 10**6, 1000, 10))
    step(world)
    assert not world.ledger.calm, "somebody waits for news"
    chunk = take(world)
    world.reply(job, world.ended(chunk.tasks[0], Succeeded(value(1))))
    step(world)
    assert world.ledger.calm
    submit(world, job_chunks([call(0), dataclasses.replace(call(1), deps=(0,))]))
    assert not world.ledger.calm, "a task waits for another one"
    world.queues.clear()
    world.restart()
    assert not world.ledger.calm


def test_it_is_not_calm_while_the_window_holds_tasks_back(world: World) -> None:
    submit(world, job_chunks(map(call, range(MOST_TASKS * WINDOW + 100))))
    assert len(standing(world)) == WINDOW
    assert not world.ledger.calm


@pytest.mark.parametrize("crash", list(Crash))
def test_a_released_chunk_is_published_whenever_the_coordinator_dies(world: World, crash: Crash) -> None:
    (chunk,) = job_chunks([call(0)])
    world.submit(chunk)
    step(world, crash)
    if crash is not Crash.never:
        step(world)
    assert {item.tasks[0].attempt for item in standing(world)} == {1}


def test_what_was_not_confirmed_is_published_again_at_the_next_start(world: World) -> None:
    submit(world, job_chunks([call(0)]))
    world.queues.clear()
    world.restart()
    assert len(standing(world)) == 1
    world.batch((), confirms=len(world.unconfirmed))
    world.queues.clear()
    world.restart()
    assert standing(world) == []


def test_what_a_lost_worker_had_taken_is_tried_again(world: World) -> None:
    job = submit(world, job_chunks([call(0)]))
    take_task(world)
    restart(world)
    world.say(m.Token("w", world.boot), "t.returned")
    step(world)
    assert task(world, job).state == "running"
    world.now += GRACE + 1
    step(world)
    (again,) = standing(world)
    assert (again.isolated, again.tasks[0].attempt) == (True, 2)


def test_what_had_begun_with_a_lost_worker_is_queued_again_before_another_one_gets_its_message(world: World) -> None:
    job = submit(world, job_chunks([call(0), call(1)]))
    world.reply(job, m.Started(0, 1, "e.1", world.now_ms))
    step(world)
    restart(world)
    world.say(m.Token("w", world.boot), "t.returned")
    step(world)
    world.now += GRACE + 1
    step(world)
    assert [(task(world, job, number).state, task(world, job, number).attempt) for number in (0, 1)] == [("queued", 2), ("queued", 1)]
    # The message itself comes to a worker later, which gives it back.
    world.reply(job, *(m.Returned(number, 1, Return.redelivered) for number in (0, 1)))
    step(world)
    assert [task(world, job, number).attempt for number in (0, 1)] == [2, 2]
    assert [task(world, job, number).crashes for number in (0, 1)] == [0, 0]


def test_what_a_new_boot_does_not_know_is_tried_again(world: World) -> None:
    submit(world, job_chunks([call(0)]))
    take_task(world)
    world.boots += 1
    world.hello()
    step(world)
    assert [chunk.tasks[0].attempt for chunk in standing(world)] == [2]


def test_what_the_same_boot_has_no_more_is_tried_again(world: World) -> None:
    submit(world, job_chunks([call(0)]))
    take_task(world)
    world.hello()
    step(world)
    assert [chunk.tasks[0].attempt for chunk in standing(world)] == [2]


def test_a_start_that_is_told_after_its_taking_is_written_down(world: World) -> None:
    job = submit(world, job_chunks([call(0)]))
    take(world)
    for item in (m.Taken(0, 1, "e.1"), m.Started(0, 1, "e.1", world.now_ms)):
        world.reply(job, item)
        step(world)
        world.check()
    assert task(world, job).started_ms == world.now_ms


def test_an_outcome_of_an_older_attempt_is_a_duplicate(world: World) -> None:
    job = submit(world, job_chunks([call(0)]))
    first = take(world)
    world.reply(job, m.Returned(0, 1, Return.unstarted))
    step(world)
    world.reply(job, world.ended(first.tasks[0], Succeeded(value("late"))))
    step(world)
    assert task(world, job).state == "queued"
    second = take(world)
    world.reply(job, world.succeed(second, second.tasks[0]))
    step(world)
    assert task(world, job).attempt == 2
    facts = world.store.look.job(job)
    assert facts is not None
    assert of_attempt(second.tasks[0]).data in world.store.look.outcomes(facts.key, [0])[0]


def test_a_delayed_attempt_goes_out_when_it_is_due_also_after_a_restart(world: World) -> None:
    job = submit(world, job_chunks([call(0)], options=TaskOptions(retry=Retry(2, 5.0, jitter=0.0))))
    chunk = take(world)
    world.reply(job, world.ended(chunk.tasks[0], Failed(Cause.error, "no")))
    step(world)
    restart(world)
    world.now += 4.9
    step(world)
    assert standing(world) == []
    assert world.ledger.due_in(world.now) == pytest.approx(0.1)
    world.now += 0.2
    step(world)
    assert [chunk.tasks[0].attempt for chunk in standing(world)] == [2]


@pytest.mark.parametrize("again", [False, True], ids=["goes on", "starts again"])
@pytest.mark.parametrize("ahead_ms", [3_600_000, -900_000])
def test_a_clock_that_was_wrong_delays_an_attempt_by_one_delay_more_at_most(world: World, ahead_ms: int, again: bool) -> None:
    job = submit(world, job_chunks([call(0)], options=TaskOptions(retry=Retry(2, 5.0, max_backoff=8.0, jitter=0.0))))
    chunk = take(world)
    world.ahead_ms = ahead_ms
    world.reply(job, world.ended(chunk.tasks[0], Failed(Cause.error, "no")))
    step(world)
    world.ahead_ms = 0
    if again:
        restart(world)
    # What is due by the clock of the day is due at once when it was too late, and after the longest delay when it was too early.
    wait = (8.0 if ahead_ms > 0 else 0.0) if again else 5.0
    assert world.ledger.jobs.next_due() == pytest.approx(world.now + wait)
    world.now += wait + 0.1
    step(world)
    assert [chunk.tasks[0].attempt for chunk in standing(world)] == [2]


def test_a_cancel_survives_a_restart_and_reaches_tasks_that_come_later(world: World) -> None:
    first, second = job_chunks([call(0), call(1)], size=1)
    submit(world, [first])
    chunk = take(world)
    world.reply(chunk.job, m.Started(0, 1, "e.1", world.now_ms))
    world.ask(m.CancelTasks(first.job, reason="no"))
    step(world)
    assert task(world, first.job).state == "canceling"
    world.restart()
    submit(world, [second])
    assert task(world, first.job, 1).state == "canceled"
    world.reply(chunk.job, m.Returned(0, 1, Return.unstarted))
    step(world)
    assert task(world, first.job).state == "canceled"
    assert world.ledger.jobs.live == {}


def test_tasks_that_come_after_the_end_of_their_job_are_recorded(world: World) -> None:
    first, second, third = job_chunks([call(0), call(1), call(2)], size=1)
    submit(world, [first])
    world.ask(m.CancelTasks(first.job, reason="no"))
    step(world)
    submit(world, [third, second, third])
    facts = world.store.look.job(first.job)
    assert facts is not None
    assert (facts.total, facts.counts) == (3, {"canceled": 3})
    assert [task(world, first.job, number).state for number in (1, 2)] == ["canceled", "canceled"]


def test_a_forgotten_job_is_not_revived_by_what_comes_twice(world: World) -> None:
    chunks = job_chunks([call(0)], ephemeral=True)
    job = submit(world, chunks)
    chunk = take(world)
    world.ask(m.ForgetJobs((job,)))
    world.submit(chunks[0])
    world.reply(job, world.ended(chunk.tasks[0], Succeeded()))
    step(world)
    assert world.store.look.job(job) is None
    assert world.ledger.jobs.live == {}
    assert world.store.look.early_jobs()[0] == set()


def test_a_chunk_that_a_class_queue_gave_up_goes_out_again(world: World) -> None:
    job = submit(world, job_chunks([call(0), call(1, 0)]))
    world.give_up(take(world))
    step(world)
    (again,) = standing(world)
    assert (again.tasks[0].attempt, again.isolated) == (2, False)
    assert task(world, job).crashes == 0


def test_a_direct_chunk_whose_queue_was_missing_goes_out_at_once(world: World) -> None:
    chunks = job_chunks([call(0)], direct=True)
    submit(world, chunks)
    world.queues.clear()
    queue = "t.v2.task." + chunks[0].resource_class + ".normal"
    with world.store.transaction():
        world.ledger.begin(world.now, world.now_ms)
        world.ledger.opened(chunks[0].resource_class, (queue,))
        effects = world.ledger.finish()
    world.publish(effects)
    assert [(chunk.chunk, chunk.tasks[0].attempt) for chunk in standing(world)] == [("r0", 1)]


def test_class_queues_are_looked_after_when_the_connection_is_back(world: World) -> None:
    """The broker may have lost them; workers are told of those that it has, as they notice nothing."""
    name = job_chunks([call(0)])[0].resource_class
    submit(world, job_chunks([call(0)]))
    step(world)

    def reopen(*missing: str) -> list[m.ClassOpened]:
        with world.store.transaction():
            world.ledger.begin(world.now, world.now_ms)
            world.ledger.reconnected()
            effects = world.ledger.finish()
        assert effects.open_classes == [name]
        with world.store.transaction():
            world.ledger.begin(world.now, world.now_ms)
            world.ledger.opened(name, missing)
            effects = world.ledger.finish()
        return class_news(effects)

    assert reopen() == []
    (told,) = reopen(f"t.v2.task.{name}.normal")
    assert (told.resource_class.name, told.anew) == (name, True)


def test_workers_consume_anew_what_has_messages_and_no_consumers(world: World) -> None:
    """RabbitMQ may forget consumers of a queue that was made again. Where workers are only busy, they have nothing to consume anew."""
    submit(world, job_chunks([call(0)]))
    assert world.look(Depth(1, 1)) == world.look(Depth(1, 0)) == []
    (told,) = world.look(Depth(1, 0))
    assert told.anew
    assert world.look(Depth(1, 0)) == world.look(Depth(1, 0)) == []


def test_workers_consume_anew_what_swallows_its_tasks(world: World) -> None:
    """RabbitMQ may give them to consumers that never see one."""
    submit(world, job_chunks([call(0)]))

    def lose() -> list[m.ClassOpened]:
        world.queues.clear()
        news: list[m.ClassOpened] = []
        while not standing(world):
            assert not news
            world.now += 10.0
            world.heartbeat()
            step(world)
            news = world.look(Depth(0, 1))
        return news

    assert lose() == []
    (told,) = lose()
    assert told.anew
    assert lose() == []


def test_a_quick_task_that_waits_for_others_goes_out_when_a_worker_comes(world: World) -> None:
    """Eight chunks are enough for four processors, and not for eight."""
    job = submit(world, job_chunks([*(call(number) for number in range(9)), call(9, 0)]))
    first, *others = standing(world)
    world.reply(job, world.succeed(first, first.tasks[0]))
    step(world)
    assert [chunk.tasks[0].number for chunk in standing(world)] == list(range(9))
    world.say(m.Hello("another", "boot", "host", 2, "0", FOUR_CPUS, FOUR_CPUS))
    step(world)
    assert [chunk.tasks[0].number for chunk in standing(world)] == list(range(10))
    world.queues.clear()
    for chunk in others:
        world.reply(job, world.succeed(chunk, chunk.tasks[0]))
    step(world)


def test_a_value_of_the_job_may_come_with_a_later_chunk(world: World) -> None:
    key = "ab" * 32
    first, second = job_chunks([call(0, key), call(1)], size=1)
    submit(world, [first])
    assert standing(world) == []
    submit(world, [dataclasses.replace(second, values={key: value("shared")})])
    given = {chunk.tasks[0].number: dict(chunk.values) for chunk in standing(world)}
    assert given == {0: {key: value("shared")}, 1: {}}


def test_a_value_that_never_came_fails_its_task(world: World) -> None:
    job = submit(world, job_chunks([call(0, "ab" * 32)]))
    assert task(world, job).state == "failed"
    assert "did not come" in task(world, job).reason


def test_more_tasks_than_the_seal_says_are_not_taken(world: World) -> None:
    first, second = job_chunks([call(0), call(1)], size=1)
    sealed = dataclasses.replace(first, seal=m.Seal(1, 1))
    job = submit(world, [sealed, second])
    assert [chunk.tasks[0].number for chunk in standing(world)] == [0]
    facts = world.store.look.job(job)
    assert facts is not None
    assert facts.counts == {"queued": 1}


def test_what_is_old_is_forgotten_and_what_nobody_uses_is_closed(world: World) -> None:
    kept = submit(world, job_chunks([call(0)], ephemeral=False))
    dropped = submit(world, job_chunks([call(0)], ephemeral=True))
    world.settle([kept, dropped])
    world.now += 3600 + KEEP_HOUSE
    step(world)
    assert world.store.look.job(dropped) is None
    assert world.store.look.job(kept) is not None
    world.now += 86_400
    with world.store.transaction():
        world.ledger.begin(world.now, world.now_ms)
        effects = world.ledger.finish()
    assert effects.close_classes == [class_name(Request())]
    assert world.store.look.classes() == []


def test_questions_that_nobody_waits_for_are_not_answered(world: World) -> None:
    world.ask(m.GetWorkers())
    world.now += 100
    with world.store.transaction():
        world.ledger.begin(world.now, world.now_ms)
        opened = SIGNER.open(world.inbox.pop()[2]).message
        assert isinstance(opened, m.Request)
        world.ledger.take(opened)
        effects = world.ledger.finish()
    assert [message for message in effects.sends if message.key == "client-1.direct"] == []


def test_what_was_asked_of_a_worker_is_not_forgotten_with_the_coordinator(world: World) -> None:
    world.hello()
    world.ask(m.EndWorkers(("w",), reason="a new kernel"))
    step(world)
    world.restart()
    world.hello()
    step(world)
    [worker] = world.ledger.workers.known.values()
    assert worker.asked == m.DrainAsked("w", world.boot, reason="a new kernel")
    assert worker.state is WorkerState.draining
