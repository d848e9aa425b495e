"""Why a task waits, in each place where it can wait."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from broker_jobs.coordinator.explain import explain
from broker_jobs.core.outcome import Cause, Failed
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import Request, ResourceRequest
from broker_jobs.core.resources import Resources
from broker_jobs.core.spec import Retry, TaskOptions
from broker_jobs.core.states import TaskState
from broker_jobs.wire import messages as m
from tests.support.cast import call, job_chunks
from tests.support.ledger_world import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    step(world)
    yield world
    world.close()


def step(world: World) -> None:
    """The coordinator takes everything that is there."""
    world.batch(range(len(world.inbox)))


def submit(world: World, *tasks: m.Task, options: TaskOptions | None = None) -> str:
    chunks = job_chunks(tasks, options=options)
    for chunk in chunks:
        world.submit(chunk)
    step(world)
    return chunks[0].job


def why(world: World, job: str, number: int = 0) -> m.Explanation:
    facts = world.store.look.job(job)
    assert facts is not None
    found = explain(world.store.look, facts, world.ledger.jobs.live.get(job), number, world.ledger.teams, now_ms=world.now_ms)
    assert isinstance(found, m.Explanation), found
    return found


def come(world: World, name: str, **amounts: int) -> None:
    """Another worker says hello."""
    has = Resources(tuple(sorted((resource, amount * UNIT) for resource, amount in amounts.items())))
    world.say(m.Hello(name, "b", "host", 1, "0", has, has, ends_ms=world.now_ms + 60_000))
    step(world)


def test_dependencies_are_told_with_their_states(world: World) -> None:
    job = submit(world, call(0), call(1, 0), call(2, after=[0, 1]))
    assert why(world, job, 1).reasons == ("it waits for the success of task 0, which is queued",)
    found = why(world, job, 2)
    assert (found.state, found.waits_for) == (TaskState.waiting, (0, 1))
    assert found.reasons == ("it waits for the end of task 0, which is queued", "it waits for the end of task 1, which is waiting")


def test_each_worker_says_what_it_is_short_of(world: World) -> None:
    come(world, "v", cpus=8, gpus=1)
    job = submit(world, call(0), options=TaskOptions(resources=ResourceRequest(cpus=8, gpus=2).canonical()))
    found = why(world, job)
    assert found.reasons[-1] == "no worker that is there could ever run it"
    assert found.asks == "cpus=8 gpus=2"
    assert found.workers == (
        m.WorkerFit("v", "active", (m.VariantFit(ever=False, now=False, short=(m.Shortage("gpus", 2 * UNIT, UNIT, UNIT),)),)),
        m.WorkerFit(
            "w",
            "active",
            (
                m.VariantFit(
                    ever=False,
                    now=False,
                    short=(m.Shortage("cpus", 8 * UNIT, 4 * UNIT, 4 * UNIT), m.Shortage("gpus", 2 * UNIT, 0, 0)),
                ),
            ),
        ),
    )


def test_variants_are_told_apart_and_all_needs_everything(world: World) -> None:
    either = Request.of((*ResourceRequest(gpus=1).canonical().alternatives, *ResourceRequest(cpus="all").canonical().alternatives))
    job = submit(world, call(0), options=TaskOptions(resources=either))
    [worker] = why(world, job).workers
    assert [(fit.ever, fit.now) for fit in worker.variants] == [(False, False), (True, True)]
    world.say(m.Heartbeat("w", world.boot, Resources((("cpus", 3 * UNIT),))))
    step(world)
    found = why(world, job)
    assert found.workers[0].variants[1] == m.VariantFit(ever=True, now=False, short=(m.Shortage("cpus", 0, 4 * UNIT, 3 * UNIT),))
    assert found.reasons[-1] == "the workers that could run it are busy: 1"


def test_a_worker_that_ends_too_soon_is_short_of_lifetime(world: World) -> None:
    come(world, "v", cpus=2)
    wanted = Request.of(dataclasses.replace(variant, min_time=90_000) for variant in Request().alternatives)
    job = submit(world, call(0), options=TaskOptions(resources=wanted))
    short, endless = why(world, job).workers
    assert short.variants == (m.VariantFit(ever=False, now=False, short=(m.Shortage("lifetime", 90_000, 60_000, 60_000),)),)
    assert endless.variants == (m.VariantFit(ever=True, now=True),)


def test_a_step_that_a_worker_does_not_serve_is_told(world: World) -> None:
    one = Resources((("cpus", UNIT),), features=("step fit 1.0.0",))
    world.say(m.Hello("v", "b", "host", 1, "0", one, one))
    step(world)
    other, this = (
        submit(world, call(0), options=TaskOptions(resources=Request().offering(f"step fit {version}"))) for version in ("1.0.1", "1.0.0")
    )
    short = m.Shortage("step fit 1.0.1", 1, 0, 0)
    assert [worker.variants for worker in why(world, other).workers] == [(m.VariantFit(ever=False, now=False, short=(short,)),)] * 2
    assert why(world, other).asks == "cpus=1 (step fit 1.0.1)"
    assert [worker.variants[0].ever for worker in why(world, this).workers] == [True, False]


def test_what_waits_behind_others_of_its_job_is_told(world: World) -> None:
    low, high = TaskOptions(), TaskOptions(priority=3)
    [chunk] = job_chunks([call(number, options=number % 2) for number in range(12)])
    world.submit(dataclasses.replace(chunk, options=(low, high)))
    step(world)
    assert why(world, chunk.job, 0).reasons[0] == "2 tasks of its job that are more urgent come first (its priority is 0)"
    assert why(world, chunk.job, 1).reasons[0].startswith("it has been in the queue of cpus1-")


def test_a_held_a_running_and_a_retrying_task(world: World) -> None:
    job = submit(world, call(0), options=TaskOptions(retry=Retry(2, 30.0, jitter=0.0)))
    world.say(m.Heartbeat("w", world.boot, Resources(), (m.Held(job, 0, 1),)))
    step(world)
    assert why(world, job).reasons == ("w has it, and it starts there when resources are free",)
    world.reply(job, m.Started(0, 1, "e.1", world.now_ms))
    step(world)
    assert why(world, job).reasons == ("it runs on w",)
    world.reply(job, m.Ended(0, 1, "e.1", Failed(Cause.error, "ValueError: no"), world.now_ms, world.now_ms))
    step(world)
    found = why(world, job)
    assert found.reasons[0].startswith("attempt 1 failed, and the next one is due in 30.0 s")
    assert found.due_ms == world.now_ms + 30_000


def test_no_worker_an_ending_one_a_paused_job_and_an_end(world: World) -> None:
    job = submit(world, call(0))
    world.say(m.Heartbeat("w", world.boot, Resources(), draining=True))
    step(world)
    assert why(world, job).reasons[-1] == "the workers that could run it are ending, and take nothing more"
    world.say(m.Goodbye("w", world.boot))
    step(world)
    assert why(world, job).reasons[-1].startswith("no worker is there")
    world.ask(m.PauseTasks(job, None, "lunch"))
    step(world)
    assert why(world, job).reasons[0] == "it is paused: lunch"
    world.ask(m.CancelTasks(job, None, "enough"))
    step(world)
    assert why(world, job).reasons == ("it has ended: canceled (enough)",)


def test_a_task_that_is_not_there_is_refused(world: World) -> None:
    facts = world.store.look.job(submit(world, call(0)))
    assert facts is not None
    for number in (1, 2**40):
        found = explain(world.store.look, facts, world.ledger.jobs.live[facts.id], number, (), now_ms=0)
        assert isinstance(found, m.Refused)


def test_a_task_of_several_nodes_says_who_is_there_and_who_must_finish_first(world: World) -> None:
    def say(name: str, seat: m.Seat | None = None) -> None:
        has = Resources((("cpus", UNIT),))
        world.say(m.Hello(name, "b", f"id/{name}", 1, "0", has, has, teams=True, seat=seat))
        step(world)

    say("u")
    job = submit(world, call(0), options=TaskOptions(resources=ResourceRequest(nodes=2).canonical()))
    assert why(world, job).reasons[-1] == "it needs 2 workers of one group that have what it asks for, and there are 1"
    say("v")
    assert why(world, job).reasons[-1] == "u, v shall run a task of this class together; u, v must finish other work first"
    team = world.ledger.teams.of(world.ledger.workers.known["u"])
    assert team is not None
    say("u", m.Seat(team.team, m.SeatState.ready))
    assert why(world, job).reasons[-1] == "u, v shall run a task of this class together; v must finish other work first"
    say("v", m.Seat(team.team, m.SeatState.ready))
    assert why(world, job).reasons[-1] == "u, v are about to run a task of this class together"
