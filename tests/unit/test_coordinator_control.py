"""Cancel, pause and resume in the ledger: what is said to whom, what survives a restart, and what stands how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker_jobs.core.outcome import Canceled, Cause, Failed, Succeeded
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.wire import messages as m
from tests.support.cast import FOUR_CPUS, call, job_chunks, program
from tests.support.ledger_world import SIGNER, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs.broker.port import Outgoing


class Listening(World):
    """A world that keeps what the coordinator says to workers and clients."""

    def publish(self, effects: object) -> None:
        """Open the messages."""
        if not hasattr(self, "said"):
            self.said: list[m.Message] = []
        sends: list[Outgoing] = effects.sends  # type: ignore[attr-defined]
        self.said += [SIGNER.open(item.body).message for item in sends]
        super().publish(effects)  # type: ignore[arg-type]

    def answer(self, question: m.Question) -> m.Answer:
        """Ask, and read the answer."""
        self.ask(question)
        self.settle_inbox()
        return next(message.answer for message in reversed(self.said) if isinstance(message, m.Response))

    def settle_inbox(self) -> None:
        """Everything that stands in the ledger queue, one batch after the other."""
        while self.inbox or self.more or self.opened:
            self.batch(range(len(self.inbox)), confirms=len(self.unconfirmed))
            self.check()

    def welcome(self) -> m.Welcome:
        """What a worker that has just come is told."""
        self.said.clear()
        self.say(m.Hello("late", "boot", "host", 2, "0", FOUR_CPUS, FOUR_CPUS))
        self.settle_inbox()
        return next(message for message in self.said if isinstance(message, m.Welcome))

    def states(self, job: str) -> list[str]:
        """Of the tasks, by the rows."""
        facts = self.store.look.job(job)
        assert facts is not None
        return [view.state for view in sorted(self.store.look.changes(facts.key, 0, 10_000, None))]

    def state(self, job: str) -> JobState:
        """Of the job, by its row."""
        facts = self.store.look.job(job)
        assert facts is not None
        return facts.state


@pytest.fixture
def world() -> Iterator[Listening]:
    world = Listening()
    world.settle_inbox()
    yield world
    world.check()
    world.close()


def submit(world: Listening, *tasks: m.Task, **options: object) -> str:
    """A job that stands in its class queue."""
    chunks = job_chunks(tasks, **options)  # type: ignore[arg-type]
    for chunk in chunks:
        world.submit(chunk)
    world.settle_inbox()
    return chunks[0].job


def test_3_23_a_worker_that_was_down_hears_of_the_cancel_before_it_takes_a_message(world: Listening) -> None:
    job = submit(world, call(0), call(1))
    assert world.answer(m.CancelTasks(job, reason="wrong input")) == m.CancelResult(before_start=2)
    assert world.state(job) is JobState.canceled
    world.restart()
    assert world.welcome().revoked == (m.Revocation(job, reason="wrong input"),)
    # As long as a message may stand in the queue, and no longer.
    world.pass_time()
    world.queues.clear()
    world.pass_time()
    world.pass_time()
    assert world.welcome().revoked == ()
    world.restart()
    assert world.welcome().revoked == ()


def test_a_cancel_is_known_to_the_next_coordinator_when_the_rest_of_the_job_comes(world: Listening) -> None:
    first, rest = job_chunks([call(0), call(1)], size=1)
    world.submit(first)
    world.settle_inbox()
    assert world.answer(m.CancelTasks(first.job, reason="wrong input")) == m.CancelResult(before_start=1)
    world.restart()
    world.submit(rest)
    world.settle_inbox()
    assert world.states(first.job) == ["canceled", "canceled"]
    info = world.answer(m.FindJob(first.job))
    assert isinstance(info, m.JobInfo)
    assert (info.state, info.reason) == (JobState.canceled, "wrong input")


def test_a_cancel_of_some_tasks_stands_until_their_messages_are_gone(world: Listening) -> None:
    job = submit(world, call(0), call(1), call(2, 0))
    assert world.answer(m.CancelTasks(job, (1, 9), "no")) == m.CancelResult(before_start=1, unknown=1)
    assert world.states(job) == ["queued", "canceled", "waiting"]
    world.restart()
    assert world.welcome().revoked == (m.Revocation(job, 1, 1, "no"),)
    world.settle([job])
    assert world.welcome().revoked == (m.Revocation(job, reason="the job has ended"),)


def test_a_cancel_says_what_it_did(world: Listening) -> None:
    job = submit(world, call(0), call(1), call(2), call(3, 0))
    world.reply(job, m.Started(1, 1, "x", 1), m.Started(2, 1, "y", 1), world.ended(call(2), Failed(Cause.error, "no")))
    world.settle_inbox()
    assert world.answer(m.CancelTasks(job)) == m.CancelResult(before_start=2, while_running=1, ended_already=1)
    assert world.states(job) == ["canceled", "canceling", "failed", "canceled"]
    assert world.answer(m.CancelTasks(job)) == m.CancelResult(while_running=1, ended_already=3)
    world.reply(job, world.ended(call(1), Canceled("stopped")))
    world.settle_inbox()
    assert world.answer(m.CancelTasks(job, (0, 7))) == m.CancelResult(ended_already=1, unknown=1)


def test_each_task_that_moves_with_others_has_a_version_of_its_own(world: Listening) -> None:
    job = submit(world, *(call(number) for number in range(50)))
    facts = world.store.look.job(job)
    assert facts is not None
    since = facts.version
    world.answer(m.CancelTasks(job))
    views = world.store.look.changes(facts.key, since, 1000, None)
    assert len({view.changed for view in views}) == 50
    after = world.store.look.job(job)
    assert after is not None
    assert since < min(view.changed for view in views) <= max(view.changed for view in views) <= after.version


@pytest.mark.parametrize("alike", [True, False])
def test_rows_that_are_written_by_one_statement_are_what_is_in_memory(world: Listening, *, alike: bool) -> None:
    # Those that are alike share rows, of the others each has its own.
    job = submit(world, *(call(number) if alike or number % 2 else program(number, "true") for number in range(4000)), call(4000, 0))
    assert world.answer(m.PauseTasks(job)) == m.PauseResult(paused=4000, waiting=1)
    world.check()
    assert world.answer(m.ResumeTasks(job)) == m.ResumeResult(resumed=4000, not_paused=1)
    # More than there is room for in class queues, so that some have rows which nothing else has written.
    world.check()
    assert world.answer(m.CancelTasks(job)) == m.CancelResult(before_start=4001)
    facts = world.store.look.job(job)
    assert facts is not None
    assert facts.counts == {TaskState.canceled: 4001}
    assert {view.state for view in world.store.look.changes(facts.key, 0, 10_000, None)} == {"canceled"}


@pytest.mark.parametrize("restart", [False, True])
def test_a_paused_job_waits_and_goes_on_when_it_is_resumed(world: Listening, restart: bool) -> None:
    job = submit(world, call(0), call(1), call(2, 0), call(3))
    world.reply(job, m.Started(1, 1, "x", 1))
    world.settle_inbox()
    assert world.answer(m.PauseTasks(job, reason="a demo")) == m.PauseResult(paused=2, running=1, waiting=1)
    assert (world.states(job), world.state(job)) == (["paused", "running", "waiting", "paused"], JobState.paused)
    assert m.Revoked(tuple(m.Revocation(job, number, 1, "a demo", unstarted_only=True) for number in (0, 3))) in world.said
    if restart:
        world.restart()
    assert set(world.welcome().revoked) >= {m.Revocation(job, number, 1, "a demo", unstarted_only=True) for number in (0, 3)}
    world.queues.clear()
    assert world.answer(m.ResumeTasks(job)) == m.ResumeResult(resumed=2, not_paused=2)
    assert world.states(job) == ["queued", "running", "waiting", "queued"]
    standing = sorted((task.number, task.attempt) for queue in world.queues.values() for item in queue for task in item.chunk.tasks)
    assert standing == [(0, 2), (3, 2)]
    world.reply(job, world.ended(call(1), Succeeded()))
    world.settle([job])
    assert world.state(job) is JobState.succeeded


@pytest.mark.parametrize("tasks", [None, (0,)])
def test_a_task_that_had_begun_when_it_was_called_back_and_whose_worker_died_is_missed(
    world: Listening, tasks: tuple[int, ...] | None
) -> None:
    job = submit(world, call(0))
    flights = set(world.ledger.jobs.live[job].window.flights)
    world.answer(m.PauseTasks(job, tasks))
    assert set(world.ledger.jobs.live[job].window.flights) == flights, "its message may be with a worker"
    world.reply(job, m.Started(0, 1, "x", 1))
    world.settle_inbox()
    assert world.states(job) == ["running"]
    assert set(world.ledger.jobs.live[job].window.flights) == flights
    world.queues.clear()
    world.lose_worker()
    world.settle_inbox()
    for _ in range(3):
        world.pass_time()
    assert world.states(job) == ["paused" if tasks is None else "queued"]
    world.answer(m.ResumeTasks(job))
    world.settle([job])


def test_a_direct_chunk_of_a_paused_job_is_called_back_as_it_comes(world: Listening) -> None:
    first, second = job_chunks([call(0), call(1)], size=1, direct=True)
    world.submit(first)
    world.settle_inbox()
    world.answer(m.PauseTasks(first.job))
    world.submit(second)
    world.settle_inbox()
    assert world.states(first.job) == ["paused", "paused"]
    assert len(world.welcome().revoked) == 2
    world.answer(m.ResumeTasks(first.job))
    world.settle([first.job])
