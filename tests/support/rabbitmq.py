"""Private RabbitMQ nodes for tests, from the distribution's package, and the fixtures that hand them out.

A node has ports, data, cookie and epmd of its own in a temporary folder, and listens on the loopback interface alone. It ends
with the process that started it, however that ends: the kernel kills it (`PR_SET_PDEATHSIG`).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

GIVEN: Final = "BROKER_JOBS_TEST_AMQP_URL"
MANAGEMENT: Final = "BROKER_JOBS_TEST_MANAGEMENT_URL"

_PROGRAMS: Final = Path(os.environ.get("BROKER_JOBS_TEST_RABBITMQ") or "/usr/lib/rabbitmq/bin")
"""Of the distribution's package; the wrappers in /usr/sbin change to the system's user and settings."""
_SPAWNER: Final = ThreadPoolExecutor(1)  # the kernel kills a node when the *thread* that started it ends; this one stays
_START_SECONDS: Final = 90.0
_STOP_SECONDS: Final = 30.0

_CONFIG: Final = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {http}
management_agent.disable_metrics_collector = true
disk_free_limit.absolute = 10MB
log.console = false
"""
_CLUSTER_CONFIG: Final = """\
cluster_partition_handling = autoheal
cluster_formation.discovery_retry_limit = 1
cluster_formation.discovery_retry_interval = 100
"""
_ADVANCED: Final = "[{{rabbit, [{settings}]}}, {{kernel, [{{net_ticktime, 10}}]}}].\n"


class NoRabbitMQ(Exception):
    """There is no RabbitMQ to run tests on.

    Install rabbitmq-server from your distribution's packages (on Debian or Ubuntu, `./scripts/test` does, or:
    apt-get install -y --no-install-recommends rabbitmq-server; the tests need no running broker of the system),
    or set BROKER_JOBS_TEST_AMQP_URL to a RabbitMQ that tests may use, say amqp://guest:guest@localhost:5672.
    """


class RabbitMQ(Protocol):
    """A broker for tests."""

    def fresh_vhost(self) -> str:
        """Address of a virtual host that nobody has used."""


class Management:
    """RabbitMQ's HTTP interface: a virtual host costs 20 ms there, and a second with `rabbitmqctl`.

    Args:
        url: its address, with user and password
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        login = f"{unquote(parts.username or 'guest')}:{unquote(parts.password or 'guest')}"
        self._base = f"http://{parts.hostname}:{parts.port}/api/"
        self._headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode(), "Content-Type": "application/json"}
        self._user = unquote(parts.username or "guest")

    def request(self, method: str, path: str, body: object = None) -> bytes:
        """Answer to a request; urllib.error.URLError where there is none, or a refusal."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, self._headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            content: bytes = answer.read()
            return content

    def make_vhost(self) -> str:
        """Name of a new virtual host, on which the user may do everything."""
        name = f"bj-{secrets.token_hex(6)}"
        self.request("PUT", f"vhosts/{name}")
        self.request("PUT", f"permissions/{name}/{quote(self._user, safe='')}", {"configure": ".*", "write": ".*", "read": ".*"})
        return name

    def drop_vhost(self, name: str) -> None:
        self.request("DELETE", f"vhosts/{quote(name, safe='')}")


class RabbitMQNode:
    """A private node, started and stopped at will; its data stay until `remove`.

    Args:
        settings: of the application ``rabbit``, whole numbers
        beside: a node that is up, whose cluster it joins at its first start
    """

    def __init__(self, settings: Mapping[str, int] | None = None, *, beside: RabbitMQNode | None = None) -> None:
        if not (_PROGRAMS / "rabbitmq-server").exists():
            raise NoRabbitMQ(NoRabbitMQ.__doc__)
        self.folder = Path(tempfile.mkdtemp(prefix="bj-rabbitmq-"))
        self.port, self.http_port, dist_port, epmd_port = _free_ports(4)
        self.management = Management(f"http://guest:guest@127.0.0.1:{self.http_port}")
        self.name = f"bj-{secrets.token_hex(4)}@localhost"
        self.cookie = beside.cookie if beside else secrets.token_hex(16)
        self.epmd_port = beside.epmd_port if beside else epmd_port
        self._beside = beside
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        config = _CONFIG.format(amqp=self.port, http=self.http_port) + _CLUSTER_CONFIG
        if beside:
            config += "".join(
                f"cluster_formation.classic_config.nodes.{n} = {node}\n" for n, node in enumerate((self.name, beside.name), 1)
            )
        given = {"dead_letter_worker_publisher_confirm_timeout": 5000, **(settings or {})}
        for name, text in {
            "rabbitmq.conf": config,
            "advanced.config": _ADVANCED.format(settings=", ".join(f"{{{name}, {value}}}" for name, value in given.items())),
            ".erlang.cookie": self.cookie,
            "enabled_plugins": "[rabbitmq_management].\n",
        }.items():
            (self.folder / name).write_text(text)
        (self.folder / ".erlang.cookie").chmod(0o400)
        self.environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_DIST_PORT": str(dist_port),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +SDcpu 2:2",
        }

    @property
    def running(self) -> bool:
        """Whether it was started, and not stopped or killed by us."""
        return self._process is not None

    def answers(self) -> bool:
        """Whether it is at work: one that the others of its cluster have given up starts anew by itself, and takes a while for that."""
        try:
            self.management.request("GET", "overview")
        except OSError:
            return False
        return True

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        if self._epmd is None and self._beside is None:
            # Started by us and not by the node, which would let it run on for ever.
            self._epmd = self._spawn("epmd", "-port", str(self.epmd_port), "-address", "127.0.0.1")
        notice = self.folder / "notice"
        notice.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(notice))
            ready.settimeout(_START_SECONDS)
            # With a socket for systemd's protocol it says when it is ready, and the shell script makes way for the node itself.
            self._process = self._spawn(_PROGRAMS / "rabbitmq-server", NOTIFY_SOCKET=str(notice))
            try:
                while b"READY=1" not in ready.recv(4096):
                    pass
            except TimeoutError:
                self.kill()
                raise TimeoutError(f"RabbitMQ did not start within {_START_SECONDS:.0f} s:\n{self.output()}") from None

    def stop(self) -> None:
        """Stop it in order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_STOP_SECONDS)
            self._process = None

    def kill(self) -> None:
        """SIGKILL; what it had not written is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop it in order and start it again."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """End it with its epmd, and forget its data."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(_STOP_SECONDS)
            self._epmd = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, vhost: str = "/", *, user: str = "guest", password: str = "guest") -> str:
        """Address of a virtual host."""
        return f"amqp://{user}:{password}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    def fresh_vhost(self, *, beside: Sequence[RabbitMQNode] = ()) -> str:
        """Address of a new virtual host, with other nodes of the cluster to go on with."""
        url = self.url(self.management.make_vhost())
        here = f"127.0.0.1:{self.port}"
        return url.replace(here, ",".join([here, *(f"127.0.0.1:{node.port}" for node in beside)]))

    def close_connections(self, vhost: str) -> None:
        """Close every connection to a virtual host, as an operator does."""
        self.ctl("close_all_connections", "--vhost", vhost, "closed by a test")

    def ctl(self, *arguments: str) -> str:
        """Output of ``rabbitmqctl``; takes a second, for it starts an Erlang machine."""
        command: list[str | Path] = [_PROGRAMS / "rabbitmqctl", *arguments]
        done = subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def output(self) -> str:
        """What the node has said, for people who look for the reason of a failure."""
        files = [self.folder / "output", *self.folder.glob("log/*.log")]
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-4000:]}" for file in files if file.exists())

    def _spawn(self, *command: str | Path, **extra: str) -> subprocess.Popen[bytes]:
        with (self.folder / "output").open("ab") as output:
            return _SPAWNER.submit(
                subprocess.Popen,
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=self.environment | extra,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop the node
            ).result()


class RabbitMQCluster:
    """Three private nodes, as `RabbitMQNode` describes them, that are one broker.

    Args:
        settings: of the application ``rabbit`` of each, whole numbers
    """

    def __init__(self, settings: Mapping[str, int] | None = None) -> None:
        first = RabbitMQNode(settings)
        self.nodes = [first, *(RabbitMQNode(settings, beside=first) for _ in range(2))]

    def start(self) -> None:
        """Start them; returns when they are one."""
        first, *others = self.nodes
        first.start()
        with ThreadPoolExecutor() as pool:
            for started in [pool.submit(node.start) for node in others]:
                started.result()
        status = json.loads(first.ctl("cluster_status", "--formatter", "json"))
        assert sorted(status["running_nodes"]) == sorted(node.name for node in self.nodes), first.output()

    def remove(self) -> None:
        """End them, and forget their data."""
        for node in reversed(self.nodes):
            node.remove()


class GivenBroker:
    """The broker of `BROKER_JOBS_TEST_AMQP_URL`, and virtual hosts of our own on it, made through its HTTP interface."""

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0] or "guest:guest"
        self._management = Management(os.environ.get(MANAGEMENT) or f"http://{login}@{parts.hostname}:15672")
        self._made: list[str] = []

    def fresh_vhost(self) -> str:
        """Address of a virtual host that nobody has used."""
        try:
            name = self._management.make_vhost()
        except urllib.error.URLError as error:
            pytest.fail(
                f"cannot make virtual hosts on the broker of {GIVEN}: {error}. Enable its plugin rabbitmq_management, give the user "
                f"the tag administrator, and set {MANAGEMENT} where it is not at http://user:password@host:15672.",
                pytrace=False,
            )
        self._made.append(name)
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))

    def remove(self) -> None:
        """Drop what was made."""
        for name in self._made:
            with contextlib.suppress(urllib.error.URLError):
                self._management.drop_vhost(name)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _started() -> RabbitMQNode:
    try:
        node = RabbitMQNode()
    except NoRabbitMQ as missing:
        pytest.fail(str(missing), pytrace=False)
    try:
        node.start()
    except BaseException:
        node.remove()
        raise
    return node


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitMQ]:
    """The broker of this run: one private node, or the given one. Tests share it and must not harm it."""
    url = os.environ.get(GIVEN)
    broker = GivenBroker(url) if url else _started()
    try:
        yield broker
    finally:
        broker.remove()


@pytest.fixture(scope="session")
def second_node() -> Iterator[RabbitMQNode]:
    """The node behind `owned_node`."""
    node = _started()
    try:
        yield node
    finally:
        node.remove()


@pytest.fixture
def owned_node(second_node: RabbitMQNode) -> Iterator[RabbitMQNode]:
    """A private node that a test may kill, stop and fill. For tests marked `owns_node`."""
    yield second_node
    if not second_node.running:
        second_node.start()


_not_run = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that must own their node where a broker is given: it is somebody's."""
    if not os.environ.get(GIVEN):
        return
    owners = [item for item in items if item.get_closest_marker("owns_node")]
    config.stash[_not_run] = [item.nodeid for item in owners]
    config.hook.pytest_deselected(items=owners)
    items[:] = [item for item in items if not item.get_closest_marker("owns_node")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List what was not run."""
    left_out = config.stash.get(_not_run, [])
    if left_out:
        terminalreporter.section(f"not run with {GIVEN}: these need a RabbitMQ node of their own")
        for nodeid in left_out:
            terminalreporter.line(nodeid)
