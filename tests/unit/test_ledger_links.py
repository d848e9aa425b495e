"""Stories of the ledger: tasks that wait for tasks of other jobs, and open jobs, with the coordinator dying at bad moments."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from broker_jobs.core.outcome import Cause, Failed
from broker_jobs.errors import DecodeError
from broker_jobs.ids import new_job_id
from broker_jobs.wire import messages as m
from broker_jobs.wire.inputs import outside_key, shifted
from tests.support.cast import HERE, call, job_chunks
from tests.support.ledger_world import SIGNER, Crash, World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    step(world)
    yield world
    world.check()
    world.close()


def step(world: World, crash: Crash = Crash.never) -> None:
    """The coordinator takes everything that is there, and again where it died."""
    world.batch(range(len(world.inbox)), crash)
    if crash is not Crash.never:
        world.batch(range(len(world.inbox)))


def takes(number: int, other: str, task: int) -> m.Task:
    """A call that takes the result of a task of another job."""
    return replace(call(number, outside_key(other, task)), outside=(m.Outside(other, task, value=True),))


def waits(number: int, other: str, task: int, *, after: bool = False) -> m.Task:
    """A call that waits for a task of another job."""
    return replace(call(number), outside=(m.Outside(other, task, after=after),))


def states(world: World, job: str) -> list[str]:
    facts = world.store.look.job(job)
    assert facts is not None
    return [row.state for _, _, row in world.store.look.tasks(facts.key, world.store.look.options(facts.key))]


def links(world: World, job: str) -> int:
    """Rows of what tasks of a job wait for."""
    facts = world.store.look.job(job)
    assert facts is not None
    return len(world.store.look.links(facts.key))


def run(world: World, crash: Crash = Crash.never) -> None:
    """The worker does what there is, and the coordinator hears of it."""
    world.work_all()
    step(world, crash)


# --- tasks of other jobs ---


@pytest.mark.parametrize("crash", list(Crash))
def test_a_result_comes_over_whenever_the_coordinator_dies(world: World, crash: Crash) -> None:
    (earlier,) = job_chunks([call(0)])
    (later,) = job_chunks([takes(0, earlier.job, 0), waits(1, earlier.job, 0), takes(2, earlier.job, 0)])
    world.submit(earlier)
    step(world)
    world.submit(later)
    step(world, crash)
    assert states(world, later.job) == ["waiting"] * 3
    assert links(world, later.job) == 3
    run(world, crash)
    assert links(world, later.job) == 0
    assert states(world, later.job) == ["queued"] * 3
    world.settle([later.job])
    assert states(world, later.job) == ["succeeded"] * 3


@pytest.mark.parametrize("crash", list(Crash))
def test_both_jobs_come_in_one_batch(world: World, crash: Crash) -> None:
    (earlier,) = job_chunks([call(0)])
    (later,) = job_chunks([takes(0, earlier.job, 0)])
    (latest,) = job_chunks([takes(0, later.job, 0), takes(1, earlier.job, 0)])
    for chunk in (latest, later, earlier):
        world.submit(chunk)
    world.inbox.reverse()
    step(world, crash)
    world.settle([earlier.job, later.job, latest.job])
    assert states(world, latest.job) == ["succeeded"] * 2


def test_the_earlier_job_may_be_forgotten_once_it_has_ended(world: World) -> None:
    (earlier,) = job_chunks([call(0)])
    (later,) = job_chunks([call(0), replace(takes(1, earlier.job, 0), deps=(0,))])
    world.submit(earlier)
    step(world)
    run(world)
    world.submit(later)
    step(world)
    assert states(world, later.job) == ["queued", "waiting"]
    world.ask(m.ForgetJobs((earlier.job,)))
    step(world)
    assert world.store.look.job(earlier.job) is None
    world.restart()
    world.settle([later.job])
    assert states(world, later.job) == ["succeeded"] * 2


@pytest.mark.parametrize("crash", list(Crash))
def test_a_failure_aborts_across_jobs_and_names_the_first_cause(world: World, crash: Crash) -> None:
    (earlier,) = job_chunks([call(0)])
    (later,) = job_chunks([waits(0, earlier.job, 0), call(1, 0), waits(2, earlier.job, 0, after=True)])
    (latest,) = job_chunks([waits(0, later.job, 1)])
    for chunk in (earlier, later, latest):
        world.submit(chunk)
    step(world)
    (standing,) = [item.chunk for queue in world.queues.values() for item in queue]
    world.queues.clear()
    world.reply(earlier.job, world.ended(standing.tasks[0], Failed(Cause.error, "no")))
    step(world, crash)
    assert states(world, later.job)[:2] == ["aborted", "aborted"]
    assert states(world, latest.job) == ["aborted"]
    facts = world.store.look.job(later.job)
    assert facts is not None
    view = world.store.look.task(facts.key, 1)
    assert view is not None
    assert view.reason == f"task 0 of job {earlier.job[-8:]} failed"
    world.settle([later.job])
    assert states(world, later.job)[2] == "succeeded"


def test_what_never_comes_is_not_waited_for(world: World) -> None:
    first, last = job_chunks([call(0), call(1)], size=1)
    (later,) = job_chunks([waits(0, first.job, 1), waits(1, first.job, 7), waits(2, "0" * 32, 0)])
    world.submit(first)
    world.submit(later)
    step(world)
    assert states(world, later.job) == ["waiting", "waiting", "aborted"]
    world.ask(m.CancelTasks(first.job))
    step(world)
    assert states(world, later.job) == ["aborted"] * 3
    world.submit(last)
    step(world)


# --- open jobs ---


def header() -> m.JobHeader:
    return m.JobHeader("open", "client-1", 1, HERE)


def added(job: str, first: int, count: int, origin: m.Origin = HERE) -> m.Chunk:
    """A submission to an open job, from the number on that it was given."""
    (chunk,) = job_chunks([call(number) for number in range(count)], job=job)
    return shifted(replace(chunk, header=None, seal=None, origin=origin), first)


@pytest.mark.parametrize("crash", list(Crash))
def test_an_open_job_is_made_added_to_and_closed_whenever_the_coordinator_dies(world: World, crash: Crash) -> None:
    job = new_job_id()
    for wish in (m.OpenJob(job, header()), m.ReserveTasks(job, "a", 2), m.ReserveTasks(job, "b", 1), m.ReserveTasks(job, "a", 2)):
        world.ask(wish)
        step(world, crash)
    facts = world.store.look.job(job)
    assert facts is not None
    assert (facts.open, facts.reserved) == (True, 3)
    assert sorted(world.store.look.reservations(facts.key)) == [(facts.key, "a", 0, 2), (facts.key, "b", 2, 1)]
    world.submit(added(job, 2, 1))
    world.ask(m.CloseJob(job))
    step(world, crash)
    run(world)
    assert states(world, job) == ["succeeded"]
    world.submit(added(job, 0, 2))
    step(world, crash)
    world.settle([job])
    assert states(world, job) == ["succeeded"] * 3


def test_an_open_job_is_not_given_up_for_being_open_but_for_what_never_comes(world: World) -> None:
    idle, hole = new_job_id(), new_job_id()
    for job in (idle, hole):
        world.ask(m.OpenJob(job, header()))
    step(world)
    for _ in range(3):
        world.now += 24 * 3600.0
        step(world)
    world.ask(m.ReserveTasks(hole, "a", 1))
    step(world)
    assert {job: world.ledger.jobs.live[job].machine.void_reason for job in (idle, hole)} == {idle: None, hole: None}
    world.now += 25 * 3600.0
    step(world)
    assert set(world.ledger.jobs.live) == {idle}


def test_functions_of_another_submitter_keep_their_origin(world: World) -> None:
    job, elsewhere = new_job_id(), replace(HERE, host="another")
    world.ask(m.OpenJob(job, header()))
    world.ask(m.ReserveTasks(job, "a", 1))
    world.ask(m.ReserveTasks(job, "b", 1))
    world.submit(added(job, 0, 1))
    world.submit(added(job, 1, 1, elsewhere))
    step(world)
    world.restart()
    world.batch(())
    found = {item.chunk.tasks[0].number: item.chunk.origin for queue in world.queues.values() for item in queue}
    assert found == {0: HERE, 1: elsewhere}


@pytest.mark.parametrize(
    "question", [m.OpenJob("no id", header()), m.OpenJob("1" * 32, replace(header(), submitter="a.b")), m.ReserveTasks("1" * 32, "a", -1)]
)
def test_wishes_that_cannot_be_are_dead_letters(world: World, question: m.Question) -> None:
    world.ask(question)
    with pytest.raises(DecodeError):
        step(world)
    world.inbox.clear()


@pytest.mark.parametrize("outside", [m.Outside("no id", 0), m.Outside("2" * 32, -1), m.Outside("1" * 32, 3)])
def test_needs_that_cannot_be_are_dead_letters(world: World, outside: m.Outside) -> None:
    (chunk,) = job_chunks([replace(call(0), outside=(outside,))], job="1" * 32)
    assert SIGNER.seal(chunk, m.Role.submitter)
    world.submit(chunk)
    with pytest.raises(DecodeError):
        step(world)
    world.inbox.clear()
