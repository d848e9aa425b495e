"""Decisions about single failures."""

from __future__ import annotations

import pytest

from broker_jobs.core.outcome import Cause, Failed
from broker_jobs.core.retry import Decision, GiveUp, RetryIn, decide
from broker_jobs.core.spec import Retry

KEY_ERROR = Failed(Cause.error, "KeyError: 1", exception_types=("builtins.KeyError", "builtins.LookupError", "my.Base"))
EXIT_3 = Failed(Cause.exit_code, "exit code 3", exit_code=3)


def test_without_a_policy_there_is_one_attempt() -> None:
    assert decide(None, 1, KEY_ERROR, 0.5) == GiveUp()


@pytest.mark.parametrize(
    ("failures", "expected"), [(1, RetryIn(2.0)), (2, RetryIn(6.0)), (3, RetryIn(10.0)), (4, RetryIn(10.0)), (5, GiveUp()), (6, GiveUp())]
)
def test_delays_grow_up_to_their_cap_and_end(failures: int, expected: Decision) -> None:
    assert decide(Retry(max_attempts=5, backoff=2, factor=3, max_backoff=10, jitter=0), failures, KEY_ERROR, 0.9) == expected


@pytest.mark.parametrize(("noise", "delay"), [(0.0, 5.0), (0.5, 10.0), (0.75, 12.5)])
def test_jitter_spreads_the_delay(noise: float, delay: float) -> None:
    assert decide(Retry(backoff=10, jitter=0.5), 1, KEY_ERROR, noise) == RetryIn(delay)


def test_jitter_does_not_exceed_the_cap() -> None:
    assert decide(Retry(backoff=10, max_backoff=11, jitter=1), 1, KEY_ERROR, 0.99) == RetryIn(11.0)


@pytest.mark.parametrize(
    ("on", "failure", "again"),
    [
        (None, KEY_ERROR, True),
        ((), KEY_ERROR, False),
        (("KeyError",), KEY_ERROR, True),
        (("builtins.LookupError",), KEY_ERROR, True),
        (("my.Base",), KEY_ERROR, True),
        (("Base",), KEY_ERROR, False),
        (("ValueError",), KEY_ERROR, False),
        (("error",), KEY_ERROR, True),
        (("exit code",), EXIT_3, True),
        ((3,), EXIT_3, True),
        ((2,), EXIT_3, False),
        (("3",), EXIT_3, False),
        ((3,), KEY_ERROR, False),
        (("ValueError", 3), EXIT_3, True),
    ],
)
def test_only_what_the_filter_names_is_tried_again(on: tuple[str | int, ...] | None, failure: Failed, again: bool) -> None:
    assert isinstance(decide(Retry(on=on), 1, failure, 0.5), RetryIn) is again


def test_no_delay_at_all_is_possible() -> None:
    assert decide(Retry(backoff=0, factor=0), 2, KEY_ERROR, 0.5) == RetryIn(0.0)
