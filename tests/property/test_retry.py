"""Delays are bounded, and a policy ends."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.outcome import Cause, Failed
from broker_jobs.core.retry import GiveUp, RetryIn, decide
from broker_jobs.core.spec import Retry

policies = st.builds(
    Retry,
    max_attempts=st.integers(1, 10**6),
    backoff=st.floats(0, 2.0**63 - 1024),
    factor=st.floats(0, 2.0**63 - 1024),
    max_backoff=st.floats(0, 2.0**63 - 1024),
    jitter=st.floats(0, 1),
)
noises = st.floats(0, 1, exclude_max=True)
FAILED = Failed(Cause.error, "no")


@given(policies, st.integers(1, 20_000), noises)
def test_a_delay_lies_between_nothing_and_the_cap(policy: Retry, failures: int, noise: float) -> None:
    match decide(policy, failures, FAILED, noise):
        case RetryIn(delay):
            assert failures < policy.max_attempts
            assert 0 <= delay <= policy.max_backoff
        case GiveUp():
            assert failures >= policy.max_attempts


@given(policies, st.integers(1, 200))
def test_without_noise_delays_go_one_way(policy: Retry, failures: int) -> None:
    steady = replace(policy, jitter=0, max_attempts=1000)
    first, second = (decide(steady, count, FAILED, 0.0) for count in (failures, failures + 1))
    assert isinstance(first, RetryIn)
    assert isinstance(second, RetryIn)
    assert (first.delay <= second.delay) if policy.factor >= 1 else (first.delay >= second.delay)


@given(policies, st.integers(1, 50), noises)
def test_jitter_stays_in_its_band(policy: Retry, failures: int, noise: float) -> None:
    more = replace(policy, max_attempts=100)
    plain, noisy = decide(replace(more, jitter=0), failures, FAILED, noise), decide(more, failures, FAILED, noise)
    assert isinstance(plain, RetryIn)
    assert isinstance(noisy, RetryIn)
    slack = 1e-9 * plain.delay
    assert plain.delay * (1 - policy.jitter) - slack <= noisy.delay <= plain.delay * (1 + policy.jitter) + slack


@given(st.floats(0.1, 10), st.floats(1, 4), st.integers(1, 8))
def test_delays_grow_by_the_factor(backoff: float, factor: float, failures: int) -> None:
    policy = Retry(max_attempts=10, backoff=backoff, factor=factor, max_backoff=1e9, jitter=0)
    decision = decide(policy, failures, FAILED, 0.5)
    assert isinstance(decision, RetryIn)
    expected = backoff * factor ** (failures - 1)
    assert abs(decision.delay - expected) <= 1e-9 * expected


@given(noises)
def test_the_ten_thousandth_attempt_does_not_overflow(noise: float) -> None:
    assert decide(Retry(max_attempts=20_000, jitter=0), 10_000, FAILED, noise) == RetryIn(600.0)
