"""Rules that every queue keeps, and how messages get back to where they were."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import broker_jobs.broker.amqp
from broker_jobs.broker.amqp.address import QueueStyle
from broker_jobs.broker.amqp.arguments import declaration
from broker_jobs.broker.embedded.routes import Routes
from broker_jobs.core.spec import Lane
from broker_jobs.errors import ValidationError
from broker_jobs.ids import MOST_PARTITIONS
from broker_jobs.wire.topology import Queue, QueueKind, Topology
from broker_jobs.wire.way_back import way_back

NAMES = Topology("t")
CLASS = NAMES.class_queue("cpus1-0a", Lane.high)
QUEUES = [NAMES.ledger(0), CLASS, NAMES.dead_letters(), NAMES.lease_queue("w"), NAMES.control_queue("w"), NAMES.reply_queue("c")]


def test_each_kind_of_queue_is_looked_at() -> None:
    assert {queue.kind for queue in QUEUES} == set(QueueKind)


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.kind.value)
@pytest.mark.parametrize("style", QueueStyle)
def test_what_is_dropped_is_found_again(queue: Queue, style: QueueStyle) -> None:
    target = declaration(queue, style).arguments.get("x-dead-letter-exchange")
    match queue.kind:
        case QueueKind.dead:
            assert target is None, "it is where they end"
        case _:
            assert target in {exchange.name for exchange in NAMES.exchanges()}


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.kind.value)
def test_all_names_have_the_namespace_and_their_version(queue: Queue) -> None:
    assert queue.name.startswith("t.v2.")
    rest = queue.name.removeprefix("t.v2.")
    assert NAMES.queue_name(rest) == queue.name
    assert NAMES.rest_of(queue.name) == NAMES.rest_of(NAMES.former_name(queue.name)) == rest
    assert NAMES.former_name(queue.name) == f"t.{rest}", "which is how 0.1.0 has named them"
    assert all(binding.exchange.startswith("t.") for binding in queue.bindings)


def test_namespaces_share_nothing() -> None:
    names = {}
    for namespace in ("t", "t2", "u"):
        topology = Topology(namespace)
        queues = [topology.ledger(0), topology.class_queue("c", Lane.low), topology.dead_letters(), topology.reply_queue("c")]
        names[namespace] = {each.name for each in (*topology.exchanges(), *queues)} | {
            binding.exchange for queue in queues for binding in queue.bindings
        }
    assert not names["t"] & names["t2"] | names["t"] & names["u"]
    with pytest.raises(ValidationError):
        Topology("t.tasks")  # whose names could be those of another


def _calls(name: str) -> list[dict[str, Any]]:
    """Arguments by keyword of each call of a method of pika's, anywhere in the adapter; what is no constant as its source."""
    found = []
    for path in Path(broker_jobs.broker.amqp.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            # Called, or handed to what calls it.
            if name in [part.attr for part in (node.func, *node.args[:1]) if isinstance(part, ast.Attribute)]:
                given = {each.arg: each.value for each in node.keywords if each.arg}
                found.append({key: value.value if isinstance(value, ast.Constant) else ast.unparse(value) for key, value in given.items()})
    return found


def test_no_prefetch_is_global() -> None:
    calls = _calls("basic_qos")
    assert calls
    assert all(call["global_qos"] is False for call in calls)


def test_queues_are_durable_or_exclusive() -> None:
    made = [call for call in _calls("queue_declare") if not call.get("passive")]
    assert [(call["durable"], call["exclusive"]) for call in made] == [("not how.exclusive", "how.exclusive")]
    exchanges = [call for call in _calls("exchange_declare") if not call.get("passive")]
    assert [call["durable"] for call in exchanges] == [True]


def test_what_a_key_says_of_a_message() -> None:
    lane = Lane.normal
    direct, alone = NAMES.task_key("c", lane, 0), NAMES.ledger_key(0)
    assert NAMES.is_direct(NAMES.tasks, direct)
    assert not any(NAMES.is_direct(*other) for other in ((NAMES.tasks, alone), (NAMES.ready, direct), (NAMES.replies, "client.0")))
    assert NAMES.is_heard(NAMES.replies, NAMES.reply_key("client", 1))
    for exchange, key in ((NAMES.replies, NAMES.reply_key("", 1)), (NAMES.replies, NAMES.worker_key()), (NAMES.returned, "client.0")):
        assert not NAMES.is_heard(exchange, key)


def test_queues_that_are_kept_are_found_by_name() -> None:
    for queue in (*QUEUES[:3], NAMES.ledger(1), NAMES.ledger(MOST_PARTITIONS - 1)):
        assert NAMES.kept(queue.name) == queue
    for name in (
        "t",
        "t.v2",
        "t.v2.ledger.x",
        "t.v2.ledger.01",
        f"t.v2.ledger.{MOST_PARTITIONS}",
        "t.ledger.0",
        "t.v1.ledger.0",
        "t.ledger.0.keeper",
        "t.v2.ledger.0.keeper",
        "t.v2.task.a",
        "t.v2.task.a.b.high",
        "t.v2.task.a.wide",
        "t.dead",
        "u.v2.dead",
        "t.v2.reply.c",
        "t.v2.lease.w",
        "dead",
        "ledger.0",
    ):
        assert NAMES.kept(name) is None


def test_who_keeps_a_partition_is_told_by_a_name_that_no_version_changes() -> None:
    assert NAMES.keeper(3, "mine").name == NAMES.keeper_name(3) == "t.ledger.3.keeper"


@pytest.mark.parametrize(
    ("queue", "exchange", "key", "back"),
    [
        (NAMES.ledger_name(0), NAMES.tasks, "_._.0", (NAMES.tasks, "_._.0")),
        (NAMES.ledger_name(0), NAMES.replies, "c.0", (NAMES.replies, "c.0")),
        (NAMES.ledger_name(0), NAMES.returned, "w.0", (NAMES.returned, "w.0")),
        (NAMES.ledger_name(0), NAMES.replies, "_.0", (NAMES.replies, "_.0")),
        (NAMES.ledger_name(0), "amq.direct", "x", None),
        (NAMES.ledger_name(2), NAMES.tasks, "_._.2", (NAMES.tasks, "_._.2")),
        (NAMES.ledger_name(2), NAMES.replies, "c.2", (NAMES.replies, "c.2")),
        (NAMES.ledger_name(2), NAMES.replies, "_.0", (NAMES.replies, "_.2")),
        (NAMES.ledger_name(2), NAMES.returned, "w.0", (NAMES.returned, "w.2")),
        (NAMES.ledger_name(2), NAMES.returned, "cpus1-0a.high.2", (NAMES.returned, "cpus1-0a.high.2")),
        (CLASS.name, NAMES.tasks, "cpus1-0a.high.0", (NAMES.ready, "cpus1-0a.high.0")),
        (CLASS.name, "", CLASS.name, (NAMES.ready, "cpus1-0a.high.0")),
        ("t.v2.control.w", NAMES.control, "all", (NAMES.control, "w")),
        ("t.v2.control.all", NAMES.control, "all", None),
        ("t.v2.control.", NAMES.control, "all", None),
        ("t.v2.reply.c", NAMES.replies, "c.0", (NAMES.replies, "c.direct")),
        ("t.v2.reply.", NAMES.replies, "c.0", None),
        (NAMES.dead_name, NAMES.replies, "_.dead", (NAMES.dead, "_.dead")),
        ("t.v2.lease.w", NAMES.lease, "w.0", None),
        ("u.v2.control.w", NAMES.control, "w", None),
        # What was a dead letter before names had a version.
        ("t.ledger.0", NAMES.replies, "c.0", (NAMES.replies, "c.0")),
        ("t.task.cpus1-0a.high", NAMES.tasks, "cpus1-0a.high.0", (NAMES.ready, "cpus1-0a.high.0")),
        ("t.dead", NAMES.replies, "_.dead", (NAMES.dead, "_.dead")),
        ("t.v2", NAMES.control, "all", None),
        ("", "", "", None),
    ],
)
def test_a_message_gets_back_into_its_queue_alone(queue: str, exchange: str, key: str, back: tuple[str, str] | None) -> None:
    assert way_back(NAMES, queue, exchange, key) == back


def test_what_a_slow_reader_misses_goes_where_its_user_may_write_and_nobody_of_ours_listens() -> None:
    control, reply = NAMES.control_queue("w"), NAMES.reply_queue("c")
    assert (control.dead_letter_exchange, reply.dead_letter_exchange) == (NAMES.replies, NAMES.tasks)
    ours = [*QUEUES, *(NAMES.ledger(partition) for partition in range(MOST_PARTITIONS))]
    bindings = [(binding.exchange, binding.pattern, queue) for queue, each in enumerate(ours) for binding in each.bindings]
    routes = Routes([each.name for each in NAMES.exchanges()], bindings)
    for queue in (control, reply):
        assert queue.dead_letter_key == NAMES.dropped_key()
        assert not routes.queues(queue.dead_letter_exchange or "", NAMES.dropped_key())
