"""What a worker serves: a process of its own imports the step modules and tells what they hold."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Final

from broker_jobs.errors import DecodeError, ValidationError
from broker_jobs.wire.codec import decode_part
from broker_jobs_worker.executors.guard import SECRETS
from broker_jobs_worker.runners.catalogue import Catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.core.step import StepSpec

PATIENCE: Final = 120.0
"""Seconds that the import of step modules may take."""


async def served(modules: Sequence[str], path: Sequence[str], patience: float = PATIENCE) -> dict[StepSpec, str]:
    """The steps that modules hold, each with its module.

    Args:
        modules: names, as ``import`` takes them
        path: folders in front of the import path
        patience: seconds that they may take

    Raises:
        ValidationError: a module cannot be imported, has no step, or contradicts another one; its traceback is on standard error
    """
    if not modules:
        return {}
    folders = [f"--path={folder}" for folder in path]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "broker_jobs_worker.runners.catalogue", *folders, "--", *modules),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name not in SECRETS},
    )
    names = ", ".join(modules)
    try:
        answer, _ = await asyncio.wait_for(process.communicate(), patience)
    except TimeoutError:
        raise ValidationError(f"the steps of {names} cannot be read: importing takes longer than {patience:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        catalogue = decode_part(Catalogue, answer)
    except DecodeError:
        raise ValidationError(f"the steps of {names} cannot be read: the import ended the process ({process.returncode})") from None
    if catalogue.error is not None:
        raise ValidationError(catalogue.error)
    return dict(zip(catalogue.steps, catalogue.modules, strict=True))
