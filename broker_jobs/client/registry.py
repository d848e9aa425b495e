"""Which of the announced steps somebody means."""

from __future__ import annotations

import difflib
import glob
from typing import TYPE_CHECKING, Final

from broker_jobs.core.versions import Range, Release, eligible
from broker_jobs.errors import AmbiguousStep, StepNotFound
from broker_jobs.wire.messages import ListSteps, StepList

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_jobs.client.core import Core
    from broker_jobs.wire.messages import KnownStep

_MOST_NAMED: Final = 10


async def known_steps(core: Core, name: str = "*", tags: Iterable[str] = (), *, schemas: bool = False) -> list[KnownStep]:
    """All that fit, as `Client.steps`."""
    found: list[KnownStep] = []
    while True:
        answer = await core.ask(ListSteps(name, tuple(tags), schemas, len(found)), StepList)
        found += answer.steps
        if not answer.more:
            return found


async def known_step(core: Core, name: str, version: str | None) -> KnownStep:
    """The one that is meant, as `Client.find_step`; without a version the only one that there is."""
    wanted = Range.parse("*" if version is None else version)
    there = {known.spec.version: known for known in await known_steps(core, glob.escape(name), schemas=True)}
    found = eligible(wanted, (Release(known.spec.version, known.spec.deprecated is not None) for known in there.values()))
    versions = ", ".join(f"{each}{'' if known.spec.deprecated is None else ' (deprecated)'}" for each, known in there.items())
    if len(found) > 1 and version is None:
        raise AmbiguousStep(
            f"the step {name!r} has several versions: {versions}; "
            f"name one, or a range such as version='^{found[-1]}', or '*' for the latest"
        )
    if found:
        return there[found[-1]]
    if there:
        fitting = f"that fits {version!r}" if version is not None else "that is neither deprecated nor a pre-release"
        raise StepNotFound(f"the step {name!r} has no version {fitting}; there are: {versions}")
    names = list(dict.fromkeys(known.spec.name for known in await known_steps(core)))
    close = difflib.get_close_matches(name, names, n=_MOST_NAMED, cutoff=0.5) or names[:_MOST_NAMED]
    others = f"; there are: {', '.join(close)}" if close else ", nor any other; start one with: broker-jobs worker start --steps MODULE"
    raise StepNotFound(f"no worker has announced a step {name!r}{others}")
