"""What daemons and clients hold after a lot of work is what they held before it: memory, open files, threads, queues, connections."""

from __future__ import annotations

import gc
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import pytest

from broker_jobs import Client
from broker_jobs.wire.signing import new_key
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.rabbitmq import RabbitMQ

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

TASKS = 200_000
WARM = 60_000
"""Tasks after which a daemon has all that it keeps for later: warm children, compiled statements, pages of its allocator."""

CLIENTS = 2_000
GROWTH = 10 * 2**20


class Held(NamedTuple):
    """What a process holds: bytes, and numbers of files and threads."""

    memory: int
    files: int
    threads: int


def held(pid: int) -> Held:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return Held(int(status["VmRSS"].split()[0]) * 1024, len(list(Path(f"/proc/{pid}/fd").iterdir())), int(status["Threads"]))


def nothing(number: int) -> None:
    del number


@pytest.fixture
def daemons(tmp_path: Path, rabbitmq: RabbitMQ) -> Iterator[Daemons]:
    with Daemons(tmp_path, {"BROKER_JOBS_URL": rabbitmq.fresh_vhost(), "BROKER_JOBS_SIGNING_KEY": new_key()}) as daemons:
        yield daemons


def test_daemons_do_not_grow_with_the_tasks_that_they_have_done(daemons: Daemons) -> None:
    pids = {"coordinator": daemons.start("coordinator", "start").pid, "worker": daemons.start("worker", "start", "--cpus", "2").pid}

    def grown() -> dict[str, Held]:
        return {name: held(pid) for name, pid in pids.items()}

    with Client(daemons.env["BROKER_JOBS_URL"], signing_key=daemons.env["BROKER_JOBS_SIGNING_KEY"]) as client:
        assert sum(1 for _ in client.map(nothing, range(WARM))) == WARM
        before = grown()
        assert sum(1 for _ in client.map(nothing, range(TASKS))) == TASKS

        def as_before() -> bool:
            after = grown()
            return all(after[name].memory - before[name].memory < GROWTH and after[name][1:] <= before[name][1:] for name in pids)

        # What the last tasks needed is given back in a moment.
        until(as_before, f"before: {before}", timeout=15)


def test_clients_that_come_and_go_leave_nothing(daemons: Daemons, rabbitmq: RabbitMQ) -> None:
    url, key = daemons.env["BROKER_JOBS_URL"], daemons.env["BROKER_JOBS_SIGNING_KEY"]
    started = daemons.start("coordinator", "start")
    until(lambda: daemons.says(started, "keeps"), "the coordinator is up")
    coordinator = started.pid
    vhost = urlsplit(url).path[1:]

    def at_broker() -> tuple[int, int]:
        """Queues and connections of the virtual host."""
        queues = json.loads(rabbitmq.management.request("GET", f"queues/{vhost}"))
        connections = json.loads(rabbitmq.management.request("GET", f"vhosts/{vhost}/connections"))
        return len(queues), len(connections)

    def come_and_go(_: int) -> None:
        with Client(url, signing_key=key) as client:
            assert client.jobs(limit=1) == []

    def everything() -> tuple[tuple[int, int], Held, Held, int]:
        gc.collect()
        return at_broker(), held(coordinator), held(os.getpid()), threading.active_count()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(100)))
        base, daemon, here, threads = everything()
        list(pool.map(come_and_go, range(CLIENTS)))

        def as_before() -> bool:
            at_the_end, daemon_now, here_now, threads_now = everything()
            return (
                at_the_end == base
                and daemon_now.memory - daemon.memory < GROWTH
                and daemon_now[1:] <= daemon[1:]
                and here_now.memory - here.memory < GROWTH
                and here_now[1:] <= here[1:]
                and threads_now <= threads
            )

        until(as_before, f"{(base, daemon, here, threads)} and now {everything()}", timeout=30)
