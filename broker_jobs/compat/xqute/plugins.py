"""Plugins: functions with the names of hooks, marked by `impl` and registered; of the arguments they take those that they name."""

from __future__ import annotations

import functools
import inspect
import warnings
from typing import TYPE_CHECKING, Final, TypeVar

from broker_jobs.compat.xqute.scheduler import logger
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

_Function = TypeVar("_Function", bound="Callable[..., object]")

_MARK: Final = "broker_jobs_xqute_hook"
_MOMENTS: Final = ("init", "queued", "submitting", "submitted", "started", "polling", "killing", "killed", "failed", "succeeded")
_HOOKS: Final = ("on_init", *(f"on_job_{moment}" for moment in _MOMENTS), "on_shutdown", "on_complete")
"""False from *submitting*, *killing* and *shutdown* means no."""


@functools.cache
class Simplug:
    """The plugins of a project: the same object wherever it is made under this name."""

    def __init__(self, project: str) -> None:
        self.project = project
        self.registered: list[object] = []

    def impl(self, function: _Function) -> _Function:
        """Mark a function as an implementation of the hook of its name; `ValidationError` where there is none."""
        name, wants = function.__name__, set(inspect.signature(function).parameters) - {"self"}
        if name not in _HOOKS:
            raise ValidationError(f"{name} is no hook; there are {', '.join(_HOOKS)}")
        today = name in {"on_init", "on_shutdown"} and "scheduler" not in wants  # plain functions in today's xqute
        if not today and not inspect.iscoroutinefunction(function):
            warnings.warn(f"{name} should be a coroutine function", stacklevel=2)
        setattr(function, _MARK, wants)
        return function

    def register(self, *plugins: object) -> None:
        """Let every `Xqute` that is made from now on call the hooks of these modules, classes or objects."""
        self.registered += [plugin for plugin in plugins if plugin not in self.registered]

    def unregister(self, *plugins: object) -> None:
        """The opposite."""
        self.registered = [plugin for plugin in self.registered if plugin not in plugins]


plugin: Final = Simplug("xqute")


async def tell(plugins: list[object], hook: str, **given: object) -> bool:
    """Call a hook; whether nobody has said no. An exception is logged, and is no veto."""
    agreed = True
    for function in (getattr(each, hook, None) for each in plugins):
        if hasattr(function, _MARK):
            try:
                answer = function(**{name: given[name] for name in getattr(function, _MARK)})
                agreed &= (await answer if inspect.isawaitable(answer) else answer) is not False
            except Exception:  # noqa: BLE001 (whatever a plugin raises harms nothing but itself)
                logger.exception("the plugin's %s has failed", hook)
    return agreed
