"""Resources of real workers on both brokers: groups, policies, shares, kinds, variants, what tasks are told, and pins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from broker_jobs import Client, Job, ResourceRequest, TaskFailed, current
from broker_jobs.wire.signing import new_key
from tests.support.daemons import Daemons, until
from tests.support.machines import NVIDIA_SMI

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.rabbitmq import RabbitMQ

OWN = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module", params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.long)])
def daemons(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemons]:
    """A worker with much of everything (described), and one with the processors that there are (``own``)."""
    folder = tmp_path_factory.mktemp("resources")
    env = {"BROKER_JOBS_URL": f"sqlite:///{folder}/queue.db"}
    if request.param == "rabbitmq":
        node: RabbitMQ = request.getfixturevalue("rabbitmq")
        env = {"BROKER_JOBS_URL": node.fresh_vhost(), "BROKER_JOBS_SIGNING_KEY": new_key()}
    with Daemons(folder, env) as found:
        found.start("coordinator", "start")
        described = ("gpus/nvidia=[GPU-a,GPU-b]", "gpus/amd=[5]", "slots=[[w,x],[y,z]]", "fairy=sum(2.2)", "many=1")
        found.start(
            "worker", "start", "--name", "many", "--cpus", "3x4", "--memory", "1 GiB", *(f"--resource={each}" for each in described)
        )
        found.start("worker", "start", "--name", "own", f"--cpus=[{','.join(map(str, OWN))}]", "--gpus=0", "--resource=own=8")
        with Client(env["BROKER_JOBS_URL"], signing_key=env.get("BROKER_JOBS_SIGNING_KEY")) as client:
            until(
                lambda: {worker.worker for worker in client.cluster().workers} == {"many", "own"}, f"both workers are there: {found.logs()}"
            )
        yield found


@pytest.fixture(scope="module")
def client(daemons: Daemons) -> Iterator[Client]:
    with Client(daemons.env["BROKER_JOBS_URL"], signing_key=daemons.env.get("BROKER_JOBS_SIGNING_KEY")) as found:
        found.runtime.reports_left_work = False
        yield found


def allocation() -> dict[str, str]:
    return dict(current.allocation)


def held_until(path: str, count: int) -> dict[str, str]:
    """What it was given, held until so many others hold theirs."""
    with open(path, "a", encoding="ascii") as file:  # noqa: PTH123
        file.write(".")
    deadline = time.monotonic() + 30
    while os.path.getsize(path) < count:  # noqa: PTH202
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)
    return dict(current.allocation)


def on_many(cpus: float | str = 0, **resources: float | str) -> ResourceRequest:
    return ResourceRequest(cpus, resources={"many": 0.01, **resources})


def given(client: Client, *wanted: ResourceRequest) -> Mapping[str, str]:
    return client.options(resources=list(wanted), timeout=60).call(allocation)


@pytest.mark.parametrize(("policy", "counts"), [("6 compact", [3, 3]), ("6 tight", [2, 4]), ("6 scatter", [2, 2, 2]), ("all", [4, 4, 4])])
def test_policies_on_three_groups_of_four(client: Client, policy: str, counts: list[int]) -> None:
    env = given(client, on_many(policy))
    cpus = env["BROKER_JOBS_CPUS"].split(",")
    assert sorted(Counter(int(cpu) // 4 for cpu in cpus).values()) == counts
    assert env["OMP_NUM_THREADS"] == str(len(cpus))
    assert env["BROKER_JOBS_RESOURCE_REQUEST_cpus"] == policy.removesuffix(" compact")


def test_labels_and_amounts_reach_the_task(client: Client) -> None:
    env = given(client, ResourceRequest(0, "100 MiB", 2, {"slots": "3 tight", "fairy": 0.5}))
    assert (env["CUDA_VISIBLE_DEVICES"], env["CUDA_DEVICE_ORDER"], env["ROCR_VISIBLE_DEVICES"]) == ("GPU-a,GPU-b", "PCI_BUS_ID", "")
    assert env["BROKER_JOBS_RESOURCE_VALUES_slots"] == "w,x,y"
    assert (env["BROKER_JOBS_RESOURCE_REQUEST_fairy"], env["BROKER_JOBS_RESOURCE_REQUEST_gpus"]) == ("0.5", "2")
    assert int(env["BROKER_JOBS_RESOURCE_REQUEST_memory"]) >= 100 << 20
    assert given(client, ResourceRequest(0, resources={"gpus/amd": 1}))["ROCR_VISIBLE_DEVICES"] == "5"


def test_shares_are_of_one_thing_and_add_up(client: Client, tmp_path: Path) -> None:
    job = Job()
    halves = [job.function(held_until, args=(str(tmp_path / "slots"), 4), resources=on_many(slots=0.5)) for _ in range(4)]
    parts = [job.function(held_until, args=(str(tmp_path / "fairy"), 3), resources=on_many(fairy=0.6)) for _ in range(4)]
    submitted = client.submit(job)
    slots = [submitted.result(task, timeout=60)["BROKER_JOBS_RESOURCE_VALUES_slots"] for task in halves]
    assert sorted(Counter(slots).values()) == [2, 2], "two shares of one thing, twice"
    assert len([submitted.result(task, timeout=60) for task in parts]) == 4, "three at a time, then the last"


def test_the_first_variant_that_can_be_met_is_chosen_at_the_start(client: Client) -> None:
    env = given(client, on_many(slots=5), on_many(slots=1), on_many(fairy=1))
    assert (env["BROKER_JOBS_RESOURCE_VARIANT"], env["BROKER_JOBS_RESOURCE_VALUES_slots"]) == ("1", "w")


def test_a_strict_policy_waits_for_its_groups(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "order"
    path.touch()
    job = Job()
    spread = job.function(held_until, args=(str(path), 2), resources=on_many(slots="2 scatter"))
    until(lambda: client.cluster().workers, "workers")
    submitted = client.submit(job)
    until(lambda: path.stat().st_size == 1, "a slot of each group is taken")
    strict = Job()
    task = strict.function(allocation, resources=on_many(slots="2 compact!"))
    waiting = client.submit(strict)
    loose = client.options(resources=on_many(slots="2 compact"), timeout=60).call(allocation)
    assert sorted(loose["BROKER_JOBS_RESOURCE_VALUES_slots"].split(",")) == ["x", "z"]
    assert waiting.state == "waiting"
    path.write_text("..")
    assert waiting.result(task, timeout=60)["BROKER_JOBS_RESOURCE_VALUES_slots"] in {"w,x", "y,z"}
    assert submitted.result(spread, timeout=60)["BROKER_JOBS_RESOURCE_VALUES_slots"] == "w,y"


def test_requests_are_shown_whole(client: Client, daemons: Daemons) -> None:
    job = Job(name="shown")
    task = job.program(["true"], resources=[ResourceRequest("4 compact!", "2 TiB"), ResourceRequest(99, gpus=3)])
    submitted = client.submit(job)
    assert submitted.info().notes[0].endswith("cpus=4 compact! memory=2TiB or cpus=99 gpus=3")
    shown = json.loads(daemons.run("task", "info", submitted.id, str(task.number), "--output", "json").stdout)
    assert shown["options"]["resources"] == "cpus=4 compact! memory=2TiB or cpus=99 gpus=3"
    assert "cpus=4 compact! memory=2TiB or cpus=99 gpus=3" in daemons.run("job", "info", submitted.id).stdout
    submitted.cancel()


# --- pins --------------------------------------------------------------------------------------------------------------


def affinities() -> tuple[list[int], list[int], str]:
    """Of the main thread, of another one, and what was allotted."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(sorted(os.sched_getaffinity(0))))
    thread.start()
    thread.join()
    return sorted(os.sched_getaffinity(0)), found, current.allocation["BROKER_JOBS_CPUS"]


def on_own(cpus: float | str = 1) -> ResourceRequest:
    return ResourceRequest(cpus, resources={"own": 1})


def test_functions_are_held_to_their_processors_and_the_child_is_free_again(client: Client) -> None:
    pinned = client.options(resources=on_own(), pin="taskset", timeout=60)
    for _ in range(3):
        main, other, listed = pinned.call(affinities)
        assert main == other == [int(listed)]
        assert client.options(resources=on_own(), timeout=60).call(affinities)[0] == OWN


def test_programs_are_held_to_their_processors(client: Client) -> None:
    command = ["sh", "-c", "grep Cpus_allowed_list /proc/self/status; echo $BROKER_JOBS_CPUS $BROKER_JOBS_PIN $OMP_PLACES $OMP_PROC_BIND"]
    job = Job()
    free, held, told = (job.program(command, resources=on_own(), pin=pin) for pin in (None, "taskset", "omp"))  # type: ignore[arg-type]
    submitted = client.submit(job)
    client.wait_for_jobs([submitted], timeout=60)
    listed, cpus, pin = submitted.stdout(held).decode().split()[1:4]
    assert (listed, pin) == (cpus, "taskset")
    cpus, pin, places, bind = submitted.stdout(told).decode().split()[2:]
    assert (pin, places, bind) == ("omp", f"{{{cpus}}}", "close")
    assert len(submitted.stdout(free).decode().split()) == 3


def test_processors_that_are_not_there_cannot_be_held_to(client: Client) -> None:
    with pytest.raises(TaskFailed, match=r"cannot be pinned: it was given the processors .*Start the worker without --cpus"):
        client.options(resources=on_many(12), pin="taskset", timeout=60).call(allocation)


# --- what is found -----------------------------------------------------------------------------------------------------


def hwdetect(folder: Path, *arguments: str, **env: str) -> str:
    """On a machine with a tool of NVIDIA, by a process that may use one processor."""
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{NVIDIA_SMI}END\n")
    tool.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if not name.endswith("VISIBLE_DEVICES")}
    program = "[sys.executable, '-P', '-m', 'broker_jobs', *sys.argv[1:]]"
    held = f"import os, sys; os.sched_setaffinity(0, {{{OWN[-1]}}}); os.execv(sys.executable, {program})"
    return subprocess.run(
        [sys.executable, "-c", held, "worker", "hwdetect", *arguments],
        env={**environ, "PATH": f"{folder}:{environ['PATH']}", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def test_what_a_worker_would_give_is_shown(tmp_path: Path) -> None:
    found = json.loads(hwdetect(tmp_path, "--output", "json"))
    assert found["cpus"] == {"amount": 1, "groups": [[str(OWN[-1])]], "descriptor": f"[{OWN[-1]}]", "source": found["cpus"]["source"]}
    assert found["gpus/nvidia"] == {"amount": 4, "groups": [["0", "1", "2", "3"]], "descriptor": "4", "source": "nvidia-smi"}
    table = hwdetect(tmp_path, CUDA_VISIBLE_DEVICES="GPU-5d5b,GPU-2b0e")
    assert "[GPU-5d5b,GPU-2b0e]" in table
    assert "nvidia-smi" not in table
    options = hwdetect(tmp_path, "--output", "quiet").split()
    assert options == [f"--cpus=[{OWN[-1]}]", "--resource=gpus/nvidia=4", f"--memory={found['memory']['amount']}"]


def test_a_node_takes_the_same_options(tmp_path: Path) -> None:
    with Daemons(tmp_path, {"BROKER_JOBS_URL": f"sqlite:///{tmp_path}/queue.db"}) as found:
        found.start("up", "--cpus=2x2", "--memory=1GiB", "--gpus=0", "--resource=fairy=sum(7)")
        until((tmp_path / "queue.db").exists, "the node is up")
        done = found.run("submit", "--wait", "--cpus=2 scatter", "--resource=fairy=7", "--", "sh", "-c", "echo $BROKER_JOBS_CPUS")
        assert done.stdout == "0,2\n"
        assert "cpus=4 in 2 groups fairy=7 memory=1GiB" in found.run("worker", "list").stdout
        wrong = found.run("worker", "start", "--cpus=sum(4)")
        assert (wrong.returncode, "write their number" in wrong.stderr) == (2, True)
