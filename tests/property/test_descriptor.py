"""What a worker has, written and read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker_jobs.core.descriptor import described, descriptor
from broker_jobs.core.quantities import UNIT
from broker_jobs.core.resources import Resources
from broker_jobs.errors import ValidationError

labels = st.text("ab01-.: ,", min_size=1, max_size=5) | st.sampled_from(["0-1", "1-2", "a b"])
numbers = st.integers(0, 12).map(str)


def grouped(label: st.SearchStrategy[str]) -> st.SearchStrategy[list[list[str]]]:
    return st.lists(st.lists(label, min_size=1, max_size=5), min_size=1, max_size=3).filter(
        lambda groups: len({each for group in groups for each in group}) == sum(map(len, groups))
    )


amounts = st.dictionaries(st.sampled_from(["cpus", "fpga", "lab/x", "memory"]), st.integers(1, 2**60))
groups = st.fixed_dictionaries({}, optional={"cpus": grouped(numbers), "gpus": grouped(labels), "slots": grouped(labels | numbers)})


@given(amounts, groups)
def test_what_is_written_is_read_as_the_same(amounts: dict[str, int], groups: dict[str, list[list[str]]]) -> None:
    if "cpus" not in groups and "cpus" in amounts:
        amounts["cpus"] = amounts["cpus"] % 1000 + 1
    single = {name: sum(map(len, each)) * UNIT for name, each in groups.items()}
    usual = {name for name, each in groups.items() if name != "slots" and each == [list(map(str, range(len(each[0]))))]}
    kept = {name: tuple(map(tuple, each)) for name, each in groups.items() if name not in usual}
    resources = Resources(tuple(sorted({**amounts, **single}.items())), tuple(sorted(kept.items())))
    texts = {name: descriptor(resources, name) for name, _ in resources.amounts}
    assert described(texts) == resources


@given(st.sampled_from(["cpus", "gpus", "memory", "x"]), st.text('[],0123x-()"rangesum. abGiB', max_size=12))
def test_whatever_is_written_is_read_or_refused(name: str, text: str) -> None:
    try:
        resources = described({name: text})
    except ValidationError:
        return
    assert all(value > 0 for _, value in resources.amounts)
