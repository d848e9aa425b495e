"""Which child is for whom: a process with a setup, a fresh one, or any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs_worker.executors.recycling import Recycling
from broker_jobs_worker.executors.server import Child, Environment, Server, Wish

if TYPE_CHECKING:
    from broker_jobs_worker.executors.spool import Capture

_setups = st.sampled_from([None, "a", "b"])
_wishes = st.tuples(_setups, st.booleans())
_used = st.tuples(_setups, st.integers(1, 3))
_idle = st.lists(st.just((None, 0)) | _used, max_size=6)


def _server(idle: list[tuple[str | None, int]], wishes: list[tuple[str | None, bool]] = []) -> Server:  # noqa: B006 (never changed)
    server = Server(1, Environment(), Path("report"))
    for setup, tasks in idle:
        child = _child(server, ready=True)
        child.setup, child.tasks = setup, tasks
        server.idle.append(child)
    server.waiting.extend(Wish(str(number), setup, fresh) for number, (setup, fresh) in enumerate(wishes))
    return server


def _child(server: Server, *, ready: bool) -> Child:
    child = Child(server, cast("Capture", None), pid=len(server.children) + 1, ready=ready)
    server.children.add(child)
    return child


def _fits(child: Child, wish: Wish) -> bool:
    """What is promised to who wishes: nothing of others in a process with a setup, nothing at all in a fresh one."""
    if wish.fresh:
        return child.tasks == 0
    return child.setup == wish.setup or child.setup is None


@given(_idle, st.lists(_wishes, max_size=6))
def test_who_waits_gets_a_child_that_fits_and_nobody_waits_beside_one(
    idle: list[tuple[str | None, int]], wishes: list[tuple[str | None, bool]]
) -> None:
    server = _server(idle, wishes)
    waited, there = list(server.waiting), list(server.idle)
    served: list[Wish] = []
    while (found := server.match()) is not None:
        child, wish = found
        assert child in there
        assert _fits(child, wish)
        there.remove(child)
        served.append(wish)
        same = [other for other in (child, *there) if other.tasks and other.setup == wish.setup]
        if same and not wish.fresh:
            # Where its setup has run, it does not run again; and a warm process is not left for a cold one.
            assert child in same
        elif wish.setup is not None and any(other.tasks == 0 for other in there):
            # The warm processes of others stay theirs.
            assert child.tasks == 0
    assert list(server.idle) == there
    assert list(server.waiting) == [wish for wish in waited if wish not in served]
    assert not any(_fits(child, wish) for child in there for wish in server.waiting)


@given(_used, _wishes)
def test_the_first_who_waits_comes_first(child: tuple[str | None, int], wish: tuple[str | None, bool]) -> None:
    server = _server([child], [wish, wish])
    found = server.match()
    assert found is None or found[1].ticket == "0"


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.lists(_wishes, max_size=3))
def test_each_child_with_its_last_task_has_a_successor(ending: int, new: int, starting: int, wishes: list[tuple[str | None, bool]]) -> None:
    server = _server([(None, 0)] * new, wishes)
    for _ in range(ending):
        child = _child(server, ready=True)
        child.given = child.last = True
    for _ in range(starting):
        _child(server, ready=False)
    assert server.starting == starting
    made = 0
    while server.lacks_successor:
        _child(server, ready=False)
        made += 1
        assert made <= ending + len(wishes)
    if ending:
        assert made == max(0, ending + len(wishes) - new - starting)


def test_a_child_is_worn_by_tasks_and_age() -> None:
    server = _server([(None, 3)])
    (child,) = server.idle
    assert Recycling(tasks=3).last(child)
    assert not Recycling(tasks=4).last(child)
    assert Recycling(age=10).aged(child, 10)
    assert not Recycling(age=10).aged(child, 9.9)
    assert not Recycling().worn(child, 1e9)
    child.tasks = 0
    assert not Recycling(age=10).aged(child, 1e9)
