"""Layers and circles of small graphs, and of a large one."""

from __future__ import annotations

import pytest

from broker_jobs.core.graph import Node, check_acyclic, layers, order
from broker_jobs.errors import CycleError, ValidationError

DIAMOND: list[Node] = [(3, [1, 2], []), (0, [], []), (1, [0], []), (2, [], [0])]


def test_layers_and_order() -> None:
    assert layers(DIAMOND) == ((0,), (1, 2), (3,))
    assert order(DIAMOND) == (0, 1, 2, 3)
    assert layers([]) == ()


def test_a_need_that_is_named_twice_counts_once() -> None:
    assert layers([(0, [], []), (1, [0, 0], [0])]) == ((0,), (1,))


def test_a_circle_is_named_by_its_tasks() -> None:
    names = {0: "load", 1: "clean", 2: "train"}
    with pytest.raises(CycleError, match="wait for each other in a circle: load → train → clean → load") as caught:
        check_acyclic([(0, [2], []), (1, [0], []), (2, [], [1])], names.__getitem__)
    assert caught.value.path == ("load", "train", "clean", "load")


def test_a_task_that_waits_for_itself() -> None:
    with pytest.raises(CycleError) as caught:
        check_acyclic([(0, [], []), (1, [0, 1], [])])
    assert caught.value.path == ("1", "1")


def test_what_only_hangs_on_a_circle_is_not_part_of_its_path() -> None:
    with pytest.raises(CycleError) as caught:
        check_acyclic([(9, [5], []), (5, [6], []), (6, [5], []), (7, [], [])])
    assert caught.value.path == ("5", "6", "5")


def test_a_need_outside_of_the_job() -> None:
    with pytest.raises(ValidationError, match="task 1 waits for task 7, which is not in this job"):
        layers([(1, [7], [])])


def test_depth_has_no_limit() -> None:
    size = 10_000
    chain: list[Node] = [(number, [number - 1] if number else [], []) for number in range(size)]
    assert order(chain) == tuple(range(size))
    with pytest.raises(CycleError) as caught:
        check_acyclic([*chain[1:], (0, [size - 1], [])])
    assert len(caught.value.path) == size + 1
