"""Attempts that may start: the lowest number first, however they come."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from broker_jobs.coordinator.ready import Heap, Ready


@pytest.mark.parametrize("seed", range(20))
def test_they_come_out_in_their_order(seed: int) -> None:
    chance = random.Random(seed)
    heap, left = Heap(), []
    for _ in range(100):
        if chance.random() < 0.5:
            first, attempt, size = chance.randrange(30), chance.choice([1, 1, 2]), chance.choice([10, 10, 20])
            new = [Ready(number, attempt, size) for number in range(first, first + chance.randrange(5))]
            new += [Ready(chance.randrange(30), attempt, 10)]
            heap.push(new)
            left += new
        elif left:
            assert heap.first == min(left)
            assert heap.pop() == min(left)
            left.remove(min(left))
        assert len(heap) == len(left)
        assert bool(heap) is bool(left)
        assert sorted(heap) == sorted(left)
        assert [heap.before(number) for number in (0, 7, 40)] == [sum(task.number < number for task in left) for number in (0, 7, 40)]


def test_those_in_a_row_take_the_room_of_one() -> None:
    tracemalloc.start()
    try:
        heap = Heap()
        for first in range(0, 100_000, 1000):
            heap.push(Ready(number, 1, 100) for number in range(first, first + 1000))
        assert len(heap) == 100_000
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()
