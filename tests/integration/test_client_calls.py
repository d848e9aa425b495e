"""Single calls: ``call``, ``map`` and the executor, on real processes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from broker_jobs import Retry
from broker_jobs.errors import ClientClosed, TaskFailed, UnpicklableError, ValidationError
from broker_jobs.wire.messages import JobList, ListJobs
from tests.support.daemons import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from broker_jobs import Client, LocalCluster
    from broker_jobs.client.executor import CallFuture

PATIENCE = 30.0


class Oops(Exception):
    """An exception of a user."""


class Two(Exception):
    """An exception that cannot be unpickled: its arguments are not those of its constructor."""

    def __init__(self, left: str, right: str) -> None:
        super().__init__(f"{left} and {right}")


def power(base: int, power: int = 2) -> int:
    return int(base**power)


def fail(text: str) -> None:
    raise Oops(text)


def fail_oddly() -> None:
    raise Two("this", "that")


def wait_for(path: str) -> str:
    deadline = time.monotonic() + PATIENCE
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.01)
    return "went"


def start_and_wait(folder: str, number: int) -> str:
    (Path(folder) / f"started-{number}").touch()
    return wait_for(f"{folder}/go")


def fail_once(path: str) -> str:
    if not Path(path).exists():
        Path(path).touch()
        raise Oops("the first time")
    return "done"


async def wait_and_double(number: int) -> int:
    await asyncio.sleep(0.001)
    return 2 * number


def until_running(futures: Sequence[concurrent.futures.Future[str]]) -> None:
    """Wait until a worker has said that it runs some of them."""
    deadline = time.monotonic() + PATIENCE
    while not any(future.running() for future in futures):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_call_and_its_value(client: Client) -> None:
    assert client.call(power, 2, power=3) == 8
    assert client.call(os.getpid) != os.getpid()
    assert client.call(wait_and_double, 4) == 8
    assert client.call(print, "x") is None
    assert client.call(dict, [(1, (2, 3))]) == {1: (2, 3)}


def test_a_call_that_fails(client: Client) -> None:
    with pytest.raises(TaskFailed, match=r"(?s)Oops: no luck.*Traceback.*in fail") as caught:
        client.call(fail, "no luck")
    assert type(caught.value.__cause__).__name__ == "Oops"
    with pytest.raises(TaskFailed, match="this and that"):
        client.call(fail_oddly)


def test_a_call_that_cannot_be_sent(client: Client) -> None:
    with pytest.raises(UnpicklableError, match="argument 1: lock"):
        client.call(print, threading.Lock())
    lock = threading.Lock()
    with pytest.raises(UnpicklableError, match="function"):
        client.call(lambda: lock)


def test_options_are_defaults_for_calls(client: Client, tmp_path: Path) -> None:
    patient = client.options(retry=Retry(max_attempts=2, backoff=0.05), env={"WHO": "me"})
    assert patient.call(fail_once, str(tmp_path / "once")) == "done"
    assert patient.options(cwd=tmp_path).call(lambda: (os.environ["WHO"], Path.cwd())) == ("me", tmp_path)
    with pytest.raises(ValidationError, match="priority"):
        client.options(priority="high")  # type: ignore[arg-type]


def test_a_call_has_a_timeout(client: Client, tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match=r"'wait_for' was not done within 0\.3 s, and was canceled"):
        client.options(timeout=0.3).call(wait_for, str(tmp_path / "never"))


def test_a_limit_ends_a_call(client: Client, tmp_path: Path) -> None:
    with pytest.raises(TaskFailed, match="time limit"):
        client.options(time_limit=0.3).call(wait_for, str(tmp_path / "never"))


def test_a_map_of_ten_thousand_is_in_order(client: Client) -> None:
    assert list(client.map(power, range(10_000))) == [number**2 for number in range(10_000)]


def test_a_map_is_lazy(client: Client) -> None:
    read = []

    def rows() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    results = client.map(power, rows())
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(read) < 1000
    results.close()
    assert list(results) == []


def test_a_map_of_several_iterables_and_none(client: Client) -> None:
    assert list(client.map(power, [2, 3], iter([3, 2, 1]))) == [8, 9]
    assert list(client.map(print, "ab")) == [None, None]
    assert list(client.map(power, [])) == []
    with pytest.raises(ValidationError):
        client.map(power)


def test_a_map_ends_at_the_first_failure(client: Client) -> None:
    results = client.map(lambda number: 1 // number, [1, 1, 0, 1])
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(TaskFailed, match="ZeroDivisionError"):
        next(results)
    assert list(results) == []


def test_an_executor_runs_everything(client: Client) -> None:
    with client.executor() as pool:
        futures = [pool.submit(power, number, power=3) for number in range(500)]
        assert sum(future.result(PATIENCE) for future in futures) == sum(number**3 for number in range(500))
        assert list(pool.map(power, range(10))) == [number**2 for number in range(10)]
        done = {future.result() for future in concurrent.futures.as_completed([pool.submit(power, 2), pool.submit(power, 3)], PATIENCE)}
        assert done == {4, 9}
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(power, 1)


def test_a_future_raises_what_the_task_raised(client: Client) -> None:
    with client.executor() as pool:
        future = pool.submit(fail, "no luck")
        with pytest.raises(Exception, match="no luck") as caught:
            future.result(PATIENCE)
        assert type(caught.value).__name__ == "Oops"
        assert isinstance(caught.value.__cause__, TaskFailed)
        assert "in fail" in caught.value.__cause__.remote_traceback
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 // 0).result(PATIENCE)
        with pytest.raises(TaskFailed, match="this and that"):
            pool.submit(fail_oddly).result(PATIENCE)


def test_a_future_can_be_waited_for_with_a_timeout(client: Client, tmp_path: Path) -> None:
    with client.executor() as pool:
        future = pool.submit(wait_for, str(tmp_path / "go"))
        with pytest.raises(TimeoutError):
            future.result(0.1)
        (tmp_path / "go").touch()
        assert future.result(PATIENCE) == "went"


def test_a_future_is_canceled_before_its_start_and_not_after(client: Client, tmp_path: Path) -> None:
    with client.executor() as pool:
        futures = [pool.submit(start_and_wait, str(tmp_path), number) for number in range(12)]
        until_running(futures)
        canceled = [future.cancel() for future in futures]
        assert 1 <= sum(canceled) <= 11
        (tmp_path / "go").touch()
        _, not_done = concurrent.futures.wait(futures, PATIENCE)
        assert not not_done
        for future, gone in zip(futures, canceled, strict=True):
            assert future.cancelled() is gone
            if not gone:
                assert future.result() == "went"


def test_a_shutdown_may_cancel_what_waits(client: Client, tmp_path: Path) -> None:
    pool = client.executor()
    futures = [pool.submit(start_and_wait, str(tmp_path), number) for number in range(12)]
    until_running(futures)
    pool.shutdown(wait=False, cancel_futures=True)
    (tmp_path / "go").touch()
    concurrent.futures.wait(futures, PATIENCE)
    assert any(future.cancelled() for future in futures)
    assert any(not future.cancelled() and future.result() == "went" for future in futures)


def test_many_threads_call_at_once(client: Client) -> None:
    with concurrent.futures.ThreadPoolExecutor(20) as threads:
        assert list(threads.map(lambda number: client.call(power, number), range(200))) == [number**2 for number in range(200)]


def test_a_callback_may_call(client: Client) -> None:
    found: concurrent.futures.Future[int] = concurrent.futures.Future()
    with client.executor() as pool:
        pool.submit(power, 3).add_done_callback(lambda future: found.set_result(client.call(power, future.result())))
        assert found.result(PATIENCE) == 81


def test_calls_end_with_their_client(cluster: LocalCluster, tmp_path: Path) -> None:
    client = cluster.client()
    pool = client.executor()
    futures = [pool.submit(start_and_wait, str(tmp_path), number) for number in range(12)]
    until_running(futures)
    client.close()
    client.close()
    for future in futures:
        with pytest.raises(ClientClosed):
            future.result(PATIENCE)
    with pytest.raises(ClientClosed):
        client.call(power, 2)
    with cluster.client() as other:
        question = ListJobs(limit=100, ephemeral=True)

        def canceled() -> int:
            found = other.runtime.run(lambda core: core.ask(question, JobList))
            mine = {cast("CallFuture", future).job for future in futures}
            return sum(info.counts.get("canceled", 0) for info in found.jobs if info.job in mine)

        until(canceled, "what had not started was canceled")
        (tmp_path / "go").touch()
        assert other.call(power, 2) == 4
        assert canceled() < 12


def test_large_arguments_and_values(client: Client) -> None:
    assert client.call(len, b"x" * 500_000) == 500_000
    assert client.call(bytes, 500_000) == bytes(500_000)
    with client.executor() as pool:
        futures = [pool.submit(len, b"x" * 100_000) for _ in range(20)]
        assert {future.result(PATIENCE) for future in futures} == {100_000}


def test_values_are_kept_until_they_were_read(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker_jobs.client.core._FORGET_AFTER", 0.01)
    results = client.map(bytes, [200_000] * 4)
    first = next(results)
    time.sleep(0.5)  # a slow reader: everything is done, and nothing may be dropped
    assert [first, *results] == [bytes(200_000)] * 4
