"""What is found on a machine: trees of ``/sys`` and ``/proc`` and the output of tools, as they were on machines of many kinds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psutil
import pytest

from broker_jobs.core.descriptor import descriptor
from broker_jobs.errors import ValidationError
from broker_jobs_worker.detect import listed, usable_cpus, usable_memory
from broker_jobs_worker.hardware import detect, given_resources
from tests.support.machines import A100_MIG, MACHINES, NVIDIA_SMI, ROCM_SMI, machine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


def tool(name: str = "", text: str = "") -> Callable[[Sequence[str]], str]:
    """A machine on which one tool is installed."""
    return lambda command: text if command[0] == name else ""


def found(
    root: Path, environ: Mapping[str, str] | None = None, ask: Callable[[Sequence[str]], str] | None = None, **options: object
) -> dict[str, str]:
    hardware = detect(root, environ=environ or {}, ask=ask or tool(), **options)  # type: ignore[arg-type]
    assert hardware.sources.keys() == dict(hardware.resources.amounts).keys()
    return {name: descriptor(hardware.resources, name) for name, _ in hardware.resources.amounts if name != "memory"}


# --- processors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "allowed", "cpus", "without_threads"),
    [
        ("laptop", range(8), "8", "4"),
        ("two sockets", range(16), "[[0-3,8-11],[4-7,12-15]]", "2x4"),
        ("two sockets, two nodes each", range(16), "4x4", "4x4"),
        ("one socket without NUMA", range(4), "4", "4"),
        ("nothing in /sys", range(4), "4", "4"),
        ("two sockets", {2, 3, 12, 13}, "[[2,3],[12,13]]", "[[2,3],[12,13]]"),
        ("two sockets", {0, 8}, "[0,8]", "1"),
        ("two sockets", {9}, "[9]", "[9]"),
    ],
)
def test_processors_are_grouped_by_socket_and_node(tmp_path: Path, name: str, allowed: set[int], cpus: str, without_threads: str) -> None:
    root = machine(tmp_path, MACHINES[name])
    assert found(root, allowed=set(allowed)) == {"cpus": cpus}
    assert found(root, allowed=set(allowed), hyper_threading=False) == {"cpus": without_threads}


def test_a_quota_takes_whole_groups_first(tmp_path: Path) -> None:
    group = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "650000 100000\n"}
    root = machine(tmp_path, MACHINES["two sockets, two nodes each"] | group)
    assert usable_cpus(root, set(range(16))).groups == ((0, 1, 2, 3), (4, 5))
    assert (
        detect(root, environ={}, ask=tool(), allowed=set(range(16))).sources["cpus"]
        == "16 allowed by the affinity, 6.5 by the control groups"
    )


@pytest.mark.parametrize(("text", "numbers"), [("0-3,8", [0, 1, 2, 3, 8]), ("5", [5]), ("", []), ("a-b", []), ("1-", [1]), ("0-1,x", [])])
def test_lists_of_the_kernel(text: str, numbers: list[int]) -> None:
    assert listed(text) == numbers


def test_without_control_groups_the_machine_is_what_there_is(tmp_path: Path) -> None:
    assert usable_memory(tmp_path).size == psutil.virtual_memory().total
    assert usable_cpus(tmp_path).count == len(os.sched_getaffinity(0))


def test_the_narrowest_group_of_version_2_counts(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "0::/outer/inner\n",
            "sys/fs/cgroup/outer/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/outer/inner/cpu.max": "max 100000\n",
            "sys/fs/cgroup/outer/memory.max": "4096000\n",
            "sys/fs/cgroup/outer/inner/memory.max": "max\n",
        },
    )
    assert usable_cpus(root).count == 1, "rounded down"
    assert usable_memory(root).size == 4_096_000
    assert detect(root, environ={}, ask=tool()).sources["memory"] == "limit of the control groups"


def test_groups_of_version_1_count(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/job\n3:memory:/job\n1:name=systemd:/job\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "1000000\n",
        },
    )
    assert usable_cpus(root).count == 1, "at least one"
    assert usable_memory(root).size == 1_000_000


# --- graphics processors ---------------------------------------------------------------------------------------------


def gpus(*args: object, **named: object) -> dict[str, str]:
    return {name: what for name, what in found(*args, **named).items() if name.startswith("gpus")}  # type: ignore[arg-type]


def test_processors_of_nvidia_by_its_tool_and_by_its_driver(tmp_path: Path) -> None:
    root = machine(tmp_path, MACHINES["two of NVIDIA"])
    assert gpus(tmp_path / "nothing", ask=tool("nvidia-smi", NVIDIA_SMI)) == {"gpus/nvidia": "4"}
    assert gpus(root) == {"gpus/nvidia": "2"}
    assert gpus(root, ask=tool("nvidia-smi", NVIDIA_SMI)) == {"gpus/nvidia": "4"}, "in a container the driver shows more than there is"


def test_slices_of_a_processor_are_given_out_one_by_one(tmp_path: Path) -> None:
    assert gpus(tmp_path, ask=tool("nvidia-smi", A100_MIG)) == {
        "gpus/nvidia": "[MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f,MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb,"
        "GPU-2b0e9f0e-6f3c-7a3f-5c0c-0f5b8a1c7d55]"
    }


def test_processors_of_amd_by_the_driver_and_by_the_tool(tmp_path: Path) -> None:
    root = machine(tmp_path, MACHINES["two of AMD"])
    assert gpus(root) == {"gpus/amd": "2"}
    assert gpus(tmp_path / "nothing", ask=tool("rocm-smi", ROCM_SMI)) == {"gpus/amd": "4"}
    assert gpus(tmp_path / "nothing", ask=tool("rocm-smi", "no json")) == {}


@pytest.mark.parametrize(
    ("environ", "graphics"),
    [
        ({"CUDA_VISIBLE_DEVICES": "1,3"}, {"gpus/nvidia": "[1,3]"}),
        ({"CUDA_VISIBLE_DEVICES": "GPU-5d5b,MIG-c6d4"}, {"gpus/nvidia": "[GPU-5d5b,MIG-c6d4]"}),
        ({"CUDA_VISIBLE_DEVICES": ""}, {}),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, {}),
        ({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, {"gpus/nvidia": "1"}),
        ({"CUDA_VISIBLE_DEVICES": "0,1,0"}, {"gpus/nvidia": "2"}),
        ({"ROCR_VISIBLE_DEVICES": "0,GPU-abc"}, {"gpus/nvidia": "2", "gpus/amd": "[0,GPU-abc]"}),
        ({"CUDA_VISIBLE_DEVICES": "7", "ROCR_VISIBLE_DEVICES": "2"}, {"gpus/nvidia": "[7]", "gpus/amd": "[2]"}),
    ],
)
def test_what_the_environment_shows_is_what_there_is(tmp_path: Path, environ: dict[str, str], graphics: dict[str, str]) -> None:
    assert gpus(machine(tmp_path, MACHINES["two of NVIDIA"]), environ) == graphics


# --- what a worker is told -------------------------------------------------------------------------------------------


def test_resources_of_the_command_line() -> None:
    given = given_resources("2x8", "16 GiB", None, ["gpus=[0,1]", "fairy=sum(1000)"])
    assert given == {"cpus": "2x8", "memory": "16 GiB", "gpus": "[0,1]", "fairy": "sum(1000)"}
    assert given_resources(None, None, None, None) == {}


@pytest.mark.parametrize(
    ("further", "message"), [(["fpga"], "is written NAME=WHAT"), (["cpus=2"], "cpus is given twice"), (["a=1", "a=2"], "a is given twice")]
)
def test_mistakes_on_the_command_line(further: list[str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        given_resources("4", None, None, further)
