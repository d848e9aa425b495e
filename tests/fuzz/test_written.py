"""What people write: job files, arrays, configurations, templates, directives, addresses, amounts. Each is read, or refused with words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import typer

from broker_jobs import config
from broker_jobs.broker.amqp.address import Address
from broker_jobs.cli.directives import found_in
from broker_jobs.cli.entries import items, lines
from broker_jobs.cli.jobfile import read_job
from broker_jobs.cli.options import task_ref
from broker_jobs.core.descriptor import described
from broker_jobs.core.quantities import amount, milliseconds, size_bytes
from broker_jobs.core.request import ResourceRequest
from broker_jobs.core.selection import selected, task_refs
from broker_jobs.core.versions import Range, Version
from broker_jobs.errors import AddressError, CycleError, SigningKeyMissing, ValidationError
from broker_jobs.metrics import parse_port
from broker_jobs.templates.reading import load_templates
from broker_jobs.wire.signing import SigningKey
from broker_jobs_worker.accepting import Accepted
from tests.support.mutations import FACTORS, Mutator, feed

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

REFUSED = (ValidationError, AddressError, CycleError, SigningKeyMissing)

JOB_FILES = (
    """name = "simulation"
tags = ["a", "b=c"]
max_fails = 3
[[task]]
id = 1
command = ["prepare", "--fast"]
stdout = { path = "out.txt", on_close = "rm-if-finished" }
stderr = "none"
time_limit = "1h 30m"
memory_limit = "4 GiB"
[task.env]
A = "1"
[[task]]
id = 2
command = ["simulate"]
deps = [1]
after = []
priority = 5
crash_limit = "never-restart"
pin = "taskset"
[[task.request]]
n_nodes = 0
time_request = 3.5
resources = { cpus = 4, memory = "1 GiB", "gpus/nvidia" = 0.5 }
[[task.request]]
resources = { cpus = "all" }
""",
    """[array]
ids = "1-10:3,20"
command = ["sh", "-c", "true"]
stdin = "x"
task_dir = true
cwd = "/tmp"
grace = 2
output_limit = 1000
""",
    """[array]
entries = ["a", "b"]
command = ["x"]
executor = "sge"
executor_options = { q = "all.q", b = ["a", "b"] }
""",
)
CONFIGURATION = """url = "amqps://user:secret@rabbit.example.org/jobs?heartbeat=5"
namespace = "bj"
value_store = "/shared/values"
[resource_classes.gpu-large]
cpus = 8
memory = "64 GiB"
gpus = 1
[[resource_classes.two]]
cpus = 8
nodes = 2
min_time = "1h"
[[resource_classes.two]]
cpus = "4 scatter"
resources = { fpga = 1 }
"""
TEMPLATES = """[[template]]
name = "simulate"
type = "program"
[template.variables]
DATA = "$(APP_WORKSPACE)/data"
[template.parameters]
argv = ["simulate", "$(DATA)/mesh.vtk"]
time_limit = "1h"
[[template]]
name = "other"
"""
SCRIPT = """#!/bin/sh
#BJ --cpus 4 --name 'a b'
# a comment
#BJ --env A=1
true
"""
ADDRESSES = (
    "amqp://user:password@host:5672/vhost?queues=quorum&heartbeat=5",
    "amqps://u:p@[::1]:5671,b:5672/%2F?cacertfile=/x&certfile=/a&keyfile=/b",
    "amqp://a,b,c/",
)
WORDS: dict[str, tuple[tuple[str, ...], Callable[[str], object]]] = {
    "address of RabbitMQ": (ADDRESSES, Address.parse),
    "address of a file": (
        ("sqlite:////path/queue.db?durability=power", *ADDRESSES),
        lambda text: (config.scheme(text), config.sqlite_path(text)),
    ),
    "duration": (("1h30m", "90", "1.5 s", "2d 3h", "100ms"), lambda text: milliseconds(text, "it")),
    "size": (("4 GiB", "100", "1.5k", "2E"), lambda text: size_bytes(text, "it")),
    "amount": (("4", "0.5", "1e3"), lambda text: amount(text, "it")),
    "numbers": (("1-3", "0-10:2,5", "1_000,7"), selected),
    "tasks": (("1-3,train,[33]",), task_refs),
    "task": (("17", "train"), task_ref),
    "port": (("auto", "8080"), parse_port),
    "what a worker has": (
        ("range(0-7)", "[0,1,2]", "sum(100)", "[[0-1],[2,3]]", "2x8", "64 GiB", "4"),
        lambda text: [described({name: text}) for name in ("cpus", "memory", "fpga")],
    ),
    "what a task needs": (
        ("4", "all", "4 scatter", "8 compact!", "0.5"),
        lambda text: [ResourceRequest(cpus=text), ResourceRequest(memory=text), ResourceRequest(resources={"fpga": text})],
    ),
    "version": (("1.2.3", "1.2.3-rc.1"), Version.parse),
    "versions": ((">=1.2 <2", "^1.0", "~1.2.3", "1.x"), Range.parse),
    "key": (("ab" * 32, "ab" * 16 + "," + "cd" * 16), SigningKey.parse),
    "kinds of work": (("programs", "step:simulate", "functions"), lambda text: Accepted.parse([text])),
}


def written(*seeds: str) -> Callable[[random.Random], str]:
    """One of these texts, made wrong."""

    def make(chance: random.Random) -> str:
        mutator = Mutator(chance)
        change = mutator.text if chance.random() < 0.7 else mutator.lines
        return str(mutator.several(change, chance.choice(seeds)))

    return make


def from_file(path: Path, read: Callable[[Path], object]) -> Callable[[str], None]:
    """Reads a text from a file."""

    def take(text: str) -> None:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        read(path)

    return take


@pytest.mark.parametrize("factor", FACTORS)
def test_words_of_the_command_line(factor: int) -> None:
    def make(chance: random.Random) -> tuple[str, str]:
        kind = chance.choice(tuple(WORDS))
        return kind, written(*WORDS[kind][0])(chance)

    def take(given: tuple[str, str]) -> None:
        kind, text = given
        WORDS[kind][1](text)

    feed("words", factor, make, take, REFUSED)


@pytest.mark.parametrize("factor", FACTORS)
def test_job_files(tmp_path: Path, factor: int) -> None:
    feed("job files", factor, written(*JOB_FILES), from_file(tmp_path / "job.toml", read_job), REFUSED)


@pytest.mark.parametrize("factor", FACTORS)
def test_configurations(tmp_path: Path, factor: int) -> None:
    def read(path: Path) -> None:
        environ: dict[str, str] = {"BROKER_JOBS_CONFIG": str(path), "BROKER_JOBS_HOME": str(tmp_path / "home")}
        classes: list[Any] = [config.resource_class(name, environ=environ) for name in ("gpu-large", "two")]
        assert all(classes)
        config.resolve(environ=environ)

    feed("configurations", factor, written(CONFIGURATION), from_file(tmp_path / "broker-jobs.toml", read), REFUSED)


@pytest.mark.parametrize("factor", FACTORS)
def test_templates(tmp_path: Path, factor: int) -> None:
    feed("templates", factor, written(TEMPLATES), from_file(tmp_path / "templates.toml", load_templates), REFUSED)


@pytest.mark.parametrize("factor", FACTORS)
def test_items_and_lines_of_arrays(tmp_path: Path, factor: int) -> None:
    seeds = ('[1, 2.5, {"a": "b"}, [null, true], "\\u00e4"]', "[]", "a\nb\r\nc\n")

    def read(path: Path) -> None:
        lines(path)
        items(path)

    feed("items and lines", factor, written(*seeds), from_file(tmp_path / "entries", read), REFUSED)


@pytest.mark.parametrize("factor", FACTORS)
def test_directives(factor: int) -> None:
    feed("directives", factor, written(SCRIPT), lambda text: found_in(text, "script.sh"), typer.BadParameter)


@pytest.mark.parametrize("deep", ["[" * 100_000, "x = " + "[" * 100_000, "x = " + "9" * 5000, "x = " + "{a = " * 50_000])
def test_what_is_nested_too_deep_or_too_long_a_number_is_refused(tmp_path: Path, deep: str) -> None:
    path = tmp_path / "broker-jobs.toml"
    path.write_text(deep, encoding="utf-8")
    environ = {"BROKER_JOBS_CONFIG": str(path), "BROKER_JOBS_HOME": str(tmp_path / "home")}
    for read in (read_job, items, load_templates, lambda _: config.resolve(environ=environ)):
        with pytest.raises(ValidationError, match=r"broker-jobs\.toml"):
            read(path)
