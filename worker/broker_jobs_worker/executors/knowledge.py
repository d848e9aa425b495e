"""What a child knows already: functions and values of jobs are told to it once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker_jobs.core.value import Inline
from broker_jobs.wire.messages import Call
from broker_jobs_worker.runners.protocol import is_shared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker_jobs.core.value import Value
    from broker_jobs.wire.messages import Function
    from broker_jobs_worker.executors.port import Execution
    from broker_jobs_worker.executors.server import Child

MOST_FUNCTIONS: Final = 256
"""A child that knows so many functions forgets them."""
MOST_VALUES: Final = 64 * 1024 * 1024
"""A child that has values of jobs of more bytes forgets them."""


def unknown_functions(child: Child, execution: Execution) -> tuple[Function | None, Function | None, bool]:
    """The function and its setup, if the child has to be told them, and whether it has to forget others."""
    work = execution.work
    if not isinstance(work, Call) or child.known.issuperset(work.functions):
        return None, None, False
    forget = len(child.known) >= MOST_FUNCTIONS
    if forget:
        child.known.clear()
    function = None if work.function in child.known else execution.function
    setup = None if work.setup in child.known else execution.setup
    child.known.update(work.functions)
    return function, setup, forget


def unknown_values(child: Child, execution: Execution) -> tuple[Mapping[str, Value], bool]:
    """The values that the child has to be told, and whether it has to forget others: values of the job are told once."""
    if not execution.work.inputs:
        return {}, False
    wanted = {key: execution.values[key] for key in execution.work.inputs}
    shared = {key: value.size for key, value in wanted.items() if is_shared(key) and isinstance(value, Inline)}
    forget = child.held + sum(size for key, size in shared.items() if key not in child.values) > MOST_VALUES
    if forget:
        child.values.clear()
        child.held = 0
    unsent = {key: value for key, value in wanted.items() if key not in child.values}
    child.held += sum(size for key, size in shared.items() if key not in child.values)
    child.values.update(shared)
    return unsent, forget
