"""The hooks: their names, and what each is handed. A plugin takes of the arguments those that it wants.

Each may be a plain function or a coroutine function. What it returns is ignored, but where False says no.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    from broker_jobs.client.client import Client
    from broker_jobs.hooks.facts import JobNow, Keeper, TaskNow

PROJECT: Final = "broker_jobs"

impl: Final = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as an implementation of the hook of its name."""

_spec: Final = pluggy.HookspecMarker(PROJECT)


class ClientHooks:
    """Hooks that run in the process of a client. Of a task each comes once, in this order; only `on_task_polling` comes again.

    `client` is the `Client`; of an `AsyncClient` that beneath it.
    """

    @_spec
    def on_init(self, client: Client) -> None:
        """The client is connected."""

    @_spec
    def on_shutdown(self, client: Client) -> bool | None:
        """The client is being closed. False: its calls that have not started are not canceled."""

    @_spec
    def on_task_init(self, client: Client, task: TaskNow) -> None:
        """A job with this task is being submitted; it is not encoded yet, and may turn out to be wrong."""

    @_spec
    def on_task_queued(self, client: Client, task: TaskNow) -> None:
        """Its job is encoded, and about to be sent."""

    @_spec
    def on_task_submitting(self, client: Client, task: TaskNow) -> bool | None:
        """The last moment before its job is sent. False: the job is not, and `submit` raises `Vetoed`."""

    @_spec
    def on_task_submitted(self, client: Client, task: TaskNow) -> None:
        """The broker has its job, and it cannot be lost any more."""

    @_spec
    def on_task_started(self, client: Client, task: TaskNow) -> None:
        """Its first attempt runs; told before its end also where the start was not heard of."""

    @_spec
    def on_task_polling(self, client: Client, task: TaskNow) -> None:
        """News while it goes on: progress, a retry, another attempt. Who is slower than the news gets the newest."""

    @_spec
    def on_task_killing(self, client: Client, task: TaskNow) -> bool | None:
        """This client is about to cancel it. False: it goes on."""

    @_spec
    def on_task_killed(self, client: Client, task: TaskNow) -> None:
        """It was canceled or aborted, by whomever; `task.state` and `task.reason` say which and why."""

    @_spec
    def on_task_failed(self, client: Client, task: TaskNow) -> None:
        """It has failed, and is not tried again; `task.reason` says why."""

    @_spec
    def on_task_succeeded(self, client: Client, task: TaskNow) -> None:
        """It has succeeded."""

    @_spec
    def on_complete(self, client: Client, job: JobNow) -> None:
        """A job that the client has submitted, or added to, has ended, and so have all its tasks."""


class CoordinatorHooks:
    """Hooks that run in the process of a coordinator, after what they tell of was recorded. None can say no."""

    @_spec
    def on_init(self, coordinator: Keeper) -> None:
        """The coordinator works."""

    @_spec
    def on_shutdown(self, coordinator: Keeper) -> None:
        """It ends."""

    @_spec
    def on_task_started(self, coordinator: Keeper, task: TaskNow) -> None:
        """As for clients."""

    @_spec
    def on_task_killed(self, coordinator: Keeper, task: TaskNow) -> None:
        """As for clients."""

    @_spec
    def on_task_failed(self, coordinator: Keeper, task: TaskNow) -> None:
        """As for clients."""

    @_spec
    def on_task_succeeded(self, coordinator: Keeper, task: TaskNow) -> None:
        """As for clients."""

    @_spec
    def on_complete(self, coordinator: Keeper, job: JobNow) -> None:
        """As for clients."""
