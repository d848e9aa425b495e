"""The permissions of docs/security.md are enough for each role, and no more: four users of RabbitMQ are given what the page says."""

from __future__ import annotations

import json
import re
import secrets
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pika
import pika.exceptions
import pytest

from broker_jobs import Client, Job
from broker_jobs.errors import AccessRefused
from broker_jobs.wire.signing import new_key
from broker_jobs.wire.topology import Topology
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.rabbitmq import RabbitMQNode

pytestmark = pytest.mark.owns_node

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
NAMES = Topology("bj")
ACCESS_REFUSED = 403
ROLES = ("coordinator", "submitter", "node17", "observer")


class Users:
    """The users of the page, in a virtual host of their own."""

    def __init__(self, node: RabbitMQNode) -> None:
        self.admin = node.fresh_vhost()
        self._vhost = urlsplit(self.admin).path[1:]
        self._passwords = {role: secrets.token_hex(12) for role in ROLES}
        self._node = node
        self._given: list[str] = []
        for role in ROLES:
            node.management.request("PUT", f"users/{self._user(role)}", {"password": self._passwords[role], "tags": ""})
        told = re.search(r"<!-- permissions -->\n\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
        assert told is not None
        for line in filter(None, told[1].splitlines()):
            self._give(*shlex.split(line))
        assert set(self._given) == set(ROLES)

    def _give(self, program: str, what: str, option: str, vhost: str, role: str, *patterns: str) -> None:
        assert (program, option, vhost) == ("rabbitmqctl", "-p", "jobs")
        user = self._user(role)
        if what == "set_permissions":
            allowed = dict(zip(("configure", "write", "read"), patterns, strict=True))
            self._node.management.request("PUT", f"permissions/{self._vhost}/{user}", allowed)
            self._given.append(role)
        else:
            assert what == "set_topic_permissions"
            limited = dict(zip(("exchange", "write", "read"), patterns, strict=True))
            self._node.management.request("PUT", f"topic-permissions/{self._vhost}/{user}", limited)

    def _user(self, role: str) -> str:
        """Users are of the whole broker, which others use, too."""
        return f"{role}-{self._vhost}"

    def without(self, role: str, topics: tuple[str, str, str] | None = None, **patterns: str) -> str:
        """Address of another user, who may do what a role may, but for these.

        Args:
            topics: an exchange, and the keys with which the user may publish and listen there
        """
        name, password = f"less-{self._vhost}", secrets.token_hex(12)
        self._node.management.request("PUT", f"users/{name}", {"password": password, "tags": ""})
        answer = json.loads(self._node.management.request("GET", f"permissions/{self._vhost}/{self._user(role)}"))
        allowed = {what: answer[what] for what in ("configure", "write", "read")} | patterns
        self._node.management.request("PUT", f"permissions/{self._vhost}/{name}", allowed)
        if topics:
            limited = dict(zip(("exchange", "write", "read"), topics, strict=True))
            self._node.management.request("PUT", f"topic-permissions/{self._vhost}/{name}", limited)
        return self._node.url(self._vhost, user=name, password=password)

    def url(self, role: str) -> str:
        return self._node.url(self._vhost, user=self._user(role), password=self._passwords[role])


@pytest.fixture(scope="module")
def users(rabbitmq: RabbitMQNode) -> Users:
    return Users(rabbitmq)


@pytest.fixture(scope="module")
def daemons(users: Users, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemons]:
    """A coordinator and a worker, each with its own user, and a client's key."""
    with Daemons(tmp_path_factory.mktemp("daemons"), {"BROKER_JOBS_SIGNING_KEY": new_key()}) as found:
        coordinator = found.start("coordinator", "start", "--url", users.url("coordinator"))
        until(
            lambda: exists(users.admin, NAMES.dead_name) or coordinator.poll() is not None, lambda: f"the coordinator is up: {found.logs()}"
        )
        found.start("worker", "start", "--url", users.url("node17"), "--name", "node17", "--cpus", "1")
        yield found


def attempt(url: str, what: Callable[[Any], object]) -> bool:
    """Whether a user may do something; what is wrong for another reason than permission fails the test."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        what(channel)
    except pika.exceptions.ChannelClosedByBroker as error:
        if error.reply_code != ACCESS_REFUSED:
            raise
        return False
    except pika.exceptions.UnroutableError:
        return True  # permitted, and nobody listens
    finally:
        connection.close()
    return True


def exists(url: str, queue: str) -> bool:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        connection.channel().queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        return False
    finally:
        connection.close()
    return True


def publishing(exchange: str, key: str) -> Callable[[Any], object]:
    return lambda channel: channel.basic_publish(exchange, key, b"by a test", mandatory=True)


def reading(queue: str) -> Callable[[Any], object]:
    return lambda channel: channel.basic_cancel(channel.basic_consume(queue, lambda *_: None))


def listening(name: str, exchange: str, pattern: str) -> Callable[[Any], object]:
    def bind(channel: Any) -> None:
        channel.queue_declare(name, exclusive=True)
        channel.queue_bind(name, exchange, pattern)

    return bind


def test_the_roles_work_together(users: Users, daemons: Daemons) -> None:
    observed = pika.BlockingConnection(pika.URLParameters(users.url("observer")))
    watch = observed.channel()
    watch.queue_declare("bj.watch.mine", exclusive=True)
    watch.queue_bind("bj.watch.mine", NAMES.events, "#")
    with Client(users.url("submitter"), signing_key=daemons.env["BROKER_JOBS_SIGNING_KEY"]) as client:
        job = Job()
        first = job.function(abs, args=(-3,))
        last = job.function(abs, args=(first.output,))
        job.program(["true"], after=[last])
        submitted = client.submit(job)
        assert submitted.wait(60), daemons.logs()
        assert submitted.result(last) == 3
        assert client.call(abs, -1) == 1
        assert [worker.worker for worker in client.cluster().workers] == ["node17"]

        # What a worker cannot read reaches the dead letters, though it may publish to `replies` alone.
        [used] = [found.name for found in client.cluster().classes if found.name.startswith("cpus1-")]
    assert attempt(users.admin, publishing(NAMES.ready, f"{used}.normal.0"))

    def dead() -> str:
        return daemons.run("dead", "list", "--url", users.admin).stdout

    until(lambda: "decode: not a frame" in dead(), lambda: f"a dead letter: {daemons.logs()}")
    assert f"bj.v2.task.{used}.normal" in dead()

    _, _, news = watch.basic_get("bj.watch.mine", auto_ack=True)
    assert news is not None
    observed.close()


def test_the_roles_work_together_in_another_partition(users: Users, daemons: Daemons) -> None:
    started = daemons.start("coordinator", "start", "--url", users.url("coordinator"), "--partition", "1")
    until(lambda: daemons.says(started, "keeps") or started.poll() is not None, lambda: f"its coordinator is up: {daemons.logs()}")
    with Client(users.url("submitter"), signing_key=daemons.env["BROKER_JOBS_SIGNING_KEY"], partition=1) as client:
        job = Job()
        first = job.function(abs, args=(-3,))
        last = job.function(abs, args=(first.output,))
        submitted = client.submit(job)
        assert submitted.wait(60), daemons.logs()
        assert submitted.result(last) == 3
        assert client.call(abs, -1) == 1
        assert [worker.worker for worker in client.cluster().workers] == ["node17"]


CLASS_KEY = "cpus1-0.normal.0"
TO_EACH = [
    (NAMES.tasks, "_._.0"),
    (NAMES.tasks, CLASS_KEY),
    (NAMES.ready, CLASS_KEY),
    (NAMES.replies, "_.0"),
    (NAMES.control, "all"),
    (NAMES.lease, "node17.0"),
    (NAMES.lease, "node18.0"),
    (NAMES.returned, "node17.0"),
    (NAMES.events, "failed.x"),
    (NAMES.dead, "x"),
    ("", NAMES.ledger_name(0)),
    ("amq.topic", "x"),
]


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("node17", {(NAMES.replies, "_.0"), (NAMES.lease, "node17.0")}),
        ("submitter", {(NAMES.tasks, "_._.0"), (NAMES.tasks, CLASS_KEY), (NAMES.dead, "x")}),
        ("observer", set()),
        (
            "coordinator",
            {
                (NAMES.ready, CLASS_KEY),
                (NAMES.replies, "_.0"),
                (NAMES.control, "all"),
                (NAMES.returned, "node17.0"),
                (NAMES.events, "failed.x"),
                (NAMES.dead, "x"),
            },
        ),
    ],
)
def test_each_publishes_where_it_must_and_nowhere_else(users: Users, daemons: Daemons, role: str, may: set[tuple[str, str]]) -> None:
    assert daemons.processes
    assert {place for place in TO_EACH if attempt(users.url(role), publishing(*place))} == may


TOLD = r"bj\.tasks.*set_permissions|set_permissions.*bj\.tasks"


def test_a_client_that_may_not_write_to_the_tasks_is_told_at_once(users: Users, daemons: Daemons) -> None:
    url = users.without("submitter", write=r"^bj\.(dead|v2\.reply\..*)$")
    with pytest.raises(AccessRefused, match=TOLD):
        Client(url, signing_key=daemons.env["BROKER_JOBS_SIGNING_KEY"])


def test_a_client_that_may_not_submit_is_told_at_once(users: Users, daemons: Daemons) -> None:
    url = users.without("submitter", topics=(NAMES.tasks, "^$", "^$"))
    with Client(url, signing_key=daemons.env["BROKER_JOBS_SIGNING_KEY"]) as client:
        job = Job()
        job.program(["true"])
        with pytest.raises(AccessRefused, match=TOLD):
            client.submit(job, timeout=60)


def test_each_reads_what_it_must_and_nothing_else(users: Users, daemons: Daemons) -> None:
    with Client(users.url("submitter"), signing_key=daemons.env["BROKER_JOBS_SIGNING_KEY"]) as client:
        assert client.call(abs, -1) == 1
        name = client.runtime.connect().link.client
        [used] = [found.name for found in client.cluster().classes if found.name.startswith("cpus1-")]
        task = f"bj.v2.task.{used}.low"
        others = {
            "the ledger": reading(NAMES.ledger_name(0)),
            "dead letters": reading(NAMES.dead_name),
            "tasks": reading(task),
            "all replies": listening("bj.v2.reply.spy", NAMES.replies, "#"),
            "replies of another": listening("bj.v2.reply.spy", NAMES.replies, "*.direct"),
            "news": listening("bj.watch.x", NAMES.events, "#"),
            "submissions": listening("bj.watch.x", NAMES.tasks, "#"),
            "a queue of its own": lambda channel: channel.queue_declare("mine", exclusive=True),
            "to empty the ledger": lambda channel: channel.queue_purge(NAMES.ledger_name(0)),
            "to delete a queue": lambda channel: channel.queue_delete(task),
        }
        found = {
            role: {what for what, act in others.items() if attempt(users.url(role), act)} for role in ("node17", "submitter", "observer")
        }
        assert found == {"node17": {"tasks"}, "submitter": set(), "observer": {"news"}}
        # Reply queues belong to their connection; for others they are locked, or may not be read at all.
        for role in ("node17", "observer"):
            assert not attempt(users.url(role), reading(f"bj.v2.reply.{name}"))
    for role in ("node17", "observer", "submitter"):
        assert not attempt(users.url(role), lambda channel: channel.queue_bind(NAMES.dead_name, NAMES.replies, "#"))
