"""Topological facts of the tasks of a job: their layers, an order, and the circle where there is one.

A node is the triple of a task's number, the tasks whose success it waits for and the tasks whose end it waits for; for
the facts here both are needs. Nothing recurses, so the depth of a graph has no limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker_jobs.errors import CycleError, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Node = tuple[int, "Sequence[int]", "Sequence[int]"]
"""Number, deps and after of a task."""


def layers(nodes: Iterable[Node], name: Callable[[int], str] = str) -> tuple[tuple[int, ...], ...]:
    """The tasks in layers: each needs only tasks of earlier layers, and one of the layer just before its own.

    Args:
        nodes: the tasks, each once; inside a layer they keep this order
        name: what a task is called in an error

    Raises:
        CycleError: the tasks need each other in a circle
        ValidationError: a task needs one that is not among them
    """
    needs = {number: {*deps, *after} for number, deps, after in nodes}
    position = {number: place for place, number in enumerate(needs)}
    dependents: dict[int, list[int]] = {number: [] for number in needs}
    for number, wanted in needs.items():
        for other in wanted:
            if other not in dependents:
                raise ValidationError(f"task {name(number)} waits for task {name(other)}, which is not in this job")
            dependents[other].append(number)
    missing = {number: len(wanted) for number, wanted in needs.items()}
    found: list[tuple[int, ...]] = []
    layer = [number for number, count in missing.items() if not count]
    while layer:
        found.append(tuple(layer))
        free: list[int] = []
        for number in layer:
            for dependent in dependents[number]:
                missing[dependent] -= 1
                if not missing[dependent]:
                    free.append(dependent)
        layer = sorted(free, key=position.__getitem__)
    if sum(map(len, found)) < len(needs):
        raise _cycle({number: needs[number] for number, count in missing.items() if count}, name)
    return tuple(found)


def order(nodes: Iterable[Node], name: Callable[[int], str] = str) -> tuple[int, ...]:
    """The tasks in an order in which each comes after all that it needs; arguments and errors as for `layers`."""
    return tuple(number for layer in layers(nodes, name) for number in layer)


def check_acyclic(nodes: Iterable[Node], name: Callable[[int], str] = str) -> None:
    """Refuse tasks that need each other in a circle; arguments and errors as for `layers`."""
    layers(nodes, name)


def _cycle(needs: Mapping[int, set[int]], name: Callable[[int], str]) -> CycleError:
    """The error that names a circle among tasks each of which needs another of them."""
    walked: dict[int, int] = {}
    number = next(iter(needs))
    while number not in walked:
        walked[number] = len(walked)
        number = min(other for other in needs[number] if other in needs)
    circle = [*list(walked)[walked[number] :], number]
    path = tuple(name(number) for number in circle)
    return CycleError(f"the tasks of the job wait for each other in a circle: {' → '.join(path)}", path=path)
