"""Statements that move many tasks of a job at once: a million rows take a second or two, one by one they take a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from broker_jobs.coordinator.store.schema import tasks
from broker_jobs.core.states import TaskState

if TYPE_CHECKING:
    from collections.abc import Mapping

_S = TaskState


def sweeps() -> Mapping[TaskState, sa.Update]:
    """By the state that is reached, with the parameters of `SweepRow`. They do to rows what `live` does in memory."""
    unstarted = (_S.waiting, _S.queued, _S.paused, _S.retrying)
    nowhere = {"chunk": sa.null(), "taken": False, "due_ms": sa.null()}
    ended = {**nowhere, "reason": _given("reason"), "ended_ms": sa.func.coalesce(tasks.c.ended_ms, _given("ms"))}
    afresh = {**nowhere, "attempt": tasks.c.attempt + 1, "execution": "", "reason": "", "worker": "", "boot": ""}
    return {
        _S.canceled: _sweep(unstarted, _S.canceled, ended),
        _S.aborted: _sweep(unstarted, _S.aborted, ended),
        _S.paused: _sweep((_S.queued, _S.retrying), _S.paused, {"reason": _given("reason"), "due_ms": sa.null()}),
        _S.queued: _sweep((_S.paused,), _S.queued, {**afresh, "started_ms": sa.null(), "ended_ms": sa.null()}),
    }


def _sweep(before: tuple[TaskState, ...], after: TaskState, values: Mapping[str, Any]) -> sa.Update:
    where = (tasks.c.job == _given("job"), tasks.c.state.in_([state.value for state in before]))
    # Each task gets a version of its own, since those who ask for changes read them in parts.
    return tasks.update().where(*where).values(state=after.value, changed=_given("version") + 1 + tasks.c.number, **values)


def _given(name: str) -> sa.BindParameter[Any]:
    return sa.bindparam(f"given_{name}", None)
