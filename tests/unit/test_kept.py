"""What is known of tasks of packs: the same for all, until one of them has something of its own."""

from __future__ import annotations

import pytest

from broker_jobs.coordinator.kept import Kept, TaskFacts


@pytest.fixture
def kept() -> Kept:
    """Two packs with a gap between them, and a task alone."""
    kept = Kept()
    kept.add_pack(TaskFacts(1, 20, ready_ms=5), 10, 3)
    kept.add_pack(TaskFacts(0, 10, ready_ms=5), 0, 4)
    kept[7] = TaskFacts(2, 30)
    return kept


def test_those_of_a_pack_are_known_without_taking_room(kept: Kept) -> None:
    assert [number for number in range(15) if number in kept] == [0, 1, 2, 3, 7, 10, 11, 12]
    assert [(kept.seen(number).options, kept.seen(number).pack) for number in (3, 7, 12)] == [(0, 0), (2, None), (1, 10)]
    assert len(kept) == 1
    assert dict(kept.everything()).keys() == {0, 1, 2, 3, 7, 10, 11, 12}


@pytest.mark.parametrize("number", [-1, 4, 9, 13])
def test_what_is_not_there_is_not_made(kept: Kept, number: int) -> None:
    assert kept.find(number) is None
    with pytest.raises(KeyError):
        kept[number]
    with pytest.raises(KeyError):
        kept.seen(number)


def test_what_is_changed_of_one_is_not_changed_of_the_others(kept: Kept) -> None:
    kept[11].chunk = "r1"
    assert [kept.seen(number).chunk for number in (10, 11, 12)] == [None, "r1", None]
    assert dict(kept.everything())[11].chunk == "r1"
    assert kept[11] == TaskFacts(1, 20, "r1", ready_ms=5, pack=10)


@pytest.mark.parametrize("own", [False, True])
def test_what_has_ended_is_gone_for_good(kept: Kept, own: bool) -> None:
    if own:
        kept[2].chunk = "r1"
    kept.drop(2)
    assert 2 not in kept
    assert kept.find(2) is None
    assert dict(kept.everything()).keys() == {0, 1, 3, 7, 10, 11, 12}
    kept.drop(2)
    kept.take_apart(0)
    assert 2 not in kept
    assert sorted(kept) == [0, 1, 3, 7]


def test_those_of_a_pack_that_is_taken_apart_have_each_their_own(kept: Kept) -> None:
    kept[1].chunk = "r1"
    kept.take_apart(0)
    kept[3].size = 99
    assert [(kept[number].chunk, kept[number].size) for number in range(4)] == [(None, 10), ("r1", 10), (None, 10), (None, 99)]
    kept.drop(3)
    assert 3 not in kept


def test_a_release_is_noted_where_it_comes_later_than_the_task(kept: Kept) -> None:
    kept.released(0, 5)
    kept.released(1, 6)
    assert [kept.seen(number).ready_ms for number in range(3)] == [5, 6, 5]
    assert sorted(kept) == [1, 7]


@pytest.mark.parametrize("numbers", [[0, 1, 2, 3], [0, 1, 2], [10, 0, 1], [3, 2, 1, 0], [7], [2, 10, 11, 12]])
def test_those_that_go_out_together_have_each_their_own(kept: Kept, numbers: list[int]) -> None:
    kept[2].worker = "w"
    before = {number: TaskFacts(each.options, each.size, ready_ms=each.ready_ms, pack=each.pack) for number, each in kept.everything()}
    before[2].worker = "w"
    kept.put_into("r1", numbers)
    kept[11].due_ms = 9
    for number, each in kept.everything():
        before[number].chunk = "r1" if number in numbers else None
        before[number].due_ms = 9 if number == 11 else None
        assert each == before[number]


def test_a_whole_pack_goes_out(kept: Kept) -> None:
    kept.put_into("r1", [10, 11, 12])
    kept[11].chunk = None
    assert [kept.seen(number) for number in (10, 11, 12)] == [
        TaskFacts(1, 20, "r1", ready_ms=5, pack=10),
        TaskFacts(1, 20, ready_ms=5, pack=10),
        TaskFacts(1, 20, "r1", ready_ms=5, pack=10),
    ]


def test_what_has_ended_does_not_go_out(kept: Kept) -> None:
    kept.drop(11)
    with pytest.raises(KeyError):
        kept.put_into("r1", [10, 11, 12])
    assert 11 not in kept
