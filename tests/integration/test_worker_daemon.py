"""Real workers on real brokers, with real tasks; only the coordinator is played."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Canceled, Cause, Failed, Succeeded
from broker_jobs.core.request import Request
from broker_jobs.core.spec import Lane
from broker_jobs.core.value import Inline
from broker_jobs.wire.messages import Ended, Goodbye, Heartbeat, JobHeader, Reply, Returned, Revocation, Role, Started, Taken, Token
from broker_jobs.wire.payload import load
from broker_jobs.wire.signing import Signer, SigningKey, new_key
from broker_jobs_worker.config import WorkerConfig
from broker_jobs_worker.daemon import WorkerDaemon
from broker_jobs_worker.machine.state import Timing
from tests.support.inbox import PATIENCE, Inbox, run
from tests.support.ledger import FakeCoordinator, function, program
from tests.support.proxy import Proxy
from tests.support.station import connected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker_jobs.broker.port import Broker
    from broker_jobs.wire.messages import Task
    from tests.support.rabbitmq import RabbitMQ

KEY = new_key()
PATIENT = Timing(patience=60, warm_up=60)
"""Nothing goes back because this machine is busy."""
TWO_CPUS = Request((("cpus", 20_000),))


@pytest.fixture(params=[pytest.param("embedded", marks=pytest.mark.long), "amqp"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "embedded":
        return f"sqlite:///{tmp_path}/queue.db"
    address: str = request.getfixturevalue("rabbitmq").fresh_vhost()
    return address


@pytest.fixture
def config(url: str, tmp_path: Path) -> WorkerConfig:
    return settings(url, tmp_path)


def settings(url: str, tmp_path: Path) -> WorkerConfig:
    """Two processors, and patience."""
    return WorkerConfig(url, "t", SigningKey.parse(KEY), tmp_path / "spool", name="w1", resources={"cpus": 2}, timing=PATIENT)


@contextlib.asynccontextmanager
async def working(config: WorkerConfig, lent: Broker | None = None) -> AsyncIterator[WorkerDaemon]:
    """A worker in this process, which drains at the end."""
    daemon = WorkerDaemon(config, lent=lent)
    serving = asyncio.create_task(daemon.serve())
    try:
        yield daemon
        daemon.drain()
        assert await asyncio.wait_for(serving, PATIENCE) == 0
    finally:
        if not serving.done():
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


def start_worker(url: str, folder: Path, name: str) -> subprocess.Popen[bytes]:
    """A worker in a process of its own."""
    env = {**os.environ, "BROKER_JOBS_SIGNING_KEY": KEY, "BROKER_JOBS_HOME": str(folder)}
    arguments = ["start", "--url", url, "--namespace", "t", "--name", name, "--cpus", "1"]
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen([sys.executable, "-P", "-m", "broker_jobs_worker", *arguments], env=env, stdout=log, stderr=log, cwd=folder)


def waiting_for(gate: Path, number: int) -> Task:
    """A program that ends when a file is there."""
    return program(number, "sh", "-c", 'until [ -e "$0" ]; do sleep 0.02; done', str(gate))


def value_of(coordinator: FakeCoordinator, number: int) -> object:
    """What a function has returned."""
    outcome = coordinator.ended(number).outcome
    assert isinstance(outcome, Succeeded), outcome
    assert isinstance(outcome.value, Inline)
    return load(outcome.value)


def add(left: int, right: int) -> int:
    """A task."""
    return left + right


def fail() -> None:
    """A task that fails."""
    raise ZeroDivisionError("nothing can be divided by nothing")


def test_programs_and_functions_run_and_their_outcomes_come_back(url: str, config: WorkerConfig) -> None:
    async def story() -> None:
        async with FakeCoordinator(url, KEY) as coordinator, working(config):
            summed, functions = function(0, add, 2, 3)
            failing, more = function(1, fail)
            await coordinator.run(summed, failing, functions=functions | more)
            await coordinator.run(program(2, "echo", "hello"), program(3, "false"), program(4, "no-such-program-here"))
            await coordinator.until_ended(0, 1, 2, 3, 4)
            assert value_of(coordinator, 0) == 5
            failed = coordinator.ended(1).outcome
            assert isinstance(failed, Failed)
            assert "nothing can be divided" in failed.message
            assert coordinator.ended(2).outcome == Succeeded()
            assert coordinator.ended(2).stdout.tail == b"hello\n"
            ended = coordinator.ended(3).outcome
            assert isinstance(ended, Failed)
            assert (ended.cause, ended.exit_code) == (Cause.exit_code, 1)
            missing = coordinator.ended(4).outcome
            assert isinstance(missing, Failed)
            assert "no-such-program-here" in missing.message
        assert isinstance(coordinator.heard[-1], Goodbye)
        assert not coordinator.dead

    run(story())


def test_what_a_ledger_has_time_for_is_published_as_such(url: str, config: WorkerConfig) -> None:
    async def story() -> None:
        async with FakeCoordinator(url, KEY) as coordinator, connected(url) as broker:
            with mock.patch.object(broker, "publish", wraps=broker.publish) as publish:
                async with working(config, broker):
                    calls = coordinator.chunk(program(0, "true"))
                    await coordinator.put(replace(calls, header=JobHeader("call", "client", 1, calls.origin, ephemeral=True)))
                    await coordinator.until_ended(0)
                    await coordinator.run(program(1, "true"))
                    await coordinator.until_ended(1)
            published = [message for call in publish.await_args_list for message in call.args[0]]
            signer = Signer("t", SigningKey.parse(KEY))
            opened = [(message, signer.open(message.body).message) for message in published]
            replies = {(reply.items[0].task, message.leisurely) for message, reply in opened if isinstance(reply, Reply)}
            assert replies == {(0, True), (1, False)}

    run(story())


def test_a_hundred_tasks_of_a_chunk_end_once_each(url: str, config: WorkerConfig) -> None:
    async def story() -> None:
        async with FakeCoordinator(url, KEY) as coordinator, working(config):
            made = [function(number, add, number, 1) for number in range(100)]
            functions = dict(pair for _, needed in made for pair in needed.items())
            await coordinator.run(*[task for task, _ in made[:50]], functions=functions)
            await coordinator.run(*[task for task, _ in made[50:]], functions=functions)
            await coordinator.until_ended(*range(100))
            for number in range(100):
                assert value_of(coordinator, number) == number + 1

    run(story())


def test_what_a_slow_chunk_has_not_started_goes_back(url: str, config: WorkerConfig, tmp_path: Path) -> None:
    async def story() -> None:
        gate = tmp_path / "gate"
        impatient = replace(config, timing=Timing(warm_up=0.5))
        async with FakeCoordinator(url, KEY) as coordinator, working(impatient):
            await coordinator.run(*[waiting_for(gate, number) for number in range(5)])
            for number in (2, 3, 4):
                await coordinator.until_said(Returned, number)
            await coordinator.until_said(Started, 0)
            gate.touch()
            await coordinator.until_ended(0, 1)
            returned = [item.task for item in coordinator.items(Returned)]
            assert returned == [2, 3, 4]

    run(story())


def test_an_isolated_task_is_announced_before_it_starts(url: str, config: WorkerConfig) -> None:
    async def story() -> None:
        async with FakeCoordinator(url, KEY) as coordinator, working(config):
            await coordinator.run(program(0, "true"), isolated=True)
            await coordinator.until_ended(0)
            [started] = coordinator.items(Started, 0)
            assert isinstance(started, Started)
            assert started.execution == coordinator.ended(0).execution
            assert coordinator.ended(0).started_ms >= started.at_ms - 100

    run(story())


def test_a_long_task_is_taken_and_outlives_the_patience_of_the_broker(url: str, config: WorkerConfig, tmp_path: Path) -> None:
    async def story() -> None:
        gate = tmp_path / "gate"
        quick = replace(config, timing=replace(PATIENT, taken_after=0.2, heartbeat=0.1))
        async with FakeCoordinator(url, KEY) as coordinator, working(quick):
            await coordinator.run(waiting_for(gate, 0))
            await coordinator.until_said(Taken, 0)

            def reported() -> bool:
                beats = [message for message in coordinator.heard if isinstance(message, Heartbeat)]
                return bool(beats) and any(held.taken for held in beats[-1].held)

            await coordinator.until(reported, "the taken attempt is in a heartbeat")
            gate.touch()
            await coordinator.until_ended(0)
            assert coordinator.ended(0).outcome == Succeeded()

    run(story())


def test_a_revoked_task_stops_and_one_that_waits_is_dropped(url: str, config: WorkerConfig, tmp_path: Path) -> None:
    async def story() -> None:
        one = replace(config, resources={"cpus": 1})
        async with FakeCoordinator(url, KEY) as coordinator, working(one):
            await coordinator.run(program(0, "sleep", "1000"), program(1, "sleep", "1000"))
            await coordinator.until_said(Started, 0)
            await coordinator.revoke(Revocation(coordinator.job, 1, None, "wrong input"), Revocation(coordinator.job, 0, 1, "wrong input"))
            await coordinator.until_ended(0)
            outcome = coordinator.ended(0).outcome
            assert isinstance(outcome, Canceled)
            # A chunk of the job that comes later is dropped as well, and does not keep the next one from running.
            await coordinator.run(program(1, "sleep", "1000"))
            await coordinator.run(program(2, "true"))
            await coordinator.until_ended(2)
            assert not coordinator.items(Ended, 1)
            assert not coordinator.items(Returned, 1)

    run(story())


def test_tasks_wait_for_resources_of_other_classes_and_all_run(url: str, config: WorkerConfig) -> None:
    async def story() -> None:
        async with FakeCoordinator(url, KEY, classes=(TWO_CPUS, Request((("cpus", 10_000),)))) as coordinator, working(config):
            coordinator.resending = True
            for number in range(0, 12, 3):
                await coordinator.run(program(number, "sleep", "0.05"), program(number + 1, "sleep", "0.05"))
                await coordinator.put(coordinator.chunk(program(number + 2, "true"), needs=TWO_CPUS))
            await coordinator.until_ended(*range(12))

    run(story())


def test_garbage_and_what_lies_in_the_wrong_queue_are_dead_letters(url: str, config: WorkerConfig) -> None:
    async def story() -> None:
        async with FakeCoordinator(url, KEY) as coordinator, working(config):
            await coordinator.until(coordinator.hellos, "hello")
            good = coordinator.chunk(program(0, "true"))
            key = coordinator.names.task_key(good.resource_class, Lane.normal, 0)
            sealed = coordinator.signer.seal(good, Role.coordinator)
            await coordinator.publish(coordinator.names.ready, key, b"garbage")
            await coordinator.publish(coordinator.names.ready, key, sealed[:-1] + b"x")
            await coordinator.publish(coordinator.names.ready, coordinator.names.task_key(good.resource_class, Lane.high, 0), sealed)
            await coordinator.put(good, role=Role.worker)
            await coordinator.put(replace(good, tasks=()))
            await coordinator.publish(coordinator.names.control, "w1", b"garbage")
            await coordinator.until(lambda: len(coordinator.dead) == 6, "six dead letters")
            await coordinator.put(good)
            await coordinator.until_ended(0)

    run(story())


def test_a_drain_finishes_what_runs_and_returns_the_rest(url: str, config: WorkerConfig, tmp_path: Path) -> None:
    async def story() -> None:
        gate = tmp_path / "gate"
        one = replace(config, resources={"cpus": 1})
        async with FakeCoordinator(url, KEY) as coordinator, working(one) as daemon:
            await coordinator.run(waiting_for(gate, 0), program(1, "true"))
            await coordinator.until_said(Started, 0)
            daemon.drain()
            await coordinator.until_said(Returned, 1)
            gate.touch()
            await coordinator.until_ended(0)
            await coordinator.until(lambda: isinstance(coordinator.heard[-1], Goodbye), "goodbye")
            assert coordinator.ended(0).outcome == Succeeded()
            assert not [message for message in coordinator.heard if isinstance(message, Token)], "an orderly end returns no token"

    run(story())


def test_a_second_drain_gives_back_what_runs(url: str, config: WorkerConfig) -> None:
    async def story() -> None:
        async with FakeCoordinator(url, KEY) as coordinator:
            async with working(config) as daemon:
                await coordinator.run(program(0, "sleep", "1000"))
                await coordinator.until_said(Started, 0)
                daemon.drain()
            [returned] = coordinator.items(Returned, 0)
            assert isinstance(returned, Returned)
            assert returned.why is Return.unrouted
            assert isinstance(coordinator.heard[-1], Goodbye)

    run(story())


def test_the_tasks_of_a_killed_worker_come_back_through_the_next_one(url: str, config: WorkerConfig, tmp_path: Path) -> None:
    async def story() -> None:
        async with FakeCoordinator(url, KEY) as coordinator:
            victim = start_worker(url, tmp_path, "victim")
            try:
                await coordinator.run(program(0, "sleep", "1000"))
                await coordinator.until_said(Started, 0)
            finally:
                victim.kill()
                victim.wait()
            await coordinator.until(
                lambda: any(isinstance(message, Token) and message.worker == "victim" for message in coordinator.heard), "the token"
            )
            async with working(config):
                await coordinator.until_said(Returned, 0)
            [returned] = coordinator.items(Returned, 0)
            assert isinstance(returned, Returned)
            assert returned.why is Return.redelivered

    run(story())


def test_what_the_broker_gives_again_without_having_lost_a_worker_is_done_by_the_next_attempt(url: str, config: WorkerConfig) -> None:
    async def story() -> None:
        async with FakeCoordinator(url, KEY) as coordinator:
            coordinator.resending = True
            chunk = coordinator.chunk(program(0, "true"), program(1, "true"))
            await coordinator.put(chunk)
            inbox = Inbox()
            queue = coordinator.names.class_name(chunk.resource_class, chunk.lane)
            subscription = await coordinator.broker.consume(queue, 1, inbox)
            await inbox.next()
            await subscription.cancel(requeue=True)
            async with working(config):
                await coordinator.until_ended(0, 1)
            for number in (0, 1):
                [returned], ended = coordinator.items(Returned, number), coordinator.ended(number)
                assert isinstance(returned, Returned)
                assert (returned.attempt, returned.why, ended.attempt) == (1, Return.redelivered, 2)

    run(story())


def test_sigterm_drains_the_process(url: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with FakeCoordinator(url, KEY) as coordinator:
            worker = start_worker(url, tmp_path, "w")
            try:
                await coordinator.run(program(0, "sleep", "0.5"))
                await coordinator.until_said(Started, 0)
                worker.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(worker.wait, PATIENCE) == 0, (tmp_path / "w.log").read_text()
            finally:
                worker.kill()
                worker.wait()
            await coordinator.until(lambda: isinstance(coordinator.heard[-1], Goodbye), "goodbye")
            assert coordinator.ended(0).outcome == Succeeded()

    run(story())


def test_without_a_welcome_nothing_is_consumed_and_hello_is_said_again(url: str, config: WorkerConfig) -> None:
    async def story() -> None:
        eager = replace(config, timing=Timing(hello_again=0.2))
        async with FakeCoordinator(url, KEY) as coordinator, working(eager):
            coordinator.welcoming = False
            await coordinator.until(lambda: len(coordinator.hellos()) >= 3, "three hellos")

    run(story())


def test_a_cut_connection_ends_no_task_and_its_message_finds_it_again(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    async def story() -> None:
        url = rabbitmq.fresh_vhost()
        gate = tmp_path / "gate"
        async with Proxy(url) as proxy, FakeCoordinator(url, KEY) as coordinator, working(settings(proxy.url, tmp_path)):
            await coordinator.run(waiting_for(gate, 0))
            await coordinator.until_said(Started, 0)
            coordinator.welcoming = False
            await proxy.cut()
            await coordinator.until(lambda: any(isinstance(message, Token) for message in coordinator.heard), "the token")
            await proxy.mend()
            await coordinator.until(lambda: len(coordinator.hellos()) > 1, "hello after the reconnect")
            assert [(held.task, held.attempt) for held in coordinator.hellos()[-1].held] == [(0, 1)]
            coordinator.welcoming = True
            await coordinator.until(lambda: len(coordinator.hellos()) > 2, "hello again")
            gate.touch()
            await coordinator.until_ended(0)
            assert coordinator.ended(0).outcome == Succeeded()
            # The copy of its message, which came back, was neither run nor returned.
            await coordinator.run(program(1, "true"))
            await coordinator.until_ended(1)
            assert not coordinator.items(Returned)

    run(story())


def test_a_worker_that_never_met_a_coordinator_drains(url: str, config: WorkerConfig) -> None:
    async def story() -> None:
        async with working(config):
            pass

    run(story())
