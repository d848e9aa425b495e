"""What is known of how long tasks take: how many go together."""

from __future__ import annotations

import pytest

from broker_jobs.client.chunking import LARGEST, MOST_READY, MOST_WAITING, QUICK_SHARE, SHARE, USUAL, WINDOW, share, window
from broker_jobs.client.core import spent
from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.pace import MEMORY, Pace
from broker_jobs.wire.messages import Ended, Started

TOGETHER = 20


@pytest.fixture
def pace() -> Pace:
    return Pace(TOGETHER)


def test_quick_ones_go_together_and_slow_ones_alone(pace: Pace) -> None:
    assert pace.fitting("f") == pace.fitting(None) == 1, "nothing is known"
    pace.ended("f", 0)
    assert pace.fitting("f") == 50 * TOGETHER, "a clock of milliseconds does not see less"
    assert pace.fitting("g") == 1
    pace.ended("g", TOGETHER)
    assert pace.fitting("g") == 1


def test_one_that_is_slow_counts_at_once_and_quick_ones_slowly(pace: Pace) -> None:
    pace.ended("f", 0)
    pace.ended("f", TOGETHER + 1)
    assert pace.fitting("f") == 1
    pace.ended("f", 0)
    assert pace.fitting("f") == 1
    for _ in range(40):
        pace.ended("f", 0)
    assert pace.fitting("f") > 50


def test_what_is_slower_counts_less_than_what_is_quicker(pace: Pace) -> None:
    for name in ("up", "down"):
        pace.ended(name, 1)
    for _ in range(20):
        pace.ended("up", 2)
        pace.ended("up", 0)
        pace.ended("down", 0)
        pace.ended("down", 2)
    assert pace.fitting("up") > 2 * TOGETHER
    assert pace.fitting("down") > 2 * TOGETHER
    for _ in range(100):
        pace.ended("up", TOGETHER)
    assert pace.fitting("up") == 1, "where all say it, it is true"


def test_a_hundred_that_a_cold_child_has_run_are_not_taken_for_slow(pace: Pace) -> None:
    pace.several_ended("f", [0, 0, 0, 1])
    for took in (1, 2, 1, 1):
        pace.several_ended("f", [took] * 5)
    assert pace.fitting("f") > 4 * TOGETHER
    pace.several_ended("g", [0, 0, 0, 1])
    for _ in range(4):
        pace.several_ended("g", [3] * 5)
    assert pace.fitting("g") < TOGETHER, "that is more than weather"
    pace.ended("h", 0)
    pace.ended("h", 5)
    assert pace.fitting("h") > 2 * TOGETHER, "once is not always"


def test_several_count_as_if_each_were_told(pace: Pace) -> None:
    pace.ended("f", 10)
    pace.ended("g", 10)
    pace.ended("f", 1, 5)
    for _ in range(5):
        pace.ended("g", 1)
    assert pace.fitting("f") == pace.fitting("g")


def test_one_alone_says_little_of_hundreds(pace: Pace) -> None:
    pace.several_ended("f", [0] * 200)
    pace.several_ended("f", [1])
    assert pace.fitting("f") > 3 * TOGETHER


def test_of_several_the_slowest_have_waited_for_their_turn(pace: Pace) -> None:
    pace.several_ended("f", [0, 0, 1, 0])
    assert pace.fitting("f") == 50 * TOGETHER
    pace.several_ended("g", [1, 1, 2, 2, 9])
    assert pace.fitting("g") == TOGETHER // 1.5
    pace.several_ended("h", [0] * 14 + [900, 900])
    assert pace.fitting("h") == 50 * TOGETHER
    pace.several_ended("i", [-50])
    assert pace.fitting("i") > 1, "clocks may be set back"


def test_only_successes_say_how_long_calls_take() -> None:
    failed = Ended(0, 1, "e", Failed(Cause.error, "no"), 0, 0)
    assert spent([Started(1, 1, "e", 5), failed, Ended(2, 1, "e", Succeeded(), 1000, 1007)]) == [7]


def test_what_is_known_is_bounded(pace: Pace) -> None:
    for number in range(MEMORY + 1):
        pace.ended(str(number), 0)
    assert pace.fitting("0") == 1
    assert pace.fitting(str(MEMORY)) > 1


@pytest.mark.parametrize(
    ("tasks", "worth", "expected"),
    [
        (10, 1, 1),
        (SHARE * 10, 1, 10),
        (10**6, 1, MOST_READY),
        (100, 200, 200),
        (10**6, 200, MOST_WAITING),
        (10**6, 30, LARGEST * 30),
        (10**6, 4, MOST_READY),
        (QUICK_SHARE * 30, 20, 30),
        (SHARE * 2, 2, 8),
    ],
)
def test_the_share_of_a_chunk(tasks: int, worth: int, expected: int) -> None:
    assert share(tasks, worth=worth) == expected


@pytest.mark.parametrize(
    ("most", "worth", "expected"),
    [
        (1, 1, WINDOW),
        (MOST_READY, 1, WINDOW),
        (MOST_READY * 2, 10, WINDOW // 2),
        (LARGEST * 20, 20, WINDOW * USUAL // LARGEST),
        (MOST_WAITING, MOST_WAITING // USUAL, WINDOW),
    ],
)
def test_large_chunks_are_no_more_work_in_a_class_queue_than_small_ones(most: int, worth: int, expected: int) -> None:
    assert window(most, worth) == expected
