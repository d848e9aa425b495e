"""The plugins of a coordinator that runs alone; in a node it shares its process with a worker, where no user's code runs."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final

from broker_jobs.coordinator.service import LAST_MOMENTS
from broker_jobs.hooks.calling import Hooks
from broker_jobs.hooks.facts import Keeper
from broker_jobs.hooks.found import COORDINATORS, installed
from broker_jobs.hooks.plugins import collect
from broker_jobs.hooks.specs import CoordinatorHooks

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from broker_jobs.coordinator.config import CoordinatorConfig

MOST_WAITING: Final = 10_000
"""Moments that wait for a plugin; further ones are dropped, and counted."""


def open_hooks(config: CoordinatorConfig) -> Hooks | None:
    """The plugins that entry points name, or None where there are none."""
    entries = installed(COORDINATORS)
    plugins = collect(entries, (), CoordinatorHooks) if entries else []
    if not plugins:
        return None
    keeper = Keeper(config.name, config.namespace)
    return Hooks(plugins, ("coordinator", keeper), _Loop().run, patience=LAST_MOMENTS, most=MOST_WAITING)


class _Loop:
    """An event loop for the coroutines of plugins, in a thread of its own, which is made when there is one to run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, object]) -> object:
        """Run a coroutine, and wait for it."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="coroutines of plugins", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
