"""Trees of processes, on paper."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs_worker.processes import Process, family

forests = st.lists(st.integers(0, 30), max_size=30).map(
    lambda parents: [Process(pid, min(parent, pid - 1), alive=True, resident=0) for pid, parent in enumerate(parents, 1)]
)


@given(forests, st.sets(st.integers(0, 30), max_size=3))
def test_a_family_is_all_that_descends_from_its_roots(table: list[Process], roots: set[int]) -> None:
    parents = {process.pid: process.parent for process in table}

    def ancestors(pid: int) -> set[int]:
        found = set()
        while pid in parents:
            pid = parents[pid]
            found.add(pid)
        return found

    wanted = {pid for pid in parents if pid not in roots and ancestors(pid) & roots}
    found = [process.pid for process in family(reversed(table), roots)]
    assert len(found) == len(set(found))
    assert set(found) == wanted
