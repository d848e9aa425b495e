"""Data in the ledger: what there is, who takes it, what made it, and what keeps a job or data from being deleted."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from broker_jobs.core.choice import Choice
from broker_jobs.core.data import Artifact, DataRef
from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.spec import TaskOptions
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.core.versions import Version
from broker_jobs.wire import messages as m
from broker_jobs.wire.codec import pack
from tests.support.cast import call, job_chunks
from tests.unit.test_coordinator_control import Listening

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTHING = Inline(Encoding.msgpack, pack({}))


@pytest.fixture
def world() -> Iterator[Listening]:
    world = Listening()
    yield world
    world.close()


def data(digits: str, name: str = "mesh.csv") -> DataRef:
    return DataRef(digits.rjust(32, "0"), name, "text/csv", 3, b"x" * 32, "/nowhere", f"data/uploads/{digits}")


def add(world: Listening, digits: str, *tags: str) -> DataRef:
    found = data(digits)
    assert isinstance(world.answer(m.AddData(m.DataInfo(found, tags, "me"))), m.DataInfo)
    return found


def step(number: int, *taken: DataRef) -> m.Task:
    return m.Task(number, m.StepCall("fit", Version(1, 0, 0), NOTHING, slots=(("mesh", taken),) if taken else ()))


def submit(world: Listening, *tasks: m.Task, parent: str | None = None) -> m.Chunk:
    works_steps = any(isinstance(task.work, m.StepCall) for task in tasks)
    resources = TaskOptions().resources.offering("step fit 1.0.0") if works_steps else TaskOptions().resources
    [chunk] = job_chunks(tasks, options=TaskOptions(resources=resources))
    assert chunk.header is not None
    chunk = dataclasses.replace(chunk, header=dataclasses.replace(chunk.header, parent=parent, ephemeral=False))
    world.submit(chunk)
    return chunk


def end(world: Listening, chunk: m.Chunk, *made: Artifact, outcome: Succeeded | Failed | None = None) -> None:
    for task in chunk.tasks:
        done = outcome or Succeeded(None, made if task is chunk.tasks[0] else ())
        world.reply(chunk.job, m.Ended(task.number, 1, world.execution(), done, world.now_ms, world.now_ms))
    world.settle_inbox()


def listed(world: Listening, question: m.ListData) -> list[str]:
    answer = world.answer(question)
    assert isinstance(answer, m.DataList)
    return [info.data.id.lstrip("0") for info in answer.data]


def refused(world: Listening, question: m.Question) -> m.Refused:
    answer = world.answer(question)
    assert isinstance(answer, m.Refused), answer
    return answer


def kinds(world: Listening, subject: str | None = None) -> list[str]:
    answer = world.answer(m.ListLog(subject))
    assert isinstance(answer, m.Log)
    return [entry.kind.value for entry in answer.entries]


def test_data_is_added_once_found_tagged_and_deleted(world: Listening) -> None:
    first = add(world, "a1b1", "x")
    again = world.answer(m.AddData(m.DataInfo(first, ("other",), "somebody else")))
    assert again == m.DataInfo(first, ("x",), "me", world.now_ms)
    assert world.answer(m.FindData("a1b1")) == again
    assert refused(world, m.FindData("a1b2")).kind is m.Refusal.data_not_found
    assert refused(world, m.FindData("xyz")).kind is m.Refusal.invalid
    add(world, "c1a1b1")
    assert refused(world, m.FindData("a1b1")).kind is m.Refusal.ambiguous
    tagged = world.answer(m.TagData(first.id, ("y", "z")))
    assert isinstance(tagged, m.DataInfo)
    assert tagged.tags == ("y", "z")
    assert (listed(world, m.ListData(tags=("y",))), listed(world, m.ListData(tags=("y", "x")))) == (["a1b1"], [])
    assert world.answer(m.DeleteData(first.id)) == m.DataDeleted(first.id)
    assert refused(world, m.DeleteData(first.id)).kind is m.Refusal.data_not_found
    assert kinds(world, first.id) == ["data deleted", "data added"]


@pytest.mark.parametrize("restarted", [False, True])
def test_what_a_job_takes_is_kept_as_long_as_the_job(world: Listening, restarted: bool) -> None:
    mesh, free, other = add(world, "a001"), add(world, "a002"), add(world, "a003")
    program = m.Task(1, m.Program((b"sort",), files=(("in/mesh.csv", mesh), ("again.csv", mesh), ("other.csv", other))))
    first, second = submit(world, step(0, mesh, free)), submit(world, dataclasses.replace(program, number=0))
    if restarted:
        world.settle_inbox()
        world.restart()
    answer = refused(world, m.DeleteData(mesh.id))
    assert answer.kind is m.Refusal.in_use
    assert f"is the input of jobs {first.job[-8:]}, {second.job[-8:]}: delete them first" in answer.message
    assert answer.candidates == (first.job, second.job)
    uses = world.answer(m.ListUses(mesh.id))
    assert isinstance(uses, m.UseList)
    assert [(use.job, use.task, use.slot) for use in uses.uses] == [
        (first.job, 0, "mesh"),
        (second.job, 0, "in/mesh.csv"),
        (second.job, 0, "again.csv"),
    ]
    info = world.answer(m.FindData(mesh.id))
    assert isinstance(info, m.DataInfo)
    assert info.used == 2, "jobs, not places"
    assert listed(world, m.ListData(used_by=first.job)) == ["a001", "a002"]
    assert (listed(world, m.ListData(used=True)), listed(world, m.ListData(used=False))) == (["a001", "a002", "a003"], [])
    for chunk in (first, second):
        end(world, chunk)
        assert world.answer(m.ForgetJobs((chunk.job,))) == m.Forgotten(1)
    assert world.answer(m.DeleteData(mesh.id)) == m.DataDeleted(mesh.id)
    assert listed(world, m.ListData(used=False)) == ["a002", "a003"]


def test_data_that_is_taken_in_the_same_batch_is_kept(world: Listening) -> None:
    mesh = add(world, "a001")
    chunk = submit(world, step(0, mesh))
    world.ask(m.DeleteData(mesh.id))
    world.settle_inbox()
    answer = next(message.answer for message in reversed(world.said) if isinstance(message, m.Response))
    assert isinstance(answer, m.Refused)
    assert answer.candidates == (chunk.job,)


def test_a_job_is_kept_as_long_as_what_it_has_made(world: Listening) -> None:
    mesh = add(world, "a001")
    chunk = submit(world, step(0, mesh), step(1))
    made = [Artifact("out", data(f"b00{number}", f"out{number}.csv"), ("made",)) for number in range(2)]
    end(world, chunk, *made)
    assert listed(world, m.ListData(made_by=chunk.job)) == ["b000", "b001"]
    assert listed(world, m.ListData("out1*")) == listed(world, m.ListData(step="fit 1.*", name="*1.csv", tags=("made",))) == ["b001"]
    found = world.answer(m.FindData("b001"))
    assert isinstance(found, m.DataInfo)
    assert (found.job, found.task, found.slot, found.step, found.tags) == (chunk.job, 0, "out", "fit 1.0.0", ("made",))
    answer = refused(world, m.ForgetJobs((chunk.job,)))
    assert (answer.kind, answer.candidates) == (m.Refusal.in_use, (made[0].data.id, made[1].data.id))
    assert "has made 2 pieces of data that are still there" in answer.message
    for artifact in made:
        assert isinstance(world.answer(m.DeleteData(artifact.data.id)), m.DataDeleted)
    assert world.answer(m.ForgetJobs((chunk.job,))) == m.Forgotten(1)
    assert kinds(world, chunk.job) == [
        "job deleted",
        "data deleted",
        "data deleted",
        "job ended",
        "data made",
        "data made",
        "job submitted",
    ]
    work = refused(world, m.GetWork(chunk.job, 0))
    assert work.kind is m.Refusal.job_not_found


def test_what_failed_or_came_late_has_made_nothing(world: Listening) -> None:
    chunk = submit(world, step(0))
    end(world, chunk, outcome=Failed(Cause.error, "no"))
    late = Succeeded(None, (Artifact("out", data("b001")),))
    world.reply(chunk.job, m.Ended(0, 1, world.execution(), late, world.now_ms, world.now_ms))
    world.settle_inbox()
    assert listed(world, m.ListData()) == []


def test_data_is_chosen_by_tags_and_by_when_it_was_added(world: Listening) -> None:
    add(world, "a001", "x")
    world.now += 10
    later = world.now_ms
    add(world, "a002", "x", "keep")
    add(world, "a003")
    for choice, expected in (
        (Choice(some=("x", "z")), ["a001", "a002"]),
        (Choice(none=("keep",)), ["a001", "a003"]),
        (Choice(some=("x",), none=("keep",)), ["a001"]),
        (Choice(since_ms=later), ["a002", "a003"]),
        (Choice(until_ms=later), ["a001"]),
    ):
        assert sorted(listed(world, m.ListData(choice=choice))) == expected


def test_a_job_is_kept_as_long_as_the_jobs_inside_it(world: Listening) -> None:
    parent = submit(world, call(0))
    children = [submit(world, call(0), parent=parent.job) for _ in range(2)]
    for chunk in (parent, *children):
        end(world, chunk)
    below = world.answer(m.ListJobs(parent=parent.job))
    assert isinstance(below, m.JobList)
    assert {info.job for info in below.jobs} == {child.job for child in children}
    answer = refused(world, m.ForgetJobs((parent.job, children[0].job)))
    assert answer.message.startswith(f"job {children[1].job[-8:]} was submitted inside job {parent.job[-8:]}")
    assert answer.candidates == (children[1].job,)
    assert world.answer(m.ForgetJobs((parent.job, children[0].job, children[1].job))) == m.Forgotten(3)


def test_what_something_depends_on_is_not_forgotten_by_time(world: Listening) -> None:
    world.config = dataclasses.replace(world.config, retain=60.0)
    world.restart()
    making, parent, plain = submit(world, step(0)), submit(world, call(0)), submit(world, call(0))
    child = submit(world, call(0), parent=parent.job)
    end(world, making, Artifact("out", data("b001")))
    for chunk in (parent, plain, child):
        end(world, chunk)
    left = {making.job, parent.job, plain.job, child.job}
    for expected in ({making.job, parent.job}, {making.job}):
        world.now += 3600
        world.batch(())
        world.settle_inbox()
        answer = world.answer(m.ListJobs())
        assert isinstance(answer, m.JobList)
        left = {info.job for info in answer.jobs}
        assert left == expected


def test_what_runs_again_takes_what_it_took(world: Listening) -> None:
    mesh = add(world, "a001")
    chunk = submit(world, step(0, mesh))
    end(world, chunk, outcome=Failed(Cause.error, "no"))
    again = world.answer(m.ResubmitJob(chunk.job, "f" * 32))
    assert isinstance(again, m.JobInfo)
    assert world.answer(m.ForgetJobs((chunk.job,))) == m.Forgotten(1)
    assert refused(world, m.DeleteData(mesh.id)).candidates == (again.job,)


def test_the_log_is_read_in_parts(world: Listening) -> None:
    for number in range(5):
        add(world, f"a00{number}")
    first = world.answer(m.ListLog(limit=3))
    assert isinstance(first, m.Log)
    assert first.more
    rest = world.answer(m.ListLog(before=first.entries[-1].number))
    assert isinstance(rest, m.Log)
    names = [entry.subject[-1] for entry in (*first.entries, *rest.entries)]
    assert (names, rest.more) == (["4", "3", "2", "1", "0"], False)


def test_a_list_of_data_comes_in_parts(world: Listening) -> None:
    for number in range(250):
        world.ask(m.AddData(m.DataInfo(data(f"a{number:03}"), ("odd",) if number % 2 else (), "me")))
    world.settle_inbox()
    found: list[str] = []
    for _ in range(4):
        answer = world.answer(m.ListData(tags=("odd",), limit=40, skip=len(found)))
        assert isinstance(answer, m.DataList)
        found += [info.data.id for info in answer.data]
        assert answer.more is (len(found) < 125)
    assert len(found) == len(set(found)) == 125
