"""Layers, orders and circles of any graph, beside what is easy to see."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.graph import Node, check_acyclic, layers, order
from broker_jobs.errors import CycleError


@st.composite
def graphs(draw: st.DrawFn, *, circles: bool) -> list[Node]:
    """Nodes in any order; numbers mean nothing."""
    numbers = draw(st.lists(st.integers(-50, 1000), min_size=1, max_size=12, unique=True))
    nodes: list[Node] = []
    for place, number in enumerate(numbers):
        others = numbers if circles else numbers[:place]
        choose = st.lists(st.sampled_from(others), max_size=3) if others else st.just([])
        nodes.append((number, draw(choose), draw(choose)))
    return draw(st.permutations(nodes))


@given(graphs(circles=False))
def test_each_task_lies_just_behind_the_last_that_it_needs(nodes: list[Node]) -> None:
    found = layers(nodes)
    depth = {number: place for place, layer in enumerate(found) for number in layer}
    assert sorted(depth) == sorted(number for number, _, _ in nodes)
    for number, deps, after in nodes:
        assert depth[number] == max((depth[other] + 1 for other in (*deps, *after)), default=0)
    places = {number: place for place, (number, _, _) in enumerate(nodes)}
    assert all(list(layer) == sorted(layer, key=places.__getitem__) for layer in found)
    assert order(nodes) == tuple(number for layer in found for number in layer)


@given(graphs(circles=True))
def test_a_circle_is_found_where_there_is_one_and_its_path_is_real(nodes: list[Node]) -> None:
    needs = {number: {*deps, *after} for number, deps, after in nodes}
    reached = {number: set(others) for number, others in needs.items()}
    for _ in needs:
        for others in reached.values():
            others.update(*[reached[other] for other in list(others)])
    if not any(number in others for number, others in reached.items()):
        check_acyclic(nodes)
        return
    with pytest.raises(CycleError) as caught:
        check_acyclic(nodes)
    path = [int(text) for text in caught.value.path]
    assert path[0] == path[-1]
    assert len(set(path)) == len(path) - 1 >= 1
    assert all(later in needs[earlier] for earlier, later in itertools.pairwise(path))
