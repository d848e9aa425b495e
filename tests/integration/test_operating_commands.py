"""``broker-jobs queue`` and ``broker-jobs dead`` on both brokers."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from broker_jobs.broker.port import Outgoing, Receipt
from broker_jobs.cli.app import app
from broker_jobs.core.spec import Lane
from broker_jobs.wire.messages import Goodbye, HelloAsked, Role
from broker_jobs.wire.signing import Signer, SigningKey, new_key
from tests.support.inbox import Inbox, run
from tests.support.station import CLASS, DEAD, LEDGER, NAMES, connected, put, ready, waiting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from broker_jobs import Client, LocalCluster
    from broker_jobs.broker.port import Delivery
    from tests.support.rabbitmq import RabbitMQ

KEY = new_key()
SIGNER = Signer("t", SigningKey.parse(KEY))
STRANGER = Signer("t", SigningKey.parse(new_key()))


@pytest.fixture(params=["embedded", "rabbitmq"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A broker of its own for this test, where the commands find it."""
    if request.param == "embedded":
        found = f"sqlite:///{tmp_path}/queue.db"
    else:
        node: RabbitMQ = request.getfixturevalue("rabbitmq")
        found = node.fresh_vhost()
    for name, value in {"URL": found, "NAMESPACE": "t", "SIGNING_KEY": KEY}.items():
        monkeypatch.setenv(f"BROKER_JOBS_{name}", value)
    monkeypatch.chdir(tmp_path)
    return found


def command(*arguments: str, code: int = 0) -> Result:
    """The end of ``broker-jobs ARGUMENTS``."""
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, (arguments, done.output, done.exception)
    return done


def read(*arguments: str, code: int = 0) -> Any:
    """What it writes for programs."""
    return json.loads(command(*arguments, "--output", "json", code=code).stdout)


def refuse(url: str, messages: Sequence[Outgoing], queue: str, reason: str) -> None:
    """Publish these, and let whoever reads them in a queue make dead letters of them."""

    async def story() -> None:
        async with connected(url) as broker:
            inbox = Inbox()
            await broker.consume(queue, len(messages), inbox)
            await put(broker, messages)
            for delivery in await inbox.take(len(messages)):
                assert await broker.dead_letter(delivery, NAMES.dead, reason)

    run(story())


def left_in(url: str, queue: str, count: int) -> list[Delivery]:
    """So many messages, and no more, are in a queue."""
    found: list[Delivery] = []

    async def story() -> None:
        async with connected(url) as broker:
            inbox = Inbox()
            subscription = await broker.consume(queue, count + 1, inbox)
            found.extend(await inbox.take(count))
            assert all(map(broker.done, found))
            await subscription.cancel()
            assert not len(inbox)

    run(story())
    return found


def test_dead_letters_are_listed_shown_sent_back_and_dropped(url: str) -> None:
    good = SIGNER.seal(Goodbye("w", "b"), Role.worker)
    bad = STRANGER.seal(Goodbye("w", "b"), Role.worker)
    refuse(url, [Outgoing(NAMES.replies, "_.0", good), *waiting(b"\0garbage", bad)], LEDGER.name, "decode: [b]whim")
    found = read("dead", "list")
    assert [(one["queue"], one["exchange"], one["key"], one["reason"]) for one in found] == [
        (LEDGER.name, NAMES.replies, "_.0", "decode: [b]whim"),
        (LEDGER.name, NAMES.tasks, "_._.0", "decode: [b]whim"),
        (LEDGER.name, NAMES.tasks, "_._.0", "decode: [b]whim"),
    ]
    first, second, third = (one["id"] for one in found)
    assert command("dead", "list", "--output", "quiet").stdout.split() == [first, second, third], "to look changes nothing"
    assert "decode: [b]whim" in command("dead", "list").stdout
    assert "and 2 more" in command("dead", "list", "--limit", "1").output
    assert [one["id"] for _ in range(2) for one in read("dead", "list", "--limit", "1")] == [first] * 2, "always the oldest"

    shown = read("dead", "show", first[:6])
    assert base64.b64decode(shown["body_base64"]) == good
    assert (shown["message"], shown["refused"]) == ("Goodbye of a worker", "")
    assert f"broker-jobs dead requeue {first}" in command("dead", "show", first).stdout
    assert "not a frame" in read("dead", "show", second)["refused"]
    assert "would be refused: signed with the key" in command("dead", "show", third).stdout

    done = read("dead", "requeue", "--all", code=1)
    assert [(one["id"], one["done"]) for one in done] == [(first, True), (second, False), (third, False)]
    assert [one["id"] for one in read("dead", "list")] == [second, third]
    [back] = left_in(url, LEDGER.name, 1)
    assert (back.body, back.exchange, back.key) == (good, NAMES.replies, "_.0")

    assert "--yes" in command("dead", "drop", second, code=2).output
    command("dead", "drop", "ffffffffff", "--yes", code=2)
    assert command("dead", "drop", second, "--yes", "--output", "quiet").stdout.split() == [second]
    assert [one["id"] for one in read("dead", "list")] == [third]
    command("dead", "drop", "--all", "--yes")
    assert read("dead", "list") == []
    assert "no dead letters" in command("dead", "list").stdout


def test_a_control_message_goes_back_to_the_one_worker_that_refused_it(url: str) -> None:
    control = NAMES.control_queue("w")
    good = SIGNER.seal(HelloAsked("c"), Role.coordinator)

    async def story() -> None:
        async with connected(url) as broker:
            await broker.declare([], [control])
            inbox = Inbox()
            await broker.consume(control.name, 2, inbox)
            forged = SIGNER.seal(HelloAsked("c"), Role.worker)
            await put(broker, [Outgoing(NAMES.control, "all", good), Outgoing(NAMES.control, "w", forged)])
            for delivery in await inbox.take(2):
                assert await broker.dead_letter(delivery, NAMES.replies, "security: whim", key=NAMES.dead_key())
            done = await asyncio.to_thread(read, "dead", "requeue", "--all", code=1)
            assert [one["done"] for one in done] == [True, False]
            assert "may not tell workers what to do" in done[1]["text"]
            back = await inbox.next()
            assert (back.body, back.key) == (good, "w")

    run(story())
    assert len(read("dead", "list")) == 1


def test_what_came_from_nowhere_or_to_a_queue_that_is_gone_stays(url: str) -> None:
    async def story() -> None:
        async with connected(url) as broker:
            assert await broker.publish([Outgoing(NAMES.dead, "odd", b"from a stranger")]) == [Receipt.confirmed]
            reply = NAMES.reply_queue("c")
            await broker.declare([], [reply])
            inbox = Inbox()
            await broker.consume(reply.name, 1, inbox)
            await put(broker, [Outgoing(NAMES.replies, "c.direct", SIGNER.seal(Goodbye("w", "b"), Role.worker))])
            assert await broker.dead_letter(await inbox.next(), NAMES.dead, "security: whim")

    run(story())
    first, second = read("dead", "requeue", "--all", code=1)
    assert "nobody knows where it came from" in first["text"]
    assert "not there any more" in second["text"]
    assert len(read("dead", "list")) == 2


def test_purge_asks_and_empties(url: str) -> None:
    async def fill() -> None:
        async with connected(url) as broker:
            await put(broker, [*ready(b"1", b"2"), *waiting(b"3")])

    run(fill())
    refused = command("queue", "purge", CLASS.name, code=2)
    assert "Remove 2 messages from t.v2.task.cpu1.normal?" in refused.output
    assert "--yes" in refused.output
    assert read("queue", "purge", CLASS.name, "--yes") == {"queue": CLASS.name, "removed": 2}
    assert "removed from t.v2.ledger.0: 1" in command("queue", "purge", "ledger.0", "--yes").stdout
    for name, told in (("reply.c", "kept for all"), ("task.other.normal", "no queue t.v2.task.other.normal")):
        assert told in command("queue", "purge", name, "--yes", code=2).output
    left_in(url, DEAD.name, 0)


def test_a_queue_that_is_right_needs_no_migration(url: str) -> None:
    async def fill() -> None:
        async with connected(url) as broker:
            await put(broker, ready(b"stays"))

    run(fill())
    assert read("queue", "migrate", CLASS.name) == [{"queue": CLASS.name, "migrated": False}]
    assert [each.body for each in left_in(url, CLASS.name, 1)] == [b"stays"]


def test_commands_need_to_be_told_which(url: str) -> None:
    for arguments in (("dead", "requeue"), ("dead", "drop", "--yes"), ("dead", "requeue", "12345678", "--all")):
        assert "say which" in command(*arguments, code=2).output


def test_queues_are_listed_with_those_of_tasks(
    cluster: LocalCluster, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BROKER_JOBS_SIGNING_KEY", client.settings.required_key().secret.hex())
    assert client.call(abs, -1) == 1
    names = type(NAMES)(cluster.namespace)
    there = ("--url", cluster.url, "--namespace", cluster.namespace)
    found = {row["queue"]: row for row in read("queue", "list", *there)}
    assert found[names.ledger_name(0)]["consumers"] == 1
    [used] = [each.name for each in client.cluster().classes if each.name.startswith("cpus1-")]
    tasks = found[names.class_name(used, Lane.normal)]
    assert (tasks["kind"], tasks["ready"]) == ("tasks", 0)
    assert found[names.dead_name]["kind"] == "dead"
    assert "consumers" in command("queue", "list", *there).stdout
    assert names.dead_name in command("queue", "list", *there, "--output", "quiet").stdout.split()
