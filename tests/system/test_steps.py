"""Workers announce steps, the ledger knows them, and people look at them on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client
from broker_jobs.errors import StepNotFound
from broker_jobs.wire.signing import new_key
from tests.support.daemons import Daemons, until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.rabbitmq import RabbitMQ

SIMULATION = """
from typing import Annotated, Literal
from pydantic import Field
from broker_jobs.steps import step
from shop.tidying import tidy  # another name for the same step

print("something of its own on standard output")

@step(name="simulate", version="1.2.0", tags=["physics"])
def simulate(x: float, mesh: Literal["coarse", "fine"] = "fine", count: Annotated[int, Field(ge=1, description="how often")] = 3) -> float:
    '''Simulate the flow.'''
    return x * count

@step(name="simulate", version="1.10.0")
def faster(x: float) -> float:
    '''Simulate the flow, faster.'''
    return x

@step(name="simulate", version="2.0.0-rc.1")
def next_one(x: float) -> float:
    return x

@step(name="simulate", version="0.9.0", deprecated="it forgets the mesh")
def old(x: float) -> float:
    return x
"""
TIDYING = """
from broker_jobs.steps import step

@step(version="1.0.0")
def tidy(folder: str) -> None:
    '''Tidy up.'''
"""
BROKEN = {
    "absent": ("import shop.nowhere", "ModuleNotFoundError: No module named 'shop.nowhere'; is its folder given with --path?"),
    "leaving": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "dying": ("import os; os._exit(3)", "the import ended the process (3)"),
    "empty": ("x = 3", "shop.empty has no step: put @step(version=…) on a function"),
    "unsaid": ("from broker_jobs.steps import step\n@step(version='1.0.0')\ndef f(x): ...", "the parameter 'x' of f has no annotation"),
    "twice": (
        "from broker_jobs.steps import step\n@step(name='tidy', version='1.0.0')\ndef f() -> None: ...",
        "shop.tidying and shop.twice both have the step tidy 1.0.0: give one of them another version",
    ),
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a package of steps."""
    folder = tmp_path / "modules" / "shop"
    folder.mkdir(parents=True)
    files = {"__init__": "", "simulation": SIMULATION, "tidying": TIDYING, **{name: text for name, (text, _) in BROKEN.items()}}
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder.parent


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.long)])
def daemons(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Daemons]:
    """Daemons on each broker."""
    if request.param == "embedded":
        url = f"sqlite:///{tmp_path / 'queue.db'}"
    else:
        rabbitmq: RabbitMQ = request.getfixturevalue("rabbitmq")
        url = rabbitmq.fresh_vhost()
    with Daemons(tmp_path, {"BROKER_JOBS_URL": url, "BROKER_JOBS_SIGNING_KEY": new_key()}) as daemons:
        yield daemons


def coordinate(daemons: Daemons) -> subprocess.Popen[bytes]:
    return daemons.start("coordinator", "start", "--store", f"sqlite:///{daemons.folder / 'ledger.db'}")


def shown(client: Client, name: str = "*") -> list[tuple[str, tuple[str, ...]]]:
    return [(str(known.spec), known.workers) for known in client.steps(name)]


def test_what_workers_serve_is_known_also_when_they_and_the_coordinator_are_gone(daemons: Daemons, shop: Path) -> None:
    first = coordinate(daemons)
    both = daemons.start("worker", "start", "--name", "a", "--path", str(shop), "--steps", "shop.simulation")
    one = daemons.start("worker", "start", "--name", "b", "--path", str(shop), "--steps", "shop.tidying")
    simulations = ["simulate 2.0.0-rc.1", "simulate 1.10.0", "simulate 1.2.0", "simulate 0.9.0"]
    with Client(daemons.env["BROKER_JOBS_URL"], signing_key=daemons.env["BROKER_JOBS_SIGNING_KEY"]) as client:
        served = [*((name, ("a",)) for name in simulations), ("tidy 1.0.0", ("a", "b"))]
        until(lambda: shown(client) == served, lambda: f"two workers serve\n{daemons.logs()}")
        assert daemons.says(both, "something of its own on standard output")
        for worker in (both, one):
            worker.terminate()
        ended = lambda: f"nobody serves any more: {shown(client)}, {both.poll()}, {one.poll()}\n{daemons.logs()}"  # noqa: E731
        until(lambda: {workers for _, workers in shown(client)} == {()}, ended)
        daemons.kill(first)
        coordinate(daemons)
        assert shown(client) == [(name, ()) for name in [*simulations, "tidy 1.0.0"]]
        daemons.start("worker", "start", "--name", "c", "--path", str(shop), "--steps", "shop.tidying")
        until(lambda: shown(client, "tidy") == [("tidy 1.0.0", ("c",))], lambda: f"somebody serves again\n{daemons.logs()}")


def test_a_step_is_chosen_by_name_and_version(daemons: Daemons, shop: Path) -> None:
    coordinate(daemons)
    daemons.start("worker", "start", "--name", "a", "--path", str(shop), "--steps", "shop.simulation")
    with Client(daemons.env["BROKER_JOBS_URL"], signing_key=daemons.env["BROKER_JOBS_SIGNING_KEY"]) as client:
        until(lambda: shown(client), lambda: f"a worker serves\n{daemons.logs()}")
        chosen = {version: str(client.find_step("simulate", version).spec.version) for version in ("*", "1.2.0", "~1.2", "^1.0", ">=1.3")}
        assert chosen == {"*": "1.10.0", "1.2.0": "1.2.0", "~1.2": "1.2.0", "^1.0": "1.10.0", ">=1.3": "1.10.0"}
        assert [str(client.find_step("simulate", exact).spec.version) for exact in ("0.9.0", "2.0.0-rc.1")] == ["0.9.0", "2.0.0-rc.1"]
        assert json.loads(client.find_step("simulate", "1.2.0").spec.parameters)["properties"]["count"]["minimum"] == 1
        others = r"no version that fits '\^2\.0'; there are: 2\.0\.0-rc\.1, 1\.10\.0, 1\.2\.0, 0\.9\.0 \(deprecated\)"
        with pytest.raises(StepNotFound, match=others):
            client.find_step("simulate", "^2.0")
        with pytest.raises(StepNotFound, match="no worker has announced a step 'simulat'; there are: simulate"):
            client.find_step("simulat")
        with pytest.raises(StepNotFound, match="there are: simulate, tidy"):
            client.find_step("*")

        listed = daemons.run("step", "list", "--output", "quiet").stdout.split("\n")
        assert listed == ["simulate 2.0.0-rc.1", "simulate 1.10.0", "simulate 1.2.0", "simulate 0.9.0", "tidy 1.0.0", ""]
        table = daemons.run("step", "list", "sim*").stdout
        assert "deprecated: it forgets the mesh" in table
        assert "tidy" not in table
        details = daemons.run("step", "info", "simulate", "--version", "1.2.0").stdout
        for text in ("Simulate the flow.", "physics", '"coarse" | "fine"', "must be given", "how often", "returns    number"):
            assert text in details
        told = json.loads(daemons.run("step", "info", "tidy", "--output", "json").stdout)
        assert (told["version"], told["workers"], told["returns"]) == ("1.0.0", ["a"], {"type": "null"})
        assert "serves" in daemons.run("worker", "info", "a").stdout
        missing = daemons.run("step", "info", "nothing")
        assert (missing.returncode, "StepNotFound" in missing.stderr) == (2, True)


@pytest.mark.parametrize("name", BROKEN)
def test_steps_that_cannot_be_read_end_the_worker_with_what_is_wrong(tmp_path: Path, shop: Path, name: str) -> None:
    env = {"BROKER_JOBS_URL": f"sqlite:///{tmp_path / 'queue.db'}", "BROKER_JOBS_SIGNING_KEY": new_key()}
    with Daemons(tmp_path, env) as daemons:
        ended = daemons.run("worker", "start", "--path", str(shop), "--steps", "shop.tidying", "--steps", f"shop.{name}")
        assert ended.returncode == 2, ended.stderr
        assert BROKEN[name][1] in ended.stderr.splitlines()[-1]
        assert daemons.alive() == []


def test_a_node_serves_steps_too(tmp_path: Path, shop: Path) -> None:
    with Daemons(tmp_path, {}) as daemons:
        daemons.start("up", "--cpus", "1", "--path", str(shop), "--steps", "shop.tidying", "--steps", "shop.simulation")
        until((tmp_path / "home" / "node.ready").exists, lambda: f"a node is there\n{daemons.logs()}")
        assert len(daemons.run("step", "list", "--output", "quiet").stdout.split("\n")) == 6
