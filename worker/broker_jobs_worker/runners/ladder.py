"""The kill ladder: first the polite signal, after the grace the one that nothing survives."""

from __future__ import annotations

from enum import Enum


class Step(Enum):
    """What to send to a tree that must end."""

    ask = "ask"
    """SIGTERM to a program's tree, an exception in a function."""
    kill = "kill"
    """SIGKILL to the whole tree."""


def step(elapsed: float, grace: float, *, alive: bool) -> Step | None:
    """The step that is due so many seconds after the stop was decided; None for the dead.

    Args:
        elapsed: seconds since the decision
        alive: something of the tree lives
        grace: seconds between asking and killing; without any, the first step kills
    """
    if not alive:
        return None
    return Step.kill if elapsed >= grace else Step.ask
