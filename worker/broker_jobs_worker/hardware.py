"""What a worker gives to tasks: what it was told, and for the rest what is found on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker_jobs.core.descriptor import described
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.request import MEMORY
from broker_jobs.core.resources import INDEXED, Resources
from broker_jobs.errors import ValidationError
from broker_jobs_worker.detect import ROOT, usable_cpus, usable_memory
from broker_jobs_worker.graphics import ask_tool, find_graphics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from broker_jobs.core.resources import Groups


@dataclass(frozen=True, slots=True)
class Hardware:
    """What was found on this machine.

    Attributes:
        resources: what a worker here may give to tasks
        sources: how each was found, for people
    """

    resources: Resources
    sources: Mapping[str, str]


def detect(
    root: Path = ROOT,
    *,
    environ: Mapping[str, str] = os.environ,
    ask: Callable[[Sequence[str]], str] = ask_tool,
    allowed: AbstractSet[int] | None = None,
    hyper_threading: bool = True,
    without: Iterable[str] = (),
) -> Hardware:
    """Look at this machine.

    Args:
        root: of the file system
        environ: lists of visible graphics processors are taken as they are
        ask: what a tool of the machine prints
        allowed: the affinity (default: that of this process)
        hyper_threading: False for one thread of each core
        without: resources that are not looked for: ``cpus``, ``gpus``, ``memory``
    """
    amounts, groups, sources = {}, {}, {}
    left = {"cpus", "gpus", MEMORY} - set(without)
    if "cpus" in left:
        cpus = usable_cpus(root, allowed, hyper_threading=hyper_threading)
        amounts["cpus"], groups["cpus"] = cpus.count * UNIT, tuple(tuple(map(str, group)) for group in cpus.groups)
        words = [f"{cpus.allowed} allowed by the affinity"]
        words += [f"one thread of each core: {cpus.allowed - cpus.threads}"] if cpus.threads else []
        words += [f"{cpus.quota:g} by the control groups"] if cpus.quota is not None else []
        sources["cpus"] = ", ".join(words)
    if MEMORY in left:
        memory = usable_memory(root)
        amounts[MEMORY], sources[MEMORY] = memory.size, "limit of the control groups" if memory.limited else "installed"
    for graphics in find_graphics(root, environ, ask) if "gpus" in left else ():
        amounts[graphics.kind], groups[graphics.kind] = len(graphics.labels) * UNIT, (graphics.labels,)
        sources[graphics.kind] = graphics.source
    return Hardware(_resources(amounts, groups), sources)


def provided(given: Mapping[str, float | str], *, hyper_threading: bool = True) -> Resources:
    """What a worker gives to tasks: what it was told, and for the rest what is found here.

    Args:
        given: descriptors by name of the resource
        hyper_threading: False for one thread of each core, where processors are found

    Raises:
        ValidationError: a descriptor cannot be read, or nothing is left to give
    """
    told = described(given)
    found = detect(hyper_threading=hyper_threading, without={name.partition("/")[0] for name in given}).resources
    amounts = dict(told.amounts) | dict(found.amounts)
    if not amounts:
        raise ValidationError("a worker without any resources can run nothing: give it some, such as --cpus 2")
    return Resources(tuple(sorted(amounts.items())), tuple(sorted((*told.groups, *found.groups))))


def given_resources(cpus: str | None, memory: str | None, gpus: str | None, further: Sequence[str] | None) -> dict[str, str]:
    """What a worker is told on the command line to give to tasks, by name.

    Raises:
        ValidationError: a resource is given twice, or cannot be read
    """
    pairs = [(name, text) for name, text in (("cpus", cpus), ("memory", memory), ("gpus", gpus)) if text is not None]
    for text in further or ():
        name, equals, what = text.partition("=")
        if not equals:
            raise ValidationError(f"--resource is written NAME=WHAT, such as fpga=2 or gpus=[0,1], not {text!r}")
        pairs.append((name.strip(), what))
    given = dict(pairs)
    if len(given) < len(pairs):
        twice = next(name for name, _ in pairs if [other for other, _ in pairs].count(name) > 1)
        raise ValidationError(f"{twice} is given twice")
    described(given)
    return given


def _resources(amounts: Mapping[str, int], groups: Mapping[str, Groups]) -> Resources:
    """In the one form: labels are left out where they are the numbers from 0 in one group."""
    usual = {name for name, each in groups.items() if name.partition("/")[0] in INDEXED and each == (tuple(map(str, range(len(each[0])))),)}
    return Resources(tuple(sorted(amounts.items())), tuple(sorted((name, each) for name, each in groups.items() if name not in usual)))
