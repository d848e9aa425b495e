"""A job that runs again: which tasks do, what they are given, and that the new job needs nothing of the old one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from broker_jobs.coordinator.store.parts import load_outcome
from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.states import JobState
from broker_jobs.core.value import Encoding, Stored
from broker_jobs.data.store import ValueStore, fetch
from broker_jobs.ids import short
from broker_jobs.wire import messages as m
from broker_jobs.wire.codec import pack
from tests.support.cast import call, value
from tests.unit.test_coordinator_control import Listening, submit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEW = "f" * 32


@pytest.fixture
def world() -> Iterator[Listening]:
    world = Listening()
    world.settle_inbox()
    yield world
    world.check()
    world.close()


def end(world: Listening, job: str, *outcomes: Succeeded | Failed) -> None:
    """The first tasks end like this."""
    tasks = {task.number: task for queue in world.queues.values() for item in queue for task in item.chunk.tasks}
    world.queues.clear()
    world.reply(job, *(world.ended(tasks[number], outcome) for number, outcome in enumerate(outcomes) if number in tasks))
    world.settle_inbox()


def failed_job(world: Listening, result: Succeeded, **options: object) -> str:
    """Of four tasks, one has succeeded, one has failed, and two are aborted."""
    job = submit(world, call(0), call(1), call(2, 0, 1), call(3, 2), name="train", tags=("a=b",), **options)
    end(world, job, result, Failed(Cause.error, "no"))
    assert (world.states(job), world.state(job)) == (["succeeded", "failed", "aborted", "aborted"], JobState.failed)
    return job


def test_what_did_not_succeed_runs_again_with_the_results_of_what_did(world: Listening) -> None:
    old = failed_job(world, Succeeded(value("zero")))
    info = world.answer(m.ResubmitJob(old, NEW))
    assert isinstance(info, m.JobInfo)
    assert (info.job, info.name, info.tags, info.total) == (NEW, "train", ("a=b", f"resubmit={short(old)}"), 4)
    assert info.counts == {"succeeded": 1, "queued": 1, "waiting": 2}
    again = world.answer(m.ResubmitJob(old, NEW))
    assert isinstance(again, m.JobInfo)
    assert (again.job, again.counts) == (NEW, info.counts), "asked twice, it is one job"
    assert world.answer(m.ForgetJobs((old,))) == m.Forgotten(1)
    world.restart()
    world.settle([NEW])
    assert (world.states(NEW), world.state(NEW)) == (["succeeded"] * 4, JobState.succeeded)
    facts = world.store.look.job(NEW)
    assert facts is not None
    outcome = load_outcome(world.store.look.outcomes(facts.key, [0])[0])
    assert outcome == Succeeded(value("zero"))


def test_everything_or_some_tasks_run_again(world: Listening) -> None:
    old = failed_job(world, Succeeded(value("zero")))
    world.answer(m.ResubmitJob(old, NEW, everything=True))
    assert world.states(NEW) == ["queued", "queued", "waiting", "waiting"]
    world.queues.clear()
    world.answer(m.ResubmitJob(old, "e" * 32, (1,)))
    assert world.states("e" * 32) == ["succeeded", "queued", "aborted", "aborted"]
    world.answer(m.ResubmitJob(old, "d" * 32, (2,)))
    assert world.states("d" * 32) == ["succeeded", "failed", "aborted", "aborted"]
    assert world.state("d" * 32) is JobState.failed


def test_a_resubmitted_job_can_be_resubmitted(world: Listening) -> None:
    old = failed_job(world, Succeeded(value("zero")))
    world.answer(m.ResubmitJob(old, NEW))
    end(world, NEW, Succeeded(value("never")), Failed(Cause.error, "again"))
    assert world.state(NEW) is JobState.failed
    info = world.answer(m.ResubmitJob(NEW, "e" * 32))
    assert isinstance(info, m.JobInfo)
    assert info.tags == ("a=b", f"resubmit={short(NEW)}")
    world.settle(["e" * 32])
    assert world.state("e" * 32) is JobState.succeeded


def test_large_values_stay_when_the_old_job_is_forgotten(world: Listening, tmp_path: Path) -> None:
    store = ValueStore(tmp_path)
    data = pack("x" * 100_000)
    old = "a" * 32
    kept = store.put(old, Encoding.msgpack, data)
    failed_job(world, Succeeded(kept), job=old, store=str(tmp_path))
    world.answer(m.ResubmitJob(old, NEW))
    store.forget(old)
    world.answer(m.ForgetJobs((old,)))
    facts = world.store.look.job(NEW)
    assert facts is not None
    outcome = load_outcome(world.store.look.outcomes(facts.key, [0])[0])
    assert isinstance(outcome, Succeeded)
    assert isinstance(outcome.value, Stored)
    assert fetch(outcome.value).joined().data == data


def test_what_cannot_run_again_is_refused(world: Listening) -> None:
    def refusal(question: m.ResubmitJob) -> tuple[m.Refusal, str]:
        answer = world.answer(question)
        assert isinstance(answer, m.Refused)
        return answer.kind, answer.message

    job = submit(world, call(0))
    assert refusal(m.ResubmitJob(job, NEW))[0] is m.Refusal.job_active
    world.settle([job])
    kind, message = refusal(m.ResubmitJob(job, NEW))
    assert kind is m.Refusal.invalid
    assert "--all" in message
    assert refusal(m.ResubmitJob(job, NEW, (7,))) == (m.Refusal.task_not_found, f"job {short(job)} has no task 7")
    assert refusal(m.ResubmitJob("b" * 32, NEW))[0] is m.Refusal.job_not_found
