"""The progress bar of a wait: tasks of all jobs together, by state, with the time that is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from broker_jobs.core.states import ENDED, TaskState
from broker_jobs.ids import short

if TYPE_CHECKING:
    from collections.abc import Sequence

    from broker_jobs.client.jobview import JobView

_STYLES = {"running": "cyan", "failed": "bold red", "canceled": "yellow", "aborted": "yellow", "retrying": "magenta"}


class WaitProgress:
    """A bar on standard error, as long as it is entered.

    Args:
        views: the replicas of the jobs
    """

    def __init__(self, views: Sequence[JobView]) -> None:
        self._views = views
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[states]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
        )
        names = " ".join(view.name or short(view.job) for view in views[:3]) + (" …" if len(views) > 3 else "")  # noqa: PLR2004
        self._task = self._progress.add_task(names, total=None, states="")

    def __enter__(self) -> Self:
        self._progress.start()
        self.update()
        return self

    def __exit__(self, *_: object) -> None:
        self.update()
        self._progress.stop()

    def update(self) -> None:
        """Show what is known now."""
        counts: dict[str, int] = {}
        for view in self._views:
            for state, count in view.progress.items():
                counts[state] = counts.get(state, 0) + count
        totals = [view.total for view in self._views]
        total = None if None in totals else sum(filter(None, totals))
        states = " ".join(f"[{style}]{counts[state]} {state}[/]" for state, style in _STYLES.items() if counts.get(state))
        ended = sum(counts.get(state, 0) for state in map(TaskState, ENDED))
        self._progress.update(self._task, completed=ended, total=total, states=states)
        self._progress.refresh()
