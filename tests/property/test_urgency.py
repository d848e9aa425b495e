"""A job whose tasks differ in priority, on workers that do what they are sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.coordinator.ready import Ready
from broker_jobs.coordinator.urgency import AHEAD_MS, MOST_AHEAD, Fleet, Pace, choose
from broker_jobs.coordinator.window import Group, Window
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import Request
from broker_jobs.core.resources import Pool, Resources

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOW_MS = 10 * AHEAD_MS
NEEDS = {
    "one": Request((("cpus", UNIT),)),
    "half": Request((("cpus", UNIT // 2),)),
    "two": Request((("cpus", 2 * UNIT),)),
    "all": Request((("cpus", 4 * UNIT),)),
    "gpu": Request((("cpus", UNIT), ("gpus", UNIT))),
    "never": Request((("cpus", 9 * UNIT),)),
}
WORKER = Resources((("cpus", 4 * UNIT), ("gpus", UNIT)))


@dataclass
class Site:
    """One worker, which starts what it is sent in the order in which that comes, and all that fits.

    Attributes:
        sent: tasks in class queues, oldest first
        running: tasks that run
        begun: every task that has started, in order
    """

    ms: int = SLOW_MS
    window: Window = field(default_factory=Window)
    pace: Pace = field(default_factory=Pace)
    sent: list[tuple[Group, int]] = field(default_factory=list)
    running: list[tuple[Group, int]] = field(default_factory=list)
    begun: list[tuple[Group, int]] = field(default_factory=list)
    _chunks: int = 0

    @property
    def fleet(self) -> Fleet:
        return Fleet(
            dict(WORKER.amounts), lambda group: Pool(WORKER).how_many(NEEDS[group.queue]), lambda group: dict(NEEDS[group.queue].amounts)
        )

    def release(self) -> None:
        """The coordinator sends what may go."""
        while chosen := choose(self.window.tops(), self.window.under_way(), self.fleet, self.pace):
            group, most = chosen
            assert most > 0
            draft = self.window.fill(group, most, lambda _: True)
            assert draft is not None
            self._chunks += 1
            self.window.take_off(str(self._chunks), group, [task.number for task in draft.tasks], 0.0)
            self.sent += [(group, task.number) for task in draft.tasks]

    def free(self) -> Pool:
        pool = Pool(WORKER)
        for group, _ in self.running:
            assert pool.try_allocate(NEEDS[group.queue])
        return pool

    def work(self) -> None:
        """The worker starts what fits."""
        for item in list(self.sent):
            if self.free().fits(NEEDS[item[0].queue]):
                self.sent.remove(item)
                self.running.append(item)
                self.begun.append(item)

    def end(self, position: int) -> None:
        """A task ends."""
        group, number = self.running.pop(position % len(self.running))
        self.pace.ran(group.queue, self.ms)
        chunk = next(name for name, flight in self.window.flights.items() if number in flight.open)
        self.window.land(chunk, number, self.ms)

    def drain(self, ends: Sequence[int]) -> None:
        """Everything that can run does."""
        positions = iter(ends)
        while True:
            self.release()
            self.work()
            if not self.running:
                return
            self.end(next(positions, 0))


_groups = st.builds(
    Group, st.just(0), st.sampled_from([name for name in NEEDS if name != "never"]), st.integers(-1, 2), isolated=st.booleans()
)
_ends = st.lists(st.integers(0, 9), max_size=60)


@given(st.lists(_groups, max_size=40), _ends)
def test_everything_runs_and_never_more_is_out_than_can_run(groups: list[Group], ends: list[int]) -> None:
    site = Site()
    for number, group in enumerate([*groups, Group(0, "never", 9)]):
        site.window.add(group, Ready(number, 1, 10))
    positions = iter(ends)
    while True:
        site.release()
        amounts: Counter[str] = Counter()
        for group, _ in (*site.sent, *site.running):
            if group.queue != "never":
                amounts.update(dict(NEEDS[group.queue].amounts))
        assert all(amounts[name] <= amount for name, amount in WORKER.amounts), "no more is out than can run at once"
        site.work()
        if not site.running:
            break
        site.end(next(positions, 0))
    assert sorted(number for _, number in site.begun) == list(range(len(groups)))


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=30), st.sampled_from(["one", "two", "all", "gpu"]), st.data())
def test_of_one_class_the_highest_ready_starts_first(priorities: list[int], queue: str, data: st.DataObject) -> None:
    site = Site()
    later = dict(enumerate(priorities))
    waiting: dict[int, int] = {}
    while later or waiting or site.running:
        for number in [number for number in later if data.draw(st.booleans())] or list(later)[:1]:
            waiting[number] = later.pop(number)
            site.window.add(Group(0, queue, waiting[number]), Ready(number, 1, 10))
        before = len(site.begun)
        site.release()
        site.work()
        for group, number in site.begun[before:]:
            assert group.priority >= max(waiting.values()), "nothing that waits is more urgent"
            del waiting[number]
        if site.running:
            site.end(data.draw(st.integers(0, 9)))


@given(st.integers(1, 6), st.integers(0, 30), _ends)
def test_an_urgent_large_task_waits_for_what_runs_alone(first: int, others: int, ends: list[int]) -> None:
    site = Site()
    for number in range(first):
        site.window.add(Group(0, "one", 0), Ready(number, 1, 10))
    site.release()
    site.work()
    for number in range(first, first + others):
        site.window.add(Group(0, "one", 0), Ready(number, 1, 10))
    site.window.add(Group(1, "all", 1), Ready(100, 1, 10))
    begun = len(site.begun)
    site.drain(ends)
    # Those whose place was free beside the large task in any case may come first: here there is none.
    assert site.begun[begun] == (Group(1, "all", 1), 100)


def test_what_the_urgent_ones_have_no_use_for_is_used() -> None:
    site = Site()
    for number in range(10):
        site.window.add(Group(0, "gpu", 5), Ready(number, 1, 10))
        site.window.add(Group(1, "one", 0), Ready(100 + number, 1, 10))
    site.release()
    site.work()
    assert Counter(group.queue for group, _ in site.running) == {"gpu": 1, "one": 3}


def test_one_that_nobody_can_run_stands_in_its_queue_and_blocks_nobody() -> None:
    site = Site()
    for number in range(3):
        site.window.add(Group(0, "never", 5), Ready(number, 1, 10))
        site.window.add(Group(1, "one", 0), Ready(100 + number, 1, 10))
    site.release()
    assert [number for _, number in site.sent] == [0, 100, 101, 102]


@given(st.lists(st.integers(0, 3 * AHEAD_MS), min_size=1))
def test_only_quick_tasks_are_sent_ahead(durations: list[int]) -> None:
    pace = Pace()
    assert pace.ahead("q") == 0
    for ms in durations:
        pace.ran("q", ms)
        assert 0 < pace.ahead("q") <= min(MOST_AHEAD, AHEAD_MS / max(1, ms))
    assert pace.ahead("other") == 0
