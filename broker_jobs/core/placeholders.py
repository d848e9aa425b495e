"""Placeholders in paths, such as ``%{TASK_ID}``: texts that are known when a task starts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

JOB_ID: Final = "JOB_ID"
SUBMIT_DIR: Final = "SUBMIT_DIR"
"""The submitter's folder, put in by the submitter."""
CWD: Final = "CWD"
"""The folder in which the task runs; known once it has been entered, so not in the name of that folder."""
TASK_ID: Final = "TASK_ID"
"""The chosen id of a task of an array, else the number of the task in its job."""
ARRAY_ID: Final = "BROKER_JOBS_ARRAY_ID"
"""Variable with the chosen id of a task of an array."""

INSTANCE_ID: Final = "INSTANCE_ID"
"""The number of the attempt, from 1."""

KNOWN: Final = (JOB_ID, TASK_ID, INSTANCE_ID, SUBMIT_DIR, CWD)

_PLACEHOLDER: Final = re.compile(r"%\{([^{}]*)\}")


def names(text: str) -> tuple[str, ...]:
    """What stands between ``%{`` and ``}``, in order, whether it is known or not."""
    return tuple(_PLACEHOLDER.findall(text))


def of_attempt(job: str, task: int, attempt: int, variables: Mapping[str, str]) -> dict[str, str]:
    """What is known of an attempt before it starts.

    Args:
        variables: of the program
    """
    return {JOB_ID: job, TASK_ID: variables.get(ARRAY_ID, str(task)), INSTANCE_ID: str(attempt)}


def expand(text: str, values: Mapping[str, str]) -> str:
    """The text with these values put in, once; what is not among them stays as it is."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)
