"""Which graphics processors this machine lets us use: NVIDIA's and AMD's, by what the environment, their tools and the kernel say.

Their labels are what the libraries understand in ``CUDA_VISIBLE_DEVICES`` and ``ROCR_VISIBLE_DEVICES``: numbers, or UUIDs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

NVIDIA: Final = "gpus/nvidia"
AMD: Final = "gpus/amd"

VISIBLE: Final = {"gpus": "CUDA_VISIBLE_DEVICES", NVIDIA: "CUDA_VISIBLE_DEVICES", AMD: "ROCR_VISIBLE_DEVICES"}
"""Which variable tells a library which of a resource it may use."""

_TOOL_PATIENCE: Final = 30.0
_GPU: Final = re.compile(r"GPU (\d+): .*\(UUID: (GPU-[0-9a-fA-F-]+)\)")
_SLICE: Final = re.compile(r"\s+MIG .*\(UUID: (MIG-[0-9a-zA-Z/-]+)\)")


@dataclass(frozen=True, slots=True)
class Graphics:
    """Graphics processors of a kind.

    Attributes:
        kind: name of the resource
        source: where they were found
    """

    kind: str
    labels: tuple[str, ...]
    source: str


def find_graphics(root: Path, environ: Mapping[str, str], ask: Callable[[Sequence[str]], str]) -> tuple[Graphics, ...]:
    """The graphics processors of each kind of which there are any.

    Args:
        root: of the file system
        environ: a list of visible ones is taken as it is
        ask: what a tool prints, as `ask_tool`
    """
    found = []
    for kind, visible, finders in ((NVIDIA, VISIBLE[NVIDIA], (_nvidia_smi, _nvidia_driver)), (AMD, VISIBLE[AMD], (_amd_driver, _rocm_smi))):
        if visible in environ:
            graphics = Graphics(kind, _visible(environ[visible]), visible)
        else:
            graphics = next((each for each in (finder(root, ask) for finder in finders) if each.labels), Graphics(kind, (), ""))
        if graphics.labels:
            found.append(graphics)
    return tuple(found)


def ask_tool(command: Sequence[str]) -> str:
    """What a tool prints; nothing where there is none, or it fails."""
    path = shutil.which(command[0])
    if path is None:
        return ""
    try:
        done = subprocess.run([path, *command[1:]], stdin=subprocess.DEVNULL, capture_output=True, timeout=_TOOL_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def _visible(text: str) -> tuple[str, ...]:
    """The list of a variable, up to the first that is none, as the libraries read it."""
    labels: list[str] = []
    for part in map(str.strip, text.split(",")):
        if not (part.isdigit() or part.startswith(("GPU-", "MIG-"))) or part in labels:
            break
        labels.append(part)
    return tuple(labels)


def _nvidia_smi(root: Path, ask: Callable[[Sequence[str]], str]) -> Graphics:
    """By ``nvidia-smi -L``; a processor that is cut into slices (MIG) is given out slice by slice, and everything by UUID then."""
    del root
    numbers, uuids, slices = [], [], False
    for line in ask(("nvidia-smi", "-L")).splitlines():
        if found := _GPU.match(line):
            numbers.append(found[1])
            uuids.append([found[2]])
        elif (found := _SLICE.match(line)) and uuids:
            slices = True
            uuids[-1].append(found[1])
    labels = [uuid for whole, *cut in uuids for uuid in cut or [whole]] if slices else numbers
    return Graphics(NVIDIA, tuple(labels), "nvidia-smi")


def _nvidia_driver(root: Path, ask: Callable[[Sequence[str]], str]) -> Graphics:
    """By what the driver shows, one folder each, in the order of the bus."""
    del ask
    folders = list((root / "proc/driver/nvidia/gpus").glob("*/information"))
    return Graphics(NVIDIA, tuple(map(str, range(len(folders)))), "/proc/driver/nvidia")


def _amd_driver(root: Path, ask: Callable[[Sequence[str]], str]) -> Graphics:
    """By the topology of the compute driver: nodes with SIMD units are graphics processors; those of others cannot be read."""
    del ask
    count = 0
    for folder in (root / "sys/class/kfd/kfd/topology/nodes").glob("[0-9]*"):
        try:
            properties = dict(line.split(maxsplit=1) for line in (folder / "properties").read_text("ascii").splitlines() if " " in line)
        except (OSError, ValueError):
            continue
        count += properties.get("simd_count", "0") != "0"
    return Graphics(AMD, tuple(map(str, range(count))), "/sys/class/kfd")


def _rocm_smi(root: Path, ask: Callable[[Sequence[str]], str]) -> Graphics:
    """By ``rocm-smi``, one card each."""
    del root
    try:
        cards = json.loads(ask(("rocm-smi", "--showid", "--json")) or "{}")
    except ValueError:
        cards = {}
    names = [name for name in cards if re.fullmatch(r"card\d+", name)] if isinstance(cards, dict) else []
    return Graphics(AMD, tuple(map(str, range(len(names)))), "rocm-smi")
