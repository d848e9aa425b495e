"""What tasks print, read from anywhere: while they run, all of it while the worker lives, its end for ever."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
import warnings
from typing import TYPE_CHECKING

import pytest

from broker_jobs import AsyncClient, Job, LocalCluster, Retry
from broker_jobs.client.output import printed
from tests.support.daemons import until
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker_jobs import Client
    from tests.support.rabbitmq import RabbitMQ, RabbitMQNode

PATIENCE = 60.0
MANY = 3_000_000


@pytest.fixture(scope="module", params=["embedded", pytest.param("amqp", marks=pytest.mark.long)])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of a coordinator and a worker of four processors."""
    url = None if request.param == "embedded" else request.getfixturevalue("rabbitmq").fresh_vhost()
    with LocalCluster(cpus=4, url=url) as cluster, cluster.client() as found:
        yield found


def numbered(lines: int, stream: int = 1) -> None:
    """Print lines that say where they are."""
    data = b"".join(b"%09d\n" % number for number in range(lines))
    while data:
        data = data[os.write(stream, data) :]


def talk(folder: str, lines: int) -> None:
    """Print a line when told to, and all kinds of bytes at the end."""
    for number in range(lines):
        until(lambda: os.path.exists(f"{folder}/{number}"), "the next one may be printed")  # noqa: B023, PTH110 (called at once)
        print(f"line {number}", flush=True)
    os.write(1, bytes(range(256)))


def fail_once(mark: str) -> None:
    """Print something else at the second attempt."""
    first = not os.path.exists(mark)  # noqa: PTH110
    print("first" if first else "second", flush=True)
    if first:
        os.mkdir(mark)  # noqa: PTH102
        raise ValueError("once")


def hang_once(mark: str) -> None:
    """Do not end at the first attempt."""
    first = not os.path.exists(mark)  # noqa: PTH110
    print("first" if first else "second", flush=True)
    if first:
        os.mkdir(mark)  # noqa: PTH102
        time.sleep(PATIENCE)


def test_all_that_a_task_has_printed_comes_over_the_broker(client: Client) -> None:
    job = Job()
    out, err = job.function(numbered, args=(MANY // 10,)), job.function(numbered, args=(MANY // 10, 2))
    submitted = client.submit(job)
    expected = b"".join(b"%09d\n" % number for number in range(MANY // 10))
    assert submitted.stdout(out, timeout=PATIENCE) == expected
    assert submitted.stderr(err, timeout=PATIENCE) == expected
    assert submitted.stderr(out) == b""


def test_a_task_is_followed_while_it_prints_without_loss_or_repetition(client: Client, tmp_path: Path) -> None:
    job = Job()
    task = job.function(talk, args=(str(tmp_path), 5))
    submitted = client.submit(job)
    (tmp_path / "0").touch()
    heard = b""
    for part in submitted.follow(task):
        heard += part
        (tmp_path / str(heard.count(b"\n"))).touch()
    assert heard == b"".join(b"line %d\n" % number for number in range(5)) + bytes(range(256))


def test_two_follow_the_same_task(client: Client, tmp_path: Path) -> None:
    job = Job()
    task = job.function(talk, args=(str(tmp_path), 3))
    submitted = client.submit(job)
    heard = [b"", b""]

    def follow(index: int) -> None:
        heard[index] = b"".join(submitted.follow(task))

    threads = [threading.Thread(target=follow, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for number in range(3):
        (tmp_path / str(number)).touch()
    for thread in threads:
        thread.join(PATIENCE)
    assert heard == [b"line 0\nline 1\nline 2\n" + bytes(range(256))] * 2


def test_a_task_that_is_tried_again_is_followed_through_its_attempts(client: Client, tmp_path: Path) -> None:
    job = Job()
    task = job.function(fail_once, args=(str(tmp_path / "mark"),), retry=Retry(max_attempts=2, backoff=0.5))
    submitted = client.submit(job)
    assert b"".join(submitted.follow(task)).endswith(b"second\n")
    assert submitted.stdout(task) == b"second\n"


def test_a_large_output_is_followed_to_its_last_byte(client: Client) -> None:
    job = Job()
    task = job.function(numbered, args=(MANY,))
    submitted = client.submit(job)
    size, last = 0, b""
    for part in submitted.follow(task):
        size, last = size + len(part), part
    assert (size, last[-10:]) == (MANY * 10, b"%09d\n" % (MANY - 1))


def test_what_was_printed_before_a_cancel_or_a_limit_is_kept(client: Client) -> None:
    job = Job()
    canceled = job.program(["sh", "-c", "seq 20000; echo now >&2; sleep 100"])
    limited = job.program(["sh", "-c", "echo begun; sleep 100"], time_limit=0.5)
    submitted = client.submit(job)
    for part in submitted.follow(canceled, "stderr"):
        assert part == b"now\n"
        submitted.cancel(tasks=[canceled])
    expected = b"".join(b"%d\n" % number for number in range(1, 20001))
    assert submitted.stdout(canceled, timeout=PATIENCE) == expected
    assert submitted.stdout(limited, timeout=PATIENCE) == b"begun\n"


def test_a_task_that_prints_more_than_it_may_fails_with_this_cause(client: Client) -> None:
    job = Job()
    loud = job.program(["yes"], output_limit="1 MB", retry=Retry(max_attempts=2, backoff=0.1, on=["output limit"]))
    submitted = client.submit(job)
    client.wait_for_jobs([submitted], timeout=PATIENCE, raise_on_error=False)
    error = submitted.errors()[loud.number]
    assert (error.cause, error.attempt) == ("output limit", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on a fast machine it has printed more than is kept
        assert len(submitted.stdout(loud)) > 1_000_000


def test_a_file_of_the_user_is_read_though_its_task_was_killed(client: Client, tmp_path: Path) -> None:
    job = Job()
    script = "trap '' TERM; echo begun; while :; do sleep 1; done"
    task = job.program(["sh", "-c", script], cwd=tmp_path, stdout="log", time_limit=0.3, grace=0.1)
    submitted = client.submit(job)
    assert submitted.stdout(task, timeout=PATIENCE) == b"begun\n"
    texts = client.runtime.iterate(lambda core: printed(core, submitted.joined(core), [task.number], stderr=False))
    assert b"".join(text.part.data for text in texts if text.part is not None) == b"begun\n"


def test_a_file_of_the_user_is_followed_too(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = Job()
    script = f"seq 3; until [ -e {gate} ]; do sleep 0.02; done; seq 4 30000"
    task = job.program(["sh", "-c", script], cwd=tmp_path, stdout="plot.log")
    heard = b""
    submitted = client.submit(job)
    for part in submitted.follow(task):
        heard += part
        gate.touch()
    assert heard == submitted.stdout(task) == (tmp_path / "plot.log").read_bytes() == b"".join(b"%d\n" % n for n in range(1, 30001))


@pytest.mark.long
def test_a_task_whose_worker_is_killed_is_followed_on_the_next_one(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    with LocalCluster(cpus=1, url=rabbitmq.fresh_vhost()) as cluster, cluster.client() as client:
        job = Job()
        task = job.function(hang_once, args=(str(tmp_path / "mark"),))
        heard = client.submit(job).follow(task)
        assert next(heard) == b"first\n"
        [worker] = [pid for pid, name in cluster.processes.items() if name.startswith("worker")]
        os.kill(worker, signal.SIGKILL)
        cluster.start_worker()
        assert b"".join(heard) == b"second\n"


@pytest.mark.long
def test_a_follower_outlives_cut_connections(rabbitmq: RabbitMQNode, tmp_path: Path) -> None:
    async def story(cluster: LocalCluster, vhost: str) -> bytes:
        heard = b""
        async with Proxy(cluster.url) as proxy, AsyncClient(proxy.url, namespace=cluster.namespace, signing_key=cluster.key) as client:
            job = Job()
            task = job.function(talk, args=(str(tmp_path), 6))
            submitted = await client.submit(job)
            (tmp_path / "0").touch()
            async with asyncio.timeout(PATIENCE):
                async for part in submitted.follow(task):
                    heard += part
                    number = heard.count(b"\n")
                    if number == 2:
                        await proxy.cut()
                        await proxy.mend()
                    if number == 4:
                        await asyncio.to_thread(rabbitmq.close_connections, vhost)
                    (tmp_path / str(number)).touch()
        return heard

    vhost_url = rabbitmq.fresh_vhost()
    with LocalCluster(cpus=1, url=vhost_url) as cluster:
        heard = asyncio.run(story(cluster, vhost_url.rpartition("/")[2]))
    assert heard == b"".join(b"line %d\n" % number for number in range(6)) + bytes(range(256))
