"""What is of one user alone: files of the state folder, keys and passwords."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import traceback
import urllib.request
from typing import TYPE_CHECKING

import pytest

from broker_jobs.broker import open_broker
from broker_jobs.config import resolve
from broker_jobs.coordinator.config import CoordinatorConfig
from broker_jobs.errors import BrokerJobsError
from broker_jobs.wire.signing import Signer, SigningKey, new_key
from broker_jobs_worker.config import WorkerConfig
from tests.support.daemons import Daemons

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.rabbitmq import RabbitMQ

WORK = """if True:
    from broker_jobs import Client, Job

    with Client() as client:
        job = Job()
        large = job.function(bytes, args=(300_000,))
        job.function(len, args=(large.output,))
        job.program(["seq", "100000"])
        client.add_data(b"some", name="data")
        assert client.submit(job).wait(60)
"""

OTHERS = stat.S_IRWXG | stat.S_IRWXO


@pytest.fixture
def open_umask() -> Iterator[None]:
    """One with which what is not made private is everybody's to read."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
def test_whatever_is_made_in_the_state_folder_is_for_its_user_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)  # it was there before, and others may enter it
    with Daemons(tmp_path, {}) as daemons:
        done = daemons.python(WORK)
        assert done.returncode == 0, done
        found = [path for path in home.rglob("*") if not any(parent.stat().st_mode & OTHERS == 0 for parent in _between(home, path))]
        assert {path.name for path in found} >= {"queue.db", "ledger.db", "signing.key", "node.lock", "node.ready", "output", "values"}
        assert not {path: oct(path.stat().st_mode) for path in found if path.stat().st_mode & OTHERS}
        assert daemons.run("down").returncode == 0


def _between(home: Path, path: Path) -> list[Path]:
    """The folders inside of which it is, below the state folder."""
    return [parent for parent in path.parents if parent != home and parent.is_relative_to(home)]


def test_numbers_have_neither_key_nor_password(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    url = rabbitmq.fresh_vhost()
    key = new_key()
    with Daemons(tmp_path, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": f"{key} {new_key()}"}) as daemons:
        ports = _free_ports(2)
        daemons.start("coordinator", "start", "--metrics-port", str(ports[0]))
        daemons.start("worker", "start", "--cpus", "1", "--metrics-port", str(ports[1]))
        assert daemons.run("submit", "--wait", "--", "true").returncode == 0
        for port in ports:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                shown = answer.read().decode()
            assert "broker_jobs_" in shown
            for secret in (key, url, "guest:guest"):
                assert secret not in shown
        for secret in (*daemons.env["BROKER_JOBS_SIGNING_KEY"].split(), "guest:guest"):
            assert secret not in daemons.logs()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


PASSWORD, KEY, OTHER = "planted-password-4711", "5ec7e7" * 8, "0dd5ec" * 8


@pytest.mark.parametrize(
    "url",
    [
        f"amqp://ann:{PASSWORD}@127.0.0.1:1/x",
        f"amqp://ann:{PASSWORD}@no-such-host.invalid/x",
        f"amqp://ann:{PASSWORD}@127.0.0.1/x/y",
        f"amqp://ann:{PASSWORD}@127.0.0.1/x?queues=odd",
        f"amqps://ann:{PASSWORD}@127.0.0.1/x?cacertfile=/nowhere.pem",
        f"amqp://ann:{PASSWORD}/@127.0.0.1/x",
        f"odd://ann:{PASSWORD}@127.0.0.1/x",
    ],
)
def test_tracebacks_do_not_have_the_password(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BrokerJobsError) as caught:
        asyncio.run(open_broker(url, name="test", timeout=0.1))
    assert PASSWORD not in caplog.text + "".join(traceback.format_exception(caught.value))


def test_a_wrong_password_is_not_repeated(rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture) -> None:
    url = rabbitmq.fresh_vhost().replace("guest:guest", f"guest:{PASSWORD}")
    with pytest.raises(BrokerJobsError) as caught:
        asyncio.run(open_broker(url, name="test", timeout=1))
    assert PASSWORD not in caplog.text + "".join(traceback.format_exception(caught.value))


def test_settings_hide_what_they_keep(tmp_path: Path) -> None:
    url = f"amqp://ann:{PASSWORD}@host/x"
    settings = resolve(url, signing_key=f"{KEY} {OTHER}", environ={"BROKER_JOBS_HOME": str(tmp_path)}, folder=tmp_path)
    key = settings.required_key()
    worker = WorkerConfig(url, "t", key, tmp_path)
    coordinator = CoordinatorConfig(url, key, f"postgresql://ann:{PASSWORD}@host/ledger", namespace="t", name="c")
    shown = [settings, key, Signer("t", key), SigningKey.parse(KEY), worker, coordinator]
    told = " ".join(f"{each!r} {each!s} {[each]}" for each in shown)
    for secret in (PASSWORD, KEY, OTHER, str(bytes.fromhex(KEY)), str(bytes.fromhex(OTHER))):
        assert secret not in told
