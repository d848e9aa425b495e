"""A call of a step for programs with an event loop: the same, awaited."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from broker_jobs.client.aio import AsyncSubmittedJob
from broker_jobs.client.aiodata import AsyncWorkData
from broker_jobs.client.data import WorkData

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from broker_jobs.client.inquiry import Event
    from broker_jobs.client.results import TaskError
    from broker_jobs.client.steps import StepRun, StepState
    from broker_jobs.core.step import StepSpec
    from broker_jobs.wire.messages import CancelResult


class AsyncStepRun:
    """A call of a step: `StepRun`, awaited."""

    def __init__(self, run: StepRun) -> None:
        self.run = run

    @property
    def spec(self) -> StepSpec:
        """The step."""
        return self.run.spec

    @property
    def id(self) -> str:
        """Id of its job."""
        return self.run.id

    @property
    def job(self) -> AsyncSubmittedJob:
        """The job that it is since it was started."""
        return AsyncSubmittedJob(self.run.job)

    def configure(self, **parameters: Any) -> Self:
        """Set parameters, as `StepRun.configure`."""
        self.run.configure(**parameters)
        return self

    def inputs(self, **slots: AsyncWorkData | Sequence[AsyncWorkData] | None) -> Self:
        """Put data into input slots, as `StepRun.inputs`."""
        self.run.inputs(**{name: _plain(held) for name, held in slots.items()})
        return self

    def tags(self, tags: Iterable[str]) -> Self:
        """Set the tags of its job."""
        self.run.tags(tags)
        return self

    def named(self, name: str) -> Self:
        """Set what its job is called."""
        self.run.named(name)
        return self

    async def start(self) -> Self:
        """Submit it, as `StepRun.start`."""
        await asyncio.to_thread(self.run.start)
        return self

    async def start_each(self, rows: Iterable[Mapping[str, Any]]) -> list[AsyncStepRun]:
        """Start one run for each row of parameters, as `StepRun.start_each`."""
        return [AsyncStepRun(run) for run in await asyncio.to_thread(self.run.start_each, rows)]

    async def state(self) -> StepState:
        """Where it is."""
        return await asyncio.to_thread(lambda: self.run.state)

    async def progress(self) -> tuple[float | None, str]:
        """How far it said it is, as `StepRun.progress`."""
        return await asyncio.to_thread(lambda: self.run.progress)

    async def wait(self, timeout: float | None = None) -> Self:
        """Wait for its end, however it ends. `TimeoutError` after `timeout` seconds."""
        await self.job.wait(timeout)
        return self

    async def result(self, *, timeout: float | None = None) -> Any:
        """Wait for its end; what the step returned. Raises as `StepRun.result`."""
        return await self.job.result(0, timeout=timeout)

    async def outputs(self) -> dict[str, Any]:
        """What it has made, by slot, as `StepRun.outputs`: `AsyncWorkData`, or lists of them; while it runs, `PartialData`."""
        made = await asyncio.to_thread(self.run.outputs)
        return {slot: [_awaited(one) for one in held] if isinstance(held, list) else _awaited(held) for slot, held in made.items()}

    async def error(self) -> TaskError | None:
        """Why it failed; None where it has not."""
        return (await self.job.errors()).get(0)

    async def sub_jobs(self) -> list[AsyncSubmittedJob]:
        """Jobs that were started inside it."""
        return await self.job.sub_jobs()

    async def cancel(self, reason: str = "") -> CancelResult:
        """End it."""
        return await self.job.cancel(reason)

    async def events(self) -> AsyncIterator[Event]:
        """What happens to it, as it happens."""
        async for event in self.job.events():
            yield event

    def __repr__(self) -> str:
        return f"<Async{repr(self.run)[1:]}"


def _awaited(made: object) -> object:
    return AsyncWorkData(made) if isinstance(made, WorkData) else made


def _plain(held: AsyncWorkData | Sequence[AsyncWorkData] | None) -> WorkData | list[WorkData] | None:
    if isinstance(held, AsyncWorkData):
        return held.data
    return None if held is None else [one.data for one in held]
