"""Slots of steps as they are declared, and what goes into them."""

from __future__ import annotations

import json
from collections.abc import Callable  # noqa: TC003 (annotations of steps are read)
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.data import DataRef, SlotSpec, inside, plain_part
from broker_jobs.errors import ValidationError
from broker_jobs.steps import InputData, OutputCollection, OutputData, Slot, declared, step


@step(version="1.0.0")
def whole(
    x: float,
    mesh: Annotated[InputData, Slot(media_type="text/*", title="The mesh", description="as a table")],
    out: OutputData,
    parts: Annotated[OutputCollection, Slot(media_type="image/png", least=1, most=3)],
    more: Annotated[list[InputData], Slot(least=2)],
    note: InputData | None = None,
    y: int = 3,
) -> None:
    """All kinds of slots."""


def spec_of(function: Callable[..., object]) -> Any:
    found = declared(function)
    assert found is not None
    return found.spec


def test_slots_are_no_parameters() -> None:
    spec = spec_of(whole)
    assert list(json.loads(spec.parameters)["properties"]) == ["x", "y"]
    assert spec.inputs == (
        SlotSpec("mesh", "The mesh", "as a table", "text/*"),
        SlotSpec("more", collection=True, least=2, most=None),
        SlotSpec("note", least=0),
    )
    assert spec.outputs == (SlotSpec("out"), SlotSpec("parts", media_type="image/png", collection=True, least=1, most=3))


def test_a_step_may_have_slots_alone() -> None:
    @step(version="1.0.0")
    def only(out: OutputData) -> None: ...

    assert json.loads(spec_of(only).parameters)["properties"] == {}


def test_slots_that_make_no_sense_are_refused_where_they_are_declared() -> None:
    def of_one(mesh: Annotated[InputData, Slot(least=1)]) -> None: ...
    def left_out(out: OutputData | None = None) -> None: ...
    def impossible(parts: Annotated[OutputCollection, Slot(least=3, most=2)]) -> None: ...
    def no_type(mesh: Annotated[InputData, Slot(media_type="csv")]) -> None: ...

    for function, told in [
        (of_one, "least= and most= are for"),
        (left_out, "never left out"),
        (impossible, "cannot hold at least 3 and at most 2"),
        (no_type, "'csv' is no media type"),
    ]:
        with pytest.raises(ValidationError, match=told):
            step(version="1.0.0")(function)


def data(media_type: str = "text/csv") -> DataRef:
    return DataRef("a" * 32, "mesh.csv", media_type, 0, b"x" * 32, "/nowhere", "data/x")


@pytest.mark.parametrize(
    ("slot", "held", "told"),
    [
        (SlotSpec("one"), [], "takes 1, not 0"),
        (SlotSpec("one"), [data(), data()], "takes 1, not 2"),
        (SlotSpec("some", collection=True, least=2, most=3), [data()], "takes 2 to 3, not 1"),
        (SlotSpec("some", collection=True, least=2, most=None), [data()], "takes 2 to any number, not 1"),
        (SlotSpec("csv", media_type="text/csv"), [data("text/plain")], "takes text/csv, and 'mesh.csv' is text/plain"),
        (SlotSpec("text", media_type="text/*"), [data("application/text")], r"takes text/\*"),
    ],
)
def test_what_does_not_go_into_a_slot_is_refused(slot: SlotSpec, held: list[DataRef], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        slot.check(held)


def test_what_goes_into_a_slot() -> None:
    SlotSpec("none", least=0).check([])
    SlotSpec("text", media_type="text/*").check([data()])
    SlotSpec("some", collection=True, least=1, most=2).check([data(), data("image/png")])
    SlotSpec("many", collection=True, least=0, most=None).check([data()] * 100)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "A" * 32},
        {"id": "a" * 31},
        {"name": "a/b"},
        {"name": ".."},
        {"name": ""},
        {"name": "x" * 256},
        {"media_type": "text"},
        {"media_type": "text/*"},
        {"size": -1},
        {"sha256": b"short"},
        {"key": "data/../x"},
        {"key": "/etc/passwd"},
        {"key": "other/x"},
        {"key": "data"},
        {"key": "data/.hidden"},
    ],
)
def test_hostile_references_are_refused(changes: dict[str, Any]) -> None:
    fields = {"id": "a" * 32, "name": "x", "media_type": "text/csv", "size": 0, "sha256": b"x" * 32, "store": "/s", "key": "data/x"}
    with pytest.raises(ValidationError):
        DataRef(**{**fields, **changes})


@given(st.text(max_size=300))
def test_any_text_becomes_a_part_of_a_key(text: str) -> None:
    DataRef("a" * 32, "x", "text/csv", 0, b"x" * 32, "/s", f"data/jobs/{plain_part(text)}")


@given(st.lists(st.sampled_from(["a", "..", ".", "", "b c", "*", "**"]), min_size=1, max_size=4))
def test_a_path_stays_inside_or_is_refused(parts: list[str]) -> None:
    path = "/".join(parts)
    try:
        assert inside(path) == path
    except ValidationError:
        assert not path or {"..", ".", ""} & set(parts)
    else:
        assert not {"..", ".", ""} & set(parts)
