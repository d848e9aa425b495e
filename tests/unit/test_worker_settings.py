"""What a worker finds out about its machine, its settings, and what it writes into a log."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker_jobs.core.outcome import Succeeded
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.value import Encoding, Inline
from broker_jobs.errors import ValidationError
from broker_jobs.wire.messages import Output
from broker_jobs.wire.signing import SigningKey
from broker_jobs_worker.config import WorkerConfig, fresh_worker_name
from broker_jobs_worker.executors.batch.finding import scheduler_named
from broker_jobs_worker.executors.port import ExecutionEnded
from broker_jobs_worker.machine.commands import Settle
from broker_jobs_worker.machine.events import Tick
from broker_jobs_worker.story import tell
from tests.support.worker_world import World, make_chunk

KEY = SigningKey.parse("22" * 32)


def config(folder: Path, **settings: object) -> WorkerConfig:
    return WorkerConfig("sqlite:////secret-place/queue.db", "t", KEY, folder, **settings)  # type: ignore[arg-type]


def test_settings_say_what_the_worker_gives(tmp_path: Path) -> None:
    given = config(tmp_path, resources={"cpus": "1.5", "memory": "1 GiB", "gpus": 2, "fpga": 1}).total()
    assert dict(given.amounts) == {"cpus": 15_000, "memory": 1 << 30, "gpus": 2 * UNIT, "fpga": UNIT}
    assert dict(config(tmp_path).total().amounts)["cpus"] == len(os.sched_getaffinity(0)) * UNIT
    with pytest.raises(ValidationError, match="cpus='many' cannot be read"):
        config(tmp_path, resources={"cpus": "many"})
    with pytest.raises(ValidationError, match="without any resources"):
        config(tmp_path, resources={"cpus": 0, "memory": 0, "gpus": 0}).total()


@pytest.mark.parametrize("name", ["all", "_", "direct", "a.b", "", "x" * 101, "*"])
def test_a_name_that_could_be_taken_for_something_else_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValidationError, match="name of a worker"):
        config(tmp_path, name=name)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"executor_options": {"q": ("all.q",)}}, "name one, such as --executor sge"),
        ({"executor_folder": Path("/scratch")}, "name one, such as --executor sge"),
        ({"executor": "sge", "steps": ("mypkg.steps",)}, "steps run in processes of a worker, and not in sge"),
    ],
)
def test_settings_of_an_executor_that_exclude_each_other(tmp_path: Path, settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config(tmp_path, **settings)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("pbs", {}, "there is no executor 'pbs'; there are htcondor, local, sge"),
        ("sge", {"t": ("1-3",)}, "the executor sge does not take these options: the option t of qsub is set by broker-jobs"),
        ("htcondor", {"queue": ("3",)}, "queue of a submit description is set by broker-jobs"),
        ("sge", {"qsub": ("/no/qsub",)}, r"the executor sge cannot be used here: not found: /no/qsub \(--executor-option qsub=PATH\)"),
        ("htcondor", {"condor_rm": ("/no/rm",)}, r"not found: .*/no/rm \(--executor-option condor_rm=PATH\)"),
    ],
)
def test_an_executor_that_cannot_be_is_refused(name: str, options: dict[str, tuple[str, ...]], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        scheduler_named(name, options)


def test_the_archive_is_where_the_hosts_of_the_executor_see_it(tmp_path: Path) -> None:
    assert config(tmp_path).archive.is_relative_to(tmp_path)
    given = config(tmp_path, executor="sge", executor_folder=tmp_path / "scratch")
    assert given.archive.is_relative_to(tmp_path / "scratch")


def test_fresh_names_are_valid_and_differ(tmp_path: Path) -> None:
    names = {fresh_worker_name() for _ in range(20)}
    assert len(names) > 1
    for name in names:
        config(tmp_path, name=name)


def test_settings_hide_address_and_key(tmp_path: Path) -> None:
    assert "secret-place" not in repr(config(tmp_path))
    assert "2222" not in repr(config(tmp_path))


def test_a_story_has_names_and_numbers_and_nothing_of_users() -> None:
    world = World()
    chunk = make_chunk(*range(7))
    world.begin()
    commands = world.arrive(chunk)
    secret = ExecutionEnded("boot-1", Succeeded(Inline(Encoding.msgpack, b"secret")), 1, 2, Output(b"secret"), Output())
    text = tell([(1.5, Tick(7), ()), (2.0, secret, (*commands, Settle(world.last_delivery)))])
    assert text.startswith("1.500 Tick(unix_ms=7)\n2.000 ExecutionEnded(execution='boot-1', outcome=Succeeded()")
    assert "→ Settle(delivery=Delivery(queue='queue'" in text
    assert "secret" not in text
    assert "true" not in text, "the arguments of a program belong to its user"
