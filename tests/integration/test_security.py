"""What is not to be trusted reaches no code: hostile messages on real brokers, workers that do not run all, keys that are changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from broker_jobs.broker import open_broker
from broker_jobs.core.outcome import Cause, Failed, Succeeded
from broker_jobs.core.spec import Lane
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.core.versions import Version
from broker_jobs.wire.codec import encode, pack
from broker_jobs.wire.messages import Role, StepCall, Task
from broker_jobs.wire.signing import Signer, SigningKey, new_key
from broker_jobs_worker.config import WorkerConfig
from tests.integration.test_worker_daemon import PATIENT, working
from tests.support.inbox import PATIENCE, run
from tests.support.ledger import FakeCoordinator, function, program

if TYPE_CHECKING:
    from pathlib import Path

    from broker_jobs_worker.daemon import WorkerDaemon
    from tests.support.rabbitmq import RabbitMQ

KEY, OTHER = new_key(), new_key()


@pytest.fixture(params=["embedded", "amqp"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "embedded":
        return f"sqlite:///{tmp_path}/queue.db"
    node: RabbitMQ = request.getfixturevalue("rabbitmq")
    return node.fresh_vhost()


def config(url: str, tmp_path: Path, key: str = KEY) -> WorkerConfig:
    return WorkerConfig(url, "t", SigningKey.parse(key), tmp_path / "spool", name="w1", resources={"cpus": 2}, timing=PATIENT)


def leave(trace: str) -> None:
    """A task that would be noticed."""
    with open(trace, "w"):  # noqa: PTH123 (it runs without this module's imports)
        pass


def refused(daemon: WorkerDaemon, reason: str) -> float:
    """What the worker has counted."""
    return daemon._metrics.registry.get_sample_value("broker_jobs_dead_letters_total", {"reason": reason}) or 0.0  # noqa: SLF001


def test_hostile_messages_are_dead_letters_and_nothing_of_them_runs(url: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    async def story() -> None:
        async with FakeCoordinator(url, KEY) as coordinator, working(config(url, tmp_path)) as daemon:
            await coordinator.until(coordinator.hellos, "hello")
            names = coordinator.names
            task, functions = function(0, leave, str(trace))
            chunk = coordinator.chunk(task, functions=functions)
            key = names.task_key(chunk.resource_class, Lane.normal, 0)
            sealed = coordinator.signer.seal(chunk, Role.coordinator)
            step = StepCall("fit", Version(1, 0, 0), Inline(Encoding.pickle, b"cos\nsystem\n(S'touch %s'\ntR." % str(trace).encode()))
            offered = replace(chunk, tasks=(Task(0, step),))
            hostile = {
                "not signed": b"BJ\x01" + pack([encode(chunk)]),
                "the signature is wrong": sealed[:-1] + bytes((sealed[-1] ^ 1,)),
                "signed with the key": Signer("t", SigningKey.parse(OTHER)).seal(chunk, Role.coordinator),
                "another namespace": Signer("u", SigningKey.parse(KEY)).seal(chunk, Role.coordinator),
                "a worker may not send tasks": coordinator.signer.seal(chunk, Role.worker),
                "pickled parameters": coordinator.signer.seal(offered, Role.coordinator),
            }
            for body in hostile.values():
                await coordinator.publish(names.ready, key, body)
            await coordinator.publish(names.ready, names.task_key(chunk.resource_class, Lane.high, 0), sealed)
            forged = coordinator.signer.seal(coordinator.hellos()[0], Role.worker)
            await coordinator.publish(names.control, "w1", forged)
            await coordinator.until(lambda: len(coordinator.dead) == len(hostile) + 2, "each is a dead letter")
            assert sorted(letter.body for letter in coordinator.dead) == sorted([*hostile.values(), sealed, forged])
            assert refused(daemon, "security") == len(hostile) + 2
            assert refused(daemon, "decode") == 0
            assert not trace.exists()
            await coordinator.put(chunk)
            await coordinator.until_ended(0)
            assert trace.exists(), "the same task, rightly sent, would have been noticed"

    run(story())


def test_the_reason_is_with_the_dead_letter(url: str, tmp_path: Path) -> None:
    async def story() -> None:
        broker = await open_broker(url, name="test", timeout=PATIENCE)
        async with FakeCoordinator(url, KEY) as coordinator, working(config(url, tmp_path)):
            await coordinator.until(coordinator.hellos, "hello")
            await coordinator.leave_dead_letters()
            chunk = coordinator.chunk(program(0, "true"))
            await coordinator.put(chunk, role=Role.worker)
            await coordinator.put(replace(chunk, job="1" * 32))
            await coordinator.until_ended(0)
        async with broker.browse(coordinator.names.dead_name, 10) as browsing:
            [letter] = browsing.letters
        assert letter.headers["reason"] == "security: a worker may not send tasks"
        assert letter.headers["queue"] == coordinator.names.class_name(chunk.resource_class, Lane.normal)
        await broker.close()

    run(story())


def test_a_worker_for_programs_runs_no_function(url: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    async def story() -> None:
        limited = replace(config(url, tmp_path), accept=("programs",))
        async with FakeCoordinator(url, KEY) as coordinator, working(limited):
            tasks = [function(number, leave, str(trace)) for number in range(3)]
            await coordinator.run(*(task for task, _ in tasks), functions=tasks[0][1])
            await coordinator.run(program(3, "true"))
            await coordinator.until_ended(0, 1, 2, 3)
            for number in range(3):
                outcome = coordinator.ended(number).outcome
                assert isinstance(outcome, Failed)
                assert (outcome.cause, outcome.message) == (Cause.rejected, "this is a function, and the worker accepts only programs")
            assert coordinator.ended(3).outcome == Succeeded()
            assert not trace.exists()
            assert not coordinator.dead

    run(story())


def test_keys_are_changed_while_work_goes_on(url: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with (
            FakeCoordinator(url, f"{KEY} {OTHER}") as coordinator,
            working(config(url, tmp_path, f"{OTHER}\n{KEY}\n")),
        ):
            await coordinator.run(program(0, "true"))
            await coordinator.until_ended(0)
            assert coordinator.ended(0).outcome == Succeeded()
            assert not coordinator.dead

    run(story())
