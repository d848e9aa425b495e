"""Which jobs a command means, before anybody is asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from broker_jobs.cli.control import _chosen
from broker_jobs.core.states import JOB_ENDED, JobState
from broker_jobs.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

NOTHING: dict[str, Any] = {"everything": False, "state": None, "tag": None, "name": None, "among": tuple(JOB_ENDED)}


def chosen(jobs: Sequence[str] | None = None, **given: Any) -> Any:
    """What a client is asked."""
    client: Any = SimpleNamespace(job=lambda text: text, jobs=lambda **question: question)
    return _chosen(client, jobs, **{**NOTHING, **given})


@pytest.mark.parametrize("given", [{}, {"jobs": ["last"], "everything": True}, {"jobs": ["last"], "tag": ["a"]}])
def test_jobs_are_named_or_chosen_and_not_both(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="name the jobs, or choose them with --all, --state, --tag or --name"):
        chosen(**given)


def test_a_filter_means_only_jobs_for_which_the_command_is() -> None:
    assert chosen(["last", "3f9a"]) == ["last", "3f9a"]
    found = chosen(tag=["nightly"], older_than="30d", state=[JobState.failed, JobState.running])
    assert found == {"state": [JobState.failed], "tags": ["nightly"], "name": None, "older_than": "30d", "limit": None}
    assert set(chosen(everything=True)["state"]) == JOB_ENDED
    with pytest.raises(ValidationError, match="this concerns jobs that are aborted, canceled, failed, succeeded"):
        chosen(state=[JobState.running])
