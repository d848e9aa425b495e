"""What an archive of output gives up when it is full."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs_worker.executors.archive import Kept, surplus

files = st.lists(st.builds(Kept, st.integers(0, 50), st.integers(0, 50), st.uuids().map(str)), max_size=20)


@given(files, st.integers(0, 300))
def test_the_rest_fits_and_nothing_older_is_in_it(found: list[Kept], room: int) -> None:
    gone = surplus(found, room)
    left = [file for file in found if file not in gone]
    assert set(gone) <= set(found)
    assert sum(file.room for file in left) <= room
    if gone and left:
        assert max(gone) < min(left)


@given(files, st.integers(0, 300))
def test_no_more_goes_than_has_to(found: list[Kept], room: int) -> None:
    gone = surplus(found, room)
    if gone:
        left = [file for file in found if file not in gone]
        assert sum(file.room for file in left) + max(gone).room > room
