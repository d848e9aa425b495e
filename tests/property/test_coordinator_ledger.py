"""The ledger under everything that may happen: any order, any number of times, and a crash between any two steps."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker_jobs.coordinator.store.parts import load_outcome
from broker_jobs.coordinator.verify import verify
from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Canceled, Cause, Crashed, Failed, Succeeded
from broker_jobs.core.spec import Retry, TaskOptions
from broker_jobs.core.states import ENDED, TaskState
from broker_jobs.ids import uuid7
from broker_jobs.wire import messages as m
from tests.support.cast import call, job_chunks, value
from tests.support.ledger_world import Crash, Running, Standing, World

if TYPE_CHECKING:
    from broker_jobs.coordinator.store import TaskView

OPTIONS = [
    TaskOptions(),
    TaskOptions(retry=Retry(3, 1.0, jitter=0.0), crash_limit=2),
    TaskOptions(crash_limit=None, priority=3),
    TaskOptions(crash_limit=1),
]


@st.composite
def jobs(draw: st.DrawFn) -> list[m.Chunk]:
    """The chunks of a job; its first ones may be direct."""
    count = draw(st.integers(1, 8))
    tasks = []
    for number in range(count):
        deps = draw(st.lists(st.integers(0, number - 1), max_size=2, unique=True)) if number else []
        after = draw(st.lists(st.integers(0, number - 1), max_size=1)) if number else []
        tasks.append(call(number, *deps, after=after))
    direct = draw(st.booleans()) and not any(task.deps or task.after for task in tasks)
    header = {"max_fails": draw(st.none() | st.integers(0, 2)), "ephemeral": draw(st.booleans())}
    job = uuid7(draw(st.integers(0, 2**40)), draw(st.binary(min_size=10, max_size=10)))
    chunks = job_chunks(tasks, job=job, size=draw(st.integers(1, 4)), options=draw(st.sampled_from(OPTIONS)), direct=direct, **header)
    return chunks if direct else [draw(_with_priorities(chunk)) for chunk in chunks]


@st.composite
def _with_priorities(draw: st.DrawFn, chunk: m.Chunk) -> m.Chunk:
    """Some of its tasks are more urgent than others."""
    urgent = dataclasses.replace(chunk.options[0], priority=9)
    tasks = tuple(dataclasses.replace(task, options=draw(st.sampled_from([0, 0, 1]))) for task in chunk.tasks)
    return dataclasses.replace(chunk, tasks=tasks, options=(*chunk.options, urgent))


@st.composite
def chains(draw: st.DrawFn) -> list[m.Chunk]:
    """The chunks of a job in which most tasks follow the one before."""
    tasks = [
        call(number, *draw(st.sampled_from([[number - 1]] * 5 + [[]])) if number else ()) for number in range(draw(st.integers(4, 10)))
    ]
    job = uuid7(draw(st.integers(0, 2**40)), draw(st.binary(min_size=10, max_size=10)))
    options = draw(st.sampled_from(OPTIONS))
    return job_chunks(tasks, job=job, size=10, options=options, max_fails=draw(st.none() | st.just(0)))


class LedgerStory(RuleBasedStateMachine):
    """Chunks, replies, crashes, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World
        self.jobs: dict[str, list[m.Chunk]] = {}
        self.to_send: list[m.Chunk] = []
        self.ends: dict[tuple[str, int], TaskView] = {}

    def teardown(self) -> None:
        for chunk in self.to_send:
            self.world.submit(chunk)
        assert verify(self.world.address, "t", partition=self.world.partition).problems == []
        for job in self.jobs:
            self.world.ask(m.ResumeTasks(job))
        self.world.settle(self.jobs)
        self.ends_stay()
        assert verify(self.world.address, "t", partition=self.world.partition).problems == []
        for job, chunks in self.jobs.items():
            facts = self.world.store.look.job(job)
            assert facts is not None
            assert sum(facts.counts.values()) == sum(len(chunk.tasks) for chunk in chunks), "no task is lost"
            for chunk in chunks:
                for task in chunk.tasks:
                    view = self.world.store.look.task(facts.key, task.number)
                    assert view is not None
                    assert TaskState(view.state) in ENDED
                    outcomes = self.world.store.look.outcomes(facts.key, [task.number])
                    if view.state in {"succeeded", "failed"}:
                        outcome = load_outcome(outcomes[task.number])
                        assert outcome.tag == view.state, "the outcome is the one of the state"
                        if isinstance(outcome, Succeeded):
                            assert outcome.value == value([task.number, view.attempt]), "it is the one of the last attempt"
        assert not self.world.ledger.jobs.live
        self.world.close()

    def own(self, chunks: list[m.Chunk]) -> list[m.Chunk]:
        """The chunks of a job of the partition of this ledger."""
        if not self.world.partition:
            return chunks
        return [dataclasses.replace(chunk, job=f"{chunk.job[:12]}8{self.world.partition:03x}{chunk.job[16:]}") for chunk in chunks]

    # --- what clients do ---

    @initialize(chunks=jobs(), partition=st.sampled_from([0, 1]))
    def first_job(self, chunks: list[m.Chunk], partition: int) -> None:
        self.world = World(partition=partition)
        chunks = self.own(chunks)
        self.jobs[chunks[0].job] = chunks
        for chunk in chunks:
            self.world.submit(chunk)
        self.world.batch(range(len(self.world.inbox)))

    @rule(chunks=jobs())
    @precondition(lambda self: len(self.jobs) < 3 and not self.to_send)
    def next_job(self, chunks: list[m.Chunk]) -> None:
        chunks = self.own(chunks)
        if chunks[0].job not in self.jobs:
            self.jobs[chunks[0].job] = chunks
            self.to_send.extend(chunks)

    @rule(data=st.data(), twice=st.booleans())
    @precondition(lambda self: self.to_send)
    def send(self, data: st.DataObject, twice: bool) -> None:
        position = data.draw(st.integers(0, len(self.to_send) - 1))
        self.world.submit(self.to_send[position])
        if not twice:
            del self.to_send[position]

    # --- what the coordinator does ---

    @rule(data=st.data(), crash=st.sampled_from(Crash), confirms=st.integers(0, 5))
    @precondition(lambda self: self.world.inbox)
    def batch(self, data: st.DataObject, crash: Crash, confirms: int) -> None:
        chosen = data.draw(st.sets(st.integers(0, len(self.world.inbox) - 1), min_size=1, max_size=6))
        self.world.batch(chosen, crash, confirms)

    @rule(crash=st.sampled_from(Crash))
    @precondition(lambda self: self.world.inbox)
    def everything(self, crash: Crash) -> None:
        self.world.batch(range(len(self.world.inbox)), crash, confirms=len(self.world.unconfirmed))

    # --- what workers and the broker do ---

    def _standing(self, data: st.DataObject) -> tuple[str, Standing]:
        queue = data.draw(st.sampled_from(sorted(name for name, items in self.world.queues.items() if items)))
        position = data.draw(st.integers(0, len(self.world.queues[queue]) - 1))
        return queue, self.world.queues[queue][position]

    @rule(data=st.data())
    @precondition(lambda self: any(self.world.queues.values()))
    def work(self, data: st.DataObject) -> None:
        world = self.world
        queue, standing = self._standing(data)
        chunk = standing.chunk
        items: list[m.ReplyItem] = []
        for task in (*chunk.tasks, *chunk.chain) if standing.redelivered else chunk.tasks:
            number, attempt = task.number, task.attempt
            if standing.redelivered:
                items.append(m.Returned(number, attempt, Return.redelivered))
                continue
            if chunk.isolated:
                items.append(m.Started(number, attempt, world.execution(), world.now_ms))
            match data.draw(st.sampled_from(["good", "taken", "taken", "bad", "crash", "unstarted", "canceled", "started"])):
                case "good":
                    items.append(good := world.succeed(chunk, task))
                    items += self._chain(data, chunk, 0, good.execution)
                case "bad":
                    items.append(world.ended(task, Failed(Cause.error, "ValueError: no")))
                case "crash":
                    items.append(world.ended(task, Crashed("killed by signal 9", 9)))
                case "canceled":
                    items.append(world.ended(task, Canceled("told to")))
                case "unstarted":
                    items.append(m.Returned(number, attempt, Return.unstarted))
                case "started":
                    items.append(m.Started(number, attempt, world.execution(), world.now_ms))
                    items.append(m.Progress(number, attempt, 0.5, "half"))
                case _:
                    execution = world.execution()
                    items.append(m.Taken(number, attempt, execution))
                    world.taken.append(Running(chunk.job, task, world.boot, execution))
        world.reply(chunk.job, *items)
        if data.draw(st.booleans()):
            world.queues[queue].remove(standing)
        else:
            # The worker died before it could acknowledge.
            standing.redelivered = True

    def _chain(self, data: st.DataObject, chunk: m.Chunk, place: int, after: str) -> list[m.ReplyItem]:
        """What becomes of a chain from one place on, if it is taken up at all."""
        items: list[m.ReplyItem] = []
        for following in range(place, len(chunk.chain)):
            match data.draw(st.sampled_from(["good", "good", "good", "begun", "bad", "crash", "none"])):
                case "good":
                    items.append(good := self.world.follow(chunk, following, after))
                    after = good.execution
                    continue
                case "begun":
                    items.append(self.world.begin(chunk, following, after))
                case "bad":
                    items.append(self.world.follow(chunk, following, after, Failed(Cause.error, "ValueError: no")))
                case "crash":
                    items.append(self.world.follow(chunk, following, after, Crashed("killed by signal 9", 9)))
            break
        return items

    @rule(data=st.data())
    @precondition(lambda self: self.world.riding)
    def ride_on(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.world.riding))
        self.world.riding.remove(item)
        end = dataclasses.replace(self.world.follow(item.chunk, item.place, item.after), execution=item.execution)
        self.world.reply(item.chunk.job, end, *self._chain(data, item.chunk, item.place + 1, end.execution))

    @rule(data=st.data())
    @precondition(lambda self: self.world.taken)
    def finish_taken(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.world.taken))
        self.world.taken.remove(item)
        self.world.reply(item.job, self.world.ended(item.task, Failed(Cause.exit_code, "exit code 1", exit_code=1)))

    @rule(data=st.data(), trouble=st.sampled_from(["lost worker", "lost chunk", "redelivery", "time", "cancel", "pause", "resume"]))
    def trouble(self, data: st.DataObject, trouble: str) -> None:
        world = self.world
        chunks = any(world.queues.values())
        match trouble:
            case "lost worker":
                world.lose_worker()
            case "lost chunk" if chunks:
                queue, standing = self._standing(data)
                world.queues[queue].remove(standing)
            case "redelivery" if chunks:
                self._standing(data)[1].redelivered = True
            case "cancel":
                job = data.draw(st.sampled_from(sorted(self.jobs)))
                tasks = data.draw(st.none() | st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple))
                world.ask(m.CancelTasks(job, tasks, "enough", unstarted_only=data.draw(st.booleans())))
            case "pause" | "resume":
                job = data.draw(st.sampled_from(sorted(self.jobs)))
                some = data.draw(st.none() | st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple))
                world.ask(m.PauseTasks(job, some, "later") if trouble == "pause" else m.ResumeTasks(job, some))
            case _:
                world.now += data.draw(st.sampled_from([0.5, 2.0, 10.0]))

    # --- what must always be true ---

    @invariant()
    def memory_is_what_the_rows_tell(self) -> None:
        self.world.check()

    @invariant()
    def ends_stay(self) -> None:
        """A task that ended never changes: one outcome is recorded."""
        for job in self.jobs:
            facts = self.world.store.look.job(job)
            if facts is None:
                continue
            for view in self.world.store.look.changes(facts.key, 0, 100, None):
                if TaskState(view.state) in ENDED:
                    assert self.ends.setdefault((job, view.number), view) == view


class ChainStory(LedgerStory):
    """The same, where tasks that are known to be quick follow one another."""

    @initialize(chunks=chains(), partition=st.just(0))
    def first_job(self, chunks: list[m.Chunk], partition: int) -> None:
        super().first_job(chunks, partition)
        self.world.work_all()
        self.world.batch(range(len(self.world.inbox)))

    @rule(data=st.data())
    @precondition(lambda self: any(self.world.queues.values()))
    def work_well(self, data: st.DataObject) -> None:
        queue, standing = self._standing(data)
        chunk = standing.chunk
        if not standing.redelivered and len(chunk.tasks) == 1:
            good = self.world.succeed(chunk, chunk.tasks[0])
            self.world.reply(chunk.job, good, *self._chain(data, chunk, 0, good.execution))
            self.world.queues[queue].remove(standing)


TestLedgerStory = LedgerStory.TestCase
TestLedgerStory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestChainStory = ChainStory.TestCase
TestChainStory.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
