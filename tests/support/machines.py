"""Machines of many kinds, as files below ``/sys`` and ``/proc`` and as the output of tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path


def machine(root: Path, files: dict[str, str]) -> Path:
    """A file system with these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def _cpus(places: dict[int, int], cores: int) -> dict[str, str]:
    """The socket of each processor, and its core, where processors that are the same modulo `cores` are threads of one."""
    files = {}
    for number, socket in places.items():
        siblings = [other for other in places if other % cores == number % cores]
        folder = f"sys/devices/system/cpu/cpu{number}/topology"
        files[f"{folder}/physical_package_id"] = f"{socket}\n"
        files[f"{folder}/thread_siblings_list"] = ",".join(map(str, siblings)) + "\n"
    return files


def _nodes(*lists: str) -> dict[str, str]:
    return {f"sys/devices/system/node/node{number}/cpulist": f"{text}\n" for number, text in enumerate(lists)}


_AMD_PROCESSOR: Final = "cpu_cores_count 64\nsimd_count 0\nmem_banks_count 1\ncaches_count 0\nio_links_count 2\nvendor_id 0\ndevice_id 0\n"
_AMD_GRAPHICS: Final = (
    "cpu_cores_count 0\nsimd_count 440\nmem_banks_count 1\ncaches_count 0\nvendor_id 4098\ndevice_id 29704\nunique_id 1234\n"
)

MACHINES: Final = {
    "laptop": _cpus(dict.fromkeys(range(8), 0), 4) | _nodes("0-7"),
    "two sockets": _cpus({number: number // 4 % 2 for number in range(16)}, 8) | _nodes("0-3,8-11", "4-7,12-15"),
    "two sockets, two nodes each": _cpus({number: number // 8 for number in range(16)}, 16) | _nodes("0-3", "4-7", "8-11", "12-15"),
    "one socket without NUMA": _cpus(dict.fromkeys(range(4), 0), 4),
    "nothing in /sys": {},
    "two of NVIDIA": {
        f"proc/driver/nvidia/gpus/0000:{bus}:00.0/information": f"Model: \t\t NVIDIA A100-SXM4-40GB\nDevice Minor: \t {minor}\n"
        for minor, bus in enumerate(("07", "0f"))
    },
    "two of AMD": {
        f"sys/class/kfd/kfd/topology/nodes/{number}/properties": text
        for number, text in enumerate((_AMD_PROCESSOR, _AMD_PROCESSOR, _AMD_GRAPHICS, _AMD_GRAPHICS, ""))
    },
}

NVIDIA_SMI: Final = """\
GPU 0: Tesla V100-SXM2-32GB (UUID: GPU-b6e4ab6c-5b1b-31e9-4b3a-8e5c1f6a0001)
GPU 1: Tesla V100-SXM2-32GB (UUID: GPU-0f0d8dfc-2e0f-09f6-8e6b-8e5c1f6a0002)
GPU 2: Tesla V100-SXM2-32GB (UUID: GPU-8b2f6c3a-7d5e-4c1d-9a3e-8e5c1f6a0003)
GPU 3: Tesla V100-SXM2-32GB (UUID: GPU-f3a1c9de-1c2b-4a5f-bb7d-8e5c1f6a0004)
"""

A100_MIG: Final = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
  MIG 1g.5gb      Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1g.5gb      Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-2b0e9f0e-6f3c-7a3f-5c0c-0f5b8a1c7d55)
"""

ROCM_SMI: Final = '{"card0": {"GPU ID": "0x740c"}, "card1": {"GPU ID": "0x740c"}, "card2": {}, "card3": {}, "system": {}}'
