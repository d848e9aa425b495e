"""A worker under a flood that never ends: what needs more, or less, or comes in a higher lane, gets its turn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import Request
from broker_jobs.core.resources import Resources
from broker_jobs.core.spec import Lane
from broker_jobs.wire.messages import Returned
from broker_jobs_worker.machine.state import DEFAULT_TIMING, Source
from tests.support.worker_world import World, make_chunk, resource_class

if TYPE_CHECKING:
    from broker_jobs.wire.messages import Chunk

CPUS = 4
ONE, ALL = Request((("cpus", UNIT),)), Request((("cpus", CPUS * UNIT),))
STEP = 0.05
BACK_AFTER = 0.1
"""Seconds until the coordinator has sent out again what came back."""


@dataclass
class Flood:
    """A worker whose queue of one kind of tasks is never empty.

    Attributes:
        needs: of the tasks of the flood
        durations: of these tasks, in seconds, over and over
        begun: when each task started
        came_back: tasks of the flood that were taken in vain
    """

    needs: Request
    durations: list[float]
    lane: Lane = Lane.normal
    world: World = field(default_factory=lambda: World(total=Resources((("cpus", CPUS * UNIT),))))
    begun: dict[int, float] = field(default_factory=dict)
    longest_held: float = 0.0
    came_back: int = 0
    _next: int = 1000
    _ends: dict[str, float] = field(default_factory=dict)
    _back: list[tuple[float, Chunk]] = field(default_factory=list)
    _seen: int = 0
    _since: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world.begin(ONE, ALL)
        for _ in range(round(3 / STEP)):
            self.step()

    def step(self) -> None:
        """A moment passes: tasks end, messages travel."""
        world = self.world
        for name, at in list(self._ends.items()):
            if at <= world.now:
                del self._ends[name]
                world.end(name, Succeeded())
        world.confirm_all()
        self._send_back()
        while sources := world.deliverable():
            world.deliver(sources[0])
            self._top_up()
        world.pass_time(STEP)
        self._top_up()
        for name, start in world.executions.items():
            if name not in self._ends:
                number = start.execution.task
                self.begun.setdefault(number, world.now)
                self._ends[name] = world.now + (self.durations[number % len(self.durations)] if number >= 1000 else 0.3)
        tags = {tag.number for tag, message in world.unacked.items() if not any(task.number in self.begun for task in message.chunk.tasks)}
        self._since = {tag: self._since.get(tag, world.now) for tag in tags}
        self.longest_held = max([self.longest_held, *(world.now - since for since in self._since.values())])

    def until_begun(self, *numbers: int, within: float) -> float:
        """Seconds until all these tasks have started."""
        begin = self.world.now
        while not all(number in self.begun for number in numbers):
            assert self.world.now - begin <= within, f"not started in {within} s"
            self.step()
        return self.world.now - begin

    def _top_up(self) -> None:
        queue = self.world.queues.get(self._source())
        while not queue or len(queue) < CPUS:
            self.world.put(make_chunk(self._next, needs=self.needs, lane=self.lane))
            self._next += 1
            queue = self.world.queues[self._source()]

    def _source(self) -> Source:

        return Source(resource_class(self.needs).name, self.lane)

    def _send_back(self) -> None:
        """What a coordinator does with what was returned."""
        world = self.world
        for key, item in world.stored[self._seen :]:
            if isinstance(item, Returned):
                self.came_back += key.task >= 1000
                chunk = next(chunk for chunk in reversed(world.history) if any(task.number == key.task for task in chunk.tasks))
                tasks = tuple(replace(task, attempt=key.attempt + 1) for task in chunk.tasks if task.number == key.task)
                self._back.append((world.now + BACK_AFTER, replace(chunk, tasks=tasks)))
        self._seen = len(world.stored)
        for at, chunk in list(self._back):
            if at <= world.now:
                self._back.remove((at, chunk))
                world.put(chunk)


_durations = st.lists(st.floats(0.1, 12.0), min_size=1, max_size=5)


@given(_durations)
@settings(max_examples=6)
def test_a_large_task_gets_its_turn_among_small_ones(durations: list[float]) -> None:
    flood = Flood(ONE, durations)
    flood.world.put(make_chunk(1, needs=ALL))
    longest = max(durations)
    flood.until_begun(1, within=10 + 8 * longest)
    before = len(flood.begun)
    for _ in range(round((2 * longest + 3) / STEP)):
        flood.step()
    assert len(flood.begun) > before, "and the small ones go on"


@given(_durations)
@settings(max_examples=6)
def test_a_small_task_gets_its_turn_among_large_ones(durations: list[float]) -> None:
    flood = Flood(ALL, durations)
    flood.world.put(make_chunk(1, needs=ONE))
    flood.until_begun(1, within=10 + 8 * max(durations))


@given(_durations, st.sampled_from([ONE, ALL]), st.sampled_from([Lane.normal, Lane.low]))
@settings(max_examples=6)
def test_a_higher_lane_gets_the_next_place(durations: list[float], needs: Request, lane: Lane) -> None:
    """Whatever is to be run in the flood's lane: no more than what starts at the same moment comes before the urgent task."""
    flood = Flood(ONE, durations, lane=lane)
    # What it takes to be found by a worker that was busy with this lane for long.
    flood.world.put(make_chunk(1, needs=needs, lane=Lane.high))
    flood.step()
    before = set(flood.begun)
    flood.until_begun(1, within=1 + 2 * max(durations))
    others = [number for number in flood.begun.keys() - before if number != 1]
    assert len(others) <= CPUS


@given(_durations)
@settings(max_examples=4)
def test_no_message_is_held_for_longer_than_one_of_a_running_task(durations: list[float]) -> None:
    flood = Flood(ONE, [30 * each for each in durations])
    flood.world.put(make_chunk(1, needs=ALL))
    for _ in range(round(120 / STEP)):
        flood.step()
    assert flood.longest_held <= DEFAULT_TIMING.taken_after + 1


def test_nothing_else_is_taken_for_long_while_resources_are_kept() -> None:
    flood = Flood(ONE, [11.0, 1.0, 1.2, 1.4])
    flood.world.put(make_chunk(1, needs=ALL))
    before = flood.came_back
    flood.until_begun(1, within=100)
    assert flood.came_back - before <= 3 * CPUS
