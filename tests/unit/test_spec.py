"""What a user may write, and what is said where it is wrong."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from broker_jobs.core.outcome import Cause
from broker_jobs.core.quantities import amount, milliseconds, size_bytes
from broker_jobs.core.request import Request, ResourceRequest
from broker_jobs.core.spec import Retry
from broker_jobs.errors import ValidationError


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1h30m", 5_400_000),
        ("1h 30m", 5_400_000),
        ("1d", 86_400_000),
        ("1.5h", 5_400_000),
        ("2 m 3 s", 123_000),
        ("5ms", 5),
        ("1m5ms", 60_005),
        (" 90 ", 90_000),
        (".5", 500),
        ("2H", 7_200_000),
        (3600, 3_600_000),
        (0.25, 250),
        (0.0011, 1),
        (datetime.timedelta(minutes=2), 120_000),
    ],
)
def test_durations(written: Any, expected: int) -> None:
    assert milliseconds(written, "time_limit") == expected


@pytest.mark.parametrize("written", ["", " ", "²", "1e5", "-1", "1m1h", "1x", "h", "5 5x", True, None, b"1", [1]])
def test_what_is_no_duration(written: Any) -> None:
    with pytest.raises(ValidationError, match="time_limit must be seconds, a timedelta or a text such as '1h30m', not "):
        milliseconds(written, "time_limit")


@pytest.mark.parametrize("written", [0, -1, 0.0004, "0", "0s", float("nan"), float("inf"), 1e300, "9" * 40, datetime.timedelta(0)])
def test_durations_out_of_range(written: Any) -> None:
    with pytest.raises(ValidationError, match=r"time_limit must be a millisecond or more, and less than 2\*\*63, not "):
        milliseconds(written, "time_limit")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("4 GiB", 4 * 2**30),
        ("4GB", 4 * 10**9),
        ("4g", 4 * 10**9),
        ("1.5 MiB", 3 * 2**19),
        ("1k", 1000),
        ("1kib", 1024),
        ("12", 12),
        ("12 B", 12),
        ("2Ti", 2**41),
        ("1 PB", 10**15),
        (4096, 4096),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_sizes(written: Any, expected: int) -> None:
    assert size_bytes(written, "memory") == expected


@pytest.mark.parametrize("written", ["", "GiB", "-1", "4 iB", "4 GG", "1e3", 1.5, True, None])
def test_what_is_no_size(written: Any) -> None:
    with pytest.raises(ValidationError, match="memory must be bytes or a text such as '4 GiB', not "):
        size_bytes(written, "memory")


@pytest.mark.parametrize("written", [0, -5, "0", "8 EiB", 2**63])
def test_sizes_out_of_range(written: Any) -> None:
    with pytest.raises(ValidationError, match=r"memory must be a byte or more, and less than 2\*\*63, not "):
        size_bytes(written, "memory")


@pytest.mark.parametrize(("written", "expected"), [(1, 10_000), (0.5, 5000), ("0.0001", 1), (0, 0), ("1e2", 1_000_000), (0.3, 3000)])
def test_amounts(written: Any, expected: int) -> None:
    assert amount(written, "cpus") == expected


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (0.00001, "cpus may have four decimals at most"),
        (-1, "cpus must be a number, not negative"),
        ("nan", "cpus must be a number, not negative"),
        ("1e999999", "cpus must be a number, not negative, and less than"),
        (10**18, "cpus must be a number, not negative, and less than"),
        ("two", "cpus must be a number, not 'two'"),
        (True, "cpus must be a number, not True"),
        (None, "cpus must be a number, not None"),
    ],
)
def test_wrong_amounts(written: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        amount(written, "cpus")


def test_a_request_is_sorted_integers() -> None:
    request = ResourceRequest(cpus=2, memory="4 GiB", gpus=0.5, resources={"fpga": 1, "a": 0})
    assert request.canonical() == Request((("cpus", 20_000), ("fpga", 10_000), ("gpus", 5000), ("memory", 2**32)))
    assert ResourceRequest().canonical() == Request() == Request((("cpus", 10_000),))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cpus": 0}, "a task must ask for some resource"),
        ({"resources": {"cpus": 1}}, "'cpus' cannot be the name of a further resource"),
        ({"resources": {"a b": 1}}, "'a b' cannot be the name"),
        ({"resources": {1: 1}}, "1 cannot be the name"),
        ({"resources": ["fpga"]}, "resources must be a mapping"),
        ({"resources": {"fpga": -1}}, "resource 'fpga' must be a number, not negative"),
        ({"memory": 0}, "memory must be a byte or more"),
    ],
)
def test_wrong_requests(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ResourceRequest(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_attempts": 0}, "max_attempts must be a positive integer, not 0"),
        ({"max_attempts": True}, "max_attempts must be a positive integer, not True"),
        ({"max_attempts": 2.5}, "max_attempts must be a positive integer, not 2.5"),
        ({"backoff": -1}, "backoff must be a number, not negative"),
        ({"factor": 10**400}, "factor must be a number, not negative, and less than"),
        ({"max_backoff": float("nan")}, "max_backoff must be a number"),
        ({"jitter": 1.5}, "jitter is a share from 0 to 1, not 1.5"),
        ({"jitter": "0.1"}, "jitter must be a number"),
        ({"on": object}, "on= takes exception types, exit codes and causes"),
        ({"on": [None]}, "on= takes exception types, exit codes and causes, not None"),
        ({"on": [True]}, "on= takes exception types, exit codes and causes, not True"),
    ],
)
def test_wrong_policies(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Retry(**arguments)


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        (None, None),
        (OSError, ("builtins.OSError",)),
        ([OSError, "my.Error", 3, Cause.time_limit], ("builtins.OSError", "my.Error", 3, "time limit")),
        ("ValueError", ("ValueError",)),
        ((), ()),
    ],
)
def test_retry_filters_are_names_and_codes(on: Any, expected: object) -> None:
    assert Retry(on=on).on == expected
