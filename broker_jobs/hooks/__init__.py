"""Hooks: what plugins are told of jobs and tasks, and where they may say no; see docs/hooks.md.

A plugin is a module or an object with functions that are marked by `impl` and named as those of `ClientHooks` or `CoordinatorHooks`.
Without plugins nothing of this is loaded but the search for entry points.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from broker_jobs.hooks.facts import JobNow, Keeper, TaskNow
    from broker_jobs.hooks.specs import ClientHooks, CoordinatorHooks, impl

__all__ = ["ClientHooks", "CoordinatorHooks", "JobNow", "Keeper", "TaskNow", "impl"]

_HOME: Final = {
    "ClientHooks": "specs",
    "CoordinatorHooks": "specs",
    "JobNow": "facts",
    "Keeper": "facts",
    "TaskNow": "facts",
    "impl": "specs",
}


def __getattr__(name: str) -> object:
    """A public name, loaded now."""
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
