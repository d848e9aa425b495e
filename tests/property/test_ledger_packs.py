"""Tasks in packs beside tasks in rows: the same is told of both, whatever happens, and whoever reads the ledger sees no difference."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker_jobs.coordinator.store import packs
from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Canceled, Cause, Failed, Succeeded
from broker_jobs.core.spec import Retry, TaskOptions
from broker_jobs.wire import messages as m
from tests.support.cast import call, job_chunks
from tests.support.ledger_world import World, of_attempt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_jobs.coordinator.store import TaskView

ACTS = (*4 * ["succeed"], "start", "fail", "give back", "lose", "progress", "take", "pause", "resume", "pause one", "cancel one", "restart")
OPTIONS = (TaskOptions(), TaskOptions(retry=Retry(3, 1.0, jitter=0.0), crash_limit=2))

Step = tuple[str, list[int], bool]
"""What happens, to which tasks, and whether the coordinator takes what has come afterwards."""

steps = st.lists(
    st.tuples(st.sampled_from(ACTS), st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True), st.booleans()), max_size=12
)

Needs = list[tuple[list[int], list[int]]]
"""What each task waits for: those whose success, and those whose end."""

needs = st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=2), st.lists(st.integers(0, 9), max_size=1)), min_size=10, max_size=10)


def task(number: int, needs: Needs | None, name: str) -> m.Task:
    """A task that waits for earlier ones, as far as these are meant."""
    deps, after = ([each for each in dict.fromkeys(picks) if each < number] for picks in (needs[number] if needs else ((), ())))
    return call(number, *deps, after=after, name=name)


class Side:
    """One of the two ledgers, and somebody who follows the changes of its job."""

    def __init__(self, world: World, chunks: list[m.Chunk]) -> None:
        self.world = world
        world.executions = 0
        self.chunks = chunks
        self.job = chunks[0].job
        self.seen: dict[int, TaskView] = {}
        self.version = 0

    def send(self, place: int) -> None:
        """A chunk comes."""
        self.world.submit(self.chunks[place])
        self.take()

    def take(self) -> None:
        """The coordinator takes what is there."""
        self.world.batch(range(len(self.world.inbox)))
        self.world.check()
        self.follow()

    def follow(self) -> None:
        """Read what has changed, two tasks at a time."""
        facts = self.world.store.look.job(self.job)
        assert facts is not None
        while views := self.world.store.look.changes(facts.key, self.version, 2, None):
            self.seen.update((view.number, view) for view in views)
            self.version = views[-1].changed
        assert self.version <= facts.version
        self.version = facts.version

    def act(self, what: str, tasks: list[int]) -> None:
        """Something happens."""
        world = self.world
        match what:
            case "restart":
                self.take()
                world.restart()
            case "pause":
                world.ask(m.PauseTasks(self.job, None, "later"))
            case "resume":
                world.ask(m.ResumeTasks(self.job))
            case "pause one":
                world.ask(m.PauseTasks(self.job, (tasks[0],), "later"))
            case "cancel one":
                world.ask(m.CancelTasks(self.job, (tasks[0],), "no"))
            case _:
                live = world.ledger.jobs.live.get(self.job)
                records = live.machine.tasks if live else {}
                attempts = [(number, records[number].attempt if number in records else 1) for number in tasks]
                world.reply(self.job, *(self.item(what, number, attempt) for number, attempt in attempts))

    def item(self, what: str, number: int, attempt: int) -> m.ReplyItem:
        """What the worker says of an attempt."""
        world, task = self.world, dataclasses.replace(call(number), attempt=attempt)
        match what:
            case "start":
                return m.Started(number, attempt, world.execution(), world.now_ms)
            case "fail":
                return world.ended(task, Failed(Cause.error, "ValueError: no"))
            case "give back":
                return m.Returned(number, attempt, Return.unstarted)
            case "lose":
                return m.Returned(number, attempt, Return.redelivered)
            case "progress":
                return m.Progress(number, attempt, 0.5, "half")
            case "take":
                return m.Taken(number, attempt, world.execution())
            case _:
                printed = m.Output(b"printed", 7) if number % 2 else m.Output()
                return dataclasses.replace(world.ended(task, Succeeded(of_attempt(task))), stdout=printed)

    def end(self) -> None:
        """The job is canceled, and nothing of it runs any more."""
        world = self.world
        world.ask(m.CancelTasks(self.job, None, "enough"))
        self.take()
        live = world.ledger.jobs.live.get(self.job)
        records = [record for _, record in sorted(live.machine.tasks.items())] if live else []
        left = [dataclasses.replace(call(record.number), attempt=record.attempt) for record in records if not record.ended]
        world.reply(self.job, *(world.ended(task, Canceled("told to")) for task in left))
        self.take()
        assert not world.ledger.jobs.live
        world.moments.clear()
        world.queues.clear()

    def picture(self) -> object:
        """All that the ledger tells of the job, but for the order in which it came about."""
        look = self.world.store.look
        facts = look.job(self.job)
        assert facts is not None
        numbers = range(10)
        views = look.views(facts.key, numbers)
        assert self.seen == views, "whoever follows the changes knows what there is"
        rows = {row.number: record for record, _, row in look.tasks(facts.key, look.options(facts.key))}
        assert list(rows) == sorted(views)
        return (
            {number: view._replace(changed=0) for number, view in views.items()},
            rows,
            look.names(facts.key, numbers),
            look.specs(facts.key, numbers),
            look.outputs(facts.key, numbers),
            look.outcomes(facts.key, numbers),
            dataclasses.replace(facts, version=0),
        )


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[World]]:
    """Two that all stories share, since making one takes longer than a story; those of a story that failed are not used again."""
    worlds: list[World] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packs, "_AT_ONCE", 3)
        yield worlds
    for world in worlds:
        world.close()


@settings(max_examples=settings().max_examples // 2)
@given(
    sizes=st.tuples(st.integers(2, 5), st.integers(2, 5)),
    options=st.sampled_from(OPTIONS),
    named=st.booleans(),
    ephemeral=st.booleans(),
    late=st.integers(0, 4),
    needs=st.none() | needs,
    story=steps,
)
def test_packs_tell_what_rows_tell(
    worlds: list[World],
    sizes: tuple[int, int],
    options: TaskOptions,
    named: bool,
    ephemeral: bool,
    late: int,
    needs: Needs | None,
    story: list[Step],
) -> None:
    tasks = [task(number, needs, name=f"task {number}" if named else "") for number in range(sum(sizes))]
    packed = job_chunks(tasks, size=sizes[0], options=options, direct=needs is None, ephemeral=ephemeral)
    # What comes in another order is no pack.
    apart = [dataclasses.replace(chunk, tasks=chunk.tasks[::-1]) for chunk in packed]
    chosen = [worlds.pop() if worlds else World() for _ in range(2)]
    sides = [Side(world, chunks) for world, chunks in zip(chosen, (packed, apart), strict=True)]
    for side in sides:
        side.send(0)
        for place, (what, picks, now) in enumerate(story):
            if place == late:
                for other in range(1, len(packed)):
                    side.send(other)
            side.act(what, picks)
            if now:
                side.take()
        side.take()
    assert sides[0].picture() == sides[1].picture()
    for side in sides:
        side.end()
    assert sides[0].picture() == sides[1].picture()
    worlds += chosen
