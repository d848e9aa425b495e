"""Steps as they are declared, described, checked and called."""

from __future__ import annotations

import datetime
import enum
import json
import pickle
import types
from collections.abc import Callable  # noqa: TC003 (annotations of steps are read)
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from broker_jobs.core.step import LONGEST_TAG, StepSpec
from broker_jobs.core.versions import Version
from broker_jobs.errors import ValidationError
from broker_jobs.steps import Step, declared, step, steps_in
from broker_jobs.steps.checking import Checker


class Kind(enum.Enum):
    coarse = "coarse"
    fine = "fine"


@dataclass
class Layer:
    size: int
    kind: Kind = Kind.coarse


class Opaque:
    pass


class Report(BaseModel):
    total: float
    day: datetime.date


@step(name="simulate", version="1.2.0", tags=["physics"])
def simulate(
    x: float,
    layers: list[Layer],
    count: Annotated[int, Field(ge=1, description="how many")] = 3,
    day: datetime.date = datetime.date(2026, 1, 31),
    best: Layer | None = None,
    copy: bool = False,
) -> Report:
    """Simulate it.

    At length, and
    with care.
    """
    assert best is None or isinstance(best, Layer)
    return Report(total=x * count + sum(layer.size for layer in layers) + copy, day=day)


@step(version="0.1.0", title="Nothing", description="at all", deprecated=True)
def nothing() -> None:
    pass


def known(function: Callable[..., object]) -> Step:
    found = declared(function)
    assert found is not None
    return found


# --- declared -------------------------------------------------------------------------------------------------------


def test_a_step_is_described_by_its_function() -> None:
    spec = known(simulate).spec
    assert (spec.name, spec.version, str(spec)) == ("simulate", Version(1, 2, 0), "simulate 1.2.0")
    assert (spec.title, spec.description) == ("Simulate it.", "At length, and\nwith care.")
    assert (spec.tags, spec.deprecated) == (("physics",), None)


def test_what_is_said_counts_more_than_what_is_read() -> None:
    spec = known(nothing).spec
    assert (spec.name, spec.title, spec.description, spec.deprecated) == ("nothing", "Nothing", "at all", "it is deprecated")
    assert json.loads(spec.parameters)["properties"] == {}
    assert json.loads(spec.returns) == {"type": "null"}


def test_the_function_stays_what_it_is() -> None:
    assert simulate(2.0, [Layer(1)], copy=True).total == 8.0
    assert pickle.loads(pickle.dumps(simulate)) is simulate
    assert declared(known) is None


def test_the_schema_has_defaults_bounds_and_descriptions() -> None:
    schema = json.loads(known(simulate).spec.parameters)
    assert schema["required"] == ["x", "layers"]
    assert schema["additionalProperties"] is False
    properties = schema["properties"]
    assert properties["x"]["type"] == "number"
    assert "default" not in properties["x"]
    assert (properties["count"]["minimum"], properties["count"]["default"], properties["count"]["description"]) == (1, 3, "how many")
    assert (properties["day"]["format"], properties["day"]["default"]) == ("date", "2026-01-31")
    assert properties["best"]["default"] is None
    assert schema["$defs"]["Kind"]["enum"] == ["coarse", "fine"]
    assert json.loads(known(simulate).spec.returns)["properties"]["total"]["type"] == "number"


def unannotated(x) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
    return int(x)


def unsaid(x: int):  # type: ignore[no-untyped-def]  # noqa: ANN201
    return x


def anything(x: Any) -> int:
    return int(x)


def gives_anything(x: int) -> object:
    return x


def positional(x: int, /) -> int:
    return x


def many(*x: int) -> int:
    return sum(x)


def others(**x: int) -> int:
    return sum(x.values())


def strange(x: Opaque) -> int:
    return id(x)


def unnamed(x: Unknown) -> int:  # type: ignore[name-defined]  # noqa: F821
    return int(x)


def wrong_default(x: int = "three") -> int:  # type: ignore[assignment]
    return x


def indescribable(x: Callable[[int], int]) -> int:
    return x(1)


def renamed(x: Annotated[int, Field(alias="y")] = 3) -> int:
    return x


def endless(x: float = float("inf")) -> float:
    return x


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (renamed, "the parameter 'x' of renamed has another name in its annotation"),
        (endless, "the default of 'x': inf is no plain data"),
        (unannotated, "the parameter 'x' of unannotated has no annotation"),
        (unsaid, "the result of unsaid has no annotation"),
        (anything, "the parameter 'x' of anything is annotated with typing.Any, which says nothing"),
        (gives_anything, "the result of gives_anything is annotated with"),
        (positional, "the parameter 'x' of positional cannot be given by name"),
        (many, "the parameter 'x' of many cannot be given by name"),
        (others, "the parameter 'x' of others cannot be given by name"),
        (strange, "the parameters of strange cannot be described"),
        (unnamed, "the annotations of unnamed cannot be read: name 'Unknown' is not defined"),
        (wrong_default, "the default of 'x' is not as annotated"),
        (indescribable, "the parameters of indescribable cannot be described as a JSON schema"),
    ],
)
def test_what_cannot_be_described_is_refused_where_it_is_declared(function: Callable[..., object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        step(version="1.0.0")(function)
    assert declared(function) is None


@pytest.mark.parametrize("name", ["", "1st", "a b", "a/b", "a" * 101, "über"])
def test_a_name_is_one_that_queues_and_people_can_carry(name: str) -> None:
    with pytest.raises(ValidationError, match="cannot be the name of a step"):
        step(name=name, version="1.0.0")(nothing)


def test_versions_and_tags_are_looked_at_too() -> None:
    with pytest.raises(ValidationError, match=r"'1\.0' is no version"):
        step(version="1.0")(nothing)
    for tag in ("", " x", "x" * (LONGEST_TAG + 1)):
        with pytest.raises(ValidationError, match="a tag has 1 to"):
            StepSpec("x", Version(1, 0, 0), tags=(tag,))


def test_only_functions_are_steps() -> None:
    with pytest.raises(ValidationError, match="@step stands on a function"):
        step(version="1.0.0")(Layer)


def test_a_module_has_the_steps_that_it_defines_or_imports_each_once() -> None:
    module = types.ModuleType("mine")
    vars(module).update(a=simulate, b=simulate, c=nothing, d=known, e=3)
    assert [str(one.spec) for one in steps_in(module)] == ["nothing 0.1.0", "simulate 1.2.0"]


def test_a_version_of_a_step_is_one_function() -> None:
    @step(name="simulate", version="1.2.0")
    def other() -> None:
        pass

    module = types.ModuleType("mine")
    vars(module).update(simulate=simulate, other=other)
    with pytest.raises(ValidationError, match=r"simulate and .*other of mine are both the step simulate 1\.2\.0"):
        steps_in(module)


# --- checked by who calls -------------------------------------------------------------------------------------------


def test_good_parameters_come_out_as_plain_data() -> None:
    given = Checker(known(simulate).spec).check({"x": 5, "layers": ({"size": 2, "kind": "fine"},)})
    assert given == {"x": 5, "layers": [{"size": 2, "kind": "fine"}]}


DEEP: list[object] = []
for _ in range(150):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({}, ["x: it is missing", "layers: it is missing"]),
        ({"x": "5", "layers": []}, ["x: '5' is not of type 'number'"]),
        ({"x": True, "layers": []}, ["x: True is not of type 'number'"]),
        ({"x": 1, "layers": [], "y": 2}, ["y: there is no such parameter, but x, layers, count, day, best, copy"]),
        ({"x": 1, "layers": [{"size": 1}, {"size": "q"}]}, ["layers[1].size: 'q' is not of type 'integer'"]),
        ({"x": 1, "layers": [{"sizes": 1}]}, ["layers[0].size: it is missing", "layers[0].sizes: there is no such part, but size, kind"]),
        ({"x": 1, "layers": [{"size": 1, "kind": "odd"}]}, ["layers[0].kind: 'odd' is not one of ['coarse', 'fine']"]),
        ({"x": 1, "layers": [], "count": 0}, ["count: 0 is less than the minimum of 1"]),
        ({"x": 1, "layers": [], "best": {"size": 1.5}}, ["best.size: 1.5 is not of type 'integer'"]),
        ({"x": float("nan")}, ["x: nan is no plain data"]),
        ({"x": b"1"}, ["x: bytes is no plain data: give None, numbers"]),
        ({"x": 1, "layers": [{1: 2}]}, ["layers[0]: the key 1 is no plain data"]),
        ({"x": 1, "layers": DEEP}, ["plain data is nested at most 100 deep"]),
    ],
)
def test_what_is_wrong_is_told_with_its_place(parameters: dict[str, object], told: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        Checker(known(simulate).spec).check(parameters)
    assert [text for text in told if text not in str(caught.value)] == []


def test_of_many_mistakes_the_first_are_told_and_the_others_counted() -> None:
    with pytest.raises(ValidationError, match=r"wrong parameters of simulate 1\.2\.0: .*; and 15 more"):
        Checker(known(simulate).spec).check({"x": 1, "layers": [{"size": "q"}] * 20})


def test_what_comes_later_is_not_missing_but_must_be_a_parameter() -> None:
    checker = Checker(known(simulate).spec)
    assert checker.check({}, later=checker.names) == {}
    assert checker.check({"layers": []}, later=["x"]) == {"layers": []}
    with pytest.raises(ValidationError, match=r": x: it is missing$"):
        checker.check({}, later=["layers"])
    with pytest.raises(
        ValidationError, match=r"layers\[0\]\.size: it is missing; size: there is no such .*; y: there is no such parameter, but x"
    ):
        checker.check({"layers": [{}]}, later=["x", "size", "y"])
    assert (checker.required, checker.names[:2]) == ({"x", "layers"}, ("x", "layers"))


# --- called ---------------------------------------------------------------------------------------------------------


def called(function: Callable[..., object], parameters: dict[str, object]) -> object:
    """What comes back, as a child of a worker makes it."""
    signature = known(function).signature
    return signature.plain(function(**signature.arguments(parameters)))


def test_a_step_takes_and_gives_plain_data() -> None:
    found = called(simulate, {"x": 2, "layers": [{"size": 4, "kind": "fine"}], "day": "2026-02-01", "best": {"size": 1}})
    assert found == {"total": 10.0, "day": "2026-02-01"}
    assert called(simulate, {"x": 2, "layers": []}) == {"total": 6.0, "day": "2026-01-31"}
    assert called(nothing, {}) is None


def test_annotations_may_carry_what_is_nobodys_business() -> None:
    @step(version="1.0.0")
    def doubled(x: Annotated[int, ["anything"]], _y: int = 1) -> int:
        return 2 * x + _y

    assert called(doubled, {"x": 2}) == 5
    assert called(doubled, {"x": 2, "_y": 2}) == 6


def test_a_result_is_what_json_can_say() -> None:
    @step(version="1.0.0")
    def endless() -> list[float]:
        return [1.0, float("inf")]

    with pytest.raises(ValidationError, match=r"the result\[1\]: inf is no plain data"):
        called(endless, {})


def test_wrong_parameters_never_reach_the_function() -> None:
    with pytest.raises(ValidationError, match=r"layers\[0\]\.size: .*; y: "):
        called(simulate, {"x": 2, "layers": [{}], "y": 1})


def test_a_result_is_held_to_its_annotation() -> None:
    @step(version="1.0.0")
    def wrong() -> list[int]:
        return [1, "two"]  # type: ignore[list-item]

    with pytest.raises(ValidationError, match=r"the result is not as annotated: \[1\]: "):
        called(wrong, {})
