"""What a task is told of its allocation."""

from __future__ import annotations

import pytest

from broker_jobs.core.descriptor import described
from broker_jobs.core.request import ResourceRequest, canonical
from broker_jobs.core.resources import Pool
from broker_jobs.core.spec import Pin
from broker_jobs_worker.machine.allotment import allotment

CLUSTER_NODE = {
    "cpus": "[[0-3],[8-11]]",
    "memory": "16 GiB",
    "gpus/nvidia": "[GPU-1,GPU-2]",
    "gpus/amd": "[3]",
    "lab/fpga-x": "[a,b]",
    "fairy": "sum(10)",
}
BASE = {"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": ""}


def told(wanted: ResourceRequest | list[ResourceRequest], has: dict[str, str] = CLUSTER_NODE, pin: Pin | None = None) -> dict[str, str]:
    total = described(has)
    allocation = Pool(total).try_allocate(canonical(wanted))
    assert allocation is not None
    return allotment(allocation, total, pin)


def test_processors() -> None:
    assert told(ResourceRequest("6 scatter")) == BASE | {
        "BROKER_JOBS_CPUS": "0,1,2,8,9,10",
        "OMP_NUM_THREADS": "6",
        "BROKER_JOBS_RESOURCE_REQUEST_cpus": "6 scatter",
        "BROKER_JOBS_RESOURCE_VALUES_cpus": "0,1,2,8,9,10",
    }
    assert told(ResourceRequest(0.5), {"cpus": "2"}) == {
        "BROKER_JOBS_CPUS": "0",
        "OMP_NUM_THREADS": "1",
        "BROKER_JOBS_RESOURCE_REQUEST_cpus": "0.5",
        "BROKER_JOBS_RESOURCE_VALUES_cpus": "0",
    }


def test_a_task_without_processors_is_told_so() -> None:
    env = told(ResourceRequest(0, resources={"fairy": 2.5}), pin=Pin.taskset)
    assert env == BASE | {"BROKER_JOBS_CPUS": "", "BROKER_JOBS_RESOURCE_REQUEST_fairy": "2.5"}


def test_graphics_processors_of_a_kind() -> None:
    env = told(ResourceRequest(1, gpus=2))
    assert (
        env["CUDA_VISIBLE_DEVICES"]
        == env["BROKER_JOBS_RESOURCE_VALUES_gpus"]
        == env["BROKER_JOBS_RESOURCE_VALUES_gpus_nvidia"]
        == "GPU-1,GPU-2"
    )
    assert (env["CUDA_DEVICE_ORDER"], env["ROCR_VISIBLE_DEVICES"]) == ("PCI_BUS_ID", "")
    env = told(ResourceRequest(1, resources={"gpus/amd": 0.5}))
    assert (env["ROCR_VISIBLE_DEVICES"], env["CUDA_VISIBLE_DEVICES"]) == ("3", "")
    assert "CUDA_DEVICE_ORDER" not in env
    both = told(ResourceRequest(1, gpus=1), {"cpus": "1", "gpus": "[7]", "gpus/nvidia": "[GPU-1]"})
    assert both["CUDA_VISIBLE_DEVICES"] == "7"
    assert told(ResourceRequest(1, gpus="all"), {"cpus": "1", "gpus": "2"})["CUDA_VISIBLE_DEVICES"] == "0,1"


@pytest.mark.parametrize("name", ["lab/fpga-x"])
def test_names_as_parts_of_variables(name: str) -> None:
    env = told(ResourceRequest(1, memory="all", resources={name: "2 tight!"}))
    assert env["BROKER_JOBS_RESOURCE_REQUEST_lab_fpga_x"] == "2 tight!"
    assert env["BROKER_JOBS_RESOURCE_VALUES_lab_fpga_x"] == "a,b"
    assert env["BROKER_JOBS_RESOURCE_REQUEST_memory"] == "all"
    assert "BROKER_JOBS_RESOURCE_VALUES_memory" not in env


def test_the_variant_is_told_where_there_are_several() -> None:
    either = [ResourceRequest(1, gpus=5), ResourceRequest(2)]
    assert told(either)["BROKER_JOBS_RESOURCE_VARIANT"] == "1"
    assert "BROKER_JOBS_RESOURCE_VARIANT" not in told(either[1:])


def test_pins() -> None:
    env = told(ResourceRequest(2), pin=Pin.omp)
    assert (env["BROKER_JOBS_PIN"], env["OMP_PLACES"], env["OMP_PROC_BIND"]) == ("omp", "{0,1}", "close")
    env = told(ResourceRequest(2), pin=Pin.taskset)
    assert env["BROKER_JOBS_PIN"] == "taskset"
    assert "OMP_PLACES" not in env
