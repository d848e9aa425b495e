"""Which ready tasks go out as which chunk."""

from __future__ import annotations

import pytest

from broker_jobs.coordinator.ready import Ready
from broker_jobs.coordinator.window import CHUNKS_AT_HAND, MOST_TASKS, WINDOW, Draft, Group, Turns, Window
from broker_jobs.core.value import CHUNK_LIMIT

GROUP = Group(0, "q", 0)


def filled(count: int, *, group: Group = GROUP, size: int = 100, first: int = 0) -> Window:
    window = Window()
    for number in range(first, first + count):
        window.add(group, Ready(number, 1, size))
    return window


def drafts(window: Window, slots: int = 1) -> list[Draft]:
    """All chunks that go out now."""
    made = []
    while draft := window.draft(lambda _: slots, lambda _: True):
        window.take_off(f"r{len(made)}", draft.group, (task.number for task in draft.tasks), 0.0)
        made.append(draft)
    return made


def sizes(made: list[Draft]) -> list[int]:
    return [len(draft.tasks) for draft in made]


@pytest.mark.parametrize(
    ("ready", "slots", "first"),
    [(1, 1, 1), (8, 2, 1), (9, 2, 2), (100, 1, 25), (400, 1, 100), (10_000, 1, 100), (10_000, 50, 50), (10, 0, 3)],
)
def test_each_slot_gets_a_few_chunks(ready: int, slots: int, first: int) -> None:
    draft = filled(ready).draft(lambda _: slots, lambda _: True)
    assert draft is not None
    assert len(draft.tasks) == first


def test_a_class_queue_has_room_for_a_window_of_chunks() -> None:
    window = filled(10_000)
    assert sizes(drafts(window)) == [MOST_TASKS] * WINDOW
    assert not window.open()
    for number in range(MOST_TASKS):
        assert not window.open()
        window.land("r0", number)
    assert window.open()
    assert window.waiting == 10_000 - WINDOW * MOST_TASKS


def test_a_full_class_queue_does_not_hold_up_another() -> None:
    window = filled(10_000)
    drafts(window)
    other = Group(1, "gpu", 0)
    window.add(other, Ready(20_000, 1, 10))
    assert window.draft(lambda _: 1, lambda _: True) == Draft(other, (Ready(20_000, 1, 10),))
    assert window.waiting_queues() == {"q"}


def test_the_more_urgent_go_first_then_the_lower_number() -> None:
    window = Window()
    urgent = Group(1, "q", 5)
    for number in (7, 3):
        window.add(GROUP, Ready(number, 1, 1))
    window.add(urgent, Ready(9, 1, 1))
    assert [draft.tasks[0].number for draft in drafts(window, slots=10)] == [9, 3, 7]


def test_a_chunk_is_closed_before_it_grows_too_large() -> None:
    window = filled(10, size=CHUNK_LIMIT // 3)
    assert sizes(drafts(window, slots=0))[0] == 3
    assert sizes(drafts(filled(3, size=10 * CHUNK_LIMIT))) == [1, 1, 1]


def test_isolated_tasks_travel_alone() -> None:
    window = filled(50, group=Group(0, "q", 0, isolated=True))
    assert sizes(drafts(window)) == [1] * WINDOW


def test_what_is_not_current_is_dropped() -> None:
    window = filled(10)
    draft = window.draft(lambda _: 1, lambda task: task.number >= 8)
    assert draft is not None
    assert [task.number for task in draft.tasks] == [8, 9]
    assert window.draft(lambda _: 1, lambda _: True) is None


def test_slow_chunks_make_smaller_ones_and_quick_ones_larger_again() -> None:
    window = filled(4000)
    first = window.draft(lambda _: 1, lambda _: True)
    assert first is not None
    assert len(first.tasks) == 100
    window.take_off("r0", first.group, (task.number for task in first.tasks), 0.0)
    for task in first.tasks[1:]:
        window.split("r0")
        window.land("r0", task.number)
        window.add(GROUP, Ready(task.number, 2, 100))
    window.land("r0", first.tasks[0].number, busy_ms=800)
    expected = [25, 50, 100, 100]
    for name, size in zip("abcd", expected, strict=True):
        draft = window.draft(lambda _: 1, lambda _: True)
        assert draft is not None
        assert len(draft.tasks) == size
        window.take_off(name, draft.group, (task.number for task in draft.tasks), 0.0)
        for task in draft.tasks:
            window.land(name, task.number, busy_ms=1)


def knowing(milliseconds: float, ready: int) -> Window:
    """A window that knows how long its tasks run, with tasks that are ready."""
    window = filled(100)
    [draft] = drafts(window, slots=0)[:1]
    for task in draft.tasks:
        window.land("r0", task.number, busy_ms=round(milliseconds * len(draft.tasks)) if task is draft.tasks[0] else 0)
    for name, flight in list(window.flights.items()):
        for number in list(flight.open):
            window.land(name, number, round(milliseconds))
    assert window.waiting == 0
    for number in range(1000, 1000 + ready):
        window.add(GROUP, Ready(number, 1, 10))
    return window


@pytest.mark.parametrize(
    ("milliseconds", "ready", "first"),
    [(0, 30, 30), (0, 20_000, 2000), (1, 60, 50), (1, 800, 100), (1, 4000, 200), (10, 60, 8), (50, 20, 3)],
)
def test_quick_tasks_make_chunks_that_are_worth_a_message(milliseconds: float, ready: int, first: int) -> None:
    draft = knowing(milliseconds, ready).draft(lambda _: 2, lambda _: True)
    assert draft is not None
    assert len(draft.tasks) == first


@pytest.mark.parametrize(("milliseconds", "slots", "chunks"), [(1, 2, 8), (1, 0, 4), (1, 100, WINDOW), (10, 2, WINDOW)])
def test_of_large_chunks_a_job_has_a_few_for_each_slot(milliseconds: float, slots: int, chunks: int) -> None:
    window = knowing(milliseconds, 100_000)
    made = drafts(window, slots=slots)
    assert len(made) == chunks
    for task in made[0].tasks:
        window.land("r0", task.number, busy_ms=round(milliseconds))
    assert len(drafts(window, slots=slots)) == 1


def test_a_few_quick_tasks_wait_for_more_while_every_slot_has_work() -> None:
    window = knowing(1, 50 * CHUNKS_AT_HAND * 2 + 49)
    assert sizes(drafts(window, slots=2)) == [50] * CHUNKS_AT_HAND * 2
    assert window.waiting == 49
    assert window.draft(lambda _: 3, lambda _: True) is not None, "there is a slot without work"
    window = knowing(1, 50 * CHUNKS_AT_HAND * 2 + 49)
    drafts(window, slots=2)
    window.add(GROUP, Ready(5000, 1, 10))
    assert sizes(drafts(window, slots=2)) == [50], "there are enough of them"
    window = knowing(1, 50 * CHUNKS_AT_HAND * 2 + 49)
    drafts(window, slots=2)
    for number in list(window.flights["r0"].open):
        assert window.draft(lambda _: 2, lambda _: True) is None
        window.land("r0", number, busy_ms=1)
    assert sizes(drafts(window, slots=2)) == [49], "one has ended"


def test_what_did_not_run_says_nothing_of_how_long_tasks_take() -> None:
    window = filled(4000)
    [draft] = drafts(window, slots=0)[:1]
    for task in draft.tasks:
        window.land("r0", task.number)
    assert sizes(drafts(window, slots=1)) == [MOST_TASKS]


def test_a_few_quick_tasks_do_not_wait_where_nothing_is_under_way() -> None:
    assert sizes(drafts(knowing(0, 3), slots=0)) == [3]


def test_slow_tasks_never_wait_for_more() -> None:
    window = knowing(60, 100)
    drafts(window, slots=1)
    assert not window.waiting


def test_landing_twice_or_elsewhere_changes_nothing() -> None:
    window = filled(2)
    drafts(window)
    window.land("r0", 0)
    window.land("r0", 0)
    window.land("r0", 77)
    window.land("nowhere", 1)
    assert set(window.flights) == {"r1"}
    window.land("r1", 1)
    assert not window.flights


def test_the_job_served_longest_ago_comes_first() -> None:
    turns = Turns()
    assert turns.order({"b", "a", "c"}) == ["a", "b", "c"]
    turns.served("a")
    turns.served("b")
    assert turns.order({"b", "a", "c"}) == ["c", "a", "b"]
    turns.served("a")
    turns.drop("b")
    assert turns.order({"b", "a"}) == ["b", "a"]
