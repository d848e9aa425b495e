"""The parts of pinexQ's face that need nobody: tags, states, and errors."""

from __future__ import annotations

import pytest

from broker_jobs import StepState
from broker_jobs.compat.pinexq import JobStates, tag_list_update
from broker_jobs.compat.pinexq.data import normalised
from broker_jobs.compat.pinexq.exceptions import PollingException, PollingTimeout, UnknownStep
from broker_jobs.compat.pinexq.job import ENDED, STATES
from broker_jobs.errors import BrokerJobsError, ValidationError


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("key", "key"),
        (" key ", "key"),
        (" a = text = more ", "a=text = more"),
        ("a=007", "a=007"),
        ("a=1.", "a=1.0"),
        ("a=-.5", "a=-0.5"),
        ("a=1.25", "a=1.25"),
        ("a=.", "a=."),
        ("a=TRUE", "a=true"),
        ("a=False", "a=false"),
        ("a=2026-01-31", "a=2026-01-31"),
        ("a=10:00:00", "a=10:00:00:00"),
        ("a=2026-01-31T10:00:00+01:00", "a=2026-01-31T09:00:00Z"),
        ("a=2026-01-31T10:00:00Z", "a=2026-01-31T10:00:00Z"),
    ],
)
def test_a_tag_has_one_form(tag: str, expected: str) -> None:
    assert normalised(tag) == expected
    assert normalised(expected) == expected


@pytest.mark.parametrize(("tag", "told"), [("a=2026-01-31T10:00:00", "needs a zone"), ("a=2026-13-31T10:00:00Z", "is no timestamp")])
def test_a_timestamp_has_a_zone(tag: str, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        normalised(tag)


def test_tags_are_merged_by_key() -> None:
    assert tag_list_update(["a=1", "b"], ["a=2", "c"]) == ["a=2", "b", "c"]
    assert tag_list_update(["a=1=2"], ["b", "a"]) == ["a", "b"]


def test_every_state_has_its_counterpart() -> None:
    assert STATES.keys() == set(StepState)
    assert set(JobStates) - set(STATES.values()) == {JobStates.undefined, JobStates.data_missing}
    assert {STATES[state] for state in StepState if state.ended} | {JobStates.data_missing} == ENDED
    assert [state.value for state in JobStates] == [
        "Undefined", "Created", "ReadyForProcessing", "Pending", "Processing", "Completed", "Error", "Canceled", "DataMissing",
    ]  # fmt: skip


def test_exceptions_are_caught_in_either_way() -> None:
    for error, kinds in ((PollingTimeout("late"), (PollingException, TimeoutError)), (UnknownStep("none"), (NameError,))):
        assert isinstance(error, (BrokerJobsError, *kinds))
        assert all(isinstance(error, kind) for kind in kinds)
        assert str(error) in {"late", "none"}
