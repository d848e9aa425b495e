"""What bad input gets: an exception in the caller's process before anything is sent, an outcome with its full text, or a dead letter."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pika
import pytest

from broker_jobs import Client, Job, LocalCluster, ResourceRequest, TaskFailed, TaskState, errors
from broker_jobs.broker import open_broker
from broker_jobs.broker.port import Outgoing, Receipt
from broker_jobs.core.spec import Lane
from broker_jobs.ids import new_job_id
from broker_jobs.wire.messages import HelloAsked, Role
from broker_jobs.wire.signing import Signer, SigningKey, new_key
from broker_jobs.wire.topology import Topology
from tests.support.daemons import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.rabbitmq import RabbitMQ

PATIENCE = 30.0


# --- before anything is sent ---


@pytest.fixture(params=[pytest.param("embedded", marks=pytest.mark.long), "rabbitmq"])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a broker without daemons: whatever is sent stays in its queues."""
    if request.param == "embedded":
        return f"sqlite:///{tmp_path}/queue.db"
    url: str = request.getfixturevalue("rabbitmq").fresh_vhost()
    return url


def _waiting(url: str) -> int:
    """Messages that somebody has sent to the ledger."""

    async def ask() -> int:
        broker = await open_broker(url, name="test", timeout=PATIENCE)
        try:
            depth = await broker.depth(Topology().ledger_name(0))
            return depth.ready if depth else 0
        finally:
            await broker.close()

    return asyncio.run(ask())


def _empty(_: Path) -> Job:
    return Job(name="nothing")


def _cycle(_: Path) -> Job:
    job = Job()
    box: list[object] = []
    first = job.function(len, args=(box,), name="first")
    second = job.function(str, args=(first.output,), name="second")
    box.append(second.output)
    return job


def _foreign_dependency(_: Path) -> Job:
    other = Job(name="other").program(["true"])
    job = Job(name="mine")
    job.program(["true"], deps=[other])
    return job


def _foreign_output(_: Path) -> Job:
    other = Job(name="other").function(abs, args=(1,))
    job = Job(name="mine")
    job.function(abs, args=(other.output,))
    return job


def _unpicklable_argument(_: Path) -> Job:
    job = Job()
    job.function(print, args=(1, {"lock": threading.Lock()}), name="locked")
    return job


def _negative_limit(_: Path) -> Job:
    job = Job()
    job.program(["true"], time_limit=-1)
    return job


def _output_of_a_program(_: Path) -> Job:
    job = Job()
    listing = job.program(["ls"])
    job.function(len, args=(listing.output,))
    return job


def _negative_request(_: Path) -> Job:
    job = Job()
    job.program(["true"], resources=ResourceRequest(cpus=-2))
    return job


def _not_callable(_: Path) -> Job:
    job = Job()
    job.function("len")  # type: ignore[arg-type] # the mistake
    return job


@pytest.mark.parametrize(
    ("written", "kind", "told"),
    [
        (_empty, errors.ValidationError, ["'nothing'", "task"]),
        (_cycle, errors.CycleError, ["first", "second", "→"]),
        (_foreign_dependency, errors.ValidationError, ["'other'", "'mine'", "put both tasks into one job"]),
        (_foreign_output, errors.ValidationError, ["'other'", "'mine'", "put both tasks into one job", "submit the other"]),
        (_unpicklable_argument, errors.UnpicklableError, ["locked", "argument 2", "lock"]),
        (_negative_limit, errors.ValidationError, ["time_limit", "-1"]),
        (_output_of_a_program, errors.ValidationError, ["'ls'", "exit code", "write a file"]),
        (_negative_request, errors.ValidationError, ["cpus", "-2"]),
        (_not_callable, errors.ValidationError, ["function", "'len'"]),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) and not isinstance(value, type) else "",
)
def test_a_wrong_job_is_refused_before_anything_is_sent(
    bare: str, written: Callable[[Path], Job], kind: type[Exception], told: list[str], tmp_path: Path
) -> None:
    with Client(bare, signing_key=new_key()) as client:
        with pytest.raises(kind) as caught:
            client.submit(written(tmp_path))
        assert not [part for part in told if part not in str(caught.value)], caught.value
        assert _waiting(bare) == 0


def test_a_value_over_the_limit_is_refused_before_anything_is_sent(rabbitmq: RabbitMQ) -> None:
    url = rabbitmq.fresh_vhost()
    job = Job()
    job.function(len, args=("short",))
    job.function(len, args=(bytes(9 * 2**20),), name="measure")
    with Client(url, signing_key=new_key()) as client:
        with pytest.raises(errors.ValueTooLarge, match="value_store") as caught:
            client.submit(job)
        assert "measure" in str(caught.value)
        assert "MiB" in str(caught.value)
        assert _waiting(url) == 0


def test_a_missing_key_is_told_with_the_ways_to_give_one(rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BROKER_JOBS_HOME", str(tmp_path))
    monkeypatch.delenv("BROKER_JOBS_SIGNING_KEY", raising=False)
    url = rabbitmq.fresh_vhost()
    job = Job()
    job.program(["true"])
    with Client(url) as client:
        with pytest.raises(errors.SigningKeyMissing) as caught:
            client.submit(job)
        for way in ("signing_key=", "BROKER_JOBS_SIGNING_KEY", "signing_key_file", "broker-jobs key new"):
            assert way in str(caught.value)
        assert _waiting(url) == 0


def test_wrong_addresses_are_told(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    url = rabbitmq.fresh_vhost()
    here = urlsplit(url)
    beginning = f"amqp://{here.username}:{here.password}@{here.hostname}:{here.port or 5672}"
    for wrong in ("localhost:5672", "http://here/", "sqlite://host/file"):
        with pytest.raises(errors.AddressError, match=r"use (amqp://user:password@host:5672/vhost|sqlite:////path)"):
            Client(wrong)
    with pytest.raises(errors.AccessRefused, match="refuses this user and password: correct them in the address") as refused:
        Client(f"amqp://{here.username}:wr0ng-s3cret@{here.hostname}:{here.port or 5672}{here.path}")
    assert "wr0ng-s3cret" not in str(refused.value)
    with pytest.raises(errors.VirtualHostNotFound, match="rabbitmqctl add_vhost"):
        Client(f"{beginning}/no-such-host-{secrets.token_hex(4)}")
    begun = time.monotonic()
    with pytest.raises(errors.BrokerUnavailable, match=r"127\.0\.0\.1:1 does not answer: Connection refused; see that it runs"):
        Client("amqp://guest:guest@127.0.0.1:1/", timeout=1.5)
    assert time.monotonic() - begun < PATIENCE
    (tmp_path / "file").touch()
    with pytest.raises(errors.ValidationError, match=r"state folder .* cannot be made"):
        Client(f"sqlite:///{tmp_path}/file/folder/queue.db")


# --- outcomes ---


@pytest.fixture(scope="module", params=[pytest.param("embedded", marks=pytest.mark.long), "rabbitmq"])
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """A coordinator and one worker, which must survive everything here."""
    url: str | None = None if request.param == "embedded" else request.getfixturevalue("rabbitmq").fresh_vhost()
    with LocalCluster(cpus=2, url=url) as found:
        before = dict(found.processes)
        yield found
        assert dict(found.processes) == before
        with found.client() as client:
            assert client.call(abs, -1) == 1
            [worker] = client.cluster().workers
            assert (worker.state, worker.pid in before) == ("active", True)


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with cluster.client() as found:
        yield found


def _raise_at_length() -> None:
    raise ValueError("beginning" + 300_000 * "x" + "the very end")


def _exit() -> None:
    sys.exit(7)


def _return_a_lock() -> object:
    return threading.Lock()


def _abort() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _program(*argv: str, **options: Any) -> Callable[[Job], Any]:
    return lambda job: job.program(argv, **options)


def _function(fn: Callable[[], object], **options: Any) -> Callable[[Job], Any]:
    return lambda job: job.function(fn, **options)


@pytest.mark.parametrize(
    ("add", "cause", "told"),
    [
        pytest.param(_function(_raise_at_length), "error", ["ValueError", "the very end"], id="exception"),
        pytest.param(_function(_exit), "exit code", ["7"], id="sys.exit"),
        pytest.param(_function(_return_a_lock), "error", ["result", "lock", "pickle"], id="unpicklable result"),
        pytest.param(_function(_abort, crash_limit="never"), "crash limit", ["SIGSEGV"], id="crash"),
        pytest.param(_program("sh", "-c", "echo why >&2; exit 3"), "exit code", ["3", "why"], id="exit code"),
        pytest.param(_program("sh", "-c", "kill -TERM $$"), "signal", ["SIGTERM"], id="signal"),
        pytest.param(_program("no-such-program"), "error", ["program not found: no-such-program", "absolute path"], id="missing program"),
        pytest.param(_program("true", stdout="/proc/nowhere/log"), "error", ["/proc/nowhere/log"], id="unwritable output"),
        pytest.param(_program("true", cwd="/proc/nowhere"), "error", ["/proc/nowhere"], id="impossible folder"),
        pytest.param(_program("sleep", "60", time_limit=0.2), "time limit", ["0.2 s"], id="time limit"),
    ],
)
def test_a_failure_is_an_outcome_and_harms_nobody(client: Client, add: Callable[[Job], Any], cause: str, told: list[str]) -> None:
    job = Job()
    bad = add(job)
    others = job.map(abs, range(-5, 0))
    submitted = client.submit(job)
    assert not submitted.wait(PATIENCE)
    [(number, error)] = submitted.errors().items()
    assert (number, error.cause) == (bad.number, cause)
    text = f"{error.message}\n{error.traceback}"
    assert not [part for part in told if part not in text], text[-3000:]
    assert [submitted.result(task) for task in others] == [5, 4, 3, 2, 1]
    with pytest.raises(TaskFailed) as caught:
        submitted.result(bad)
    assert told[-1] in str(caught.value)


def test_of_long_output_the_tail_is_kept(client: Client) -> None:
    job = Job()
    talks = job.program([sys.executable, "-c", "import sys; print('x' * 300_000); sys.exit('the very end')"])
    submitted = client.submit(job)
    assert not submitted.wait(PATIENCE)
    assert "the very end" in submitted.errors()[talks.number].message
    assert submitted.stdout(talks).endswith(b"x\n")
    assert len(submitted.stdout(talks)) >= 64 * 1024


def _die_once(folder: str) -> str:
    """Say who runs it, and wait to be killed; the second time just end."""
    path = Path(folder, "pid")
    if path.exists():
        return "again"
    path.with_suffix(".new").write_text(str(os.getpid()), encoding="utf-8")
    path.with_suffix(".new").rename(path)
    time.sleep(PATIENCE)
    return "survived"


def test_a_child_killed_from_outside_is_run_again(client: Client, tmp_path: Path) -> None:
    job = Job()
    task = job.function(_die_once, args=(str(tmp_path),))
    submitted = client.submit(job)
    until((tmp_path / "pid").exists, "the task runs")
    os.kill(int((tmp_path / "pid").read_text(encoding="utf-8")), signal.SIGKILL)
    assert submitted.result(task, timeout=PATIENCE) == "again"
    assert submitted.wait(PATIENCE)
    [info] = submitted.tasks([task.number])
    assert (info.state, info.crashes) == (TaskState.succeeded, 1)


def test_a_request_that_nobody_can_meet_is_told(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    job = Job()
    job.program(["true"], resources=ResourceRequest(cpus=500))
    submitted = client.submit(job)
    until(lambda: "no worker seen so far could meet the request cpus=500" in caplog.text, "the client warns")
    until(lambda: any("no worker seen so far could meet" in note for note in submitted.info().notes), "the job says why it waits")
    submitted.cancel()
    assert not submitted.wait(PATIENCE)


def test_jobs_that_cannot_be_found(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.JobNotFound, match="00112233"):
        client.job("00112233")
    with pytest.raises(errors.ValidationError, match="at least its last 4 digits"):
        client.job("train")
    ids = [f"{new_job_id()[:24]}bcdef012" for _ in range(2)]
    waiting = iter(ids)
    monkeypatch.setattr("broker_jobs.client.client.new_job_id", lambda _: next(waiting))
    for _ in ids:
        job = Job()
        job.program(["true"])
        assert client.submit(job).wait(PATIENCE)
    with pytest.raises(errors.AmbiguousId) as caught:
        client.job(ids[0][-8:])
    assert set(caught.value.candidates) == set(ids)
    assert all(candidate in str(caught.value) for candidate in ids)


# --- garbage ---


def _dead(url: str, queue: str) -> list[tuple[bytes, str]]:
    """Dead letters and their reasons; they stay where they are."""
    if url.startswith("sqlite:"):
        with sqlite3.connect(f"file:{url.removeprefix('sqlite:///')}?mode=ro", uri=True) as database:
            rows = database.execute(
                "SELECT body, headers FROM bodies JOIN messages USING (id) JOIN queues ON queues.id = queue WHERE name = ?", (queue,)
            ).fetchall()
        database.close()
        return [(body, json.loads(headers)["reason"]) for body, headers in rows]
    found = []
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    while True:
        method, properties, body = channel.basic_get(queue)
        if method is None:
            break
        found.append((body, properties.headers["reason"]))
    connection.close()
    return found


def test_garbage_on_any_queue_becomes_a_dead_letter_with_a_reason(cluster: LocalCluster, client: Client) -> None:
    assert client.call(abs, -1) == 1  # the class queue is there, and somebody consumes it
    names = Topology(cluster.namespace)
    [worker] = client.cluster().workers
    [used] = [found.name for found in client.cluster().classes if found.name.startswith("cpus1-")]
    stranger = Signer(cluster.namespace, SigningKey.parse(new_key()))
    places = {
        "ledger": (names.tasks, names.ledger_key(0)),
        "class and ledger": (names.tasks, names.task_key(used, Lane.normal, 0)),
        "class": (names.ready, names.task_key(used, Lane.normal, 0)),
        "replies": (names.replies, names.worker_key()),
        "client": (names.replies, names.answer_key(client.runtime.connect().link.client)),
        "every worker": (names.control, "all"),
        "one worker": (names.control, worker.worker),
        "returned": (names.returned, "whatever.0"),
        "lease": (names.lease, names.token_key(worker.worker)),
    }
    sent: dict[bytes, int] = {}
    messages = []
    for place, (exchange, key) in places.items():
        for body in (b"garbage for %s" % place.encode(), secrets.token_bytes(3000), stranger.seal(HelloAsked(place), Role.coordinator)):
            messages.append(Outgoing(exchange, key, body))
            sent[body] = 2 if place == "class and ledger" else 1

    async def publish() -> list[Receipt]:
        broker = await open_broker(cluster.url, name="vandal", timeout=PATIENCE)
        try:
            return await asyncio.wait_for(broker.publish(messages), PATIENCE)
        finally:
            await broker.close()

    assert asyncio.run(publish()) == [Receipt.confirmed] * len(messages)

    def counted() -> dict[bytes, int]:
        bodies = [body for body, _ in _dead(cluster.url, names.dead_name)]
        return {body: bodies.count(body) for body in sent}

    until(lambda: counted() == sent, f"every piece is a dead letter: {[body[:40] for body in sent if counted()[body] != sent[body]]}")
    for body, reason in _dead(cluster.url, names.dead_name):
        if body in sent:
            assert reason.partition(":")[0] in {"decode", "security"}
            assert len(reason) > len("security: ")
    assert client.call(abs, -2) == 2
    job = Job()
    job.function(abs, args=(job.function(abs, args=(-3,)).output,))
    assert client.submit(job).wait(PATIENCE)
    assert client.cluster().workers[0].pid == worker.pid
