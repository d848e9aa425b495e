"""What a client knows of the calls that it sends: how many are worth a message."""

from __future__ import annotations

import pytest

from broker_jobs.client.chunking import LARGEST, MOST_READY, MOST_WAITING, SHARE, share
from broker_jobs.client.paces import WORTH_MS, Paces
from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.wire.messages import Ended, Started


def ends(*milliseconds: int) -> list[Ended]:
    return [Ended(number, 1, "e", Succeeded(), 1000, 1000 + spent) for number, spent in enumerate(milliseconds)]


def test_quick_calls_travel_together_and_slow_ones_alone() -> None:
    paces = Paces()
    assert paces.worth("f") == paces.worth(None) == 1, "nothing is known"
    paces.heard("f", ends(0, 0, 1, 0))
    assert paces.worth("f") == WORTH_MS * 20, "one of them has waited for its turn; a clock of milliseconds does not see less"
    assert paces.worth("g") == 1
    paces.heard("g", ends(WORTH_MS, 3 * WORTH_MS))
    assert paces.worth("g") == 1
    paces.heard("h", ends(1, 1, 2, 2, 9))
    assert paces.worth("h") == WORTH_MS // 1.5


def test_one_that_has_become_slow_is_believed_at_once_and_one_that_is_quick_again_slowly() -> None:
    paces = Paces()
    paces.heard("f", ends(0))
    paces.heard("f", ends(4 * WORTH_MS))
    assert paces.worth("f") == 1
    paces.heard("f", ends(0))
    paces.heard("f", ends(0))
    assert paces.worth("f") == 1
    for _ in range(10):
        paces.heard("f", ends(0))
    assert paces.worth("f") > 50


def test_only_successes_say_how_long_calls_take() -> None:
    paces = Paces()
    paces.heard("f", [Started(1, 1, "e", 5), Ended(0, 1, "e", Failed(Cause.error, "no"), 0, 0)])
    assert paces.worth("f") == 1
    paces.heard("f", ends(-50))
    assert paces.worth("f") > 1, "clocks may be set back"


def test_what_is_known_is_bounded() -> None:
    paces = Paces()
    for number in range(1100):
        paces.heard(str(number), ends(0))
    assert paces.worth("0") == 1
    assert paces.worth("1099") > 1


@pytest.mark.parametrize(
    ("tasks", "worth", "expected"),
    [
        (10, 1, 1),
        (SHARE * 10, 1, 10),
        (10**6, 1, MOST_READY),
        (100, 200, 200),
        (10**6, 200, MOST_WAITING),
        (10**6, 30, LARGEST * 30),
        (10**6, 10, MOST_READY),
    ],
)
def test_the_share_of_a_chunk(tasks: int, worth: int, expected: int) -> None:
    assert share(tasks, worth=worth) == expected
